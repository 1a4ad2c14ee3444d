"""The options of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from uadcli.config import UNLABELLED
from uadcli.settings.bounds import Checked
from uadcli.settings.option import INPUT, METHOD, MIN_VOLUME, OVERWRITE, Option, option

RESAMPLES = 2000


@dataclass(frozen=True)
class EvaluateOptions(Checked):
    """Options of an evaluation; None: the value in each map's sidecar."""

    threshold: float | None = option(
        None,
        Option("Score above which a voxel is marked.", METHOD, metavar="VALUE", shown="each map's sidecar"),
    )
    min_volume_mm3: float | None = option(None, replace(MIN_VOLUME, shown="each map's sidecar"))
    masks: Path | None = option(None, Option("Brain masks; only voxels inside count.", INPUT, metavar="PATH"))
    unlabelled: str = option(
        "refuse",
        Option("How to treat a map without ground truth: error, healthy scan, or skip.", INPUT),
        words=UNLABELLED,
    )
    resample_truth: bool = option(
        False, Option("Resample ground truth and masks to the map's grid (nearest neighbour).", INPUT)
    )
    resamples: int = option(RESAMPLES, Option("Number of bootstrap resamples.", METHOD, metavar="N"), low=1)
    seed: int = option(0, Option("Seed of the bootstrap.", METHOD, metavar="N"), low=0)
    overwrite: bool = option(False, OVERWRITE)
    command: str = ""
