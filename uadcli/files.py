"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from uadcli.errors import OutputError


def write_with(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write(temporary)` for a file beside `path`, then move it there in one step, or leave nothing.

    The temporary name is hidden and ends as that of `path`. Raises `OutputError` where the folder cannot be written.
    """
    suffix = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    temporary = path.with_name(f".{secrets.token_hex(6)}.tmp{suffix}")
    try:
        write(temporary)
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"cannot be written: {reason}", path=path, hint="Check the folder's rights and space."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write the whole content or nothing. Raises `OutputError`."""
    write_with(path, lambda temporary: temporary.write_bytes(content))


def write_text(path: Path, content: str) -> None:
    """Write text in UTF-8, whole or not at all. Raises `OutputError`.

    A file name may hold bytes that are no UTF-8: in JSON this makes an escape of them that reads back.
    """
    write_bytes(path, content.encode("utf-8", "backslashreplace"))
