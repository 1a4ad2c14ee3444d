"""The residual and the learned score together: one says how much differs, the other whether it looks like a lesion."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from uadcli.config import ScoringConfig
from uadcli.scoring.residual import Array, Mask, anomaly_score, median_filter

RESIDUALS = {"fusion-absolute": "absolute", "fusion-bright": "bright-weighted"}
# Gentler than for the residual alone (3 and 5), as the learned score takes over what erosion and median are there for:
# the rim of the brain and single voxels.
LIGHT = ScoringConfig(erosion=1, median=3)
POWER = 0.2  # of the learned score, where `run/fit_fusion.py` has not fitted one to the weights
FLOOR = 1e-6


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
