"""Atomic writing of files, their folders, and their checksums; the folders below a folder."""

from __future__ import annotations

import hashlib
import json
import lzma
import math
import numbers
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from uadcli.errors import InputError, OutputError, UadError
from uadcli.running import interrupt
from uadcli.running.temporary import mark

# errors on reading an .npz that is truncated, changed or something else; a cache entry is then made again
DAMAGED = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, NotImplementedError, RuntimeError),
    *(MemoryError, struct.error, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)


def write_with(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file atomically: call `write(temporary)` for a hidden file next to `path`, then rename it to `path`.

    The temporary name has the suffix of `path`. Raises `OutputError` if the folder cannot be written.
    """
    suffix = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    temporary = path.with_name(f".{mark()}{suffix}")
    try:
        write(temporary)
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise _unwritten(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files that belong together: all of them, or after an error such as a full disk none, and the old ones stay.

    The last one is removed before the others are replaced, so that it never lies next to files of another time. Raises
    `OutputError`.
    """
    hidden = {path: path.with_name(f".{mark()}{path.suffix}") for path in contents}
    path = last = list(contents)[-1]
    try:
        for path, content in contents.items():
            with hidden[path].open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        with interrupt.held():
            last.unlink(missing_ok=True)
            for path in contents:
                os.replace(hidden[path], path)
    except OSError as error:
        raise _unwritten(path, error) from error
    finally:
        for place in hidden.values():
            place.unlink(missing_ok=True)


def _unwritten(path: Path, error: OSError) -> OutputError:
    hint = "Check the folder's permissions and free space."
    return OutputError(f"cannot be written: {error.strerror or error}", path=path, hint=hint)


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes atomically. Raises `OutputError`."""
    write_with(path, lambda temporary: temporary.write_bytes(content))


def write_text(path: Path, content: str) -> None:
    """Write text in UTF-8 atomically. Raises `OutputError`.

    Bytes of a file name that are not valid UTF-8 become escapes, which JSON reads back.
    """
    write_bytes(path, content.encode("utf-8", "backslashreplace"))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON atomically; numbers that were not computed (see `finite`) are null. Raises `OutputError`."""
    write_text(path, in_json(content))


def in_json(content: dict[str, Any]) -> str:
    """The text of a JSON file, as `write_json` writes it."""
    return json.dumps(finite(content), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def finite(value: Any) -> Any:
    """The value with None for every number that was not computed (NaN, infinite), also in lists and dictionaries."""
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral):
        return float(value) if math.isfinite(value) else None  # float() for the numbers of NumPy
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def refuse_closed(path: Path) -> None:
    """Raises `OutputError` for a file or folder to be written in a place that this user may not enter."""
    try:
        path.exists()
    except OSError as error:
        hint = "Choose another folder."
        raise OutputError(f"cannot be written: {error.strerror}", path=path, hint=hint) from error


def make_folder(folder: Path) -> None:
    """Make a folder for results, with its parents. Raises `OutputError` if it cannot be made or written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot be created: {error.strerror}", path=folder, hint="Choose another folder.") from error
    if not os.access(folder, os.W_OK):
        what = "the folder cannot be written"  # perhaps that of a run, for which there is no other
        raise OutputError(what, path=folder, hint="Make it writable, or choose another folder.")


def file_sha256(path: Path, unreadable: type[UadError] = InputError) -> str:
    """The hexadecimal SHA-256 of a file's bytes. Raises `unreadable` if it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(f"cannot be read: {error.strerror}", path=path, hint="Check the path.") from error


def folders_below(root: Path, enter: Callable[[Path], bool] = lambda _: True) -> list[tuple[Path, list[str]]]:
    """`root` and every folder below it that `enter` accepts, with the sorted names of its files; sorted by path.

    Hidden folders are not entered: results that are being written lie in some. Linked folders are followed. Each real
    folder is listed once, so that links cannot form a loop; under its own path if that is below `root`, otherwise under
    the first link to it. Raises `InputError` for one that cannot be listed.
    """
    found: dict[str, tuple[Path, list[str]]] = {}  # by real path
    starts = [root]
    while starts:  # folders before links to them, then the links inside linked folders
        links = list[Path]()
        for start in starts:
            real_start = os.path.realpath(start)
            for place, folders, files in os.walk(start, onerror=_unlisted):
                # only starts are links, so that the real path need not be looked up for every folder
                real = os.path.normpath(os.path.join(real_start, os.path.relpath(place, start)))
                here = Path(place)
                if real in found:
                    folders.clear()
                    continue
                found[real] = here, sorted(files)
                folders[:] = [name for name in folders if not name.startswith(".") and enter(here / name)]
                links += [here / name for name in folders if (here / name).is_symlink()]
        starts = sorted(links)
    return sorted(found.values())


def _unlisted(error: OSError) -> None:
    """Raises `InputError` for a folder that cannot be listed, unless it has been removed meanwhile."""
    if not isinstance(error, FileNotFoundError):
        hint = "Make it readable, or choose other folders."
        raise InputError(f"cannot be read: {error.strerror}", path=error.filename, hint=hint) from error
