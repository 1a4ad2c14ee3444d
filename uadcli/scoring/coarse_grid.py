"""Volumes averaged over blocks of 2 x 2 x 2 voxels, for quantities that vary slowly over the brain."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 2  # side of a block in voxels: 4 mm on the model's grid


def means(volume: NDArray[Any]) -> NDArray[np.float64]:
    """The mean of each block: (X, Y, Z) with even sides -> (X / 2, Y / 2, Z / 2)."""
    x, y, z = (n // BLOCK for n in volume.shape)
    return np.asarray(volume.reshape(x, BLOCK, y, BLOCK, z, BLOCK).mean(axis=(1, 3, 5), dtype=np.float64))


def smoothed(volume: NDArray[Any], sigma: float) -> NDArray[np.float64]:
    """The `means` (X / 2, Y / 2, Z / 2), smoothed with a Gaussian of `sigma` blocks; outside the volume is 0."""
    from scipy import ndimage

    return np.asarray(ndimage.gaussian_filter(means(volume), sigma, mode="constant"))


def enlarged(coarse: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Upsample blocks to voxels, (X / 2, Y / 2, Z / 2) -> `shape`, linear between the centres of the blocks."""
    from scipy import ndimage

    factors = [n / m for n, m in zip(shape, coarse.shape, strict=True)]
    return np.asarray(ndimage.zoom(coarse, factors, order=1, mode="nearest", grid_mode=True))
