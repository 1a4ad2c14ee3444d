"""What a training is given besides its settings: where it learns from, and what it may use of the machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Taught:
    """Inputs of a training in addition to scans: a folder of lesion masks, from which the score network then learns on
    the reconstruction of existing weights; and the name or path of weights to start from."""

    labels: Path | None = None
    weights: str | None = None


@dataclass(frozen=True)
class Machine:
    """What a training may use: processes that prepare scans, GPUs (None: one if there is one), threads (None: all
    cores), and processes on the CPU that train in parallel."""

    workers: int = 2
    gpus: int | None = None
    threads: int | None = None
    cpu_processes: int = 1
