"""Bias field, smoothing, and robust scaling inside the brain."""

from __future__ import annotations

from typing import Any

import numpy as np

from uadcli import streams
from uadcli.arrays import Array, Mask
from uadcli.config import PreprocessConfig
from uadcli.errors import InputError

FIT_REACH = 1.5  # of 0 (all), 1.5 and 2 the one that leaves gliomas brightest; see packaging/docs/decisions.md

NORMAL = 1.4826  # median absolute deviations in a standard deviation, of a normal distribution


def correct_bias(data: Array, mask: Mask) -> Array:
    """Divide out the bias field of a volume on the 2 mm grid, inside the brain mask (N4, Tustison et al. 2010).

    The field is fitted at 6 mm and evaluated at 2 mm; outside the mask the data are returned as they were. Voxels far
    from the median of the brain do not take part in the fit: a field fitted to a large bright lesion takes it away.
    """
    import SimpleITK as sitk

    positive = np.where(mask, np.maximum(data, 0) + 1e-3 * float(data.max()), 0).astype(np.float32)
    values = positive[mask]
    middle = np.median(values)
    reach = FIT_REACH * NORMAL * np.median(np.abs(values - middle))  # in standard deviations of a normal distribution
    fitted = mask & (np.abs(positive - middle) <= reach)
    image, brain = sitk.GetImageFromArray(positive), sitk.GetImageFromArray(fitted.astype(np.uint8))
    for one in (image, brain):
        one.SetSpacing((2.0, 2.0, 2.0))
    filter_ = sitk.N4BiasFieldCorrectionImageFilter()
    filter_.SetMaximumNumberOfIterations([50, 40, 30])
    filter_.SetConvergenceThreshold(5e-4)
    filter_.SetMaskLabel(1)
    filter_.SetNumberOfThreads(1)  # sums in another order would change the last bits
    try:
        with streams.mute_libraries():
            filter_.Execute(sitk.Shrink(image, [3] * 3), sitk.Shrink(brain, [3] * 3))
            log_field: Any = filter_.GetLogBiasFieldAsImage(image)
    except RuntimeError as error:  # all that SimpleITK raises, with ITK's text
        raise InputError("the bias field cannot be fitted", hint="Check the scan and its mask.") from error
    field = np.exp(sitk.GetArrayFromImage(log_field)).astype(np.float32)
    field /= np.median(field[mask])
    return np.where(mask, data / np.maximum(field, 1e-3), data).astype(np.float32)


def curvature_flow(data: Array, spacing_mm: float, iterations: int) -> Array:
    """Smooth a volume (X, Y, Z) of isotropic voxels along its level sets, which spares edges (Sethian 1996).

    Time step 0.125, as in the reference code (method 1.2, step 6).
    """
    import SimpleITK as sitk

    unit = (float(np.abs(data).max()) or 1.0) / 1e3  # the filter takes gradients below an absolute limit for none
    image = sitk.GetImageFromArray((data / unit).astype(np.float32))
    image.SetSpacing((spacing_mm,) * 3)
    smoothed = sitk.CurvatureFlow(image, timeStep=0.125, numberOfIterations=iterations)
    return np.asarray(sitk.GetArrayFromImage(smoothed) * unit, dtype=np.float32)


def scale(data: Array, mask: Mask, config: PreprocessConfig) -> Array:
    """Scale to [0, 1] by two percentiles of the voxels in the brain; outside is 0 (method 1.2, step 8).

    Raises `InputError` if the brain has no contrast at all.
    """
    low, high = np.percentile(data[mask], [config.lower_percentile, config.upper_percentile])
    if not high > low:
        raise InputError("the brain has the same intensity everywhere", hint="Check the scan and its brain mask.")
    return np.where(mask, np.clip((data - low) / (high - low), 0, 1), 0).astype(np.float32)


def robust_z(data: Array, mask: Mask) -> Array:
    """(x - median) / (1.4826 MAD) of the voxels in the brain, bright positive and dark negative; outside is 0.

    Neither median nor deviation moves much with lesions in less than a quarter of the brain, and nothing is clipped: of
    two bright voxels the brighter one has the higher z. Raises `InputError` if the brain has no contrast at all.
    """
    values = data[mask]
    if not len(values):
        raise InputError("there is no voxel in the brain mask", hint="Check the scan and its brain mask.")
    middle = float(np.median(values))
    spread = NORMAL * float(np.median(np.abs(values - middle)))
    if not spread > 0:
        raise InputError("the brain has the same intensity everywhere", hint="Check the scan and its brain mask.")
    return np.where(mask, (data - middle) / spread, 0).astype(np.float32)
