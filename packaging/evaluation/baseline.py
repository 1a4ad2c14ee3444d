"""The baseline that a model has to beat: intensity or darkness in the brain."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from uadcli import contrasts
from uadcli.arrays import Array
from uadcli.calibration.health import Calibration, Scored, by_contrast, is_whole, version_of, versions
from uadcli.config import DetectConfig
from uadcli.data.dataset import Case
from uadcli.data.prepare import Prepared
from uadcli.scoring import scores
from uadcli.scoring.residual import postprocess
from uadcli.scoring.scores import brightness
from uadcli.scoring.scores.base import Score

PLAIN, RAW = "plain", "plain, raw"


def register() -> None:
    """Make the baselines scores like others, so that thresholds can be resolved for them."""
    scores.register(Score(PLAIN, "filtered intensity", brightness.compute, noise=False))
    scores.register(Score(RAW, "intensity", lambda e: e.x, noise=False))


def baseline_map(prepared: Prepared, kind: str, config: DetectConfig, x: Array | None = None) -> Array:
    """Intensity or darkness inside the brain, post-processed like a score (96, 96, 80)."""
    x = prepared.scaled(config.preprocess) if x is None else x
    return postprocess(x if kind == "bright" else 1 - x, prepared.mask, config.scoring)


def baselines(prepared: Prepared, contrast: str, config: DetectConfig, x: Array) -> dict[str, Array]:
    """`PLAIN`: the `baseline_map`; `RAW`: the intensity without filter, for lesions that a median removes."""
    kind = contrasts.ALL[contrast].lesions
    raw = np.where(prepared.mask, x if kind == "bright" else 1 - x, 0).astype(np.float32)
    return {PLAIN: baseline_map(prepared, kind, config, x), RAW: raw}


def calibrate_baseline(
    validation: list[Case], cache: Path, config: DetectConfig, degraded: Mapping[str, int]
) -> Calibration:
    """Calibrate the baselines `PLAIN` and `RAW` as `uad calibrate` calibrates a score.

    `degraded` is the number of copies of each scan, by contrast.
    """
    result = Calibration()
    for contrast, cases in by_contrast(validation):
        scans: dict[str, list[Scored]] = {}
        for case, number, copy in versions(cases, degraded.get(contrast, 0)):
            prepared, part = version_of(case, number, copy, cache, config)
            for kind, values in baselines(prepared, contrast, config, prepared.scaled(config.preprocess)).items():
                scans.setdefault(kind, []).append(Scored(prepared, values, part, is_whole(case), number))
        for kind, found in scans.items():
            result.add(kind, contrast, found, config)
    return result
