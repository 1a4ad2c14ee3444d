"""Bias field, smoothing, and the scaling of intensities inside the brain.

Intensities are scaled by two percentiles of the brain (`percentile`) or by its normal tissue (`tissue`). Percentiles
depend on the lesions: 150 ml of bright lesions shift all normal tissue, and everything above the upper percentile
becomes 1; `headroom` keeps its order. Scaled by tissue, grey and white matter have the same intensities in every scan,
and brighter voxels keep their order below 1. A model card names the scaling that its networks were trained with.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadcli import streams
from uadcli.arrays import SD_PER_MAD, Array, Mask
from uadcli.config import PreprocessConfig
from uadcli.errors import InputError
from uadcli.imaging import template

FEWEST = 50  # voxels of a tissue from which its intensity can be estimated
MIDDLE = 0.5  # what the mean of grey and white matter becomes
KNEE = 0.7  # above it intensities are compressed
HALFWAY = 0.5  # above the upper percentile: what takes half of the headroom
STEPS = 30  # of the search for a mode
CHANGE = "Check the scan and its brain mask."
FIT_REACH = 1.5  # of 0 (all), 1.5 and 2, this leaves gliomas brightest; see packaging/docs/decisions.md


def correct_bias(data: Array, mask: Mask) -> Array:
    """Divide a volume (96, 96, 80; 2 mm) by its bias field inside the brain mask (N4, Tustison et al. 2010).

    The field is fitted at 6 mm and evaluated at 2 mm; outside the mask the data are unchanged. Voxels far
    from the median of the brain are left out of the fit: otherwise the field would absorb a large bright lesion.
    """
    import SimpleITK as sitk

    positive = np.where(mask, np.maximum(data, 0) + 1e-3 * float(data.max()), 0).astype(np.float32)
    values = positive[mask]
    middle = np.median(values)
    reach = FIT_REACH * SD_PER_MAD * np.median(np.abs(values - middle))
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

    unit = (float(np.abs(data).max()) or 1.0) / 1e3  # the filter ignores gradients below an absolute limit
    image = sitk.GetImageFromArray((data / unit).astype(np.float32))
    image.SetSpacing((spacing_mm,) * 3)
    smoothed = sitk.CurvatureFlow(image, timeStep=0.125, numberOfIterations=iterations)
    return np.asarray(sitk.GetArrayFromImage(smoothed) * unit, dtype=np.float32)


def scale(data: Array, mask: Mask, config: PreprocessConfig) -> Array:
    """Scale a volume (X, Y, Z) to [0, 1] as `config.scaling` says (empty: percentiles); 0 outside the brain `mask`.

    `tissue` needs a volume on the model's grid. Raises `InputError` if the brain has the same intensity everywhere, or
    if there is too little normal tissue in the field of view.
    """
    x = linear(data, mask, config)
    bounded = compressed(x) if config.scaling == "tissue" else np.clip(x, 0, 1)
    return np.where(mask, bounded, 0).astype(np.float32)


def linear(data: Array, mask: Mask, config: PreprocessConfig) -> Array:
    """Like `scale`, a volume (X, Y, Z), but linear and unbounded; 0 outside the mask. Raises as `scale`."""
    low, high = _anchors(data, mask, config)
    if not high > low:
        raise InputError("the brain has the same intensity everywhere", hint=CHANGE)
    return np.where(mask, (data - low) / (high - low), 0).astype(np.float32)


def headroom(data: Array, mask: Mask, config: PreprocessConfig) -> Array:
    """How far a volume (X, Y, Z) lies above 1, where `scale` clips it: from 0 to less than 1, in the same order.

    Added to the scaled volume it continues it with brighter voxels between 1 and 2. 0 outside the mask, and everywhere
    if scaled by tissue, which clips nothing above. Raises as `scale`.
    """
    if config.scaling == "tissue":
        return np.zeros(data.shape, dtype=np.float32)
    above = np.maximum(linear(data, mask, config) - 1, 0)
    return np.asarray(above / (above + HALFWAY), dtype=np.float32)


def _anchors(data: Array, mask: Mask, config: PreprocessConfig) -> tuple[float, float]:
    """The intensities that become 0 and 1: two percentiles (method 1.2, step 8), or derived from normal tissue."""
    if config.scaling != "tissue":
        low, high = np.percentile(data[mask], [config.lower_percentile, config.upper_percentile])
        return low, high  # np.float64: the quotient is rounded once
    dark, grey, white = tissue_levels(data, mask)
    return dark, dark + ((grey + white) / 2 - dark) / MIDDLE


def tissue_levels(data: Array, mask: Mask) -> tuple[float, float, float]:
    """The darkest percentile of a brain on the model's grid (96, 96, 80), and the modes of its grey and white matter.

    The template gives their places. The mode is insensitive to lesions and neighbouring tissue as long as normal tissue
    is more common. Raises `InputError` if one of the two is not in the field of view.
    """
    tissue, found = template.on_grid("mni_tissue_dseg"), []
    for label in (template.GREY, template.WHITE):
        values = data[mask & (tissue == label)]
        if len(values) < FEWEST:
            raise InputError("contains too little grey or white matter to scale the intensities", hint=CHANGE)
        found.append(_mode(values.astype(np.float64)))
    return float(np.percentile(data[mask], 1)), found[0], found[1]


def _mode(values: NDArray[np.float64]) -> float:
    """The mode of values (N,): mean shift from the median, with a Gaussian of half the robust standard deviation."""
    middle = float(np.median(values))
    width = 0.5 * SD_PER_MAD * float(np.median(np.abs(values - middle)))
    if width == 0:
        return middle
    for _ in range(STEPS):
        weight = np.exp(-(((values - middle) / width) ** 2) / 2)
        middle = float((weight * values).sum() / weight.sum())
    return middle


def compressed(x: Array) -> Array:
    """x up to the knee, then a smooth curve that approaches 1 without reaching it; 0 below 0. Any shape."""
    above = np.maximum(x.astype(np.float64) - KNEE, 0) / (1 - KNEE)  # float32 would confuse the order near 1
    return np.where(x <= KNEE, np.maximum(x, 0), KNEE + (1 - KNEE) * above / (1 + above)).astype(np.float32)


def robust_z(data: Array, mask: Mask) -> Array:
    """(x - median) / (1.4826 MAD) over the brain of a volume (X, Y, Z): bright is positive, dark negative, outside 0.

    Lesions in less than a quarter of the brain hardly change median and deviation. Nothing is clipped, so the brighter
    of two voxels has the higher z. Raises `InputError` if the brain has the same intensity everywhere.
    """
    values = data[mask]
    if not len(values):
        raise InputError("there is no voxel in the brain mask", hint="Check the scan and its brain mask.")
    return np.where(mask, (data - float(np.median(values))) / robust_spread(values), 0).astype(np.float32)


def robust_spread(values: Array) -> float:
    """The standard deviation of intensities (N,) by their median absolute deviation.

    Raises `InputError` if most are the same.
    """
    spread = SD_PER_MAD * float(np.median(np.abs(values - float(np.median(values)))))
    if not spread > 0:
        raise InputError("the brain has the same intensity everywhere", hint="Check the scan and its brain mask.")
    return spread
