"""The standard streams: replace closed ones, and keep the output of compiled libraries off them."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_shown = False  # whether what compiled libraries print is shown: with --debug


def open_missing() -> None:
    """Replace closed standard streams (`2>&-`, cron, daemons) by the null device.

    Otherwise the next opened file, perhaps the map, would receive what libraries write to stderr.
    """
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            _lead_nowhere(descriptor)
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def set_library_text(shown: bool) -> None:
    """Set whether the user sees what libraries print and log."""
    global _shown
    _shown = shown
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, logging.NullHandler)]:
        root.removeHandler(handler)
    if not shown:  # without any handler Python prints warnings that are logged
        root.addHandler(logging.NullHandler())


def library_text_shown() -> bool:
    """Whether text that libraries print and log themselves is shown."""
    return _shown


def keep_terminal() -> None:
    """Write to the terminal through a separate descriptor, so that progress shows while libraries are muted."""
    if sys.stderr.isatty() and _descriptor(sys.stderr) == 2:
        sys.stderr = os.fdopen(os.dup(2), "w", encoding=sys.stderr.encoding, errors=sys.stderr.errors, buffering=1)


@contextmanager
def mute_libraries() -> Iterator[None]:
    """Suppress what compiled code (ITK, ANTs) prints to stdout and stderr, unless it is to be shown."""
    if _shown:
        yield
        return
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    saved = [os.dup(descriptor) for descriptor in (1, 2)]
    try:
        for descriptor in (1, 2):
            _lead_nowhere(descriptor)
        yield
    finally:
        for descriptor, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, descriptor)
            os.close(copy)


def drop(stream: Any) -> None:
    """Discard what a stream still buffers, which Python would otherwise fail to write at exit."""
    descriptor = _descriptor(stream)
    if descriptor is not None:
        _lead_nowhere(descriptor)


def _lead_nowhere(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != descriptor:
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
    os.set_inheritable(descriptor, True)


def _descriptor(stream: Any) -> int | None:
    try:
        return int(stream.fileno())
    except (OSError, ValueError, AttributeError):  # in tests, a stream of memory
        return None
