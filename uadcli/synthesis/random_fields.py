"""Random fields and numbers for the synthesis of brains, lesions and scanner effects."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from uadcli.arrays import Array

Random = np.random.Generator


def smooth_noise(shape: tuple[int, ...], cell: float, rng: Random) -> Array:
    """A smooth random field, about N(0, 1): normal values on a grid of `cell` voxels, upsampled linearly."""
    coarse = [max(2, math.ceil(n / cell) + 1) for n in shape]
    values = torch.from_numpy(rng.standard_normal(coarse).astype(np.float32))[None, None]
    field = F.interpolate(values, size=shape, mode="trilinear", align_corners=True)[0, 0].numpy()
    return np.asarray(field / max(float(field.std()), 1e-3), dtype=np.float32)


def rotation(rng: Random) -> NDArray[np.float64]:
    """A random orthogonal matrix (3, 3)."""
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    return np.asarray(q * np.sign(np.diag(r)))


def log_uniform(low: float, high: float, rng: Random) -> float:
    """A number whose logarithm is uniform between those of `low` and `high`."""
    return float(np.exp(rng.uniform(math.log(low), math.log(high))))
