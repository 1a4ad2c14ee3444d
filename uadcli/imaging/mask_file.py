"""Reading masks: label maps, and probabilities thresholded at one half; other images are refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uadcli.arrays import Array, Mask
from uadcli.errors import InputError
from uadcli.imaging.geometry import same_grid
from uadcli.imaging.volume import Scan, read_companion

HALF = 0.5  # of the largest possible probability
OVERSHOOT = 0.25  # how far spline interpolation can leave the range from 0 to 1
FULL = (100.0, 255.0)  # a probability of 1 in percent, and in bytes
WHOLE = 1e-3  # tolerance for whole numbers, as a slope in a header rounds them
FEW = 16  # up to so many different numbers are always labels
PLATEAU = 0.6  # share of neighbouring voxels of a label map with the same label
RISING = 0.35  # of the median inside: voxels next to 0 are lower where values rise smoothly
TOP_SHARE = 0.05  # share of the voxels above 0 that are close to the largest value of a probability map
TWO_FORMS = ("sform", "qform")
HINT = "Give a mask of 0 and 1, a label map, or probabilities between 0 and 1."


@dataclass(frozen=True)
class MaskFile:
    """The voxels (X, Y, Z) of a mask, and in words how they were chosen."""

    voxels: Mask
    taken: str

    @property
    def plain(self) -> bool:
        """Whether the mask is unambiguous, so that nothing needs to be reported."""
        return self.taken == "voxels above 0"


def read_mask_file(path: Path, allow_empty: bool = False, geometry: str = "auto") -> tuple[MaskFile, Scan]:
    """A mask on its own canonical grid, and the file as read, with the `geometry` of its scan.

    Raises `InputError` if it is not a mask.
    """
    source = read_companion(path, geometry, allow_empty)
    return marked(source.volume.data, path), source


def read_labels(path: Path, scan: Scan, what: str = "the label mask", allow_empty: bool = False) -> MaskFile:
    """A mask on the canonical grid of a scan (to within 1 mm), by the geometry with which the scan was read.

    Raises `InputError` if it is on another grid, is not a mask or, without `allow_empty`, is empty.
    """
    found, source = read_mask_file(path, allow_empty, scan.geometry)
    own, of_scan = source.volume, scan.volume
    if not same_grid(own.shape, own.affine, of_scan.shape, of_scan.affine, 1.0):
        raise _elsewhere(what, path, scan.geometry)
    if not allow_empty and not found.voxels.any():
        raise InputError(f"{what} has no voxel above 0", path=path, hint=HINT)
    return found


def _elsewhere(what: str, path: Path, geometry: str) -> InputError:
    """The error for a mask on another grid; where the user chose a form, it may be that of the scan's other form."""
    if geometry not in TWO_FORMS:
        return InputError(f"{what} is not on the scan's grid", path=path, hint="Resample it to the scan.")
    hint = "If it was drawn on the scan, copy the scan's header to it; otherwise resample it to the scan."
    return InputError(f"{what} is not on the grid that the scan has by its {geometry}", path=path, hint=hint)


def marked(data: Array, path: Path) -> MaskFile:
    """The mask in the values (X, Y, Z) of a file, which must be finite.

    Whole numbers are labels: all above 0 count. Other values are probabilities: those of at least one half count.
    Raises `InputError` for distance maps, images, labels of which none is 0, and probabilities that are below one half
    everywhere.
    """
    low, high = float(data.min()), float(data.max())
    if low < -OVERSHOOT:
        raise _refused(f"contains values below 0 (from {low:.3g} to {high:.3g}), as a distance map does", path)
    values, counts = np.unique(data, return_counts=True)
    if len(values) == 2 and low == 0 and high >= HALF:  # a mask, whatever number it writes
        return MaskFile(data > 0, "voxels above 0")
    if high > OVERSHOOT + 1 and np.abs(values - np.round(values)).max() <= WHOLE * max(high, 1) / FULL[1]:
        return _whole(np.round(data), values, counts, path)
    if high <= 1 + OVERSHOOT:
        return _probabilities(data, 1.0, path)
    return _graded(data, values, counts, path)


def _whole(data: Array, values: NDArray[np.floating], counts: NDArray[np.integer], path: Path) -> MaskFile:
    """Labels; values that rise smoothly from 0 (a resampled mask in bytes or percent, a rounded distance) are not."""
    if len(values) > 1 and data.min() > 0:  # such as 1 for the background and 2 for the lesion
        raise _refused(f"has no voxel of 0 (from {values[0]:.3g} to {values[-1]:.3g}), so all of it would count", path)
    if len(values) > FEW:
        inside, edge = data[data > 0], data[_touching_zero(data)]
        if edge.size and np.median(edge) < RISING * np.median(inside):
            return _graded(data, values, counts, path)
        if _plateaus(data) < PLATEAU:
            raise _refused("contains no labels: neighbouring voxels have different numbers, as in an image", path)
    return MaskFile(data > 0, "voxels above 0")


def _graded(data: Array, values: NDArray[np.floating], counts: NDArray[np.integer], path: Path) -> MaskFile:
    """Probabilities in percent or bytes, recognised by a largest value that many voxels have."""
    high = float(values[-1])
    full = next((one for one in FULL if abs(high - one) <= 0.01 * one), None)
    share = counts[values >= 0.98 * high].sum() / max(counts[values > 0].sum(), 1)
    if full is None or share < TOP_SHARE:
        what = f"contains graded values up to {high:.3g}: an image or a distance map, not a mask"
        raise _refused(what, path)
    return _probabilities(data, full, path)


def _probabilities(data: Array, full: float, path: Path) -> MaskFile:
    voxels = data >= HALF * full
    if not voxels.any() and data.max() > 0:
        raise InputError(f"contains only values between 0 and {HALF * full:g}", path=path, hint=HINT)
    if full == 1 and np.isin(data, (0, 1)).all():
        return MaskFile(voxels, "voxels above 0")
    return MaskFile(voxels, f"probabilities, cut at {HALF * full:g}")


def _touching_zero(data: Array) -> Mask:
    from scipy import ndimage

    return np.asarray((data > 0) & ndimage.binary_dilation(data == 0))


def _plateaus(data: Array) -> float:
    """The share of neighbouring voxels above 0 that have the same number."""
    same = pairs = 0
    for axis in range(3):
        one, two = np.delete(data, -1, axis), np.delete(data, 0, axis)
        both = (one > 0) & (two > 0)
        pairs += int(both.sum())
        same += int((both & (one == two)).sum())
    return same / max(pairs, 1)


def _refused(what: str, path: Path) -> InputError:
    return InputError(what, path=path, hint=HINT)
