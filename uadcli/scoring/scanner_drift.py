"""The drift of a scanner: the mean residual of its healthy scans at each place of the template.

A model trained on other scanners may reconstruct the cerebellum of this one too dark in every subject. The mean signed
residual of a few healthy scans, smoothed so that it contains no folds of single brains, measures this; adding it to a
reconstruction removes the constant part of the residual. Latent Drifting (2024) shifts the latent of a diffusion model
by one constant; here each place of the reconstruction has its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uadcli.arrays import Array
from uadcli.scoring import coarse_grid

SIGMA = 2.0  # of the Gaussian over the blocks: 8 mm
LITTLE = 1e-3  # of a scan, so that the drift fades to 0 where no scan has brain


@dataclass(frozen=True)
class Residual:
    """The stored part of a healthy scan, each (X / 2, Y / 2, Z / 2), smoothed: x - recon inside the mask, the mask."""

    total: Array
    count: Array


def residual(x: Array, recon: Array, mask: NDArray[np.bool_]) -> Residual:
    """The smoothed signed residual of a healthy scan x (X, Y, Z) with even sides, inside its brain mask."""
    parts = (np.where(mask, x - recon, 0), mask)
    return Residual(*(coarse_grid.smoothed(one, SIGMA).astype(np.float32) for one in parts))


def drift(scans: Sequence[Residual], shape: tuple[int, ...]) -> Array:
    """The mean signed residual of healthy scans at each place, (X, Y, Z) = `shape`, to be added to reconstructions."""
    total, count = (np.sum([getattr(one, name) for one in scans], axis=0) for name in ("total", "count"))
    return coarse_grid.enlarged(total / (count + LITTLE), shape).astype(np.float32)


def added(recon: Array, known: Array, mask: NDArray[np.bool_]) -> Array:
    """A reconstruction (X, Y, Z) with a drift added, in [0, 1] inside the brain mask and 0 outside."""
    return np.where(mask, np.clip(recon + known, 0, 1), 0).astype(np.float32)
