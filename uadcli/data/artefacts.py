"""Signs of a damaged scan that neither its header nor its registration shows: ghosts, spikes, noise, lost slices.

All measures are of the levelled scan, so that no increasing linear map of the intensities changes them; None is what
cannot be measured, as ghosts where the air was set to 0. Their limits are in `scoring.quality`, what real and damaged
scans have in `packaging/docs/reliability.md`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uadcli.arrays import SD_PER_MAD, Affine, Array, Mask
from uadcli.data.prepare import Prepared, Stripped
from uadcli.imaging import geometry, skullstrip, template
from uadcli.imaging.geometry import spacing
from uadcli.imaging.levels import TOP
from uadcli.imaging.slices import GRID_AFFINE, GRID_SHAPE
from uadcli.imaging.volume import Volume

FEWEST = 1000  # voxels of a brain that its values can be counted in
COARSE_MM = 2.0  # voxels that the air is looked at in
HEAD, AIR_MM = 0.25, 5.0  # of the brain's median; air begins this far from the head
AIR_ABOVE_MM = 0.0  # in the template's space: below lie neck and shoulders
LEAST_AIR_ML, AIR_FILLED = 10.0, 0.1  # air with fewer voxels above 0 was set to 0
SLICES, CENTRE, CANDIDATES = 48, 6, 10  # looked at for spikes; lines of k-space at its centre that are not; of a slice
SHELL = np.array([p for p in np.ndindex(5, 5) if 0 in p or 4 in p]) - 2  # points of k-space around one
AROUND = 7  # slices on either side that one without signal is compared with
EMPTY, WITH_HEAD = 0.5, 0.3  # of their signal; slices below this share of the brightest are not of the head
STEPS_AROUND, MOST_OF_BRAIN = 7, 0.3  # steps between slices, where this share of the largest brain area is seen
NO_SIGNAL = 0.1  # of its median: not white matter, but missing


@dataclass(frozen=True)
class Artefacts:
    """Measures of a scan, each None where it cannot be made.

    `noise`: its standard deviation, as a share of the brain's median intensity. `ghosts`: difference between the air in
    front and behind and that on the sides, as a share of the same. `spikes`: the highest point of k-space, relative to
    its surroundings. `empty_slices`: slices without signal inside the head. `slice_step`: the largest step between
    slices, relative to those around. `bias`: brightest over darkest white matter, by a smooth field. `bias_corrected`:
    the range of the field that the bias correction divided by. `grey_values`: distinct intensities in the brain.
    `coverage`: the share of the template's brain that lies in the field of view.
    """

    noise: float | None = None
    ghosts: float | None = None
    spikes: float | None = None
    empty_slices: float | None = None
    slice_step: float | None = None
    bias: float | None = None
    bias_corrected: float | None = None
    grey_values: float | None = None
    coverage: float | None = None


def measure(scan: Volume, stripped: Stripped, prepared: Prepared) -> Artefacts:
    """Measure a scan as read, on its canonical grid; `stripped` and `prepared` are what `prepare` made of it."""
    volume, world_map = stripped.volume, stripped.world_map
    inside = stripped.brain & (volume.data > 0)
    if inside.sum() < FEWEST:
        return Artefacts()
    return Artefacts(
        noise=noise(volume, inside),
        ghosts=ghosts(volume, inside, world_map),
        spikes=spikes(volume),
        empty_slices=float(empty_slices(volume.data)),
        slice_step=slice_step(volume, inside),
        bias=bias(stripped.on_grid, prepared.mask),
        bias_corrected=bias_corrected(stripped.on_grid, prepared.data, prepared.mask),
        grey_values=grey_values(scan.data, inside),
        coverage=coverage(volume, world_map),
    )


def noise(volume: Volume, brain: Mask) -> float | None:
    """The standard deviation of noise, as a share of the brain's median intensity; None for a small `brain` (X, Y, Z).

    By the diagonal wavelets of Donoho (1995), which edges along the axes do not have, in the plane with the finest
    voxels.
    """
    across = slice_axis(volume)
    data, mask = np.moveaxis(volume.data, across, 2), np.moveaxis(brain, across, 2)
    step = (data[:-1, :-1] - data[1:, :-1] - data[:-1, 1:] + data[1:, 1:]) / 2
    whole = mask[:-1, :-1] & mask[1:, :-1] & mask[:-1, 1:] & mask[1:, 1:]
    if whole.sum() < FEWEST:
        return None
    return float(SD_PER_MAD * np.median(np.abs(step[whole])) / np.median(volume.data[brain]))


def ghosts(volume: Volume, brain: Mask, world_map: Affine) -> float | None:
    """How much brighter air is along one axis of the head than along the other, as a share of the brain's median.

    `brain` is (X, Y, Z), `world_map` (4x4) maps MNI points to the scan's, in mm. None if there is too little air, or if
    it was set to 0. A head that moves or pulses repeats along the axis of phase encoding; noise is the same on all
    sides.
    """
    from scipy import ndimage

    thin, mask = _thinned(volume, brain)
    middle = float(np.median(volume.data[brain]))
    solid = ndimage.binary_opening(thin.data > HEAD * middle) | mask
    padded = np.pad(skullstrip.largest_component(solid), 6)
    head = skullstrip.fill(ndimage.binary_closing(padded, iterations=3)[6:-6, 6:-6, 6:-6])
    away = ndimage.distance_transform_edt(~head, sampling=spacing(thin.affine)) > AIR_MM
    above = _height(thin, world_map) > AIR_ABOVE_MM
    sides = [np.broadcast_to(head.any(axis=axis, keepdims=True), head.shape) for axis in (0, 1)]
    bands = [away & above & sides[axis] & ~sides[1 - axis] for axis in (0, 1)]
    millilitres = float(np.prod(spacing(thin.affine))) / 1e3
    if min(band.sum() for band in bands) * millilitres < LEAST_AIR_ML:
        return None
    if (thin.data[bands[0] | bands[1]] > 0).mean() < AIR_FILLED:
        return None
    first, second = (float(thin.data[band].mean()) for band in bands)
    return abs(first - second) / middle


def _thinned(volume: Volume, brain: Mask) -> tuple[Volume, Mask]:
    """Every second voxel or so along fine axes."""
    steps = [max(1, round(COARSE_MM / size)) for size in spacing(volume.affine)]
    part = tuple(slice(None, None, step) for step in steps)
    return Volume(volume.data[part], volume.affine @ np.diag([*map(float, steps), 1.0])), brain[part]


def _height(volume: Volume, world_map: Affine) -> Array:
    """The height of each voxel in the template's space, mm."""
    row = (np.linalg.inv(world_map) @ volume.affine)[2]
    x, y, z = (np.arange(n).reshape([-1 if k == axis else 1 for k in range(3)]) for axis, n in enumerate(volume.shape))
    return np.asarray(row[0] * x + row[1] * y + row[2] * z + row[3], dtype=np.float32)


