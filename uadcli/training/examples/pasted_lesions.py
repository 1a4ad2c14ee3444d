"""A fixed set of synthetic lesions in validation scans, used to choose the best checkpoint of a reconstruction.

The error on healthy slices alone would prefer a model that also copies lesions (method 11.3). Lesion shapes are
synthetic, not fitted to real lesions, or come from a folder of masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from uadcli.arrays import Array
from uadcli.config import PreprocessConfig
from uadcli.data.dataset import evenly
from uadcli.errors import InputError
from uadcli.imaging import geometry, intensity
from uadcli.imaging.mask_file import read_mask_file
from uadcli.imaging.slices import GRID_AFFINE, GRID_SHAPE, to_slices
from uadcli.synthesis.lesions import paste_lesions
from uadcli.synthesis.masses import paste_shape

if TYPE_CHECKING:
    from uadcli.training.examples.synthetic import Healthy

SEED, TRIES = 20, 8
VOLUMES, SLICES = 8, 6  # at most: scans, and slices of each


@dataclass(frozen=True)
class LesionSet:
    """Slices (N, H, W) as uint8 (0..255 for 0..1) with lesions, the lesion masks and the brain masks."""

    slices: NDArray[np.uint8]
    truth: NDArray[np.bool_]
    brain: NDArray[np.bool_]


def load_shape(file: Path) -> Array:
    """A lesion mask in MNI space, resampled to the model's grid (96, 96, 80), 0 to 1. Raises `InputError`."""
    found, scan = read_mask_file(file, allow_empty=True)
    return geometry.resample(
        found.voxels.astype(np.float32), scan.volume.affine, GRID_SHAPE, GRID_AFFINE, antialias=True
    )


def shape_files(folder: str) -> list[Path]:
    """The lesion masks of a folder; none if no folder is named. Raises `InputError` if it holds none."""
    files = sorted(Path(folder).glob("*.nii*")) if folder else []
    if folder and not files:
        hint = "Correct the setting lesion_shapes, or leave it out."
        raise InputError("contains no lesion masks", path=Path(folder), hint=hint)
    return files


def lesion_set(healthy: Sequence[Healthy], config: PreprocessConfig, shapes: Sequence[Path] = ()) -> LesionSet | None:
    """Paste lesions into up to eight volumes, evenly spaced, and take six slices of each; always the same ones.

    With `shapes` (masks in MNI space) each volume gets one of them, otherwise one or more synthetic ones. Half the
    slices of a volume contain a lesion if possible. None if no volume has room for a lesion.
    """
    chosen = evenly(healthy, VOLUMES)
    parts = [part for number, one in enumerate(chosen) if (part := _pasted(one, number, config, shapes)) is not None]
    if not parts:
        return None
    return LesionSet(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("slices", "truth", "brain")))


@dataclass(frozen=True)
class Pasted:
    """A healthy volume (X, Y, Z) with lesions, scaled again, and `unclipped`, before that; the mask of
    visible lesions, and the region in which they were allowed."""

    x: Array
    unclipped: Array
    truth: NDArray[np.bool_]
    allowed: NDArray[np.bool_]


def paste(one: Healthy, rng: np.random.Generator, config: PreprocessConfig, shapes: Sequence[Path]) -> Pasted | None:
    """Paste one of the `shapes`, or without shapes one or more synthetic lesions, into the usable slices.

    None if no visible lesion was drawn in several tries.
    """
    allowed = np.zeros_like(one.mask)
    allowed[:, :, one.usable] = one.mask[:, :, one.usable]
    for _ in range(TRIES):
        if shapes:
            shape = load_shape(shapes[int(rng.integers(len(shapes)))])
            x, truth = paste_shape(one.data, one.mask, shape, one.kind, rng)
        else:
            x, truth = paste_lesions(one.data, one.mask, one.kind, rng, allowed, one.anatomy)
        truth &= allowed
        if truth.any():
            return Pasted(intensity.scale(x, one.mask, config), x, truth, allowed)
    return None


def _pasted(one: Healthy, number: int, config: PreprocessConfig, shapes: Sequence[Path]) -> LesionSet | None:
    found = paste(one, np.random.default_rng([SEED, number]), config, shapes)
    if found is None:
        return None
    holds: NDArray[np.bool_] = np.any(found.truth, axis=(0, 1))
    ill, well = (one.usable[holds[one.usable]], one.usable[~holds[one.usable]])
    first = evenly(ill.tolist(), SLICES // 2)
    keep = sorted([*first, *evenly(well.tolist(), SLICES - len(first))])
    whole = LesionSet(np.round(to_slices(found.x) * 255).astype(np.uint8), to_slices(found.truth), to_slices(one.mask))
    return replace(whole, slices=whole.slices[keep], truth=whole.truth[keep], brain=whole.brain[keep])
