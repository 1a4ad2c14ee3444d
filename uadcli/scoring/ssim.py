"""Structural similarity as anomaly score, as an ensemble of Gaussian widths.

Behrendt et al. 2024, "Diffusion Models with Ensembled Structure-based Anomaly Scoring for Unsupervised Anomaly
Detection" (ISBI 2024, arXiv 2403.14262); SSIM itself: Wang et al. 2004. Formulas: method 6.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadcli.arrays import Array, Mask
from uadcli.errors import InputError

Volume = NDArray[np.floating[Any]]
WIDTHS = (0.3, 0.5, 0.7, 0.9, 1.1, 1.3, 1.5, 1.7)  # sigma in voxels of 2 mm
K1, K2 = 0.01, 0.03


def radius(sigma: float) -> int:
    """Half the window of a Gaussian of width `sigma`, in voxels: the window is 2 int(3.5 sigma + 0.5) + 1."""
    return int(3.5 * sigma + 0.5)


def data_range(x: Volume, x0_hat: Volume) -> float:
    """The larger of the ranges of two volumes (X, Y, Z), which scales the constants C1 and C2."""
    return max(float(np.ptp(x)), float(np.ptp(x0_hat)))


def similarity(x: Volume, y: Volume, sigma: float, span: float) -> NDArray[np.float64]:
    """The SSIM of two volumes (X, Y, Z) at every voxel, in [-1, 1], with a Gaussian window of width `sigma` in voxels.

    SSIM = (2 mu_x mu_y + C1)(2 s_xy + C2) / ((mu_x^2 + mu_y^2 + C1)(s_x^2 + s_y^2 + C2)) with C1 = (0.01 `span`)^2 and
    C2 = (0.03 `span`)^2 (Wang et al. 2004, eq. 13). The volume is mirrored at the border, without repeating the border
    voxel.
    """
    from scipy import ndimage

    def local_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return ndimage.gaussian_filter(values, sigma, mode="mirror", radius=radius(sigma))

    a, b = x.astype(np.float64), y.astype(np.float64)  # E[x^2] - mu^2 loses half the digits
    c1, c2 = (K1 * span) ** 2, (K2 * span) ** 2
    mu_x, mu_y = local_mean(a), local_mean(b)
    # a variance is never negative, but E[x^2] - mu^2 can be, by a last bit
    s_x = np.maximum(local_mean(a * a) - mu_x * mu_x, 0)
    s_y = np.maximum(local_mean(b * b) - mu_y * mu_y, 0)
    s_xy = local_mean(a * b) - mu_x * mu_y
    above = (2 * mu_x * mu_y + c1) * (2 * s_xy + c2)
    below = (mu_x * mu_x + mu_y * mu_y + c1) * (s_x + s_y + c2)
    return np.divide(above, below, out=np.ones_like(above), where=below > 0)  # two constant images of 0 are equal


def ensemble(x: Volume, y: Volume, span: float, widths: tuple[float, ...] = WIDTHS) -> NDArray[np.float64]:
    """S = sum_i w_i SSIM_i over the widths, with w_i = exp(-SSIM_i) / sum_j exp(-SSIM_j) at every voxel.

    x, y and S are (X, Y, Z), S in [-1, 1]; `span` is the `data_range`, widths are in voxels. A width with low
    similarity has a higher weight, at most e^2 times as high (method 6).
    """
    total, weighted = np.zeros(x.shape), np.zeros(x.shape)
    for sigma in widths:
        each = similarity(x, y, sigma, span)
        weight = np.exp(-each)
        total += weight
        weighted += weight * each
    return weighted / total


def ssim_score(x: Array, x0_hat: Array, mask: Mask, widths: tuple[float, ...] = WIDTHS) -> Array:
    """1 - S inside the brain mask and 0 outside, in [0, 2], for a volume x (X, Y, Z) and its pseudo-healthy version.

    Both are float32 intensities in [0, 1], the mask is bool of the same shape; `widths` are in voxels. Erosion and
    median follow, as for the residual (method 7). Raises `InputError` if the shapes differ.
    """
    from scipy import ndimage

    check_shapes(x, x0_hat, mask)
    result = np.zeros(x.shape, dtype=np.float32)
    span, margin = data_range(x, x0_hat), max(radius(sigma) for sigma in widths)
    for box in ndimage.find_objects(mask.astype(np.uint8)):  # one box, or none
        near = tuple(
            slice(max(s.start - margin, 0), min(s.stop + margin, n)) for s, n in zip(box, x.shape, strict=True)
        )
        score = 1 - ensemble(x[near], x0_hat[near], span, widths)
        # the margin keeps the windows of the mask's voxels inside the cut
        result[near] = np.where(mask[near], score, 0)
    return result


def check_shapes(x: Array, *others: NDArray[np.generic]) -> None:
    """Raises `InputError` unless all volumes have the shape of x."""
    for other in others:
        if other.shape != x.shape:
            raise InputError(f"volumes of shape {x.shape} and {other.shape} cannot be compared")