def slice_axis(volume: Volume) -> int:
    """The axis across the slices: the one with the largest voxels, or the vertical one if all are alike."""
    sizes = spacing(volume.affine)
    return int(np.argmax(sizes)) if sizes.max() > 1.3 * sizes.min() else 2


def spikes(volume: Volume) -> float | None:
    """The largest value of k-space away from its centre, over the largest of the 16 points two steps around it.

    At least 0; None without slices that are large enough. Of 2-D transforms of slices: a spike of one readout is in one
    slice, or in one line of a 3-D acquisition.
    """
    stack = np.moveaxis(volume.data, slice_axis(volume), 0)
    filled = np.flatnonzero(stack.reshape(len(stack), -1).std(axis=1) > 0)
    if not len(filled) or min(stack.shape[1:]) < 4 * CENTRE:
        return None
    chosen = filled[np.unique(np.linspace(0, len(filled) - 1, min(SLICES, len(filled))).round().astype(int))]
    return max(_peak(np.abs(np.fft.fft2(stack[place] - stack[place].mean()))) for place in chosen)


def _peak(size: NDArray[np.float64]) -> float:
    """The most that a point stands out, of the points that are largest for their distance from the centre."""
    lines = np.meshgrid(*(np.abs(np.fft.fftfreq(n)) * n for n in size.shape), indexing="ij")
    share = np.hypot(*(line / n for line, n in zip(lines, size.shape, strict=True)))
    ring = np.minimum((share * 60).astype(int), 60)
    mean = np.bincount(ring.ravel(), size.ravel()) / np.maximum(np.bincount(ring.ravel()), 1)
    rise = size / np.maximum(mean[ring], 1e-9 * size.max())
    rise[(np.hypot(*lines) < CENTRE) | (np.minimum(*lines) < 2)] = 0  # edges of the field of view lie on the axes
    best = np.argpartition(rise.ravel(), -CANDIDATES)[-CANDIDATES:]
    places = np.stack(np.unravel_index(best, size.shape), axis=1)
    around = (places[:, None] + SHELL) % size.shape
    level = size[around[..., 0], around[..., 1]].max(axis=1)
    return float((size.ravel()[best] / np.maximum(level, 1e-6 * size.max())).max())


def empty_slices(data: Array) -> int:
    """How many slices of a volume (X, Y, Z), along any axis, have less than half of the signal of those around them.

    Only slices through the head count.
    """
    from scipy import ndimage

    part = data[signal_box(data)]
    count = 0
    for axis in range(3):
        mean = part.mean(axis=tuple(k for k in range(3) if k != axis))
        around = ndimage.median_filter(mean, size=2 * AROUND + 1, mode="nearest")
        head = around > WITH_HEAD * np.percentile(mean, 90)
        count += int((mean < EMPTY * around)[head][1:-1].sum())
    return count


