"""Other contrasts from T1w intensities."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from uadcli.arrays import Array


def from_t1(x: Tensor, kind: str, generator: torch.Generator) -> Tensor:
    """T2w- or FLAIR-like slices from T1w ones by a random curve of intensity, (B, 1, H, W) in [0, 1].

    T1w intensity stands for tissue: dark is CSF, then grey, then white matter. Their new intensities are drawn in
    physical order (T2w: CSF > GM > WM; FLAIR: GM > WM > CSF), straight lines between; 0 outside the brain stays 0.
    """
    batch = len(x)
    draw = torch.rand(batch, 6, generator=generator)
    at = torch.stack([0.08 + 0.12 * draw[:, 0], 0.42 + 0.16 * draw[:, 1], 0.72 + 0.16 * draw[:, 2]], 1)
    if kind == "T2w":
        csf, grey = 0.85 + 0.15 * draw[:, 3], 0.38 + 0.2 * draw[:, 4]
        white = grey - (0.08 + 0.14 * draw[:, 5])
    else:
        csf, grey = 0.05 + 0.25 * draw[:, 3], 0.5 + 0.25 * draw[:, 4]
        white = grey - (0.02 + 0.16 * draw[:, 5])
    y = torch.stack([csf, grey, white], 1).view(batch, 3, 1, 1, 1)
    at = at.view(batch, 3, 1, 1, 1)
    lower = y[:, 0] + (x - at[:, 0]) / (at[:, 1] - at[:, 0]) * (y[:, 1] - y[:, 0])
    upper = y[:, 1] + (x - at[:, 1]) / (at[:, 2] - at[:, 1]) * (y[:, 2] - y[:, 1])
    low, high = torch.minimum(y[:, 0], y[:, 1]), torch.maximum(y[:, 0], y[:, 1])
    value = torch.where(x < at[:, 1], lower.clamp(low, high), torch.maximum(upper, y[:, 2] - 0.1))
    return torch.where(x > 0, value, torch.zeros_like(x)).clamp(0, 1)


def volume_from_t1(data: Array, kind: str, rng: np.random.Generator) -> Array:
    """A T1w volume (X, Y, Z) in [0, 1] with the intensities of another contrast, see `from_t1`."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    flat = torch.from_numpy(data.reshape(1, 1, len(data), -1))
    made: Array = from_t1(flat, kind, generator).numpy().reshape(data.shape)
    return made
