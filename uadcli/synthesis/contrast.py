"""Other contrasts from T1w intensities."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from uadcli.arrays import Array
from uadcli.contrasts import FROM_T1W


def from_t1(x: Tensor, kind: str, generator: torch.Generator) -> Tensor:
    """Slices like another contrast's from T1w ones by a random curve of intensity, (B, 1, H, W) in [0, 1].

    T1w intensity stands for tissue: dark is CSF, then grey, then white matter. Their new intensities are drawn as
    the record of the contrast `kind` says, straight lines between; 0 outside the brain stays 0.
    """
    batch = len(x)
    draw = torch.rand(batch, 6, generator=generator)
    at = torch.stack([0.08 + 0.12 * draw[:, 0], 0.42 + 0.16 * draw[:, 1], 0.72 + 0.16 * draw[:, 2]], 1)
    made = FROM_T1W[kind]
    csf, grey, below = (
        low + width * draw[:, column]
        for column, (low, width) in enumerate((made.csf, made.grey, made.white_below_grey), start=3)
    )
    white = grey - below
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
