"""Work for spawned processes: it has to be importable there."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from uadcli.workers import Workers


def double(number: int) -> int:
    return 2 * number


def die_of_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def die_of_broken(case: Any, **_: object) -> str:
    """Stands for the preparation of a case: one that is broken takes its process along."""
    if "broken" in case.scan.name:
        os.kill(os.getpid(), signal.SIGKILL)
    return "odd" if "odd" in case.scan.name else ""


def temporary_place(_: int) -> str | None:
    return tempfile.tempdir


def own_process(_: int) -> int:
    return os.getpid()


def started(folder: Path) -> Path:
    """Leave a file in `folder` for each call, with this process's number."""
    (folder / f"{time.monotonic_ns()}-{os.getpid()}").touch()
    return folder


def forever(folder: Path) -> Path:
    """Take for ever; a file says that it began, another that it was unwound."""
    (folder / "began").touch()
    try:
        time.sleep(600)
    finally:
        (folder / "unwound").touch()
    return folder


class NotedScenes:
    """Makes scenes, and leaves a file as it begins: the number, and by whom it is made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def draw(self, number: int) -> Any:
        from uadcli.training.examples.synthetic import Scene

        (self.folder / f"{number} {os.getpid()} {time.monotonic_ns()}").touch()
        ball = np.sum((np.indices((96, 96, 80)) - np.array([48, 48, 40])[:, None, None, None]) ** 2, axis=0) < 400
        return Scene(np.where(ball, 0.5, 0).astype(np.float32), ball, ball, np.arange(35, 45), number)


class DyingScenes(NotedScenes):
    """Loses its process in the third scene."""

    def draw(self, number: int) -> Any:
        return super().draw(die_of_three(number))


def forever_with_child(folder: Path) -> None:
    """Run a job that takes for ever in a worker, for a test that kills this process meanwhile."""
    list(Workers(forever, 1).run([folder]))


class Unpicklable:
    def __reduce__(self) -> str:
        raise TypeError("not to be sent")


def forever_but_in_other(folder: Path) -> Path:
    return folder if folder.name == "other" else forever(folder)


def megabytes(number: int) -> tuple[object, float]:
    """An array of 8 MB, and the resident memory of this process in MB."""
    return np.full(1_000_000, number, dtype=np.float64), resident_mb()


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