def signal_box(data: Array) -> tuple[slice, slice, slice]:
    """The part of a volume (X, Y, Z) without slices of one value at its faces; all of it if everything is one value."""
    parts = []
    for axis in range(3):
        flat = np.moveaxis(data, axis, 0).reshape(data.shape[axis], -1)
        filled = np.flatnonzero(flat.max(axis=1) > flat.min(axis=1))
        parts.append(slice(int(filled[0]), int(filled[-1]) + 1) if len(filled) else slice(None))
    return parts[0], parts[1], parts[2]


def slice_step(volume: Volume, brain: Mask) -> float | None:
    """The largest mean step from a slice to the next inside the `brain` (X, Y, Z), over the median of those around.

    None with too few slices. Where slices were lost, or the head moved between two, one step is larger. Thick slices
    differ as much anyway. Sagittal planes are left out, unless they are the slices: the middle of the brain is such a
    step.
    """
    axes = {1, 2, slice_axis(volume)}
    steps = [_largest_step(np.moveaxis(volume.data, axis, 0), np.moveaxis(brain, axis, 0)) for axis in sorted(axes)]
    known = [step for step in steps if step is not None]
    return max(known) if known else None


def _largest_step(data: Array, brain: Mask) -> float | None:
    from scipy import ndimage

    area = brain.sum(axis=(1, 2))
    steps = []
    for place in np.flatnonzero(area[:-1] > MOST_OF_BRAIN * area.max()):
        both = brain[place] & brain[place + 1]
        if both.sum() > MOST_OF_BRAIN * area.max():
            steps.append(float(np.abs(data[place + 1][both] - data[place][both]).mean()))
    if len(steps) <= STEPS_AROUND:
        return None
    around = ndimage.median_filter(steps, size=STEPS_AROUND, mode="nearest")
    return float((steps / np.maximum(around, 1e-3 * TOP))[2:-2].max())


def bias(data: Array, mask: Mask) -> float | None:
    """The 98th over the 2nd percentile of a field of second order, fitted to the logarithm of white matter, at least 1.

    `data` are the intensities before bias correction, `mask` is the brain (both 96, 96, 80). None with too little white
    matter. A large lesion of white matter is part of the field; see `bias_corrected`.
    """
    white = mask & (template.on_grid("mni_tissue_dseg") == template.WHITE)
    if white.any():
        white &= data > max(NO_SIGNAL * float(np.median(data[white])), 1e-3 * TOP)
    if white.sum() < FEWEST:
        return None
    values = data[white]
    logarithm = np.log(values)
    x, y, z = ((2 * np.argwhere(white) / np.array(GRID_SHAPE)) - 1).T
    terms = np.stack([np.ones_like(x), x, y, z, x * x, y * y, z * z, x * y, x * z, y * z], axis=1)
    field, used = np.zeros_like(logarithm), np.ones(len(values), dtype=bool)
    for _ in range(5):  # lesions, and what is not white matter in this brain, drop out
        field = terms @ np.linalg.lstsq(terms[used], logarithm[used], rcond=None)[0]
        rest = np.abs(logarithm - field)
        used = rest <= 2 * SD_PER_MAD * np.median(rest[used])
    return _range(field)


def bias_corrected(data: Array, corrected: Array, mask: Mask) -> float | None:
    """The range of the bias field that a scan was divided by in the brain, as in `bias`, at least 1.

    `data` are the intensities before, `corrected` those after it, `mask` is the brain (all 96, 96, 80). None for a
    small brain, and where nothing was corrected. What is much brighter than the brain's median is no part of the field,
    so large lesions hardly change this.
    """
    inside = mask & (data > 0) & (corrected > 0)
    if inside.any():
        inside &= data > NO_SIGNAL * float(np.median(data[inside]))
    if inside.sum() < FEWEST or np.array_equal(data[inside], corrected[inside]):
        return None
    return _range(np.log(data[inside] / corrected[inside]))


def _range(logarithm: Array) -> float:
    """The 98th over the 2nd percentile of a field, given its logarithm."""
    low, high = np.percentile(logarithm, [2, 98])
    return float(np.exp(high - low))


def grey_values(data: Array, brain: Mask) -> float:
    """How many distinct values a volume (X, Y, Z) has between the 1st and the 99th percentile of the brain."""
    values = data[brain]
    low, high = np.percentile(values, [1, 99])
    return float(len(np.unique(values[(values >= low) & (values <= high)])))


def coverage(volume: Volume, world_map: Affine) -> float:
    """The share of the template's brain that lies in the scan, not counting slices of one value at its faces.

    `world_map` (4x4) maps MNI points to the scan's, in mm.
    """
    places = np.argwhere(template.on_grid("mni_brain_mask") > 0)
    to_voxel = np.linalg.inv(volume.affine) @ world_map @ GRID_AFFINE
    voxels = geometry.apply(to_voxel, places.astype(np.float64))
    ends = [part.indices(n)[:2] for part, n in zip(signal_box(volume.data), volume.shape, strict=True)]
    low, high = np.array(ends).T
    return float(((voxels > low - 0.5) & (voxels < high - 0.5)).all(axis=1).mean())
