"""Inputs of a training besides its settings, and its share of the machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from uadcli.settings.bounds import Checked, within
from uadcli.settings.option import DEVICE, PRECISIONS, THREADS, Option, Precision, option

MAHALANOBIS, HAND = "mahalanobis", "hand"  # out-of-distribution checks


@dataclass(frozen=True)
class Taught(Checked):
    """Inputs of a training in addition to scans: a folder of lesion masks, from which the score network then learns on
    the reconstruction of existing weights; and the name or path of weights to start from."""

    labels: Path | None = option(
        None,
        Option("Lesion masks on the scans' grids, matched by name; empty for a healthy scan.", metavar="FOLDER"),
    )
    weights: str | None = option(
        None,
        Option(
            "Start from these networks; with --labels: keep their reconstruction.",
            metavar="NAME|PATH|HF",
            shown="new ones; with --labels the bundled model",
        ),
    )


@dataclass(frozen=True)
class Helpers(Checked):
    """Processes that prepare scans, and threads (None: all cores)."""

    workers: int = option(2, Option("Processes that prepare scans; 0 for none."), low=0)
    threads: int | None = option(None, THREADS, low=1)


@dataclass(frozen=True)
class CalibrationMachine(Helpers):
    """What a calibration may use: processes for scans, threads, and the device of the networks."""

    device: str = option("auto", DEVICE)


@dataclass(frozen=True)
class Fitted(Checked):
    """What a calibration fits, scores (None: all of the model) and an out-of-distribution check, and the number of
    `degraded` copies of each healthy scan."""

    kinds: Sequence[str] | None = None
    gate: str = option(
        MAHALANOBIS,
        Option("Out-of-distribution check: features of the model's encoder, or HAND, a separate network."),
        words=(MAHALANOBIS, HAND),
    )
    degraded: int = option(
        0,
        Option(
            "Copies of each healthy scan, as from other scanners, that join references and thresholds; "
            "2 for scans of scanners that the healthy ones are not from."
        ),
        low=0,
    )


@dataclass(frozen=True)
class Machine(Helpers):
    """What a training may use: processes for scans and examples, threads, GPUs (None: one if there is one), and
    processes on the CPU that train in parallel."""

    workers: int = option(2, Option("Processes that prepare scans, then make examples; 0 for none."), low=0)
    gpus: int | None = option(
        None, Option("Number of GPUs to train on; 0 for the CPU.", metavar="N", shown="1 or 0"), low=0
    )
    precision: Precision = option(
        "auto",
        Option("Arithmetic of the networks; auto: bf16 on a GPU, or on a CPU, with instructions for it."),
        words=PRECISIONS,
    )
    cpu_processes: int = within(1, 1)
