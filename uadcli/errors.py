"""The errors that users can meet, each with an exit code and a remedy.

A `UadError` is printed as one line, "what, which file, what to do"; anything else that escapes is a bug (exit code 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RESEARCH_USE = "Research use only; not a medical device. An unmarked voxel is not necessarily healthy."


class UadError(Exception):
    """An error the user can act on: `what` happened, to which `path`, and a `hint` how to fix it."""

    exit_code = 1

    def __init__(self, what: str, *, path: Path | str | None = None, hint: str = "") -> None:
        self.what, self.path, self.hint = what, path, hint
        super().__init__(what)

    def __str__(self) -> str:
        place = f"{self.path}: " if self.path is not None else ""
        remedy = f". {self.hint}" if self.hint else ""
        return " ".join(f"{place}{self.what}{remedy}".split())


@contextmanager
def about(path: Path) -> Iterator[None]:
    """Add `path` to every `InputError` raised inside that names no file."""
    try:
        yield
    except InputError as error:
        error.path = error.path or path
        raise


class UsageError(UadError):
    """The command contradicts itself or asks for something that does not exist."""

    exit_code = 2


class InputError(UadError):
    """The scan (or a mask for it) cannot be used."""

    exit_code = 3


class WeightsError(UadError):
    """Weights are missing, damaged, unverified or made for something else."""

    exit_code = 4


class DeviceError(UadError):
    """The device is not available, or has too little memory."""

    exit_code = 5


class OutputError(UadError):
    """The result cannot be written, or would overwrite something."""

    exit_code = 6


class QualityError(UadError):
    """Quality control failed and `--strict` was given."""

    exit_code = 7


class BatchError(UadError):
    """Some scans of a batch failed; the others are done."""

    exit_code = 8
