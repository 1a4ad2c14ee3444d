"""Importing this puts a process of pytest-xdist on its share of the cores: before NumPy and torch, which count them.

Otherwise every process starts as many threads as there are cores, and the threads of one spin while those that they
wait for have lost their core to the other process: a small network is then trained five times as slowly.
"""

from __future__ import annotations

import os


def share(cores: list[int], worker: str, count: int) -> list[int]:
    """The cores of a worker `gw0`, `gw1`, ...; one that replaces a dead one has a higher number than there are."""
    number = worker.removeprefix("gw")
    return cores[int(number) % count % len(cores) :: count] if number.isdigit() else cores


def take() -> None:
    """Leave this process, and those that it starts, its share, where the system lets it (Linux)."""
    worker, count = os.environ.get("PYTEST_XDIST_WORKER", ""), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if worker and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, share(sorted(os.sched_getaffinity(0)), worker, count))


take()
