"""Combining the residual, which measures how much differs, with the learned score, which judges whether it is a lesion.

There are two ways: their product with a fitted power, and a mean of how rare each is in healthy scans.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from uadcli import contrasts
from uadcli.arrays import Array, Mask
from uadcli.config import ScoringConfig
from uadcli.scoring.calibration import Tail, rarity
from uadcli.scoring.residual import anomaly_score, median_filter

RESIDUALS = {"fusion-absolute": "absolute", "fusion-bright": "bright-weighted"}
# Gentler than for the residual alone (3 and 5): the learned score already suppresses the rim of the brain and single
# voxels.
LIGHT = ScoringConfig(erosion=1, median=3)
POWER = 0.2  # of the learned score, unless `calibration/fit_fusion.py` has fitted one to the weights
FLOOR = 1e-6
# Power of the mean of rarities in `FISHER`. 1 is Fisher's statistic, in which what several scores find slightly unusual
# outweighs a small lesion that one score alone sees; infinity is Tippett's, the rarest score alone. Chosen on the
# development scans (packaging/docs/decisions.md).
NORM = 2
FISHER, ENOUGH = "fisher", 5  # healthy scans of a contrast that make it the default
# Odds of a lesion outside white matter, relative to inside, for equal evidence: cortex, rim and vessels vary most among
# healthy brains and scanners. Chosen on the development scans (packaging/docs/decisions.md).
OUTSIDE_WHITE_MATTER = 0.5
# Shares of the scores in `FISHER` by contrast, unless a calibration chooses them.
PARTS = {name: dict(one.fisher) for name, one in contrasts.ALL.items()}


def fused_score(x: Array, x0_hat: Array, probability: Array, mask: Mask, kind: str, power: float = POWER) -> Array:
    """r p^a inside the mask (X, Y, Z): residual r after light post-processing, learned probability p (median 3).

    `kind` is a key of `RESIDUALS`. A small `power` a orders voxels of similar residual by p and lowers what never looks
    like a lesion by at most `FLOOR`^a, so that a lesion unknown to p remains visible.
    """
    return next(fused_scores(x, x0_hat, probability, mask, kind, (power,)))


def fused_scores(
    x: Array, x0_hat: Array, probability: Array, mask: Mask, kind: str, powers: Iterable[float]
) -> Iterator[Array]:
    """`fused_score`, each (X, Y, Z), for several powers; what does not depend on the power is computed once."""
    residual = anomaly_score(x, x0_hat, mask, RESIDUALS[kind], LIGHT)
    likely = np.maximum(median_filter(probability, LIGHT.median), FLOOR)
    for power in powers:
        weighted = residual * likely ** np.float32(power)
        yield np.where(mask, weighted, 0).astype(np.float32)


def prior(odds: float, white: Array) -> Array:
    """How much less likely a lesion is at each place (X, Y, Z) than in white matter: log10, at most 0.

    `odds` are those outside white matter, relative to inside, above 0 and at most 1; `white` (X, Y, Z) is how surely a
    place is white matter, 0 to 1.
    """
    return np.asarray(math.log10(odds) * (1 - white), dtype=np.float32)


def fisher_score(parts: Sequence[tuple[Array, Tail, float]], mask: Mask, likely: Array | float = 0.0) -> Array:
    """The weighted root mean square of the rarities (`calibration.rarity`) of several scores (X, Y, Z), each with its
    healthy tail and its share, inside the mask; where a lesion is less likely by `likely` (`prior`), less by that.

    A value of 2.5 means that one healthy voxel in 10^2.5 scores as high, if all scores are equally rare: a voxel that
    is rare by one score counts, one that is rare by both counts more. The mean instead of the root mean square would
    be, up to a factor, Fisher's statistic for combining p-values (Fisher 1932, Statistical Methods for Research
    Workers, 21.1; unequal shares: Good 1955, J. R. Stat. Soc. B 17); see `NORM`. Since the scores are not independent,
    the threshold is calibrated like that of any other score.
    """
    total = sum(np.float32(share) * rarity(values, tail) ** NORM for values, tail, share in parts)
    return np.where(mask, joined_rarity(np.asarray(total), likely), 0).astype(np.float32)


def joined_rarity(total: Array, likely: Array | float) -> Array:
    """The joined rarity of any shape, from the weighted sum of its parts' rarities, each to the power `NORM`.

    Evidence and prior (`likely`) add up as in Bayes' rule, if rarity stands for the logarithm of the likelihood ratio;
    below 0 the sum is 0.
    """
    return np.asarray(np.maximum(total ** np.float32(1 / NORM) + likely, 0))
