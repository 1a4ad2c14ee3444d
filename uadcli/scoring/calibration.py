"""Thresholds from healthy scans only; a lesion label serves at most to leave a slice out."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from uadcli.errors import InputError
from uadcli.scoring.components import components

QUANTILE = 0.995


def healthy_quantile(
    maps: Iterable[tuple[NDArray[np.float32], NDArray[np.bool_]]], quantile: float = QUANTILE
) -> float:
    """The quantile of the scores of all voxels inside the brain masks of healthy scans, pooled.

    `maps` yields (score, mask) pairs of equal shape. Raises `InputError` if there is no voxel.
    """
    pooled = [score[mask] for score, mask in maps]
    if not sum(len(values) for values in pooled):
        raise InputError("there is no healthy voxel to set a threshold from", hint="Give healthy scans.")
    return float(np.quantile(np.concatenate(pooled), quantile))


def false_positive_volumes(
    maps: Iterable[NDArray[np.float32]], threshold: float, min_volume_mm3: float, affine: NDArray[np.float64]
) -> list[float]:
    """Volume in ml that is marked in each healthy map (X, Y, Z): all of it is false."""
    return [sum(c.volume_ml for c in components(m, threshold, min_volume_mm3, affine)[1]) for m in maps]
