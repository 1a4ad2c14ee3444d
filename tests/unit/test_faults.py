"""Faults of the system become one line with a remedy and the right exit code."""

from __future__ import annotations

import errno
import os
import signal
import threading
from pathlib import Path
from typing import Any

import bundled
import pytest
import torch
from stand import OPTIONS, Stand, counts, run

from uadcli.batches import batch, plan
from uadcli.batches.inputs import Found
from uadcli.cli.app import main
from uadcli.config import DetectConfig
from uadcli.console import Reporter
from uadcli.data import dataset
from uadcli.detection import detect as detection
from uadcli.detection.detect import detect
from uadcli.detection.session import Session
from uadcli.errors import InputError, OutputError, UadError
from uadcli.running import faults
from uadcli.training import checkpoint
from uadcli.workers import TERMINATED, Died


def behind(error: Exception) -> InputError:
    try:
        raise InputError("registration failed") from error
    except InputError as raised:
        return raised


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (MemoryError(), 5, "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1073741824 bytes"), 5, "1024"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), 5, "2048 MB"),
        (RuntimeError("std::bad_alloc"), 5, "4096 MB"),
        (RuntimeError("can't start new thread"), 5, "lower --threads"),
        (RuntimeError("Resource temporarily unavailable"), 5, "out of memory"),
        (RuntimeError("could not create a primitive"), 5, "out of memory"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), 5, "out of memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 5, "out of memory"),
        (behind(RuntimeError("ITK: Failed to allocate memory for image")), 5, "out of memory"),
        (RuntimeError("ITK ERROR: PlatformMultiThreader(0x1): Unable to join thread."), 5, "out of memory"),
        (RuntimeError("ITK ERROR: Unable to create a thread.  pthread_create() returned 11"), 5, "lower --threads"),
        (OSError(errno.ENOSPC, "No space left on device", "/out/a"), 6, "/out/a: cannot be written: No space left"),
        (OSError(errno.EROFS, "Read-only file system"), 6, "cannot be written"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "a" * 300), 2, "aaa: the name of the file or folder is too"),
    ],
)
def test_faults_of_the_system(error: Exception, code: int, text: str) -> None:
    found = faults.known(error)
    assert isinstance(found, UadError)
    assert found.exit_code == code
    assert text in str(found)


