"""One scale of intensities for every scan, before any other step: the background is 0, bright tissue 1000.

Later stages see the same numbers whichever increasing linear map a scan was stored with: z-scored, shifted by -1024 or
times 1e-9. A constant background (air set to 0, or the outside of a stripped brain) is detected and becomes 0, whether
its value was below the image, above it or, if only the brain was z-scored, among the values of the brain. So is one
that is constant but for a hundred-thousandth of the range, as a small value divided by a bias field.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadcli.arrays import Array, Mask
from uadcli.errors import InputError
from uadcli.imaging.volume import Volume

TOP = 1000.0  # what the 99.5th percentile becomes
DARKEST = 10.0  # what the darkest foreground becomes where the background is constant
DARKEST_OF_BRAIN = 0.1
BACKGROUND_SHARE = 0.1  # of all voxels, and of those on the faces of the volume, that a constant background has
FACE_SHARE = 0.3
PLATEAU = 0.8  # of its neighbours are background, too; values of noisy air are not
TOLERANCE = 1e-3  # of the range of intensities: how much resampling changes a constant
NEARLY = 1e-5  # the same where no value repeats: a background near 0 that was multiplied, as by a bias correction
MOST_STEPS = 1 << 16  # distinct whole numbers
OFF_STEP = 0.1  # of a step: rounding in single precision
EXACT = 1e-6  # the same for a background among the values of the brain, which many voxels come close to


@dataclass(frozen=True)
class Levelled:
    """A volume with its background at 0 and bright tissue at 1000, and the voxels that are not background.

    `constant`: the background has one value; otherwise `foreground` is everything.
    """

    volume: Volume
    foreground: Mask
    constant: bool


def levelled(volume: Volume) -> Levelled:
    """Bring the intensities of a scan to one scale. Raises `InputError` if they are the same nearly everywhere.

    For a scan that was once stored in whole numbers the result is bit-identical whichever linear map was applied later:
    an optimiser would turn a difference in the last bit into another optimum.
    """
    values, counts = np.unique(volume.data, return_counts=True)
    foreground = _foreground(volume.data, values, counts)
    if foreground is None:
        data, base, shares = _steps(volume.data, values), 0.0, (0.1, 99.5)
    else:
        data, base, shares = _steps(volume.data, np.delete(values, np.argmax(counts))), DARKEST, (0.5, 99.5)
    low, high = np.percentile(data if foreground is None else data[foreground], shares)
    if not high > low:
        raise InputError("nearly all voxels have the same value", hint="The file contains no image; convert it again.")
    data = base + (data - low) * ((TOP - base) / (high - low))
    if foreground is not None:
        data = np.where(foreground, np.maximum(data, 0.1 * DARKEST), 0)
    everything = np.ones(data.shape, dtype=bool) if foreground is None else foreground
    return Levelled(Volume(data.astype(np.float32), volume.affine), everything, foreground is not None)


def _step(values: Array) -> float | None:
    """The step between `values` (sorted, unique) that are linearly mapped whole numbers; None if they are not."""
    if not 2 <= len(values) <= MOST_STEPS:
        return None
    exact = values.astype(np.float64)
    gaps = np.diff(exact)
    step = float(gaps.sum() / np.round(gaps / gaps.min()).sum())  # the mean is more precise than the smallest gap
    place = (exact - exact[0]) / step
    return step if np.abs(place - np.round(place)).max() < OFF_STEP else None


def _steps(data: Array, values: Array) -> NDArray[np.float64]:
    """The data in units of their step if all values are multiples of it, otherwise as they are."""
    step = _step(values)
    exact = data.astype(np.float64)
    return exact if step is None else np.round((exact - float(values[0])) / step)


def raised(volume: Volume) -> Volume:
    """A levelled volume whose foreground (above 0) is raised, the darkest voxels to a tenth of the brightest.

    Without its surroundings a brain has lost the level of air, the zero of MR intensities. This restores it to where it
    usually lies (in stripped scans that keep it, the 0.5th percentile is 0.02 to 0.2 of the 99.5th).
    """
    data = np.where(volume.data > 0, DARKEST_OF_BRAIN * TOP + volume.data * (1 - DARKEST_OF_BRAIN), 0)
    return Volume(data.astype(np.float32), volume.affine)


def _foreground(data: Array, values: Array, counts: NDArray[np.integer]) -> Mask | None:
    """The voxels that differ from a constant background, holes included; None if the background is not constant.

    `values` are those of the data, sorted, and `counts` how often each occurs.
    """
    at = int(np.argmax(counts))
    others = np.delete(values, at)
    if counts[at] < BACKGROUND_SHARE * data.size or not len(others):
        return _nearly_constant(data)
    low, high = np.percentile(data[data != values[at]], [0.5, 99.5])
    amid, step = low < values[at] < high, _step(others)
    near = EXACT * (high - low) if amid else TOLERANCE * (high - low) if step is None else step / 4
    background = np.abs(data - values[at]) <= near
    if not _is_around(background):
        return None
    return ~_outside(background) if amid else ~background


def _nearly_constant(data: Array) -> Mask | None:
    """The voxels that differ from the values on the faces of the volume; None if those are not nearly the same."""
    low, high = np.percentile(data[::2, ::2, ::2], [0.5, 99.5])
    background = np.abs(data - np.median(_faces(data))) <= NEARLY * (high - low)
    if background.mean() < BACKGROUND_SHARE or not _is_around(background):
        return None
    return ~background


def _is_around(background: Mask) -> bool:
    """Whether a background covers much of the volume's faces and consists of patches, not of single voxels."""
    if _faces(background).mean() < FACE_SHARE:
        return False
    pairs = [(np.delete(background, -1, axis), np.delete(background, 0, axis)) for axis in range(3)]
    either = sum(int((one | two).sum()) for one, two in pairs)
    both = sum(int((one & two).sum()) for one, two in pairs)
    return 2 * both >= PLATEAU * (both + either)


def _faces(values: NDArray[Any]) -> NDArray[Any]:
    """The values on the six faces of a volume."""
    return np.concatenate([values.take(side, axis).ravel() for axis in range(3) for side in (0, -1)])


def _outside(background: Mask) -> Mask:
    """The part of the background that reaches the faces of the volume; the rest belongs to the image."""
    from scipy import ndimage

    labels, _ = ndimage.label(background)
    return np.isin(labels, np.setdiff1d(np.unique(_faces(labels)), [0]))
