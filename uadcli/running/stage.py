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
