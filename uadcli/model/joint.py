"""The evidence of several contrasts of one patient, joined: how rare a voxel is among healthy ones by all of them.

The evidence of a contrast is the rarity of its score among healthy voxels (`scoring.calibration.rarity`), so that
contrasts and scores have one scale. It is averaged: a voxel that is rare in one contrast counts, one that is rare in
several counts more. Where some contrasts have no evidence, the mean of the others is put on the scale of all.

There are no healthy subjects with several contrasts to calibrate a threshold. A rarity is exponentially distributed in
healthy voxels by definition, P(rarity > t) = 10^-t. That determines their weighted mean if the contrasts are
independent: the threshold t of a rate r is the one that it exceeds with probability r. Whatever the contrasts have to
do with each other, a mean above t means that at least one of them is above t, so that at most k 10^-t of the healthy
voxels of k contrasts are marked in any case, and 10^-t if the contrasts agree everywhere or only one has evidence.

What a finding extends to lies next to it, where smoothing and the lesion's own surroundings raise every contrast, so
that independence does not hold. There the threshold of a rate is that of contrasts that agree, -log10(rate).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from uadcli.arrays import Array, Mask
from uadcli.errors import InputError
from uadcli.model.threshold import Basis, Threshold, extended
from uadcli.settings.threshold import AUTO_RATE, EXTENT, ThresholdRule

HIGHEST = 5.0  # mean rarity up to which its probability is computed: .00001 % of healthy voxels, beyond what is known
Weights = Mapping[frozenset[str], Mapping[str, float]]
# The weights of the contrasts by the set of them; sets that are not listed have equal ones. FLAIR shows most lesions:
# with a smaller share of it, small and diffuse ones are lost (packaging/docs/decisions.md).
WEIGHTS: Weights = {
    frozenset({"FLAIR", "T1w"}): {"FLAIR": 0.85, "T1w": 0.15},
    frozenset({"FLAIR", "T2w"}): {"FLAIR": 0.95, "T2w": 0.05},
    frozenset({"FLAIR", "T1w", "T2w"}): {"FLAIR": 0.8, "T1w": 0.15, "T2w": 0.05},
}


@dataclass(frozen=True)
class Evidence:
    """The rarity (96, 96, 80) of one contrast on the model grid of the first scan, and the mask where it is known."""

    contrast: str
    rarity: Array
    mask: Mask


def weights_of(contrasts: Sequence[str], table: Weights | None = None) -> dict[str, float]:
    """The weight of each of the contrasts by a table, by default `WEIGHTS`; they add up to 1."""
    known = (WEIGHTS if table is None else table).get(frozenset(contrasts)) or dict.fromkeys(contrasts, 1.0)
    total = sum(known.values())
    return {name: known[name] / total for name in contrasts}


def joined(evidence: Sequence[Evidence], mask: Mask, table: Weights | None = None) -> Array:
    """The weighted mean rarity (96, 96, 80) of all contrasts in `mask`; 0 elsewhere.

    At a voxel where some have no evidence, it is the mean that is as improbable as that of the others (`as_rare`), so
    that a threshold means the same everywhere. The weights are those of `table`, by default `WEIGHTS`. Raises
    `InputError` if a voxel of the mask has evidence of no contrast with a weight.
    """
    weights = {name: w for name, w in weights_of([one.contrast for one in evidence], table).items() if w}
    weighted = [one for one in evidence if one.contrast in weights]
    known = np.sum([one.mask.astype(np.int64) << i for i, one in enumerate(weighted)], axis=0)
    found = np.zeros(mask.shape, np.float32)
    for some in np.unique(known[mask]):
        there, known_by = mask & (known == some), [one for i, one in enumerate(weighted) if some >> i & 1]
        if not known_by:
            raise InputError("the contrasts leave voxels of the brain without evidence")
        of = np.array([weights[one.contrast] for one in known_by])
        of /= of.sum()
        mean = sum(share * one.rarity[there] for share, one in zip(of, known_by, strict=True))
        found[there] = mean if len(of) == len(weighted) else as_rare(mean, list(of), list(weights.values()))
    return found


def as_rare(means: Array, of: Sequence[float], among: Sequence[float]) -> Array:
    """The means of rarities with the weights `among` that are as improbable as `means` (N,) with the weights `of`.

    Both if the contrasts are independent. Beyond `HIGHEST` the relation is a straight line, as the contrast with the
    largest weight determines how often a high mean occurs.
    """
    steps = np.linspace(0, HIGHEST, 49)
    same = np.array([0.0, *(rarity_of(share_above(t, of), among) for t in steps[1:])])
    slope = (same[-1] - same[-2]) / (steps[-1] - steps[-2])
    return np.asarray(np.interp(means, steps, same) + slope * np.maximum(means - HIGHEST, 0), dtype=np.float32)


def share_above(t: float, weights: Sequence[float]) -> float:
    """The share of healthy voxels whose weighted mean rarity is above t, if the contrasts are independent.

    Rarities are exponential with rate ln 10, so the mean is distributed as the time through consecutive phases with the
    rates ln 10 / weight: a phase-type distribution (Neuts 1981), whose formula also holds for equal weights.
    """
    from scipy.linalg import expm

    rates = math.log(10) / np.array([w for w in weights if w > 0])
    generator = np.diag(-rates) + np.diag(rates[:-1], 1)
    return float(expm(generator * t)[0].sum())


def rarity_of(rate: float, weights: Sequence[float]) -> float:
    """The weighted mean rarity above which a share `rate` of healthy voxels lies, if the contrasts are independent."""
    from scipy.optimize import brentq

    # no mean is higher than the highest of its rarities, P(highest > t) = 1 - (1 - 10^-t)^k
    most = -math.log10(-math.expm1(math.log1p(-rate) / len(weights)))
    return float(brentq(lambda t: share_above(t, weights) - rate, 0, most + 1e-9))


def threshold(rule: ThresholdRule, own: Mapping[str, Threshold], table: Weights | None = None) -> Threshold:
    """The threshold of the joined rarity by a rule without labels, given the threshold of each contrast by itself.

    A mismatch between a contrast's calibration and its use, and healthy scans that it borrowed, are those of the joined
    threshold as well. At `auto`, findings extend to the rarity of the rate `EXTENT` of contrasts that agree, unless
    that is above the threshold itself, as it is with two equal weights (2.30 and 2.17). `table` as of `joined`.
    """
    if rule.kind == "value":
        return Threshold(rule.number, Basis("value"))
    automatic = rule.kind == "auto"
    rate = AUTO_RATE if automatic else rule.number
    weights = list(weights_of(list(own), table).values())
    value = rarity_of(rate, weights)
    bases = [one.basis for one in own.values()]
    basis = Basis(
        "rate",
        rate,
        borrowed=next((one.borrowed for one in bases if one.borrowed), None),
        mismatches=frozenset[str]().union(*(one.mismatches for one in bases)),  # type: ignore[arg-type]
        joined=tuple(own),
        most=len(own) * 10**-value,
    )
    found = Threshold(value, basis)
    agreeing = Threshold(-math.log10(EXTENT), Basis("rate", EXTENT))
    return extended(found, agreeing) if automatic else found
