"""The slices and voxels of a case that count as healthy. Lesion masks are only used to leave slices out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uadcli.data.dataset import Case
from uadcli.data.prepare import Prepared
from uadcli.imaging.geometry import apply, resample
from uadcli.imaging.mask_file import read_mask_file
from uadcli.imaging.slices import GRID_AFFINE, GRID_SHAPE
from uadcli.imaging.volume import Scan

MIN_BRAIN_PIXELS = 200  # of 9216; smaller brain sections are left out
LESION_MARGIN_SLICES = 3  # 6 mm: thick slices smear a lesion into their neighbours


def brain_slices(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Indices (N,) of the slices of a brain mask (96, 96, 80) with enough brain to train on."""
    return np.flatnonzero(mask.sum(axis=(0, 1)) >= MIN_BRAIN_PIXELS)


def lesions_on_grid(case: Case, prepared: Prepared) -> NDArray[np.bool_]:
    """The lesion mask of a case on the model's grid (96, 96, 80), by nearest neighbour.

    A lesion that would vanish, as seven in eight of a voxel of 1 mm would, keeps the voxel that holds most of it.
    """
    if case.lesions is None:
        return np.zeros(GRID_SHAPE, dtype=bool)
    found, scan = read_mask_file(case.lesions, allow_empty=True)
    return _brought(found.voxels, scan, prepared)


def _brought(mask: NDArray[np.bool_], scan: Scan, prepared: Prepared) -> NDArray[np.bool_]:
    """A lesion mask of the grid of `scan` on the model's grid, as `lesions_on_grid` says."""
    lesions, count = ndimage.label(mask, np.ones((3, 3, 3)))
    on_grid = resample(
        lesions.astype(np.float32), scan.volume.affine, GRID_SHAPE, GRID_AFFINE, prepared.world_map, order=0
    )
    kept = np.asarray(on_grid > 0.5)
    voxels = np.argwhere(mask)
    numbers, places = lesions[tuple(voxels.T)], _on_grid(voxels, scan, prepared)
    for number in np.setdiff1d(np.arange(1, count + 1), on_grid):
        held, most = np.unique(places[numbers == number], axis=0, return_counts=True)
        place = held[np.argmax(most)]
        if ((place >= 0) & (place < GRID_SHAPE)).all():
            kept[tuple(place)] = True
    return kept


def _on_grid(voxels: NDArray[np.int64], scan: Scan, prepared: Prepared) -> NDArray[np.int64]:
    """The voxels (N, 3) of the model's grid, or beyond it, in which the voxels (N, 3) of a mask lie."""
    to_grid = np.linalg.inv(prepared.world_map @ GRID_AFFINE) @ scan.volume.affine
    return np.rint(apply(to_grid, voxels.astype(np.float64))).astype(np.int64)


def touched_slices(case: Case, prepared: Prepared) -> NDArray[np.bool_]:
    """Which axial slices (80,) of the model's grid hold a voxel of a lesion, however small."""
    if case.lesions is None:
        return np.zeros(GRID_SHAPE[2], dtype=bool)
    found, scan = read_mask_file(case.lesions, allow_empty=True)
    touched = np.asarray(_brought(found.voxels, scan, prepared).any(axis=(0, 1)))
    z = _on_grid(np.argwhere(found.voxels), scan, prepared)[:, 2]
    touched[z[(z >= 0) & (z < len(touched))]] = True
    return touched


def healthy_slices(case: Case, prepared: Prepared) -> NDArray[np.int64]:
    """Indices (N,) of the slices with enough brain and without lesion (including a margin)."""
    touched = touched_slices(case, prepared)
    near = np.convolve(touched, np.ones(2 * LESION_MARGIN_SLICES + 1), mode="same") > 0
    enough = brain_slices(prepared.mask)
    return enough[~near[enough]]


def healthy_part(case: Case, prepared: Prepared) -> NDArray[np.bool_]:
    """The voxels (96, 96, 80) of a validation scan that count as healthy: its brain in slices without lesion."""
    part = np.zeros_like(prepared.mask)
    keep = healthy_slices(case, prepared)
    part[:, :, keep] = prepared.mask[:, :, keep]
    return part
