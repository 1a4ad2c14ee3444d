"""The out-of-distribution check: Mahalanobis distances of a scan's condition vectors from those of training scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from uadcli.errors import InputError
from uadcli.settings.training import MAHALANOBIS

SHRINKAGE = 0.1  # of the covariance towards a multiple of the identity, which makes it invertible with few scans
FWHM_SLICES = 8.0  # of the Gaussian over neighbouring slices for the means: 16 mm
# The limit over the distance of the farthest held-out healthy scan from the training scanners. Healthy scans of other
# scanners are at up to 1.36 times that distance; chosen on the development scans by
# packaging/evaluation/out_of_distribution.py.
MARGIN = 1.4
MIN_WEIGHT = 1.0  # a slice's mean needs at least the weight of one training slice at its place

Floats = NDArray[np.floating]
Part = tuple[Floats, NDArray[np.integer]]  # condition vectors (N, d) of one scan, and the indices (N,) of their slices


@dataclass(frozen=True)
class Gate:
    """The distribution of training slices: `mean` (Z, d) by slice of the model's grid, NaN where no training scan has
    brain; `whitening` (d, d) with W W^T the inverse of the pooled covariance; and the `limit` of a scan's distance."""

    kind: ClassVar[str] = MAHALANOBIS
    mean: Floats
    whitening: Floats
    limit: float


def fit_cloud(training: Sequence[Part], slices: int) -> tuple[Floats, Floats]:
    """Mean by slice (slices, d) and whitening (d, d) of the vectors of the training scans, rounded to float16.

    The mean of a slice is a Gaussian average over its neighbours; the covariance about these means is pooled and
    shrunk. Differences between scans remain part of it. Raises `InputError` for fewer than two scans.
    """
    if len(training) < 2:
        raise InputError(
            "an out-of-distribution check needs at least two training scans", hint="Give more healthy scans."
        )
    vectors = np.concatenate([v for v, _ in training]).astype(np.float64)
    index = np.concatenate([k for _, k in training])
    sigma = FWHM_SLICES / 2.355
    weight = np.exp(-0.5 * ((np.arange(slices)[:, None] - index) / sigma) ** 2)
    total = weight.sum(axis=1)
    near = np.array([np.abs(index - z).min() for z in range(slices)])
    known = (total >= MIN_WEIGHT) & (near <= FWHM_SLICES / 2)
    mean = np.full((slices, vectors.shape[1]), np.nan)
    mean[known] = (weight[known] @ vectors) / total[known, None]
    mean = mean.astype(np.float16).astype(np.float32)
    rest = vectors - mean[index]
    covariance = rest.T @ rest / len(rest)
    d = len(covariance)
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.trace(covariance) / d * np.eye(d)
    values, axes = np.linalg.eigh(shrunk)
    if not values.min() > 0:
        raise InputError(
            "the training scans do not differ, so they have no distribution", hint="Give other healthy scans."
        )
    return mean, (axes / np.sqrt(values)).astype(np.float16).astype(np.float32)


def slice_distances(mean: Floats, whitening: Floats, part: Part) -> Floats:
    """Mahalanobis distances (N,) of slices from the training slices, divided by the root of the dimension.

    Shrinkage keeps the distances of training slices below 1, so they are meaningful only relative to the limit. NaN for
    slices where no training scan has brain.
    """
    vectors, index = part
    white = (vectors - mean[index]) @ whitening
    return np.sqrt((white.astype(np.float64) ** 2).mean(axis=1))


def distance(mean: Floats, whitening: Floats, part: Part) -> float | None:
    """The distance of a scan: the median of its `slice_distances`, so that lesions in some slices do not dominate.

    `mean` is (Z, d) by slice, `whitening` (d, d). None if the training scans have brain in less than half of its
    slices.
    """
    each = slice_distances(mean, whitening, part)
    known = each[np.isfinite(each)]
    return float(np.median(known)) if 2 * len(known) >= len(each) > 0 else None


def fit(training: Sequence[Part], held_out: Sequence[Part], slices: int) -> Gate:
    """The out-of-distribution check of a model: the distribution of its training scans, and a limit from held-out ones.

    The limit is `MARGIN` times the largest distance of the held-out scans. Raises `InputError` if there are too few
    scans of either kind.
    """
    mean, whitening = fit_cloud(training, slices)
    known = [d for d in (distance(mean, whitening, part) for part in held_out) if d is not None]
    if not known:
        raise InputError("an out-of-distribution check needs held-out healthy scans", hint="Give more healthy scans.")
    return Gate(mean, whitening, MARGIN * max(known))
