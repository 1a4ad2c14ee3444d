"""The residual and the learned score together: one says how much differs, the other whether it looks like a lesion.

Two ways: their product, with a fitted power, and the sum of how rare each is in health, which has nothing to fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from uadcli import contrasts
from uadcli.arrays import Array, Mask
from uadcli.config import ScoringConfig
from uadcli.scoring.calibration import Tail, rarity
from uadcli.scoring.residual import anomaly_score, median_filter

RESIDUALS = {"fusion-absolute": "absolute", "fusion-bright": "bright-weighted"}
# Gentler than for the residual alone (3 and 5), as the learned score takes over what erosion and median are there for:
# the rim of the brain and single voxels.
LIGHT = ScoringConfig(erosion=1, median=3)
POWER = 0.2  # of the learned score, where `calibration/fit_fusion.py` has not fitted one to the weights
FLOOR = 1e-6
FISHER, ENOUGH = "fisher", 5  # and the healthy scans of a contrast from which on it is the default
# What `FISHER` joins in each contrast, by shares (`PARTS`). Weights older than shares have the `FIRST` ones.
FIRST = {
    "T1w": {"siamese": 0.5, "z-absolute": 0.5},
    "FLAIR": {"siamese": 0.5, "z-bright-weighted": 0.5},
    "T2w": {"siamese": 0.5, "z-bright-weighted": 0.5},
}
PARTS = {name: dict(one.fisher) for name, one in contrasts.ALL.items()}


def fused_score(x: Array, x0_hat: Array, probability: Array, mask: Mask, kind: str, power: float = POWER) -> Array:
    """r p^a inside the mask (X, Y, Z): residual r after light post-processing, learned probability p (median 3).

    `kind` is a key of `RESIDUALS`. With a small `power` a, p orders voxels of like residual and presses down what never
    looks like a lesion, at most by `FLOOR`^a, so that a lesion that p does not know can still be seen.
    """
    return next(fused_scores(x, x0_hat, probability, mask, kind, (power,)))


def fused_scores(
    x: Array, x0_hat: Array, probability: Array, mask: Mask, kind: str, powers: Iterable[float]
) -> Iterator[Array]:
    """`fused_score` for one power after the other; what does not depend on it is done once."""
    residual = anomaly_score(x, x0_hat, mask, RESIDUALS[kind], LIGHT)
    likely = np.maximum(median_filter(probability, LIGHT.median), FLOOR)
    for power in powers:
        weighted = residual * likely ** np.float32(power)
        yield np.where(mask, weighted, 0).astype(np.float32)


def fisher_score(parts: Sequence[tuple[Array, Tail, float]], mask: Mask) -> Array:
    """The mean rarity (`calibration.rarity`) of several scores (X, Y, Z), each with its healthy tail and its share of
    the mean, inside the mask.

    2.5 means that healthy voxels are as suspicious once in 10^2.5, in the geometric mean of the scores: a voxel that is
    rare in one counts, and one that is rare in both counts more. Up to a factor it is Fisher's statistic for combining
    p-values, here those of the voxel among healthy ones (Fisher 1932, Statistical Methods for Research Workers, 21.1);
    as the scores are not independent, its threshold is calibrated like that of any other score. Unequal shares are
    weighted evidence (Good 1955, J. R. Stat. Soc. B 17).
    """
    mean = sum(np.float32(share) * rarity(values, tail) for values, tail, share in parts)
    return np.where(mask, mean, 0).astype(np.float32)
