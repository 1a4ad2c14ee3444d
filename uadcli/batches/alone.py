"""One process at a time for each part of a batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from uadcli.errors import OutputError
from uadcli.files import make_folder
from uadcli.running import interrupt
from uadcli.running.lock import refused
from uadcli.running.temporary import missing_folders


@contextmanager
def alone(output: Path, part: tuple[int, int]) -> Iterator[None]:
    """Create the output folder and lock this part of the batch in it.

    Raises `OutputError` if it is locked or cannot be.
    """
    from filelock import FileLock, Timeout

    new = missing_folders(output)
    make_folder(output)
    place = output / f".uad-batch-{part[0] + 1}-of-{part[1]}.lock"
    lock = FileLock(place)
    try:
        try:
            with interrupt.held():
                lock.acquire(timeout=0)
        except Timeout as error:
            hint = "Wait until it ends, or see --status."
            raise OutputError("another process is working on this batch", path=output, hint=hint) from error
        except OSError as error:
            raise refused(error, place, new, "Choose another folder with -o.") from error
        yield
    finally:
        if lock.is_locked:
            place.unlink(missing_ok=True)
            lock.release()
