"""What a lesion is pasted into, and the brightness of lesions relative to the tissue of the scan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from uadcli import contrasts
from uadcli.arrays import Array, Mask
from uadcli.synthesis.anatomy import Anatomy, Levels
from uadcli.synthesis.random_fields import Random

VISIBLE = 0.06  # a lesion whose median change is smaller is not called one
SOFT = 0.6  # voxels: partial volume at the border of a tissue that a lesion does not leave


@dataclass(frozen=True)
class Tissue:
    """A volume x (X, Y, Z) of a contrast with the brain `mask`, its anatomy and the levels of its normal tissue.

    The middles of lesions lie in `allowed`.
    """

    x: Array
    mask: Mask
    contrast: str
    allowed: Mask
    anatomy: Anatomy
    levels: Levels

    def with_change(self, weight: Array, value: Array | float) -> Tissue:
        """The same with `value` where `weight` is 1, in part where it is between 0 and 1."""
        inside = weight * self.mask
        return replace(self, x=(self.x + inside * (value - self.x)).astype(np.float32))

    def middles(self, where: Mask) -> np.ndarray:
        """The voxels (N, 3) of a part of the brain in which a lesion may have its middle."""
        return np.argwhere(where & self.mask & self.allowed)

    def soft(self, part: Mask) -> Array:
        """A part of the brain from 0 to 1, its border blurred by partial volume."""
        return np.asarray(ndimage.gaussian_filter(part.astype(np.float32), SOFT))

    def from_ventricles(self) -> Array:
        """The distance of each voxel from the ventricles, in voxels; 0 inside them, far without any."""
        if not self.anatomy.ventricles.any():
            return np.full(self.x.shape, float(sum(self.x.shape)), dtype=np.float32)
        return np.asarray(ndimage.distance_transform_edt(~self.anatomy.ventricles), dtype=np.float32)


Kind = Callable[[Tissue, Random], tuple[Tissue, Mask]]  # pastes lesions of one kind; returns where they can be seen


def gliosis(tissue: Tissue, rng: Random) -> float:
    """The intensity of diseased white matter, from faint to marked: dark in T1w, bright in T2w and FLAIR.

    Where fluid is dark (FLAIR) it goes beyond all normal tissue, where fluid is bright (T2w) it stays below that.
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
    """The lesion of a weight, where that is above a half; empty if its median change cannot be seen."""
    ill = (weight > 0.5) & before.mask
    if ill.any() and np.median(np.abs(after.x - before.x)[ill]) > VISIBLE:
        return ill
    return np.zeros_like(ill)


def ramp(depth: Array, edge: float) -> Array:
    """From 0 to 1 where `depth` (voxels, positive inside) passes 0, within about `edge` voxels."""
    return np.asarray(1 / (1 + np.exp(-np.clip(4 * depth / edge, -30, 30))), dtype=np.float32)
