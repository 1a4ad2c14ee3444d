"""The residual as anomaly score, and the post-processing of the paper."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from uadcli.config import ScoringConfig
from uadcli.errors import UsageError

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
SCORES = ("absolute", "bright", "dark")


def residual(x: Array, x0_hat: Array, kind: str = "absolute") -> Array:
    """`absolute` |x - x0_hat| (method 7, step 1), or only where the scan is brighter (`bright`) or darker (`dark`).

    Raises `UsageError` for another kind.
    """
    if kind == "absolute":
        return np.abs(x - x0_hat)
    if kind == "bright":
        return np.maximum(x - x0_hat, 0)
    if kind == "dark":
        return np.maximum(x0_hat - x, 0)
    raise UsageError(f"there is no score {kind!r}", hint=f"The scores are {', '.join(SCORES)}.")


def erode_axial(mask: Mask, iterations: int) -> Mask:
    """Erode a mask (X, Y, Z) slice by slice with a 2-D cross (method 7, step 2)."""
    from scipy import ndimage

    if iterations == 0:
        return mask
    cross = ndimage.generate_binary_structure(2, 1)[:, :, None]
    return ndimage.binary_erosion(mask, cross, iterations=iterations)


def median_filter(volume: Array, side: int) -> Array:
    """3-D median over a cube of `side` voxels; beyond the border is 0 (method 7, step 3)."""
    import SimpleITK as sitk

    if side <= 1:
        return volume
    radius = side // 2
    image = sitk.GetImageFromArray(np.pad(volume.astype(np.float32), radius))
    result = sitk.GetArrayFromImage(sitk.Median(image, [radius] * 3))
    return np.ascontiguousarray(result[tuple([slice(radius, -radius)] * 3)])


def postprocess(score: Array, mask: Mask, config: ScoringConfig) -> Array:
    """Keep the score inside the eroded brain mask and smooth it with the median; outside it is 0."""
    inside = erode_axial(mask, config.erosion)
    return np.where(inside, median_filter(np.where(inside, score, 0), config.median), 0).astype(np.float32)
