"""The residual as anomaly score, the post-processing of the paper, and the shading between scan and reconstruction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from uadcli.arrays import Array, Mask
from uadcli.config import ScoringConfig
from uadcli.errors import UsageError
from uadcli.scoring import coarse_grid

RESIDUALS = ("absolute", "bright", "dark")
WEIGHTED = "bright-weighted"
# Of `shading`. Tissue is what is at least this bright in scan and reconstruction: fluid has no stable ratio.
TISSUE = 0.15
SMOOTH = 3.0  # Gaussian over the blocks of 4 mm
HALF = 0.5  # share of a block, after smoothing, that has to be tissue
DEGREE = 3  # of the polynomial
AT_ONCE = 4096  # voxels whose median is found together, in the cache of a core


def residual(x: Array, x0_hat: Array, kind: str = "absolute") -> Array:
    """`absolute` |x - x0_hat| (method 7, step 1), or only where the scan is brighter (`bright`) or darker (`dark`).

    Both are (X, Y, Z) in [0, 1], and so is the result.
    Raises `UsageError` for another kind.
    """
    if kind == "absolute":
        return np.abs(x - x0_hat)
    if kind == "bright":
        return np.maximum(x - x0_hat, 0)
    if kind == "dark":
        return np.maximum(x0_hat - x, 0)
    raise UsageError(f"unknown score {kind!r}", hint=f"The residuals are {', '.join(RESIDUALS)}.")


def erode_axial(mask: Mask, iterations: int) -> Mask:
    """Erode a mask (X, Y, Z) slice by slice with a 2-D cross (method 7, step 2)."""
    from scipy import ndimage

    if iterations <= 0:  # scipy would erode until nothing changes
        return mask
    cross = ndimage.generate_binary_structure(2, 1)[:, :, None]
    return ndimage.binary_erosion(mask, cross, iterations=iterations)


def median_filter(volume: Array, side: int, where: Mask | None = None) -> Array:
    """The median of a volume (X, Y, Z) over cubes of `side` voxels (odd), with zero padding (method 7, step 3).

    Only at the voxels `where` (None: everywhere); 0 at the others. Raises `UsageError` for an even side.
    """
    if side > 1 and side % 2 == 0:
        raise UsageError(f"a median of side {side} has no centre", hint="Give an odd number of voxels, or 1 for none.")
    if side <= 1:
        return volume if where is None else np.where(where, volume, 0)
    cubes = np.lib.stride_tricks.sliding_window_view(np.pad(volume.astype(np.float32), side // 2), (side,) * 3)
    result, middle = np.zeros(volume.shape, dtype=np.float32), side**3 // 2
    places = np.nonzero(np.ones(volume.shape, dtype=bool) if where is None else where)
    for start in range(0, len(places[0]), AT_ONCE):
        some = tuple(axis[start : start + AT_ONCE] for axis in places)
        values = cubes[some].reshape(len(some[0]), side**3)
        values.partition(middle, axis=1)
        result[some] = values[:, middle]
    return result


def postprocess(score: Array, mask: Mask, config: ScoringConfig) -> Array:
    """The score (X, Y, Z) after erosion of the brain mask and the median filter; 0 outside."""
    from scipy import ndimage

    inside = erode_axial(mask, config.erosion)
    result = np.zeros(score.shape, dtype=np.float32)
    for box in ndimage.find_objects(inside.astype(np.uint8)):  # one box, or none; outside it the score is 0
        kept = inside[box]
        result[box] = median_filter(np.where(kept, score[box], 0), config.median, kept)
    return result


def anomaly_score(x: Array, x0_hat: Array, mask: Mask, kind: str, config: ScoringConfig) -> Array:
    """The post-processed anomaly map of a volume x (X, Y, Z) in [0, 1] and its pseudo-healthy version.

    `kind` is one of `residual`, or `bright-weighted`: the geometric mean of the post-processed bright residual and the
    post-processed intensity, since lesions in FLAIR and T2w are both brighter than healthy tissue and bright.
    """
    if kind == WEIGHTED:
        bright = postprocess(residual(x, x0_hat, "bright"), mask, config)
        return np.sqrt(bright * postprocess(x, mask, config))
    return postprocess(residual(x, x0_hat, kind), mask, config)


def shading(x: Array, x0_hat: Array, mask: Mask) -> Array:
    """The gain (X, Y, Z) of a scan x over its pseudo-healthy version that varies slowly and is alike on both sides.

    Both are on the model's grid, whose middle along X is the middle of the brain; 1 is no shading. Coils and fields of
    scanners differ most from front to back and from top to bottom, and a bias correction that does not know the tissue
    leaves part of it. A lesion is mostly on one side; therefore a block counts with its own log ratio of intensities or
    that of the opposite block, whichever is nearer to the median of the brain, and with the median if they lie on its
    two sides. To these a polynomial, even in X, is fitted by least squares. 1 everywhere if there is no tissue.
    """
    tissue = mask & (x >= TISSUE) & (x0_hat >= TISSUE)
    share = coarse_grid.smoothed(tissue, SMOOTH)
    known = (share > HALF) & (share[::-1] > HALF)
    if not known.any():
        return np.ones_like(x)
    ratio = np.log(x, where=tissue, out=np.zeros_like(x)) - np.log(x0_hat, where=tissue, out=np.zeros_like(x))
    ratio = np.where(tissue, ratio - np.median(ratio[tissue]), 0)
    own = coarse_grid.smoothed(ratio, SMOOTH) / np.maximum(share, HALF)
    other = own[::-1]
    alike = np.where(own * other > 0, np.sign(own) * np.minimum(np.abs(own), np.abs(other)), 0)
    terms = _even_polynomials(own.shape)
    coefficients, *_ = np.linalg.lstsq(terms[known], alike[known], rcond=None)
    return np.exp(coarse_grid.enlarged(terms @ coefficients, x.shape)).astype(np.float32)


def _even_polynomials(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Products of Legendre polynomials of the coordinates, even in X and up to `DEGREE`: (*shape, terms)."""
    x, y, z = (np.polynomial.legendre.legvander(np.linspace(-1, 1, n), DEGREE) for n in shape)
    powers = [
        (i, j, k) for i in range(0, DEGREE + 1, 2) for j in range(DEGREE + 1 - i) for k in range(DEGREE + 1 - i - j)
    ]
    return np.stack([x[:, None, None, i] * y[None, :, None, j] * z[None, None, :, k] for i, j, k in powers], axis=-1)
