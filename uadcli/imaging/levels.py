"""One scale of intensities for every scan, before anything looks at them: the background is 0, bright tissue 1000.

All later stages see the same numbers whatever increasing linear map a scan was stored with: z-scored, shifted by -1024
or times 1e-9. A constant background (air set to 0, what lies outside a stripped brain) is found as such and becomes
0 wherever it lay before, below the image, above it or, where a brain was z-scored and its surroundings were not, amid
its values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uadcli.arrays import Array, Mask
from uadcli.errors import InputError
from uadcli.imaging.volume import Volume

TOP = 1000.0  # what the 99.5th percentile becomes
DARKEST = 10.0  # what the darkest foreground becomes where the background is constant
DARKEST_OF_BRAIN = 0.1
BACKGROUND_SHARE = 0.1  # of all voxels, and of those on the faces of the volume, that a constant background has
FACE_SHARE = 0.3
PLATEAU = 0.8  # of its neighbours are background, too; values of noisy air are not
TOLERANCE = 1e-3  # of the range of intensities: what resampling leaves of a constant
EXACT = 1e-6  # of it, for one amid the values, where many voxels come near to it


@dataclass(frozen=True)
class Levelled:
    """A volume with its background at 0 and bright tissue at 1000, and the voxels that are not background.

    `constant` says whether the background is one value; else `foreground` is everything.
    """

    volume: Volume
    foreground: Mask
    constant: bool


def levelled(volume: Volume) -> Levelled:
    """Bring the intensities of a scan to one scale. Raises `InputError` if they are the same nearly everywhere."""
    foreground = _foreground(volume.data)
    values = volume.data if foreground is None else volume.data[foreground]
    low, high = np.percentile(values, [0.1 if foreground is None else 0.5, 99.5])
    if not high > low:
        raise InputError("nearly all voxels have the same value", hint="The file holds no image; convert it again.")
    base = 0.0 if foreground is None else DARKEST
    data = base + (volume.data.astype(np.float64) - low) * ((TOP - base) / (high - low))
    if foreground is None:
        everything = np.ones(data.shape, dtype=bool)
        return Levelled(Volume(data.astype(np.float32), volume.affine), everything, constant=False)
    data = np.where(foreground, np.maximum(data, 0.1 * DARKEST), 0)
    return Levelled(Volume(data.astype(np.float32), volume.affine), foreground, constant=True)


def raised(volume: Volume) -> Volume:
    """The foreground of a levelled volume (above 0) raised, its darkest voxels to a tenth of the brightest.

    Where all around a brain is gone, so is the level of air, from which MR intensities count: this puts it back where
    it usually lies (in stripped scans that keep it, the 0.5th percentile is 0.02 to 0.2 of the 99.5th).
    """
    data = np.where(volume.data > 0, DARKEST_OF_BRAIN * TOP + volume.data * (1 - DARKEST_OF_BRAIN), 0)
    return Volume(data.astype(np.float32), volume.affine)


def _foreground(data: Array) -> Mask | None:
    """The voxels that differ from a constant background, with the holes inside them; None if it is not constant."""
    values, counts = np.unique(data, return_counts=True)
    at = int(np.argmax(counts))
    if counts[at] < BACKGROUND_SHARE * data.size:
        return None
    others = np.repeat(np.delete(values, at), np.delete(counts, at)) if len(values) < 1000 else data[data != values[at]]
    if others.size == 0:
        return None
    low, high = np.percentile(others, [0.5, 99.5])
    amid = low < values[at] < high
    background = np.abs(data - values[at]) <= (EXACT if amid else TOLERANCE) * (high - low)
    if not _is_around(background):
        return None
    return ~_outside(background) if amid else ~background


def _is_around(background: Mask) -> bool:
    """Whether a background holds much of the faces of the volume and is made of patches, not of single voxels."""
    faces = [background.take(side, axis).ravel() for axis in range(3) for side in (0, -1)]
    if np.concatenate(faces).mean() < FACE_SHARE:
        return False
    pairs = [(np.delete(background, -1, axis), np.delete(background, 0, axis)) for axis in range(3)]
    either = sum(int((one | two).sum()) for one, two in pairs)
    both = sum(int((one & two).sum()) for one, two in pairs)
    return 2 * both >= PLATEAU * (both + either)


def _outside(background: Mask) -> Mask:
    """The background that reaches the faces of the volume: amid the values of an image, the rest is image."""
    from scipy import ndimage

    labels, _ = ndimage.label(background)
    faces = [labels.take(side, axis).ravel() for axis in range(3) for side in (0, -1)]
    return np.isin(labels, np.setdiff1d(np.unique(np.concatenate(faces)), [0]))
