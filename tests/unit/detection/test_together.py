"""The files of a scan come together or not at all, and what a killed run left behind goes with the next one."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from stand import OPTIONS, Stand, counts, files_below, run

from uadcli.data.names import Outputs, name
from uadcli.detection import together
from uadcli.detection.detect import detect
from uadcli.detection.options import DetectOptions
from uadcli.errors import OutputError
from uadcli.running import interrupt, temporary
from uadcli.running.faults import OutOfMemoryError
from uadcli.training import run_folder

GONE = 2**22 + 7  # above the largest process number


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    (tmp_path / "a.nii").write_text("a")
    return tmp_path / "a.nii"


def planned(scan: Path) -> Outputs:
    return name(scan, scan.parent / "out" / "map.nii.gz", DetectOptions())


def left_by_a_killed_run(files: Outputs, moved: int) -> None:
    """What `kill -9` leaves that comes after so many moves."""
    script = f"""
import os, signal, sys
from pathlib import Path
from uadcli.detection import together
from uadcli.data.names import Outputs
files = Outputs({{key: Path(path) for key, path in { ({k: str(p) for k, p in files.paths.items()})!r}.items()}})
real, calls = os.replace, []
def replace(*names):
    if len(calls) == {moved}:
        os.kill(os.getpid(), signal.SIGKILL)
    calls.append(names)
    real(*names)
together.os.replace = replace
with together.made_together(files) as hidden:
    for path in hidden.paths.values():
        path.write_text("killed")
    together.publish(hidden, files)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("moved", range(4))
def test_leftovers_of_a_killed_run_are_removed_by_the_next(moved: int, scan: Path, stand: Stand) -> None:
    files = planned(scan)
    left_by_a_killed_run(files, moved)
    assert together.hidden_folder(files.map).exists()
    detect(scan, files.map, options=OPTIONS)  # without --overwrite
    assert set(files_below(scan.parent / "out")) == {path.name for path in files.paths.values()}
    assert b"killed" not in b"".join(files_below(scan.parent / "out").values())


def test_leftovers_are_removed_by_a_run_for_another_map(scan: Path, stand: Stand) -> None:
    left_by_a_killed_run(planned(scan), 2)
    detect(scan, scan.parent / "out" / "other.nii.gz", options=OPTIONS)
    assert all(path.startswith("other") for path in files_below(scan.parent / "out"))


def test_files_that_a_killed_run_replaced_are_not_taken_for_its_own(scan: Path, stand: Stand) -> None:
    """Killed before its first move: what was there before stays."""
    files = planned(scan)
    detect(scan, files.map, options=OPTIONS)
    before = files_below(scan.parent / "out")
    left_by_a_killed_run(files, 0)
    detect(scan, scan.parent / "out" / "other.nii.gz", options=OPTIONS)
    after = files_below(scan.parent / "out")
    assert {n: after[n] for n in before if n != "map.json"} == {n: c for n, c in before.items() if n != "map.json"}


