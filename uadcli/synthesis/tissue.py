"""The volume into which lesions are pasted, and the intensity of lesions relative to its tissue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from uadcli import contrasts
from uadcli.arrays import Array, Mask
from uadcli.synthesis.anatomy import Anatomy, Levels
from uadcli.synthesis.random_fields import Random

VISIBLE = 0.06  # smallest median change of intensity that counts as a lesion
SOFT = 0.6  # voxels: blur of the border of a tissue to which a lesion is confined


@dataclass(frozen=True)
class Tissue:
    """A volume x (X, Y, Z) of a contrast with its brain `mask`, anatomy and the levels of normal tissue.

    The centres of lesions must be in `allowed`.
    """

    x: Array
    mask: Mask
    contrast: str
    allowed: Mask
    anatomy: Anatomy
    levels: Levels

    def with_change(self, weight: Array, value: Array | float) -> Tissue:
        """The same with `value`, one or (X, Y, Z), where `weight` (X, Y, Z) is 1, and in part from 0 to 1."""
        inside = weight * self.mask
        return replace(self, x=(self.x + inside * (value - self.x)).astype(np.float32))

    def middles(self, where: Mask) -> np.ndarray:
        """The voxels (N, 3) of a part of the brain in which the centre of a lesion may be."""
        return np.argwhere(where & self.mask & self.allowed)

    def soft(self, part: Mask) -> Array:
        """A part of the brain, a mask (X, Y, Z), from 0 to 1, its border blurred by partial volume."""
        return np.asarray(ndimage.gaussian_filter(part.astype(np.float32), SOFT))

    def from_ventricles(self) -> Array:
        """The distance (X, Y, Z) of each voxel from the ventricles, in voxels; 0 inside them, far without any."""
        if not self.anatomy.ventricles.any():
            return np.full(self.x.shape, float(sum(self.x.shape)), dtype=np.float32)
        return np.asarray(ndimage.distance_transform_edt(~self.anatomy.ventricles), dtype=np.float32)


# pastes lesions of one kind; returns the changed tissue, and the mask (X, Y, Z) of visible lesions
Kind = Callable[[Tissue, Random], tuple[Tissue, Mask]]


def gliosis(tissue: Tissue, rng: Random) -> float:
    """The intensity of diseased white matter, from faint to pronounced: dark in T1w, bright in T2w and FLAIR.

    Brighter than all normal tissue if fluid is dark (FLAIR); below fluid if that is bright (T2w).
    """
    white, grey, fluid = tissue.levels.white, tissue.levels.grey, tissue.levels.fluid
    if contrasts.ALL[tissue.contrast].lesions == "dark":
        return white - rng.uniform(0.25, 1.0) * 1.2 * (white - grey)
    if fluid < white:
        return white + rng.uniform(0.25, 1.0) * (white - fluid)
    return min(white + rng.uniform(0.5, 3.0) * (grey - white), grey + 0.75 * (fluid - grey))


def cavity(tissue: Tissue, rng: Random) -> float:
    """The intensity of a fluid-filled cavity, nearly that of the ventricles."""
    return tissue.levels.fluid + rng.uniform(0.0, 0.2) * (tissue.levels.grey - tissue.levels.fluid)


def seen(before: Tissue, after: Tissue, weight: Array) -> Mask:
    """The mask (X, Y, Z) of a lesion: its `weight` above one half; empty if its median change is not visible."""
    ill = (weight > 0.5) & before.mask
    if ill.any() and np.median(np.abs(after.x - before.x)[ill]) > VISIBLE:
        return ill
    return np.zeros_like(ill)


def ramp(depth: Array, edge: float) -> Array:
    """From 0 to 1 where `depth` (voxels, positive inside) passes 0, within about `edge` voxels."""
    return np.asarray(1 / (1 + np.exp(-np.clip(4 * depth / edge, -30, 30))), dtype=np.float32)
