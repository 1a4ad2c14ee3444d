"""The result files of one scan: written to a hidden folder, then moved to their places together, the sidecar last."""

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
from uadcli.running.lock import refused
from uadcli.running.temporary import missing_folders, remove, remove_empty, sweep

if TYPE_CHECKING:
    from filelock import BaseFileLock

DIGITS = 16
LOCK, MOVING = ".lock", "moving.json"  # in the hidden folder; the second lists the files being moved
PATIENCE_SECONDS = 2.0  # for another process that checks whether it may clean up


def hidden_folder(target: Path) -> Path:
    """The folder in which the files of the map `target` are written: next to it, hidden, the same in each run."""
    return target.parent / f".uad-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:DIGITS]}"


@contextmanager
def made_together(files: Outputs, *, wait: bool = False) -> Iterator[Outputs]:
    """Hidden, exclusively locked places for the planned files; `publish` moves them.

    Leftovers of killed processes are removed first, including files that were moved without their sidecar; what is not
    published is removed at the end. If another process is making the same map, wait for it with `wait`, otherwise raise
    `OutputError`, which is also raised if files cannot be written.
    """
    folder = hidden_folder(files.map)
    new, lock = missing_folders(folder.parent), None
    try:
        while lock is None:
            with interrupt.held():  # otherwise a signal could come between creating the folder and noting it
                lock = _locked_or_not(folder, wait)
        sweep_results(folder.parent, besides=folder)
        _clear(folder)
        yield Outputs({key: folder / path.name for key, path in files.paths.items()})
    finally:
        with interrupt.held():
            if lock is not None:
                _clear(folder)
                _unlock(folder, lock)
            remove_empty(new)


def publish(hidden: Outputs, files: Outputs, replaced: Sequence[Path] = ()) -> None:
    """Move the files to their places, the sidecar last; all of them or none.

    An old sidecar and the files in `replaced` are removed first: whenever a sidecar exists, it describes the files next
    to it. Raises `OutputError`.
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
            for path in moved:  # a map alone would be mistaken for a result
                remove(path)
            if not isinstance(error, OSError):
                raise
            place = files.map.parent
            what = f"cannot be written: {error.strerror}"
            raise OutputError(what, path=place, hint="Check the folder's permissions and free space.") from error
        (folder / MOVING).unlink(missing_ok=True)


def sweep_results(folder: Path, besides: Path | None = None) -> None:
    """Remove leftovers of killed processes, hidden or partly published, from a folder of results."""
    sweep(folder)
    for left in sorted(folder.glob(f".uad-{'[0-9a-f]' * DIGITS}")):
        if left == besides or left.is_symlink():
            continue
        with suppress(OutputError):  # in use by another process, or owned by another user
            lock = _locked(left, patience=0.0)
            _clear(left)
            _unlock(left, lock)


class _BusyError(OutputError):
    """Another process has the hidden folder."""


def _locked_or_not(folder: Path, wait: bool) -> BaseFileLock | None:
    """The lock of a hidden folder, or None to keep waiting. Raises `OutputError`."""
    try:
        return _locked(folder)
    except _BusyError:
        if wait:
            return None
        raise


def _locked(folder: Path, patience: float = PATIENCE_SECONDS) -> BaseFileLock:
    """Create and lock a hidden folder. Raises `OutputError` if another process has locked it."""
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
        except FileNotFoundError:  # its owner has just removed the folder
            continue
        except OSError as error:
            raise refused(error, folder / LOCK, [folder], "Remove it.") from error


def _unlock(folder: Path, lock: BaseFileLock) -> None:
    """Remove an empty hidden folder and release its lock."""
    with suppress(OSError):  # another process may already be waiting for it
        (folder / LOCK).unlink(missing_ok=True)
        folder.rmdir()
    lock.release()


def _clear(folder: Path) -> None:
    """Empty a hidden folder except for its lock, and remove files that a killed process had moved without the rest.

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
    """The names of files that a process killed while moving had already moved; empty if it had moved all."""
    try:
        names = json.loads(moving.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    known = isinstance(names, list) and all(isinstance(name, str) and "/" not in name for name in names)
    if not known or not any((moving.parent / name).exists() for name in names):
        return []  # nothing is left in the hidden folder: all files were moved
    return [name for name in names if not (moving.parent / name).exists()]