@pytest.mark.parametrize("file", range(4))
def test_a_disk_that_fills_at_any_file_leaves_none(
    file: int, scan: Path, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.replace, []

    def replace(source: Path, target: Path) -> None:
        if ".uad-" not in str(target):
            calls.append(target)
            if len(calls) == file + 1:
                raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    monkeypatch.setattr(together.os, "replace", replace)
    with pytest.raises(OutputError, match="No space left") as caught:
        detect(scan, scan.parent / "out" / "map.nii.gz", options=OPTIONS)
    assert caught.value.exit_code == 6
    assert not (scan.parent / "out").exists()


@pytest.mark.parametrize("text", ["full", "memory"])
def test_a_fault_at_a_later_file_leaves_none(text: str, scan: Path, stand: Stand) -> None:
    scan.write_text(text)
    with pytest.raises((OutputError, OutOfMemoryError)):
        detect(scan, scan.parent / "deep" / "out" / "map.nii.gz", options=OPTIONS)
    assert files_below(scan.parent) == {"a.nii": text.encode()}
    assert [path.name for path in scan.parent.iterdir()] == ["a.nii"]


def test_a_fault_leaves_the_results_of_the_run_before(scan: Path, stand: Stand) -> None:
    detect(scan, scan.parent / "map.nii.gz", options=OPTIONS)
    before = files_below(scan.parent) | {"a.nii": b"full"}
    scan.write_text("full")
    with pytest.raises(OutputError, match="No space"):
        detect(scan, scan.parent / "map.nii.gz", options=dataclasses.replace(OPTIONS, overwrite=True))
    assert files_below(scan.parent) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_between_two_moves_waits_for_the_last(
    number: signal.Signals, scan: Path, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.replace

    def replace(source: Path, target: Path) -> None:
        if ".uad-" not in str(target):
            signal.raise_signal(number)
        real(source, target)

    monkeypatch.setattr(together.os, "replace", replace)
    with pytest.raises(interrupt.Interrupted), interrupt.handled():
        detect(scan, scan.parent / "out" / "map.nii.gz", options=OPTIONS)
    assert set(files_below(scan.parent / "out")) == {path.name for path in planned(scan).paths.values()}


def test_the_same_map_is_made_by_one_process_at_a_time(scan: Path, stand: Stand) -> None:
    files = planned(scan)
    with (
        together.made_together(files),
        pytest.raises(OutputError, match="another process is making this map"),
        together.made_together(files),
    ):
        pass
    assert not (scan.parent / "out").exists()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told_and_nothing_stays(
    code: int, scan: Path, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", without)
    out = scan.parent / "out"
    for begun in (
        lambda: detect(scan, out / "map.nii.gz", options=OPTIONS),
        lambda: run(scan.parent),
        lambda: run_folder.held(out).__enter__(),
    ):
        with pytest.raises(OutputError, match="cannot be locked") as caught:
            begun()
        assert "file system has no locks" in caught.value.hint
        assert not out.exists()


def test_a_batch_waits_for_the_process_that_makes_a_map(scans: Path, stand: Stand) -> None:
    files = name(scans / "a.nii", scans.parent / "out" / "a_desc-anomaly_map.nii.gz", DetectOptions())
    leave = threading.Event()
    began = threading.Event()

    def other() -> None:
        with together.made_together(files):
            began.set()
            leave.wait(30)

    thread = threading.Thread(target=other)
    thread.start()
    began.wait(30)
    threading.Timer(0.5, leave.set).start()
    assert counts(run(scans)) == (3, 0, 0)
    thread.join()


def test_temporary_files_in_use_are_not_removed(scan: Path) -> None:
    with together.made_together(planned(scan)) as hidden:
        hidden.map.write_text("at work")
        together.sweep_results(scan.parent / "out")
        assert hidden.map.read_text() == "at work"


def test_temporary_files_of_processes_that_are_gone_are_swept(tmp_path: Path) -> None:
    dead = temporary.mark().replace(f"-{os.getpid()}-", f"-{GONE}-")
    (tmp_path / f".{dead}.nii.gz").touch()
    (tmp_path / f"{dead}-folder" / "deep").mkdir(parents=True)
    kept = [f".{temporary.mark()}.nii", f"uad-tmp-00000000-{GONE}-1", "uad-tmp-mine", "scan.nii"]
    for one in kept:
        (tmp_path / one).touch()
    (tmp_path / f"{dead}-link").symlink_to(tmp_path.parent)
    temporary.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
    assert tmp_path.parent.exists()


def test_no_temporary_folder_is_an_output_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary.tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(OutputError, match="TMPDIR"), temporary.temporary_folder():
        pass


def test_a_signal_right_after_a_temporary_folder_is_made_does_not_leave_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler that raises does so when the system call is over, before its caller knows the folder."""
    monkeypatch.setattr(temporary.tempfile, "tempdir", str(tmp_path))
    real = os.mkdir

    def interrupted(*given: Any, **more: Any) -> None:
        real(*given, **more)
        assert list(tmp_path.iterdir())
        raise SystemExit(143)

    monkeypatch.setattr(os, "mkdir", interrupted)
    with pytest.raises(SystemExit), temporary.temporary_folder():
        pass
    assert not list(tmp_path.iterdir())


def test_a_list_of_moves_cannot_name_files_elsewhere(scan: Path, stand: Stand) -> None:
    files = planned(scan)
    folder = together.hidden_folder(files.map)
    folder.mkdir(parents=True)
    (folder / together.MOVING).write_text('["../a.nii", ".."]')
    detect(scan, files.map, options=OPTIONS)
    assert scan.exists()
