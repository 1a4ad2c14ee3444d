"""Whether a scan is of the kind that a model was trained on: Mahalanobis distances of its slices' condition vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uadcli.errors import InputError

SHRINKAGE = 0.1  # of the covariance towards a sphere, so that its inverse exists with few scans
FWHM_SLICES = 8.0  # neighbours lend a slice's mean their vectors: 16 mm
# Of the limit over the farthest held-out healthy scan, which is of the scanners of the training. Healthy scans of other
# scanners lie at up to 1.2 times its distance; chosen on the development scans by
# packaging/evaluation/out_of_distribution.py.
MARGIN = 1.4
MIN_WEIGHT = 1.0  # a slice's mean needs at least as much as one training slice at its place

Floats = NDArray[np.floating]
Part = tuple[Floats, NDArray[np.integer]]  # condition vectors (N, d) of one scan, and the indices (N,) of their slices


@dataclass(frozen=True)
class Gate:
    """The cloud of training slices: `mean` (Z, d) by slice of the model's grid, NaN where no training scan had one;
    `whitening` (d, d), W W^T the inverse of their pooled covariance; and the `limit` of a scan's distance."""

    mean: Floats
    whitening: Floats
    limit: float


def fit_cloud(training: Sequence[Part], slices: int) -> tuple[Floats, Floats]:
    """Mean by slice (slices, d) and whitening (d, d) of the vectors of the training scans, rounded to float16.

    The mean of a slice is a Gaussian average over its neighbours, the covariance is that about these means, pooled and
    shrunk. Each scan's mean offset stays in it: scans differ. Raises `InputError` for fewer than two scans.
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
    """Mahalanobis distances (N,) of slices from the cloud, per root of the dimension, without unit.

    The shrinkage keeps them below 1 inside the cloud, so only the limit gives them a meaning. NaN for slices where no
    training scan had one.
    """
    vectors, index = part
    white = (vectors - mean[index]) @ whitening
    return np.sqrt((white.astype(np.float64) ** 2).mean(axis=1))


def distance(mean: Floats, whitening: Floats, part: Part) -> float | None:
    """The distance of a scan: the median over its slices, so that a lesion in some of them does not decide.

    None if less than half of its slices lie where the training scans had some.
    """
    each = slice_distances(mean, whitening, part)
    known = each[np.isfinite(each)]
    return float(np.median(known)) if 2 * len(known) >= len(each) > 0 else None


def fit(training: Sequence[Part], held_out: Sequence[Part], slices: int) -> Gate:
    """The gate of a model: the cloud of its training scans, and a limit from healthy scans that it never saw.

    The limit is `MARGIN` times the farthest of the held-out scans. Raises `InputError` if there are too few of either.
    """
    mean, whitening = fit_cloud(training, slices)
    known = [d for d in (distance(mean, whitening, part) for part in held_out) if d is not None]
    if not known:
        raise InputError("an out-of-distribution check needs held-out healthy scans", hint="Give more healthy scans.")
    return Gate(mean, whitening, MARGIN * max(known))