@pytest.mark.parametrize(
    ("limit_mb", "threads", "enough"),
    [(400, 1, False), (1700, 2, False), (1800, 2, True), (1800, 16, False), (-1, 64, True)],
)
def test_an_address_space_without_room_for_the_libraries_is_refused(
    limit_mb: int, threads: int, enough: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource")
    limit = resource.RLIM_INFINITY if limit_mb < 0 else limit_mb * 2**20
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    if enough:
        faults.check_limit(threads)
        return
    with pytest.raises(faults.OutOfMemoryError, match=f"limited to {limit_mb} MB.*needs up to 4096 MB") as caught:
        faults.check_limit(threads)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("half", ["ready", "finish"])
def test_want_of_memory_names_the_scan(
    half: str, scans: Path, stand: Stand, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def greedy(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1073741824 bytes")

    scan = scans / "a.nii"
    given = ["detect", str(scan), "-o", str(scans / "map.nii.gz"), "--device", "cpu", "--threads", "1", "--quiet"]
    monkeypatch.setattr(detection, "ready_scan" if half == "ready" else "finish", greedy)
    assert main(given) == 5
    assert capsys.readouterr().err.startswith(f"error: {scan}: out of memory: 1024 MB more")
    result = run(scan, output=scans.parent / "out")
    assert f"{scan}: out of memory: 1024 MB more" in result.failed_table.read_text()
    assert "\t5\t" in result.failed_table.read_text()


def test_a_full_disk_names_the_output(scans: Path, stand: Stand, capsys: pytest.CaptureFixture[str]) -> None:
    (scans / "a.nii").write_text("full")
    out = scans / "map.nii.gz"
    assert main(["detect", str(scans / "a.nii"), "-o", str(out), "--device", "cpu", "--threads", "1", "--quiet"]) == 6
    assert capsys.readouterr().err.startswith(f"error: {out}: cannot be written: No space left on device")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        RuntimeError("shapes differ"),
        OSError(errno.EIO, "broken"),
        BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
    ],
)
def test_a_bug_stays_a_bug(error: Exception) -> None:
    assert faults.known(error) is None


def test_numpy_says_how_much_it_asked_for() -> None:
    import numpy as np

    with pytest.raises(MemoryError) as caught:
        np.empty((1 << 30, 1 << 16), dtype=np.float64)
    assert "536870912 MB more" in str(faults.known(caught.value))


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in one that the user may not enter: the system does not even say whether it is there."""
    folder, real = tmp_path / "closed" / "deep", os.stat

    def stat(path: Any, **more: Any) -> os.stat_result:
        if isinstance(path, str | Path) and Path(path).is_relative_to(folder):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, **more)

    monkeypatch.setattr(os, "stat", stat)
    return folder


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("detect CLOSED/a.nii -o OPEN/b.nii.gz", 3),
        ("detect OPEN/in/a.nii -o CLOSED/b.nii.gz", 6),
        ("view CLOSED/a.nii", 3),
        ("evaluate CLOSED OPEN/in", 3),
        ("batch CLOSED -o OPEN/out", 3),
        ("batch OPEN/in -o CLOSED/out", 6),
        ("train CLOSED -o OPEN/run", 3),
        ("train OPEN/in -o CLOSED/run", 6),
        ("synth OPEN/in/a.nii -o CLOSED/b.nii.gz", 6),
        ("weights show CLOSED/a.safetensors", 4),
        (f"weights download {bundled.FLAIR} -o CLOSED/out", 6),
    ],
)
def test_a_folder_that_the_user_may_not_enter(
    command: str, code: int, closed: Path, scans: Path, stand: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = [part.replace("CLOSED", str(closed)).replace("OPEN", str(scans.parent)) for part in command.split()]
    assert main([*typed, *(["--quiet"] if typed[0] in ("detect", "batch", "train", "synth") else [])]) == code
    err = capsys.readouterr().err
    assert f"{closed}" in err
    assert "Permission denied. C" in err  # check, or choose another


def test_a_log_on_a_full_disk(scans: Path, stand: Stand, capsys: pytest.CaptureFixture[str]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    assert main(["detect", str(scans / "a.nii"), "--log-file", "/dev/full", "--device", "cpu", "--threads", "1"]) == 6
    err = capsys.readouterr().err
    assert "/dev/full: cannot write the log file: No space left" in err
    assert "Traceback" not in err


def test_a_name_that_is_too_long_fails_before_the_work_and_alone(scans: Path, stand: Stand) -> None:
    long = scans / f"{'x' * 243}.nii"
    long.write_text("long")
    with pytest.raises(OutputError, match="bytes"):
        detect(long, options=OPTIONS)
    assert stand.prepared == []
    assert counts(run(scans)) == (3, 0, 1)
    assert counts(run(scans)) == (0, 3, 1)


@pytest.mark.parametrize(
    ("exit_code", "code", "text"),
    [(-9, 5, "out of memory"), (-15, 143, "SIGTERM"), (TERMINATED, 143, "SIGTERM"), (-11, 1, "SIGSEGV"), (3, 1, "3")],
)
def test_the_way_a_worker_ended_is_reported(exit_code: int, code: int, text: str, scans: Path) -> None:
    job = plan.jobs([Found(scans / "a.nii")], scans.parent / "out", OPTIONS)[0]
    session = Session(DetectConfig(), OPTIONS, "cpu", load=lambda path, digest: pytest.fail("loaded"))
    failure = batch._finish(job, Died(exit_code), session)
    assert failure.code == code  # type: ignore[union-attr]
    assert text in failure.message  # type: ignore[union-attr]
    assert ("memory" in failure.message) == (exit_code == -signal.SIGKILL)  # type: ignore[union-attr]


def test_two_batches_in_one_folder(scans: Path, stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    began, leave = threading.Event(), threading.Event()
    ready = stand.ready

    def slow(*given: object) -> object:
        began.set()
        leave.wait(30)
        return ready(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(detection, "ready_scan", slow)
    found = []
    thread = threading.Thread(target=lambda: found.append(counts(run(scans))))
    thread.start()
    assert began.wait(30)
    with pytest.raises(OutputError, match="another process is working on this batch"):
        run(scans)
    leave.set()
    thread.join()
    assert found == [(3, 0, 0)]
    assert not list((scans.parent / "out").rglob(".*"))


@pytest.mark.parametrize("content", [b"\xff\xfeparticipant_id\tsplit\n", b"participant_id\tsplit\n\xe9\ttrain\n"])
def test_a_table_of_participants_that_is_no_text(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "participants.tsv").write_bytes(content)
    (tmp_path / "sub-1_T1w.nii").touch()
    with pytest.raises(InputError, match="UTF-8"):
        dataset.find(tmp_path, 0.2)


@pytest.mark.parametrize("content", [b"", b"rubbish", b"PK\x03\x04" + b"\0" * 50, b"\x80\x02}q\x00."])
def test_a_broken_checkpoint(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "last.pt").write_bytes(content)
    with pytest.raises(InputError, match="not a complete checkpoint"):
        checkpoint.read(tmp_path / "last.pt")


def test_a_checkpoint_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    torch.save({"done": 1, "tensors": "../other.safetensors"}, tmp_path / "last.pt")
    with pytest.raises(InputError, match="not a complete checkpoint"):
        checkpoint.read(tmp_path / "last.pt")


def test_a_reporter_whose_log_fails_still_ends(tmp_path: Path) -> None:
    with pytest.raises(OutputError), Reporter(silent=True, log_file=Path("/dev/full")) as reporter:
        reporter.info("x" * 100_000)
