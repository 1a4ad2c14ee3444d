"""Ctrl-C and SIGTERM: they stop the current work, are never lost, and wait for what must not be cut short."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

INTERRUPTED, TERMINATED = 130, 143
CODES = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}

_received: int | None = None
_held = 0


class Interrupted(SystemExit):
    """Raised on a signal; `code` is the exit code."""


@contextmanager
def handled() -> Iterator[None]:
    """A context in which both signals raise `Interrupted`. A signal that is ignored stays ignored."""
    global _received
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _received = None
    before: dict[signal.Signals, Any] = {number: signal.getsignal(number) for number in CODES}
    heard = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    try:
        for number in heard:
            signal.signal(number, _receive)
        yield
    finally:
        try:
            for number in heard:
                signal.signal(number, before[number])
        finally:  # also if one comes while they are put back
            _received = None


def _receive(number: int, _: Any) -> None:
    global _received
    _received = number
    if not _held:
        raise Interrupted(CODES[signal.Signals(number)])


def received() -> int | None:
    """The exit code for the signal received, if any."""
    return None if _received is None else CODES[signal.Signals(_received)]


def check() -> None:
    """Raises `Interrupted` if a signal was received, even if a library swallowed the exception."""
    if _received is not None and not _held:
        raise Interrupted(CODES[signal.Signals(_received)])


@contextmanager
def held() -> Iterator[None]:
    """A context in which a signal is only recorded, and takes effect at its end; for renaming files, a few moments."""
    global _held
    _held += 1
    try:
        yield
    finally:
        _held -= 1
    check()
