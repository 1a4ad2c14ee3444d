"""The evidence of several contrasts of one patient, joined: how rare a voxel is among healthy ones by all of them.

The evidence of a contrast is the rarity of its score among healthy voxels (`scoring.calibration.rarity`), so that
contrasts and scores have one scale. It is averaged: a voxel that is rare in one contrast counts, one that is rare in
several counts more.

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

Weights = Mapping[frozenset[str], Mapping[str, float]]
# The weights of the contrasts by the set of them; sets that are not listed have equal ones. FLAIR shows most lesions; a
# large share of another contrast would lose small and diffuse ones (packaging/docs/decisions.md).
WEIGHTS: Weights = {
    frozenset({"FLAIR", "T1w"}): {"FLAIR": 0.95, "T1w": 0.05},
    frozenset({"FLAIR", "T2w"}): {"FLAIR": 0.95, "T2w": 0.05},
    frozenset({"FLAIR", "T1w", "T2w"}): {"FLAIR": 0.9, "T1w": 0.05, "T2w": 0.05},
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
    """The weighted mean rarity (96, 96, 80) in `mask`, over the contrasts that have evidence at a voxel; 0 elsewhere.

    The weights are those of `table`, by default `WEIGHTS`. Raises `InputError` if a voxel of the mask has evidence of
    no contrast with a weight.
    """
    weights = weights_of([one.contrast for one in evidence], table)
    total, weight = np.zeros(mask.shape), np.zeros(mask.shape)
    for one in evidence:
        total += weights[one.contrast] * np.where(one.mask, one.rarity, 0)
        weight += weights[one.contrast] * one.mask
    if (weight[mask] <= 0).any():
        raise InputError("the contrasts leave voxels of the brain without evidence")
    return np.divide(total, weight, out=np.zeros(mask.shape), where=mask & (weight > 0)).astype(np.float32)


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

    most = -math.log10(rate)  # that of a contrast by itself; a mean of independent ones is smaller in the tail
    return float(brentq(lambda t: share_above(t, weights) - rate, 0, 2 * most))


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
