"""The evidence of several contrasts of one patient, joined: how rare a voxel is among healthy ones by all of them.

The evidence of a contrast is the rarity of its score among healthy voxels (`scoring.calibration.rarity`), so that
contrasts and scores have one scale. It is averaged: a voxel that is rare in one contrast counts, one that is rare in
several counts more.

The threshold is that of a rate r in each contrast, the rarity -log10(r). There are no healthy subjects with several
contrasts to calibrate it, but whatever the contrasts have to do with each other, a weighted mean above the threshold
means that at least one of them is above it. So at most k r of the healthy voxels of k contrasts are marked; r if the
contrasts are equal, and fewer if they are independent. This holds as well where a contrast has no evidence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from uadcli.arrays import Array, Mask
from uadcli.errors import InputError
from uadcli.model.threshold import Basis, Threshold
from uadcli.settings.threshold import AUTO_RATE, EXTENT, ThresholdRule

# The weights of the contrasts by the set of them; sets that are not listed have equal ones. FLAIR shows most lesions; a
# large share of another contrast would lose small and diffuse ones (packaging/docs/decisions.md).
WEIGHTS: Mapping[frozenset[str], Mapping[str, float]] = {
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


def weights_of(contrasts: Sequence[str]) -> dict[str, float]:
    """The weight of each of the contrasts; they add up to 1."""
    known = WEIGHTS.get(frozenset(contrasts)) or dict.fromkeys(contrasts, 1.0)
    total = sum(known.values())
    return {name: known[name] / total for name in contrasts}


def joined(evidence: Sequence[Evidence], mask: Mask) -> Array:
    """The weighted mean rarity (96, 96, 80) in `mask`, over the contrasts that have evidence at a voxel; 0 elsewhere.

    Raises `InputError` if a voxel of the mask has evidence of no contrast with a weight.
    """
    weights = weights_of([one.contrast for one in evidence])
    total, weight = np.zeros(mask.shape), np.zeros(mask.shape)
    for one in evidence:
        total += weights[one.contrast] * np.where(one.mask, one.rarity, 0)
        weight += weights[one.contrast] * one.mask
    if (weight[mask] <= 0).any():
        raise InputError("the contrasts leave voxels of the brain without evidence")
    return np.divide(total, weight, out=np.zeros(mask.shape), where=mask & (weight > 0)).astype(np.float32)


def threshold(rule: ThresholdRule, own: Mapping[str, Threshold]) -> Threshold:
    """The threshold of the joined rarity by a rule without labels, given the threshold of each contrast by itself.

    A mismatch between a contrast's calibration and its use, and healthy scans that it borrowed, are those of the joined
    threshold as well.
    """
    if rule.kind == "value":
        return Threshold(rule.number, Basis("value"))
    automatic = rule.kind == "auto"
    rate = AUTO_RATE if automatic else rule.number
    bases = [one.basis for one in own.values()]
    basis = Basis(
        "rate",
        rate,
        borrowed=next((one.borrowed for one in bases if one.borrowed), None),
        mismatches=frozenset[str]().union(*(one.mismatches for one in bases)),  # type: ignore[arg-type]
        extent=EXTENT if automatic else None,
        joined=tuple(own),
    )
    return Threshold(-math.log10(rate), basis, -math.log10(EXTENT) if automatic else None)
