"""The healthy reference: what a score is in health at each place of the template, and how far a scan deviates from it.

Cortex and the rims of the ventricles differ from any reconstruction, in health too; where healthy scans score high or
vary much, a score says little. The reference is made of healthy scans alone, and a scan that belongs to it is held
against the others (`cross_fitted`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadcli.config import PLAIN_SCORES, Z
from uadcli.errors import InputError
from uadcli.scoring import blocks

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Coarse = NDArray[np.float64]

PREFIX, REFERENCED = Z, PLAIN_SCORES  # of the name of a score that is held against its reference; what gets one
# Erosion of the brain mask for a residual that is held against health, where other residuals take 3: the reference
# knows the rim of the brain, which a wider erosion would take away from the cortex.
EROSION = 1
SIGMA = 1.0  # of the Gaussian over the blocks: few scans have the same fold at the same place
SMALLEST = 1e-12  # deviation, where health has none
KNOWN = 0.5  # scans that must have a place in their healthy part, smoothed; elsewhere the nearest such place counts


@dataclass(frozen=True)
class Reference:
    """Mean and standard deviation of a score over healthy scans, each (X / 2, Y / 2, Z / 2), on blocks of 4 mm."""

    mean: Array
    deviation: Array


@dataclass(frozen=True)
class _Sums:
    """How many scans have a place, and the sums of their scores and of the squares of these there."""

    count: Coarse
    total: Coarse
    squares: Coarse

    def less(self, other: _Sums) -> _Sums:
        return _Sums(self.count - other.count, self.total - other.total, self.squares - other.squares)


def fit(maps: Sequence[tuple[Array, Mask]]) -> Reference:
    """The reference of pairs (score, healthy part), each (X, Y, Z) with even sides.

    Raises `InputError` if they leave no place known.
    """
    return _reference(_all([_sums(*pair) for pair in maps]))


def of_the_others(maps: Sequence[tuple[Array, Mask]]) -> list[Reference]:
    """For each of the pairs of `fit` the reference of all others. Raises `InputError` if there are no others."""
    each = [_sums(*pair) for pair in maps]
    total = _all(each)
    return [_reference(total.less(own)) for own in each]


def cross_fitted(maps: Sequence[tuple[Array, Mask]], masks: Sequence[Mask]) -> list[Array]:
    """`z_score` of each map inside its brain mask, against the reference of the others.

    Raises `InputError` if there are no others.
    """
    known = of_the_others(maps)
    return [z_score(values, one, mask) for (values, _), one, mask in zip(maps, known, masks, strict=True)]


def z_score(values: Array, known: Reference, mask: Mask) -> Array:
    """How many healthy deviations a score (X, Y, Z) lies above the healthy mean of its place; 0 below it, and outside.

    A deviation counts as at least the median one of the mask, so that a quiet place does not make much of little.
    """
    mean, deviation = (blocks.enlarged(part, values.shape) for part in (known.mean, known.deviation))
    floor = float(np.median(deviation[mask])) if mask.any() else 1.0
    z = (values - mean) / np.maximum(deviation, max(floor, SMALLEST))
    return np.where(mask, np.maximum(z, 0), 0).astype(np.float32)


def state_of(references: dict[tuple[str, str], Reference]) -> dict[str, Any]:
    """References by (score, contrast) as float16 tensors for a weight file."""
    import torch

    parts = {
        f"{kind}.{contrast}.{name}": value
        for (kind, contrast), one in references.items()
        for name, value in (("mean", one.mean), ("deviation", one.deviation))
    }
    return {name: torch.from_numpy(value).half() for name, value in parts.items()}


def from_state(state: dict[str, Any], kind: str, contrast: str) -> Reference | None:
    """One of the references of a weight file; None if it has none for this score and contrast."""
    names = [f"{kind}.{contrast}.{name}" for name in ("mean", "deviation")]
    if not all(name in state for name in names):
        return None
    mean, deviation = (state[name].float().numpy() for name in names)
    return Reference(mean, deviation)


def _sums(values: Array, part: Mask) -> _Sums:
    kept = np.where(part, values, 0).astype(np.float64)
    return _Sums(*(blocks.smoothed(one, SIGMA) for one in (part, kept, kept**2)))


def _all(each: Sequence[_Sums]) -> _Sums:
    names = ("count", "total", "squares")
    return _Sums(*(np.asarray(np.sum([getattr(one, name) for one in each], axis=0)) for name in names))


def _reference(sums: _Sums) -> Reference:
    from scipy import ndimage

    known = np.asarray(sums.count) > KNOWN
    if not known.any():
        raise InputError("too few healthy scans for a healthy reference", hint="Give two or more.")
    count = np.where(known, sums.count, 1)
    mean = sums.total / count
    deviation = np.sqrt(np.maximum(sums.squares / count - mean**2, 0))
    nearest = tuple(ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True))
    return Reference(mean[nearest].astype(np.float32), deviation[nearest].astype(np.float32))
