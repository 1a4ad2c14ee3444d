"""A sign of life from work that takes long, where no line moves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS = 60.0


@contextmanager
def beating(say: Callable[[], None], seconds: float = SECONDS) -> Iterator[None]:
    """Call `say` every `seconds` from another thread. An error in it ends the calls, and is raised at the end."""
    ended, failed = threading.Event(), list[Exception]()

    def beat() -> None:
        while not ended.wait(seconds):
            try:
                say()
            except Exception as error:
                failed.append(error)
                return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if failed:
        raise failed[0]
