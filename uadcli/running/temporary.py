"""Temporary files and folders named after their process, so that those of a killed one can be removed."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from uadcli.errors import OutputError

PATTERN = re.compile(r"\.?uad-tmp-([0-9a-f]{8})-(\d+)-")
STALE_SECONDS = 7 * 24 * 3600.0  # for files of another machine, whose processes cannot be checked


@cache
def _machine() -> str:
    """Eight hexadecimal digits for this machine and, in a container, its process namespace."""
    numbers = ""
    with suppress(OSError):
        numbers = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{socket.gethostname()} {numbers}".encode()).hexdigest()[:8]


def mark() -> str:
    """A unique prefix for the name of a temporary file of this process."""
    return f"uad-tmp-{_machine()}-{os.getpid()}-{secrets.token_hex(4)}"


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for temporary files, removed at the end; leftovers of killed processes are removed first.

    Raises `OutputError` if no such folder can be created.
    """
    with _no_folder():
        place = Path(tempfile.gettempdir())
        sweep(place)
    folder = place / mark()  # named before it is made, so that a signal right after that does not leave it behind
    try:
        with _no_folder():
            folder.mkdir(mode=0o700)
        yield folder
    finally:
        remove(folder)


@contextmanager
def _no_folder() -> Iterator[None]:
    """Raise `OutputError` where the system refuses a temporary folder."""
    try:
        yield
    except OSError as error:
        place = os.environ.get("TMPDIR") or None
        hint = "Set TMPDIR to a folder with some space."
        raise OutputError(f"no temporary folder can be made: {error.strerror}", path=place, hint=hint) from error


def sweep(folder: Path) -> None:
    """Remove the temporary files of dead processes from a folder; those that cannot be removed stay."""
    with suppress(OSError):
        for path in folder.iterdir():
            if _is_left(path):
                remove(path)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with its content, as far as permissions allow."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def missing_folders(folder: Path) -> list[Path]:
    """The folder and its parents that do not exist yet, innermost first."""
    return [one for one in (folder, *folder.parents) if not one.exists()]


def remove_empty(folders: list[Path]) -> None:
    """Remove folders, given innermost first, as far as they are empty."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def _is_left(path: Path) -> bool:
    found = PATTERN.match(path.name)
    if found is None:
        return False
    if found[1] == _machine():
        import psutil

        return not psutil.pid_exists(int(found[2]))
    return time.time() - path.lstat().st_mtime > STALE_SECONDS
