"""The model's grid, and conversion between a volume on it and a stack of axial slices."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from uadcli.arrays import Affine

Value = TypeVar("Value", bound=np.generic)

# 2 mm in MNI152NLin2009cAsym. The brain mask of that template spans x -72..72, y -108..73, z -72..82 mm, so
# 96 x 96 x 80 voxels hold it with a margin; x is symmetric about 0, so that a left-right flip maps voxels on voxels.
GRID_SHAPE: tuple[int, int, int] = (96, 96, 80)
GRID_AFFINE: Affine = np.array(
    [[2.0, 0.0, 0.0, -95.0], [0.0, 2.0, 0.0, -113.0], [0.0, 0.0, 2.0, -75.0], [0.0, 0.0, 0.0, 1.0]]
)

# The same box at 4 mm, for smooth volumes.
HALF_SHAPE: tuple[int, int, int] = (GRID_SHAPE[0] // 2, GRID_SHAPE[1] // 2, GRID_SHAPE[2] // 2)

# The same box in 1 mm: each voxel of the model's grid is eight of these.
FINE_SHAPE: tuple[int, int, int] = (2 * GRID_SHAPE[0], 2 * GRID_SHAPE[1], 2 * GRID_SHAPE[2])
FINE_AFFINE: Affine = GRID_AFFINE @ np.array(
    [[0.5, 0.0, 0.0, -0.25], [0.0, 0.5, 0.0, -0.25], [0.0, 0.0, 0.5, -0.25], [0.0, 0.0, 0.0, 1.0]]
)


def to_slices(volume: NDArray[Value]) -> NDArray[Value]:
    """(X, Y, Z) -> (Z, Y, X): one axial slice per row, front of the head at high y."""
    return np.ascontiguousarray(volume.transpose(2, 1, 0))


def from_slices(slices: NDArray[Value]) -> NDArray[Value]:
    """(Z, Y, X) -> (X, Y, Z), the inverse of `to_slices`."""
    return np.ascontiguousarray(slices.transpose(2, 1, 0))


def occupied(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Indices of the axial slices of a brain mask (X, Y, Z) that contain brain, shape (N,)."""
    return np.flatnonzero(mask.any(axis=(0, 1)))
