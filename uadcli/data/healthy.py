"""The slices and voxels of a case that count as healthy. Lesion masks are only used to leave slices out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from uadcli.data.dataset import Case
from uadcli.data.prepare import Prepared
from uadcli.imaging.geometry import apply, resample
from uadcli.imaging.mask_file import read_mask_file
from uadcli.imaging.slices import GRID_AFFINE, GRID_SHAPE

MIN_BRAIN_PIXELS = 200  # of 9216; smaller brain sections are left out
LESION_MARGIN_SLICES = 3  # 6 mm: thick slices smear a lesion into their neighbours


def brain_slices(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Indices (N,) of the slices of a brain mask (96, 96, 80) with enough brain to train on."""
    return np.flatnonzero(mask.sum(axis=(0, 1)) >= MIN_BRAIN_PIXELS)


def lesions_on_grid(case: Case, prepared: Prepared) -> NDArray[np.bool_]:
    """The lesion mask of a case on the model's grid (96, 96, 80), by nearest neighbour."""
    if case.lesions is None:
        return np.zeros(GRID_SHAPE, dtype=bool)
    found, scan = read_mask_file(case.lesions, allow_empty=True)
    return (
        resample(
            found.voxels.astype(np.float32), scan.volume.affine, GRID_SHAPE, GRID_AFFINE, prepared.world_map, order=0
        )
        > 0.5
    )


def touched_slices(case: Case, prepared: Prepared) -> NDArray[np.bool_]:
    """Which axial slices (80,) of the model's grid hold a voxel of a lesion, however small.

    By nearest neighbour alone, only one in eight lesions of a voxel of 1 mm would be on that grid.
    """
    touched = np.asarray(lesions_on_grid(case, prepared).any(axis=(0, 1)))
    if case.lesions is not None:
        found, scan = read_mask_file(case.lesions, allow_empty=True)
        to_grid = np.linalg.inv(prepared.world_map @ GRID_AFFINE) @ scan.volume.affine
        z = np.rint(apply(to_grid, np.argwhere(found.voxels).astype(np.float64))[:, 2]).astype(int)
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
