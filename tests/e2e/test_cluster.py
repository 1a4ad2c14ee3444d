"""Jobs in processes of their own: submitit's local executor, and a real SLURM of one node where it is installed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from slurm import one_node, told, wait_until
from stand import rows

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("cluster")]
HERE = Path(__file__).parents[1]
UAD = [sys.executable, "-m", "uadcli"]
ARRAY = HERE.parent / "packaging" / "slurm" / "array.sh"


@pytest.fixture
def many(scans: Path) -> Path:
    """Nine scans."""
    for index in range(6):
        (scans / f"{index}.nii").write_text(f"scan {index}")
    return scans


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Jobs begin with the stand-ins of `elsewhere`."""
    folders = [HERE / "elsewhere", HERE, HERE.parent]
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders)), "UAD_STAND": str(tmp_path / "made ready")}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with one_node(tmp_path_factory.mktemp("slurm")) as settings:
        yield settings


@pytest.fixture
def slurm(cluster: dict[str, str], environment: dict[str, str]) -> dict[str, str]:
    """The environment of a machine with SLURM whose jobs begin with the stand-ins."""
    return environment | {key: cluster[key] for key in ("SLURM_CONF", "PATH")}


def uad(scans: Path, environment: dict[str, str], *more: object) -> subprocess.CompletedProcess[str]:
    command = [*UAD, *map(str, ["batch", scans, "-o", scans.parent / "out ü", "--device", "cpu", "--threads", 1])]
    command += ["--workers", "0", *map(str, more)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


def made_ready(environment: dict[str, str]) -> list[tuple[int, str]]:
    """The process and the scan, for each time that one was made ready."""
    note = Path(environment["UAD_STAND"])
    lines = note.read_text().splitlines() if note.exists() else []
    return [(int(line.split(" ", 1)[0]), line.split(" ", 1)[1]) for line in lines]


def in_queue(environment: dict[str, str]) -> list[str]:
    return told(["squeue", "-h", "-r", "-o", "%i %t"], environment).splitlines()


def begins_at_once(number: str, environment: dict[str, str]) -> bool:
    """Release a job that is held back, which SLURM heeds once its first run is cleared up; whether it has begun."""
    told(["scontrol", "update", f"JobId={number}", "StartTime=now"], environment)
    queue = "".join(in_queue(environment))
    return " R" in queue or not queue


def status(scans: Path, environment: dict[str, str]) -> dict[str, Any]:
    done = uad(scans, environment, "--status")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_local_jobs_do_all_scans_once(many: Path, environment: dict[str, str]) -> None:
    (many / "a.nii").write_text("bad")
    done = uad(many, environment, "--cluster", "local", "--jobs", "2")
    out = many.parent / "out ü"
    assert done.returncode == 8, done.stderr
    assert done.stdout == f"{out / 'summary.tsv'}\n"
    assert "1 of 9 scans failed" in done.stderr
    assert sorted(name for _, name in made_ready(environment)) == sorted(p.name for p in many.rglob("*.nii*"))
    assert len({process for process, _ in made_ready(environment)}) == 2
    assert [row["status"] for row in rows(out / "summary.tsv")].count("done") == 8
    assert [row["stage"] for row in rows(out / "failed.tsv")] == ["brain mask"]
    assert list((out / ".uad-jobs").glob("*_log.err"))


def test_a_local_job_that_is_queued_again_goes_on(many: Path, environment: dict[str, str], tmp_path: Path) -> None:
    (many / "5.nii").write_text("wait")
    command = [*UAD, *map(str, ["batch", many, "-o", tmp_path / "out ü", "--device", "cpu", "--threads", 1])]
    command += ["--workers", "0", "--cluster", "local", "--jobs", "1", "--overwrite"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: "5.nii" in [name for _, name in made_ready(environment)], "the job does not begin", 200)
        before = made_ready(environment)
        os.kill(before[-1][0], signal.SIGUSR2)
        wait_until(lambda: len(made_ready(environment)) > len(before), "the job is not queued again", 200)
        (tmp_path / "go").touch()
        assert process.wait(200) == 0
    finally:
        process.kill()
    again = made_ready(environment)[len(before) :]
    assert {p for p, _ in again} != {before[-1][0]}
    assert len(before) + len(again) == 10  # only the scan that was being made ready is made ready twice
    assert status(many, environment) == {"scans": 9, "done": 9, "failed": 0, "left": 0}


def test_slurm_does_all_scans_once(many: Path, slurm: dict[str, str]) -> None:
    (many / "a.nii").write_text("bad")
    done = uad(many, slurm, "--cluster", "slurm", "--jobs", "2", "--set", "slurm.partition=other")
    assert done.returncode == 0, done.stderr
    numbers = done.stdout.split()
    assert len(numbers) == 2
    assert len({number.split("_")[0] for number in numbers}) == 1
    detail = told(["scontrol", "show", "job", numbers[0]], slurm)
    assert "Partition=other" in detail
    assert "TimeLimit=04:00:00" in detail
    wait_until(lambda: not in_queue(slurm), "the jobs do not end", 200)
    assert status(many, slurm) == {"scans": 9, "done": 8, "failed": 1, "left": 0}
    assert sorted(name for _, name in made_ready(slurm)) == sorted(p.name for p in many.rglob("*.nii*"))
    collected = uad(many, slurm, "--collect")
    assert collected.returncode == 8
    assert [row["status"] for row in rows(Path(collected.stdout.strip()))].count("done") == 8


def test_slurm_refuses_a_partition_that_is_not_there(many: Path, slurm: dict[str, str]) -> None:
    done = uad(many, slurm, "--cluster", "slurm", "--jobs", "2", "--set", "slurm.partition=none")
    assert done.returncode == 2
    assert "invalid partition" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: the jobs were refused")


@pytest.mark.parametrize("how", ["checkpoint", "preempted", "node lost"])
def test_a_slurm_job_that_is_taken_away_goes_on(many: Path, slurm: dict[str, str], tmp_path: Path, how: str) -> None:
    (many / "5.nii").write_text("wait")
    done = uad(many, slurm, "--cluster", "slurm", "--jobs", "1", "--fail-fast")
    number = done.stdout.strip()
    wait_until(lambda: "5.nii" in [name for _, name in made_ready(slurm)], "the job does not begin", 200)
    before = made_ready(slurm)
    if how == "checkpoint":  # submitit queues it again
        told(["scancel", "--signal=USR2", number], slurm)
    elif how == "preempted":  # SIGTERM to all processes first, as when a job of higher rank comes
        told(["scancel", "--signal=TERM", number], slurm)
        told(["scancel", "--signal=USR2", number], slurm)
    else:  # SLURM queues it again by itself
        told(["scontrol", "requeue", number], slurm)
    # a job that was queued again is held back for a while
    wait_until(lambda: " R" not in "".join(in_queue(slurm)), "the job is not taken away", 100)
    assert status(many, slurm)["failed"] == 0
    (tmp_path / "go").touch()
    wait_until(lambda: begins_at_once(number, slurm), "the job stays held back")
    wait_until(lambda: not in_queue(slurm), "the job does not end", 250)
    again = made_ready(slurm)[len(before) :]
    assert len(before) + len(again) == 10
    assert status(many, slurm) == {"scans": 9, "done": 9, "failed": 0, "left": 0}


def test_the_example_array_does_all_scans(many: Path, slurm: dict[str, str], tmp_path: Path) -> None:
    uad_here = tmp_path / "bin" / "uad"
    uad_here.parent.mkdir()
    uad_here.write_text(f'#!/bin/sh\necho "$SLURM_ARRAY_TASK_ID $*" >> "{tmp_path}/told"\n')
    uad_here.chmod(0o755)
    slurm = slurm | {"PATH": f"{uad_here.parent}{os.pathsep}{slurm['PATH']}"}
    command = ["sbatch", "--array=0-1", "--mem=0", "--cpus-per-task=1", str(ARRAY), str(many), "maps here", "--html"]
    done = subprocess.run(command, env=slurm, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    wait_until(lambda: not in_queue(slurm), "the jobs do not end", 100)
    lines = sorted((tmp_path / "told").read_text().splitlines())
    rest = f"batch {many} --output maps here --shard auto --threads 1 --workers 1 --html"
    assert lines == [f"0 {rest}", f"1 {rest}"]
