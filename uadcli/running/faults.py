"""Faults of the system, which Python, torch and ITK report in different ways, as errors of `uad`."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from uadcli.errors import DeviceError, InputError, OutputError, UadError, UsageError

DETECT_MB = 4096.0  # upper limit for one `uad detect`
# Of address space: all libraries with the first network, and the buffer of OpenBLAS for each thread. With less,
# OpenBLAS never ends (1.2 GB), or the process crashes while it ends, after its error (1.6 GB).
LIBRARIES_MB, THREAD_MB = 1700.0, 32.0
NO_MEMORY = re.compile(
    r"can.?t allocate|cannot allocate|failed to allocate|unable to allocate|bad.?alloc|out of memory|failed to map seg"
    r"|can.?t start new thread|could not create a (primitive|memory)"  # the last of oneDNN, for its code and buffers
    r"|unable to (create a|join) thread",  # of ITK, one of whose threads got no memory
    re.IGNORECASE,
)
NO_THREAD = re.compile(r"resource temporarily unavailable", re.IGNORECASE)  # of std::thread, which a file lock says too
ASKED = re.compile(r"allocate (\d+(?:\.\d*)?) ?(bytes|KiB|MiB|GiB|TiB)", re.IGNORECASE)
MB = {"bytes": 2.0**-20, "kib": 2.0**-10, "mib": 1.0, "gib": 2.0**10, "tib": 2.0**20}
HIDDEN = ".uad-"  # how the names of folders begin in which files are made until they get their own names
UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}


class OutOfMemoryError(DeviceError):
    """Out of memory, whichever library reports it."""


@contextmanager
def naming(scan: Path, output: Path) -> Iterator[None]:
    """A context that adds a path to errors without one: the scan if out of memory, the output if the disk is full.

    A file that is still in its hidden folder is called by the name that it was to get.
    """
    try:
        yield
    except Exception as error:
        found = known(error)
        if not isinstance(found, OutOfMemoryError | OutputError):
            raise
        if found.path is None:
            found.path = scan if isinstance(found, OutOfMemoryError) else output
        elif Path(found.path).parent.name.startswith(HIDDEN):
            found.path = output.parent / Path(found.path).name
        raise found from error


def check_limit(threads: int) -> None:
    """Raises `OutOfMemoryError` if the address space is limited (`ulimit -v`) to less than the libraries alone take.

    OpenBLAS would otherwise try for ever to get the buffers of its `threads`, which it asks for when SciPy is imported.
    """
    if find_spec("resource") is None:  # Windows has no such limit
        return
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    least = LIBRARIES_MB + threads * THREAD_MB
    if limit != resource.RLIM_INFINITY and limit / 2**20 < least:
        what = f"out of memory: the address space is limited to {limit / 2**20:.0f} MB (`ulimit -v`)"
        hint = f"The libraries alone take {least:.0f} MB; uad detect needs up to {DETECT_MB:.0f} MB."
        raise OutOfMemoryError(what, hint=hint)


def known(error: BaseException) -> UadError | None:
    """The `UadError` for an error of the system that a user can act on; otherwise None.

    A lack of memory, a disk that is full or not writable, a name that no file can have, or a closed folder.
    """
    for one in _chain(error):
        if isinstance(one, OutOfMemoryError):
            return one
        if _is_memory(one):
            return _out_of_memory(str(one)).with_traceback(error.__traceback__)
    if isinstance(error, UadError):
        return error
    found = _of_files(error) if isinstance(error, OSError) else None
    return None if found is None else found.with_traceback(error.__traceback__)


def _of_files(error: OSError) -> UadError | None:
    place = str(error.filename) if error.filename else None
    if error.errno == errno.ENAMETOOLONG:  # perhaps of an input, whose folder is not at fault
        return UsageError("the name of the file or folder is too long", path=place, hint="Check the path.")
    if error.errno == errno.EACCES and place:
        hint = "Check its permissions, and those of the folders above it."
        return InputError(f"cannot be accessed: {error.strerror}", path=place, hint=hint)
    if error.errno in UNWRITABLE:
        hint = "Check the free space and permissions there."
        return OutputError(f"cannot be written: {error.strerror}", path=place, hint=hint)
    return None


def is_memory(error: BaseException) -> bool:
    """Whether an error, or one of its causes, is a lack of memory."""
    return any(map(_is_memory, _chain(error)))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(10):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _is_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    if isinstance(error, RuntimeError) and NO_THREAD.search(str(error)):
        return True
    return isinstance(error, RuntimeError | ImportError | OSError) and bool(NO_MEMORY.search(str(error)))


def _out_of_memory(text: str) -> OutOfMemoryError:
    asked = ASKED.search(text)
    more = f": {max(float(asked[1]) * MB[asked[2].lower()], 1):.0f} MB more were requested" if asked else ""
    needs = f"uad detect needs up to {DETECT_MB:.0f} MB, and `uad doctor` shows how much is free"
    return OutOfMemoryError(
        f"out of memory{more}", hint=f"{needs}. Close other programs, or lower --threads, --batch-size, --workers."
    )
