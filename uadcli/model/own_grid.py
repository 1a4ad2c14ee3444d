"""The anomaly map on the scan's own grid, where that is finer than the model's.

The model's grid of 2 mm blurs lesions of 1 to 3 mm. Scores of single voxels (`Score.by_voxel`) can be had at the scan's
own resolution: they are interpolated like the others, and what the model's grid leaves out of the scan (`detail`) is
added. Findings are decided on the model's grid, where the thresholds are calibrated, and get their outline here. Scans
with thick slices have no such map: the detail within their slices is mostly noise (packaging/docs/decisions.md).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from uadcli import contrasts
from uadcli.arrays import Affine, Array, Mask
from uadcli.data.prepare import Prepared, to_native
from uadcli.imaging import geometry, intensity
from uadcli.imaging.slices import GRID_AFFINE, GRID_SHAPE
from uadcli.imaging.volume import Scan, Volume
from uadcli.model.model import Part
from uadcli.model.subject import Subject
from uadcli.scoring import fusion, healthy_reference, scores

SIGMA_MM = 0.7  # of the Gaussian over the scan, against noise; chosen on the development scans
SMOOTH_MM = 4.0  # of the Gaussian over the bias field, which varies over centimetres
BRIGHT = 0.5  # of the brain's median: darker voxels say little of the bias field
MARGIN_MM = 10.0  # around the brain
REACH = np.ones((3, 3, 3))  # a finding may reach one voxel of the model's grid beyond its outline there


def finer(affine: Affine) -> bool:
    """Whether voxels are nowhere larger than those of the model's grid, and somewhere smaller (by 1 % at least)."""
    size = geometry.spacing(affine) / geometry.spacing(GRID_AFFINE)
    return bool((size < 1.01).all() and (size < 0.99).any())


def own_map(subject: Subject, name: str, levelled: Volume, prepared: Prepared) -> Array | None:
    """The map (X, Y, Z) of a score on the scan's canonical grid, 0 outside the brain; None if it has no more detail.

    That is so if the scan's grid is not finer than the model's, if it was smoothed, or if no part of the score is of
    single voxels. `levelled` is the scan on the common scale (`imaging.levels`). Raises as `Subject.score`.
    """
    joined = scores.find(name).joined
    parts = subject.parts(name) if joined else [Part(name, (), 1.0)]
    voxelwise = any(scores.find(part.name).by_voxel for part in parts)
    if not voxelwise or not finer(levelled.affine) or subject.model.card.curvature_flow:
        return None
    box, near = _around_brain(levelled, prepared)
    brain = _brought(prepared.mask.astype(np.float32), near, prepared) >= 0.5
    more = detail(near, prepared)[brain]
    values = [_values(subject, part.name, near, prepared, brain, more) for part in parts]
    if joined:
        together = [(one, part.tail, part.share) for one, part in zip(values, parts, strict=True)]
        likely = _brought(np.broadcast_to(subject.likely, GRID_SHAPE), near, prepared)[brain]
        values = [fusion.fisher_score(together, np.ones(len(more), dtype=bool), likely)]
    result = np.zeros(levelled.shape, dtype=np.float32)
    result[box][brain] = values[0]
    return result


def _around_brain(levelled: Volume, prepared: Prepared) -> tuple[tuple[slice, ...], Volume]:
    """The part of a scan's grid around the brain, and the scan there: a head takes time and memory for nothing."""
    places = geometry.apply(GRID_AFFINE, np.argwhere(prepared.mask).astype(np.float64))
    voxels = geometry.apply(np.linalg.inv(levelled.affine) @ prepared.world_map, places)
    margin = MARGIN_MM / geometry.spacing(levelled.affine)
    low = np.maximum(np.floor(voxels.min(axis=0) - margin), 0).astype(int)
    high = np.minimum(np.ceil(voxels.max(axis=0) + margin) + 1, levelled.shape).astype(int)
    box = tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    affine = levelled.affine.copy()
    affine[:3, 3] = geometry.apply(affine, low.astype(np.float64))
    return box, Volume(levelled.data[box], affine)


def _brought(values: Array, near: Volume, prepared: Prepared) -> Array:
    """A volume (96, 96, 80) of the model's grid on that of `near`."""
    back = np.linalg.inv(prepared.world_map)
    x, y, z = near.shape
    return geometry.resample(values, GRID_AFFINE, (x, y, z), near.affine, back)


