"""Orientation, orthonormal affines and resampling.

World space is RAS+ in millimetres everywhere (x to the patient's right, y to the front, z up), as in nibabel. ITK and
ANTs use LPS+; signs are changed with `RAS_TO_LPS` only where these are called.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadcli.arrays import Affine, Array

RAS_TO_LPS: Affine = np.diag([-1.0, -1.0, 1.0, 1.0])


def spacing(affine: Affine) -> NDArray[np.float64]:
    """Voxel sizes in mm along the three axes, shape (3,)."""
    return np.linalg.norm(affine[:3, :3], axis=0)


def apply(affine: Affine, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Map points of shape (..., 3) by a 4x4 affine."""
    return points @ affine[:3, :3].T + affine[:3, 3]


def corners(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The eight corner voxels of a grid, shape (8, 3), in voxel units."""
    return np.array(list(itertools.product(*[(0.0, n - 1.0) for n in shape[:3]])))


def nearest_orthonormal(affine: Affine, shape: tuple[int, ...]) -> tuple[Affine, float]:
    """The affine with orthogonal axes nearest to `affine` (4x4), and the largest displacement of a voxel centre in mm.

    Voxel sizes are kept, the direction matrix is replaced by the orthogonal factor of its polar decomposition
    (Higham 1986), and the centre of the grid stays in place.
    """
    size = spacing(affine)
    u, _, vt = np.linalg.svd(affine[:3, :3] / size)
    result = np.eye(4)
    result[:3, :3] = (u @ vt) * size
    centre = (np.array(shape[:3]) - 1) / 2
    result[:3, 3] = apply(affine, centre) - result[:3, :3] @ centre
    moved = np.linalg.norm(apply(result, corners(shape)) - apply(affine, corners(shape)), axis=1)
    return result, float(moved.max())


def to_canonical(data: Array, affine: Affine) -> tuple[Array, Affine, NDArray[np.float64]]:
    """Permute and flip the axes of data (X, Y, Z) to right, front and top; returns data, affine, and the orientation.

    Nothing is interpolated: `from_canonical` with the same orientation restores the voxels exactly.
    """
    import nibabel as nib

    orientation = nib.orientations.io_orientation(affine)
    turned = nib.orientations.apply_orientation(data, orientation)
    undo = nib.orientations.inv_ornt_aff(orientation, data.shape)
    return np.ascontiguousarray(turned), affine @ undo, orientation


def from_canonical(data: Array, orientation: NDArray[np.float64]) -> Array:
    """Undo `to_canonical` on an array of the canonical shape (X, Y, Z)."""
    import nibabel as nib

    identity = np.array([[0, 1], [1, 1], [2, 1]], dtype=float)
    back = nib.orientations.ornt_transform(identity, orientation)
    # ornt_transform(start, end) turns axes that lie as `start` into axes that lie as `end`
    return np.ascontiguousarray(nib.orientations.apply_orientation(data, back))


def scaled_grid(affine: Affine, factor: NDArray[np.floating[Any]]) -> Affine:
    """The affine (4x4) of a grid whose voxels are `factor` (3,) times as large along each axis.

    Its first voxel is centred on those that it covers, so that the corner of the field of view stays in place.
    """
    scaled = affine @ np.diag([*factor, 1.0])
    scaled[:3, 3] += affine[:3, :3] @ ((factor - 1) / 2)
    return scaled


def resample(
    data: Array,
    affine: Affine,
    target_shape: tuple[int, int, int],
    target_affine: Affine,
    world_map: NDArray[np.floating[Any]] | None = None,
    *,
    order: int = 1,
    antialias: bool = False,
) -> Array:
    """Resample `data` (X, Y, Z) onto another grid by spline interpolation of the given order; outside is 0.

    `world_map` (4x4) maps world points of the target to world points of the source (identity if None), as
    registrations are stored. With `antialias`, axes that are sampled more finely than the target
    are first smoothed with a Gaussian (FWHM of the target step). Cubic overshoot is clipped to the range of the source.
    """
    from scipy import ndimage

    chain = np.eye(4) if world_map is None else world_map
    to_source = np.linalg.inv(affine) @ chain @ target_affine  # target voxel -> source voxel
    source = np.asarray(data, dtype=np.float32)
    if antialias:
        # the step that one target voxel makes along each source axis, in source voxels
        step = np.abs(to_source[:3, :3]).max(axis=1)
        sigma = np.sqrt(np.maximum(step**2 - 1, 0)) / 2.355
        if sigma.max() > 0.2:
            source = ndimage.gaussian_filter(source, sigma, mode="nearest", truncate=3.0)
    # masks and maps are mostly 0: compute only the voxels that non-zero ones reach; a cubic spline reaches all
    box = _reached(source, to_source, target_shape) if order <= 1 else tuple(slice(0, n) for n in target_shape)
    start, shape = [cut.start for cut in box], [cut.stop - cut.start for cut in box]
    result = np.zeros(target_shape, dtype=np.float32)
    if min(shape) > 0:
        result[box] = ndimage.affine_transform(
            source,
            to_source[:3, :3],
            to_source[:3, 3] + to_source[:3, :3] @ start,
            output_shape=tuple(shape),
            order=order,
            mode="constant",
            cval=0.0,
        )
    if order > 1:
        np.clip(result, min(float(source.min()), 0.0), max(float(source.max()), 0.0), out=result)
    return result


def _reached(source: Array, to_source: Affine, target_shape: tuple[int, int, int]) -> tuple[slice, ...]:
    """The box of target voxels that linear interpolation can make non-zero; empty if the source is 0 everywhere."""
    from scipy import ndimage

    found = ndimage.find_objects((source != 0).view(np.uint8))
    if not found:
        return tuple(slice(0, 0) for _ in target_shape)
    low = np.array([cut.start - 1 for cut in found[0]])
    high = np.array([cut.stop for cut in found[0]])
    back = np.asarray(np.linalg.inv(to_source), dtype=np.float64)
    points = apply(back, low + corners((2, 2, 2)) * (high - low))
    start = np.clip(np.floor(points.min(axis=0)), 0, target_shape).astype(int)
    stop = np.clip(np.ceil(points.max(axis=0)) + 1, 0, target_shape).astype(int)
    return tuple(slice(int(a), int(max(a, b))) for a, b in zip(start, stop, strict=True))


def same_grid(
    shape_a: tuple[int, ...], a: Affine, shape_b: tuple[int, ...], b: Affine, tolerance_mm: float = 0.1
) -> bool:
    """Whether two grids have the same shape and put every corner voxel within `tolerance_mm` of each other."""
    if tuple(shape_a[:3]) != tuple(shape_b[:3]):
        return False
    gap = apply(a, corners(shape_a)) - apply(b, corners(shape_b))
    return bool(np.linalg.norm(gap, axis=1).max() <= tolerance_mm)
