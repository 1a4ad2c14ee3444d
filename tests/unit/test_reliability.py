"""The table of faults in packaging/docs/reliability.md is what happens: fault, exit code, message, what is left.

`UAD_WRITE_DOCS=1` writes it anew. What a test cannot bring about as any user (root may write everywhere, and no disk is
full) is injected: the system call fails as it would then.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import re
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stand import Stand, files_below

from uadcli.batches import batch
from uadcli.batches.alone import alone
from uadcli.cli.app import main
from uadcli.data.names import name
from uadcli.detection import detect, together
from uadcli.detection.options import DetectOptions
from uadcli.imaging import volume
from uadcli.running.temporary import temporary_folder
from uadcli.workers import Died

PAGE = Path(__file__).parents[2] / "packaging" / "docs" / "reliability.md"
HEAD = "| fault | exit code | message | left in the output folder |\n|---|---|---|---|\n"
Fault = Callable[[Path, pytest.MonkeyPatch], list[str]]
BATCH = "`uad batch`: "
WRITES = ("w", "a", "x", "+")


def writes(text: str) -> Fault:
    def make(scan: Path, patch: pytest.MonkeyPatch) -> list[str]:
        scan.write_text(text)
        return []

    return make


def full_log(scan: Path, patch: pytest.MonkeyPatch) -> list[str]:
    return ["--log-file", "/dev/full"]


def gone(scan: Path, patch: pytest.MonkeyPatch) -> list[str]:
    scan.unlink()
    return []


def gone_meanwhile(scan: Path, patch: pytest.MonkeyPatch) -> list[str]:
    """The scan goes after the command has seen it; the real reader finds that out."""

    def ready(path: Path, session: Any) -> None:
        path.unlink()
        volume.read_scan(path)

    patch.setattr(detect, "ready_scan", ready)
    return []


def at_the_second_move(act: Callable[[], object]) -> Fault:
    def make(scan: Path, patch: pytest.MonkeyPatch) -> list[str]:
        real, moved = os.replace, list[Path]()

        def replace(source: Path, target: Path) -> None:
            if ".uad-" not in str(target):
                moved.append(target)
                if len(moved) == 2:
                    act()
            real(source, target)

        patch.setattr(together.os, "replace", replace)
        return []

    return make


def no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def refused(number: int, below: Path, patch: pytest.MonkeyPatch, ending: str = "") -> None:
    """Let the system refuse, with this error, to open or make for writing what lies below a folder and ends so."""

    def within(path: object) -> bool:
        known = isinstance(path, str | Path)
        return known and Path(str(path)).is_relative_to(below) and str(path).endswith(ending)

    def guard(real: Callable[..., Any], is_write: Callable[..., bool]) -> Callable[..., Any]:
        def call(path: Any, *given: Any, **more: Any) -> Any:
            if within(path) and is_write(*given, **more):
                raise OSError(number, os.strerror(number), str(path))
            return real(path, *given, **more)

        return call

    def to_write(mode: str = "r", *_: Any, **__: Any) -> bool:
        return any(letter in mode for letter in WRITES)

    opened = guard(io.open, to_write)
    patch.setattr(io, "open", opened)  # what `Path` calls
    patch.setattr(builtins, "open", opened)
    patch.setattr(os, "open", guard(os.open, lambda flags, *_, **__: bool(flags & (os.O_WRONLY | os.O_RDWR))))
    for call in ("mkdir", "unlink", "rename", "replace"):
        patch.setattr(os, call, guard(getattr(os, call), lambda *_, **__: not ending))


def read_only_output(scan: Path, patch: pytest.MonkeyPatch) -> list[str]:
    refused(errno.EROFS, scan.parent / "out", patch)
    return []


def output_is_a_file(scan: Path, patch: pytest.MonkeyPatch) -> list[str]:
    (scan.parent / "out").write_text("mine")
    return []


def full_at(ending: str) -> Fault:
    def make(scan: Path, patch: pytest.MonkeyPatch) -> list[str]:
        refused(errno.ENOSPC, scan.parent / "out", patch, ending)
        return []

    return make


def read_only_cache(scan: Path, patch: pytest.MonkeyPatch) -> list[str]:
    refused(errno.EROFS, Path(os.environ["UAD_CACHE"]), patch)
    return []


def no_home(scan: Path, patch: pytest.MonkeyPatch) -> list[str]:
    for variable in ("HOME", "UAD_CACHE", "XDG_CACHE_HOME"):
        patch.delenv(variable, raising=False)
    patch.setattr(os.path, "expanduser", lambda path: path)  # nor has the list of users one
    return []


def needs_temporary(patch: pytest.MonkeyPatch) -> None:
    """Let the first half of the detection write a temporary file, as the registration does."""
    real = detect.ready_scan

    def ready(path: Path, session: Any) -> Any:
        with temporary_folder() as folder:
            (folder / "transform.mat").write_text("0")
        return real(path, session)

    patch.setattr(detect, "ready_scan", ready)
    patch.setattr(tempfile, "tempdir", None)  # which Python keeps once it is known


def missing_tmpdir(scan: Path, patch: pytest.MonkeyPatch) -> list[str]:
    needs_temporary(patch)
    patch.setenv("TMPDIR", str(scan.parent / "absent"))
    return []


def full_tmpdir(ending: str) -> Fault:
    def make(scan: Path, patch: pytest.MonkeyPatch) -> list[str]:
        place = scan.parent / "tmp"
        place.mkdir()
        needs_temporary(patch)
        patch.setattr(tempfile, "tempdir", str(place))
        patch.setenv("TMPDIR", str(place))
        refused(errno.ENOSPC, place, patch, ending)
        return []

    return make


def worker_ends(number: int) -> Fault:
    """A process that prepares scans ends by a signal; that `Workers` sees it is in `test_workers`."""

    def make(scan: Path, patch: pytest.MonkeyPatch) -> list[str]:
        def run(_: object, jobs: list[Any]) -> Iterator[tuple[Any, Died]]:
            yield from ((job, Died(-number)) for job in jobs)

        patch.setattr(batch.Workers, "run", run)
        return []

    return make


def taken(scan: Path, patch: pytest.MonkeyPatch) -> list[str]:
    holder = together.made_together(name(scan, scan.parent / "out" / "map.nii.gz", DetectOptions()))
    holder.__enter__()
    patch.setattr(together, "_kept_by_test", holder, raising=False)  # until the test ends
    return []


def batch_taken(scan: Path, patch: pytest.MonkeyPatch) -> list[str]:
    holder = alone(scan.parent / "out", (0, 1))
    holder.__enter__()
    patch.setattr(together, "_kept_by_test", holder, raising=False)
    return []


def exists(scan: Path, patch: pytest.MonkeyPatch) -> list[str]:
    (scan.parent / "out").mkdir()
    (scan.parent / "out" / "map.nii.gz").write_text("mine")
    return []


FAULTS: dict[str, Fault] = {
    "the scan is not there": gone,
    "the scan vanishes once the command has begun": gone_meanwhile,
    "the scan is no brain": writes("bad"),
    "memory is not enough": writes("memory"),
    "the disk is full at the first file": writes("full"),
    **{f"the disk is full at the {what} (injected)": full_at(ending) for what, ending in (
        ("map", "/map.nii.gz"), ("mask", "/map_mask.nii.gz"), ("picture", "/map_overlay.png"), ("sidecar", ".json"),
    )},
    "the disk fills when the second file gets its name (injected)": at_the_second_move(no_space),
    "the disk of the log file is full": full_log,
    "the output folder is on a read-only disk (injected)": read_only_output,
    "the output folder is a file": output_is_a_file,
    "a result exists already": exists,
    "another process makes the same map": taken,
    "the cache is on a read-only disk (injected), the model bundled": read_only_cache,
    "no home folder and no cache": no_home,
    "TMPDIR names a folder that is not there": missing_tmpdir,
    "no temporary folder can be made (injected: full)": full_tmpdir(""),
    "the disk of TMPDIR is full (injected)": full_tmpdir(".mat"),
    "SIGTERM between two files": at_the_second_move(lambda: signal.raise_signal(signal.SIGTERM)),
    "Ctrl-C between two files": at_the_second_move(lambda: signal.raise_signal(signal.SIGINT)),
    f"{BATCH}a worker process is killed (SIGKILL)": worker_ends(signal.SIGKILL),
    f"{BATCH}a worker process is ended by SIGTERM": worker_ends(signal.SIGTERM),
    f"{BATCH}memory is not enough for a scan": writes("memory"),
    f"{BATCH}the output folder is on a read-only disk (injected)": read_only_output,
    f"{BATCH}another batch works in the folder": batch_taken,
}  # fmt: skip
HARMLESS = {fault for fault in FAULTS if fault.startswith(("the cache is", "no home", "TMPDIR"))}


def row(fault: str, make: Fault, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What becomes of `uad detect`, or `uad batch`, under a fault, as a row of the table."""
    scan, out = folder / "scan.nii", folder / "out"
    scan.write_text("scan")
    many = fault.startswith(BATCH)
    target = ["--workers", "0", "-o", str(out)] if many else ["-o", str(out / "map.nii.gz")]
    with pytest.MonkeyPatch.context() as patch:
        Stand(patch)
        given = ["batch" if many else "detect", str(scan), *target, "--device", "cpu", "--threads", "1", "--quiet"]
        code = main([*given, *make(scan, patch)])
    err = capsys.readouterr().err.replace(f"{folder}/", "").replace("`", "")
    assert "Traceback" not in err
    assert "bug" not in err
    said = [line.removeprefix("error: ") for line in err.strip().splitlines() if line != "warning: odd"]
    said = [re.sub(r"uad-tmp-[\w-]+", "uad-tmp-...", line) for line in said]
    left = [path for path in files_below(out) if not path.endswith(".lock")] if out.is_dir() else []
    assert not any(part.startswith(".") for path in left for part in Path(path).parts)
    assert (code == 0) == (fault in HARMLESS), (fault, code, said)
    assert code != 1, fault
    messages = "; ".join(f"`{line}`" for line in said) or "none"
    return f"| {fault} | {code} | {messages} | {', '.join(left) or 'nothing'} |\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_the_table_of_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = []
    for number, (fault, make) in enumerate(FAULTS.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        lines.append(row(fault, make, folder, capsys))
    table = HEAD + "".join(lines)
    page = PAGE.read_text()
    if os.environ.get("UAD_WRITE_DOCS"):
        before, old = page.split(HEAD)
        rest = old.split("\n\n", 1)[1:]
        PAGE.write_text("\n".join([before + table, *rest]))
    assert table in PAGE.read_text()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_only_a_killed_worker_is_suspected_of_want_of_memory(number: int, scans: Path) -> None:
    assert ("memory" in Died(-number).in_words()) == (number == signal.SIGKILL)
