"""Volumes that tests build: brains made from the template, with findings whose place is known."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np

from uadcli.imaging import template
from uadcli.imaging.volume import Volume


def brain(lesion_mm: tuple[float, float, float] | None = None, radius_mm: float = 12.0, seed: int = 0) -> Volume:
    """A skull-stripped T1w-like brain at 2 mm in MNI space, int-valued, with a dark ball at `lesion_mm` if given."""
    source = template.brain()
    rng = np.random.default_rng(seed)
    data = source.data + np.where(source.data > 0, rng.normal(0, 2, source.data.shape), 0)
    if lesion_mm is not None:
        data = np.where(ball(source, lesion_mm, radius_mm), data * 0.35, data)
    return Volume(np.where(template.brain_mask(), np.clip(data, 1, 255), 0).round().astype(np.float32), source.affine)


def ball(volume: Volume, centre_mm: tuple[float, float, float], radius_mm: float) -> np.ndarray:
    """Voxels of a volume's grid within `radius_mm` of a world point."""
    grid = np.ogrid[tuple(slice(0, n) for n in volume.shape)]
    squares = 0.0
    for row, centre in zip(volume.affine[:3], centre_mm, strict=True):
        squares = squares + (row[0] * grid[0] + row[1] * grid[1] + row[2] * grid[2] + (row[3] - centre)) ** 2
    return np.sqrt(squares) <= radius_mm


def save(path: Path, data: np.ndarray, affine: np.ndarray, dtype: type = np.int16) -> Path:
    """Write a NIfTI file with sform code 1 and qform code 1."""
    image = nib.Nifti1Image(data.astype(dtype), affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    image.header.set_xyzt_units("mm", "sec")
    image.to_filename(path)
    return path


def orientations() -> list[np.ndarray]:
    """The 48 ways to permute and flip three axes, as nibabel orientation arrays."""
    return [
        np.column_stack([order, signs]).astype(float)
        for order in itertools.permutations(range(3))
        for signs in itertools.product((1, -1), repeat=3)
    ]


def turned(volume: Volume, orientation: np.ndarray) -> Volume:
    """The same image in world space with its axes permuted and flipped."""
    data = nib.orientations.apply_orientation(volume.data, orientation)
    affine = volume.affine @ nib.orientations.inv_ornt_aff(orientation, volume.shape)
    return Volume(np.ascontiguousarray(data), affine)


def rotation(degrees: tuple[float, float, float]) -> np.ndarray:
    """A 4x4 rotation about x, then y, then z."""
    result = np.eye(4)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        a, b = [(1, 2), (2, 0), (0, 1)][axis]
        one = np.eye(4)
        one[a, a] = one[b, b] = np.cos(angle)
        one[a, b], one[b, a] = -np.sin(angle), np.sin(angle)
        result = one @ result
    return result
