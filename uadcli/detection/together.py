"""The files of one scan, made under hidden names and moved to their own in one go, the sidecar last."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from uadcli.data.names import Outputs
from uadcli.errors import OutputError
from uadcli.files import make_folder
from uadcli.running import interrupt
from uadcli.running.temporary import remove, sweep

if TYPE_CHECKING:
    from filelock import BaseFileLock

DIGITS = 16
LOCK, MOVING = ".lock", "moving.json"  # in the hidden folder; the second names the files on their way
PATIENCE_SECONDS = 2.0  # with another process that looks whether it may clean up


def hidden_folder(target: Path) -> Path:
    """Where the files of the map `target` are made: next to it, hidden, the same in each run."""
    return target.parent / f".uad-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:DIGITS]}"


@contextmanager
def made_together(files: Outputs, *, wait: bool = False) -> Iterator[Outputs]:
    """Hidden places for the planned files, which no other process has meanwhile; `publish` moves them.

    What killed processes left in the folder is removed first, files that got their names without their sidecar
    included; what is not published is removed at the end. While another process makes the same map, `wait` waits for
    its end. Raises `OutputError`, without `wait` also for that.
    """
    folder = hidden_folder(files.map)
    new, lock = _missing(folder.parent), None
    try:
        while lock is None:
            with interrupt.held():  # else a signal could come between making the folder and knowing of it
                lock = _locked_or_not(folder, wait)
        sweep_results(folder.parent, besides=folder)
        _clear(folder)
        yield Outputs({key: folder / path.name for key, path in files.paths.items()})
    finally:
        with interrupt.held():
            if lock is not None:
                _clear(folder)
                _unlock(folder, lock)
            for parent in new:
                with suppress(OSError):  # it holds results now
                    parent.rmdir()


def publish(hidden: Outputs, files: Outputs, replaced: Sequence[Path] = ()) -> None:
    """Move the files to their places, the sidecar last, or none of them.

    An old sidecar, and the files that are `replaced`, go first: whenever a sidecar is there, the files next to it are
    those that it describes. Raises `OutputError`.
    """
    folder, moved = hidden.map.parent, list[Path]()
    order = sorted(files.paths, key=lambda key: key == "sidecar")
    with interrupt.held():
        try:
            (folder / MOVING).write_text(json.dumps([files.paths[key].name for key in order]), encoding="utf-8")
            for path in (*(files.paths[key] for key in order if key == "sidecar"), *replaced):
                path.unlink(missing_ok=True)
            for key in order:
                os.replace(hidden.paths[key], files.paths[key])
                moved.append(files.paths[key])
        except BaseException as error:
            for path in moved:  # a map alone would pass for a result
                remove(path)
            if not isinstance(error, OSError):
                raise
            place = files.map.parent
            what = f"cannot be written: {error.strerror}"
            raise OutputError(what, path=place, hint="Check the folder's permissions and free space.") from error
        (folder / MOVING).unlink(missing_ok=True)


def sweep_results(folder: Path, besides: Path | None = None) -> None:
    """Remove from a folder of results what killed processes left there, hidden or half published."""
    sweep(folder)
    for left in sorted(folder.glob(f".uad-{'[0-9a-f]' * DIGITS}")):
        if left == besides or left.is_symlink():
            continue
        with suppress(OutputError):  # another process is at work there, or it is another user's
            lock = _locked(left, patience=0.0)
            _clear(left)
            _unlock(left, lock)


class _BusyError(OutputError):
    """Another process has the hidden folder."""


def _locked_or_not(folder: Path, wait: bool) -> BaseFileLock | None:
    """The lock of a hidden folder; None if it is to be waited for longer. Raises `OutputError`."""
    try:
        return _locked(folder)
    except _BusyError:
        if wait:
            return None
        raise


def _locked(folder: Path, patience: float = PATIENCE_SECONDS) -> BaseFileLock:
    """The lock of a hidden folder, which is made. Raises `OutputError` if another process has it."""
    from filelock import FileLock, Timeout

    until = time.monotonic() + patience
    while True:
        make_folder(folder.parent)
        make_folder(folder)
        lock = FileLock(folder / LOCK)
        try:
            lock.acquire(timeout=max(until - time.monotonic(), 0.0))
            return lock
        except Timeout as error:
            what = "another process is making this map"
            raise _BusyError(what, path=folder.parent, hint="Wait until it ends, or choose another -o.") from error
        except FileNotFoundError:  # the process that had it has just removed the folder
            continue
        except OSError as error:
            raise OutputError(f"cannot be locked: {error.strerror}", path=folder, hint="Remove it.") from error


def _unlock(folder: Path, lock: BaseFileLock) -> None:
    """Remove a hidden folder that is cleared, and give its lock back."""
    with suppress(OSError):  # another process may wait in it already
        (folder / LOCK).unlink(missing_ok=True)
        folder.rmdir()
    lock.release()


def _clear(folder: Path) -> None:
    """Remove what is in a hidden folder but the lock, and what a killed process had moved out of it without the rest.

    Raises `OutputError`.
    """
    try:
        for name in _half_published(folder / MOVING):
            (folder.parent / name).unlink(missing_ok=True)
        for path in folder.iterdir():
            if path.name != LOCK:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    except OSError as error:
        raise OutputError(f"cannot be removed: {error.strerror}", path=folder, hint="Remove it.") from error


def _half_published(moving: Path) -> list[str]:
    """The names of files next to the folder that a process was killed while it moved; none where it got to the end."""
    try:
        names = json.loads(moving.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    known = isinstance(names, list) and all(isinstance(name, str) and "/" not in name for name in names)
    if not known or not any((moving.parent / name).exists() for name in names):
        return []  # nothing of it is left in the hidden folder: all files have their names
    return [name for name in names if not (moving.parent / name).exists()]


def _missing(folder: Path) -> list[Path]:
    """The folders that have to be made for one, the innermost first."""
    return [one for one in (folder, *folder.parents) if not one.exists()]