def detail(levelled: Volume, prepared: Prepared) -> Array:
    """What the model's grid leaves out of a scan (X, Y, Z), in robust standard deviations of the brain.

    The scan, slightly smoothed, less its interpolation from the model's grid; bias-corrected like that.
    """
    from scipy import ndimage

    coarse = geometry.resample(
        levelled.data, levelled.affine, GRID_SHAPE, GRID_AFFINE, prepared.world_map, order=3, antialias=True
    )
    smooth = ndimage.gaussian_filter(levelled.data, SIGMA_MM / geometry.spacing(levelled.affine))
    spread = intensity.robust_spread(prepared.data[prepared.mask])
    field = _brought(_bias_field(coarse, prepared), levelled, prepared)
    return np.asarray((smooth - _brought(coarse, levelled, prepared)) / (np.maximum(field, 0.1) * spread))


def _bias_field(coarse: Array, prepared: Prepared) -> Array:
    """The bias field (96, 96, 80) by which a scan on the model's grid was divided, also outside the brain."""
    from scipy import ndimage

    data, sigma = prepared.data, SMOOTH_MM / geometry.spacing(GRID_AFFINE)
    known = prepared.mask & (data > BRIGHT * np.median(data[prepared.mask]))
    ratio = np.where(known, coarse / np.where(known, data, 1), 0)
    total, weight = (ndimage.gaussian_filter(one.astype(np.float64), sigma) for one in (ratio, known))
    far = weight < 1e-3
    return np.asarray(np.where(far, 1, total / np.where(far, 1, weight)), dtype=np.float32)


def _values(subject: Subject, name: str, near: Volume, prepared: Prepared, brain: Mask, more: Array) -> Array:
    """The score of the voxels (N,) of the brain on the grid of `near`; `more` (N,) is their detail."""

    def brought(values: Array) -> Array:
        return _brought(values, near, prepared)[brain]

    if not scores.find(name).by_voxel:
        return brought(subject.score(name))
    values, slope = subject.robust_z, np.ones_like(subject.robust_z)
    if name.startswith(scores.Z):
        values, slope = healthy_reference.signed(values, subject.reference(scores.base_of(name)), subject.mask)
    towards = -1 if contrasts.ALL[subject.contrast].lesions == "dark" else 1
    return np.asarray(np.maximum(brought(values) + towards * more * brought(slope), 0), dtype=np.float32)


def on_scan(
    anomaly_map: Array, labels: NDArray[np.uint8], own: Array | None, lowest: float, scan: Scan, prepared: Prepared
) -> tuple[Array, Mask]:
    """Map and mask (X, Y, Z) on the scan's canonical grid, of a map and its findings (96, 96, 80) on the model's.

    If there is an `own` map with more detail, it is that, and the mask is where it is above the lowest score.
    """
    found = to_native(anomaly_map, scan, prepared, 1) if own is None else own
    return found, outlines(labels, own, lowest, scan, prepared)


def outlines(labels: NDArray[np.uint8], own: Array | None, lowest: float, scan: Scan, prepared: Prepared) -> Mask:
    """The findings (X, Y, Z) on the scan's grid: where its `own` map is above the lowest score, in and next to
    `labels`; without such a map, the outline of the labels.

    `labels` (96, 96, 80) number the findings on the model's grid from 1. A finding that this leaves without any voxel,
    as between the centres of thick slices, gets the one that holds most of it: what is listed can be seen.
    """
    from scipy import ndimage

    if own is None:
        around, mask = labels, to_native((labels > 0).astype(np.float32), scan, prepared, 1) >= 0.5
    else:
        around = ndimage.grey_dilation(labels, footprint=REACH)
        mask = (to_native((around > 0).astype(np.float32), scan, prepared, 1) >= 0.5) & (own > lowest)
    seen = np.unique(to_native(around.astype(np.float32), scan, prepared, 0)[mask])
    to_voxel = np.linalg.inv(scan.volume.affine) @ prepared.world_map @ GRID_AFFINE
    for number in np.setdiff1d(labels, [0, *seen]):
        nearest = np.rint(geometry.apply(to_voxel, np.argwhere(labels == number).astype(np.float64))).astype(np.int64)
        flat = np.ravel_multi_index(tuple(nearest.T), scan.volume.shape, mode="clip")
        voxels, counts = np.unique(flat, return_counts=True)
        mask.flat[voxels[counts.argmax()]] = True
    return mask
