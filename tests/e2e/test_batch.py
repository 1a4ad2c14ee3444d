"""`uad batch` as a user types it: the bytes of `uad detect`, and whatever kills it costs nothing but time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cohort
import phantoms
import pytest
from models import export

from uadcli.cli.app import main

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("batch")]
UAD = [sys.executable, "-m", "uadcli"]


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("batch") / "in"
    for name, lesion in (("a_T1w.nii.gz", None), ("deep er/ü_T1w.nii.gz", (-32.0, -10.0, 28.0))):
        brain = phantoms.brain(lesion)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        phantoms.save(folder / name, brain.data, brain.affine)
    export(folder.parent / "tiny", cohort.TINY, contrast="T1w")
    return folder


@pytest.fixture(scope="module")
def expected(scans: Path) -> dict[str, bytes]:
    """What `uad detect`, in this process, writes for each scan, without the sidecars, which hold times."""
    out = scans.parent / "one by one"
    for scan in sorted(scans.rglob("*.nii.gz")):
        name = str(scan.relative_to(scans)).replace(".nii.gz", "_desc-anomaly_map.nii.gz")
        assert main([str(part) for part in ("detect", scan, "-o", out / name, *_options(scans))]) == 0
    return _files(out)


def _options(scans: Path) -> list[object]:
    quick = ["--weights", scans.parent / "tiny", "--strip", "none"]
    return [*quick, "--device", "cpu", "--threads", "1", "--quiet"]


def _files(folder: Path) -> dict[str, bytes]:
    every = (path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".json", ".tsv"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(every)}


def _batch(scans: Path, out: Path, *more: object) -> list[str]:
    return [*UAD, *map(str, ["batch", scans, "-o", out, "--workers", "2", *_options(scans), *more])]


def _start_and_send(command: list[str], number: int, when: Callable[[], bool], **more: object) -> int:
    """Start, wait for a moment, send a signal, wait until the workers are gone too; return the exit code."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, **more)  # type: ignore[call-overload]
    while not when():
        assert process.poll() is None, "it ended before the moment came"
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for thread in Path(f"/proc/{process.pid}/task").iterdir():
        children += (thread / "children").read_text().split()
    assert children
    process.send_signal(number)
    code: int = process.wait(60)
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline, "a worker outlives the batch"
        time.sleep(0.1)
    return code


def test_the_bytes_are_those_of_detect_and_kill_9_costs_nothing(
    scans: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def published() -> list[Path]:
        """The sidecars at their places; one in a hidden folder waits there for its files, which move first."""
        return [path for path in out.rglob("*_map.json") if not path.parent.name.startswith(".uad-")]

    def being_made() -> bool:
        return any(out.rglob(".uad-*/*"))

    def one_done() -> bool:
        return bool(published())

    command = _batch(scans, out)
    for moment in (being_made, one_done):
        assert _start_and_send(command, signal.SIGKILL, moment) == -signal.SIGKILL
        for path in published():
            outputs = json.loads(path.read_text())["outputs"].values()
            assert all((path.parent / name).exists() for name in outputs)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert _files(out) == expected
    summary = (out / "summary.tsv").read_bytes()
    assert [line.split(b"\t")[2] for line in summary.splitlines()[1:]] == [b"done", b"done"]
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0
    assert (out / "summary.tsv").read_bytes() == summary


def test_terminated_it_leaves_no_temporary_files(scans: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = os.environ | {"TMPDIR": str(temporary)}

    def registering() -> bool:
        return any(temporary.glob("uad-*"))

    code = _start_and_send(_batch(scans, tmp_path / "out"), signal.SIGTERM, registering, env=environment)
    assert code == 143
    assert list(temporary.iterdir()) == []
    assert {path.name for path in (tmp_path / "out").rglob("*")} <= {"summary.tsv", "failed.tsv"}


def test_local_jobs_write_the_bytes_of_detect(scans: Path, expected: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "jobs"
    jobs = ["batch", scans, "-o", out, "--cluster", "local", "--jobs", 2, "--workers", 1, *_options(scans)]
    done = subprocess.run([*UAD, *map(str, jobs)], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    found = _files(out)
    assert len(expected) == 6
    assert {name: found[name] for name in expected} == expected
