"""A stage of a running command: its progress, and how long it has taken."""

from __future__ import annotations

import time
from collections.abc import Callable

Progress = Callable[[int, int], object]  # gets the numbers of finished and of all steps


def unseen(done: int, total: int) -> None:
    """The progress of work that nobody watches."""


class Stage:
    """A running stage; `changed` is called when its progress or note changes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.started = time.monotonic()
        self.done, self.total = 0, 0
        self.note = ""
        self.changed: Callable[[], None] = lambda: None

    def update(self, done: int, total: int) -> None:
        """Report that `done` of `total` steps are finished."""
        self.done, self.total = done, total
        self.changed()

    def remark(self, note: str) -> None:
        """Show a note at the end of the moving line."""
        self.note = note
        self.changed()

    @property
    def elapsed(self) -> float:
        """Seconds since the stage began."""
        return time.monotonic() - self.started

    def in_words(self) -> str:
        """Its progress in a line: steps, elapsed time, and a note or the time left."""
        elapsed, parts = self.elapsed, [f"{self.done} of {self.total}"] if self.total else []
        parts.append(duration(elapsed))
        if self.note:
            parts.append(self.note)
        elif left := time_left(elapsed, self.done, self.total):
            parts.append(left)
        return ", ".join(parts)


class Part:
    """Counted work within a stage, said as its note: `making label map 3 of 20, about 2 min 05 s left`."""

    def __init__(self, say: Callable[[str], None], doing: str) -> None:
        self._say, self._doing, self._started = say, doing, time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Report that `done` of `total` are finished; 0 begins to count the time."""
        if not done:
            self._started = time.monotonic()
        left = time_left(time.monotonic() - self._started, done, total)
        self._say(", ".join(filter(None, [f"{self._doing} {min(done + 1, total)} of {total}", left])))


def time_left(elapsed: float, done: int, total: int) -> str:
    """How long the rest of `total` steps will take after `done` in `elapsed` seconds; empty at start and end."""
    return f"about {duration(elapsed * (total - done) / done)} left" if 0 < done < total else ""


def duration(seconds: float) -> str:
    """Seconds in words: `8 s`, `2 min 05 s`."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"
