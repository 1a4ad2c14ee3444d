"""How unlikely a scan is given several reconstructions of it: the Mahalanobis distance, slice by slice.

Behrendt et al. 2024, "Leveraging the Mahalanobis Distance to enhance Unsupervised Brain MRI Anomaly Detection" (MICCAI
2024, arXiv 2407.12474). Formulas: method 4. The published method inverts an N x N matrix for a slice of N pixels; by
the Woodbury identity an n x n system for n reconstructions gives the same result.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadcli.arrays import Array, Mask
from uadcli.errors import InputError
from uadcli.scoring.ssim import Volume, check_shapes, data_range, similarity

RIDGE = 0.01  # lambda, in squared intensity, added to the diagonal of the covariance
SMOOTHING = 1.0  # sigma of the map's Gaussian and of the SSIM window, in voxels of 2 mm


def slice_distance(x: NDArray[Any], recons: NDArray[Any], ridge: float = RIDGE) -> NDArray[np.float64]:
    """Each pixel's share of the Mahalanobis distance of a slice x (N,) from its reconstructions (n, N); shape (N,).

    d_i = sqrt(max(delta_i (Sigma^-1 delta)_i, 0)), delta = x - mu, Sigma = X^T X / (n - 1) + lambda I, where X holds
    the centred reconstructions. The squares sum to the squared distance, except for negative shares, which are set to
    0. Sigma is never formed: Sigma^-1 delta = [delta - X^T ((n - 1) lambda I + X X^T)^-1 X delta] / lambda.
    """
    draws = recons.astype(np.float64)
    n = len(draws)
    mu = draws.mean(axis=0)
    centred, delta = draws - mu, x.astype(np.float64) - mu
    small = (n - 1) * ridge * np.eye(n) + centred @ centred.T
    solved = (delta - centred.T @ np.linalg.solve(small, centred @ delta)) / ridge
    return np.sqrt(np.maximum(delta * solved, 0))


def mahalanobis(x: Array, recons: Array, mask: Mask, ridge: float = RIDGE) -> Array:
    """`slice_distance` of every axial slice of x (X, Y, Z) over its pixels in the mask; 0 outside.

    `recons` is (n, X, Y, Z) with n >= 2, all intensities in [0, 1]. Raises `InputError` for fewer reconstructions and
    for shapes that differ.
    """
    if len(recons) < 2:
        raise InputError("at least two reconstructions are needed for a covariance", hint="The paper takes ten.")
    check_shapes(x, recons[0], mask)
    result = np.zeros(x.shape, dtype=np.float32)
    for z in np.flatnonzero(mask.any(axis=(0, 1))):
        inside = mask[..., z]
        result[..., z][inside] = slice_distance(x[..., z][inside], recons[..., z][:, inside], ridge)
    return result


def weighted_map(distance: Array, ssim: Volume, mask: Mask) -> Array:
    """The distance (X, Y, Z) scaled to [0, 1], smoothed, and times 1 - SSIM inside the mask (method 4)."""
    from scipy import ndimage

    low, high = float(distance.min()), float(distance.max())
    if high <= low:
        return np.zeros(distance.shape, dtype=np.float32)
    scaled = ((distance - low) / (high - low)).astype(np.float32)
    return np.where(mask, ndimage.gaussian_filter(scaled, SMOOTHING) * (1 - ssim), 0).astype(np.float32)


def mahalanobis_score(x: Array, recons: Array, mask: Mask, ridge: float = RIDGE) -> Array:
    """The anomaly map of the paper, >= 0: distance of x (X, Y, Z) from `recons` (n, X, Y, Z), times 1 - SSIM(x, mu).

    As published, without erosion and median. It is scaled to its own highest distance, so values are comparable only
    within a scan. Raises as `mahalanobis`.
    """
    distance = mahalanobis(x, recons, mask, ridge)
    mu = recons.mean(axis=0, dtype=np.float64)
    return weighted_map(distance, similarity(x, mu, SMOOTHING, data_range(x, mu)), mask)
