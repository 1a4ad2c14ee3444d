"""A stage of a running command: its progress, and how long it has taken."""

from __future__ import annotations

import time
from collections.abc import Callable


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
        elif 0 < self.done < self.total:
            parts.append(f"about {duration(elapsed * (self.total - self.done) / self.done)} left")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """Seconds in words: `8 s`, `2 min 05 s`."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"
