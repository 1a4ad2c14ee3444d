"""Folders that cannot be locked."""

from __future__ import annotations

import errno
from pathlib import Path

from uadcli.errors import OutputError
from uadcli.running.temporary import remove, remove_empty

WITHOUT = (errno.ENOLCK, errno.EOPNOTSUPP)  # of a file system without locks; for ENOSYS filelock has a way of its own


def refused(error: OSError, file: Path, new: list[Path], hint: str) -> OutputError:
    """The error for a file that cannot be locked; where none can, it does not stay, nor do the `new` folders."""
    if error.errno in WITHOUT:
        remove(file)
        hint = "Its file system has no locks: choose a folder on another one."
    remove_empty(new)
    return OutputError(f"cannot be locked: {error.strerror}", path=file.parent, hint=hint)
