"""Noise for the diffusion: 2-D OpenSimplex in six octaves (Wyatt et al. 2022), or Gaussian.

OpenSimplex is K. Spencer's 2014 noise: the plane is squashed onto a lattice of squares, each split into two
triangles; every lattice point within reach adds (2 - d^2)^4 <g, d>, with a gradient g chosen from an octagon.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

STRETCH = (1 / np.sqrt(3) - 1) / 2
SQUISH = (np.sqrt(3) - 1) / 2
NORM = 47.0
GRADIENTS = np.array(
    [[5, 2], [2, 5], [-5, 2], [-2, 5], [5, -2], [2, -5], [-5, -2], [-2, -5]],
    dtype=np.float32,
)
OCTAVES, PERSISTENCE, PERIOD = 6, 0.8, 64.0
# a point is in reach of at most these neighbours of its lattice square, in lattice units
REACH = [(i, j) for i in (-1, 0, 1, 2) for j in (-1, 0, 1, 2) if not (i + j < 0 or i + j > 2 or abs(i - j) > 2)]


@dataclass(frozen=True)
class _Neighbour:
    """One lattice point within reach of the points x, y: its offset, its weight, and its place on the lattice."""

    dx: NDArray[np.floating[Any]]
    dy: NDArray[np.floating[Any]]
    weight: NDArray[np.floating[Any]]
    u: NDArray[np.int64]
    v: NDArray[np.int64]


def _neighbours(x: NDArray[np.float32], y: NDArray[np.float32]) -> list[_Neighbour]:
    """The lattice points within reach of the points; they do not depend on the seed."""
    stretch = (x + y) * STRETCH
    u, v = np.floor(x + stretch), np.floor(y + stretch)
    squish = (u + v) * SQUISH
    dx0, dy0 = x - (u + squish), y - (v + squish)  # offset from the square's origin, in the plane
    iu, iv = u.astype(np.int64), v.astype(np.int64)
    found = []
    for i, j in REACH:
        dx = dx0 - np.float32(i + (i + j) * SQUISH)
        dy = dy0 - np.float32(j + (i + j) * SQUISH)
        fall = np.maximum(2 - dx * dx - dy * dy, 0)
        fall *= fall
        found.append(_Neighbour(dx, dy, fall * fall, (iu + i) & 255, iv + j))
    return found


def _summed(neighbours: list[_Neighbour], permutation: NDArray[np.int64]) -> NDArray[np.float32]:
    value = np.zeros(neighbours[0].dx.shape, dtype=np.float32)
    along_x, along_y = np.ascontiguousarray(GRADIENTS[permutation & 7].T)
    for near in neighbours:
        place = (permutation[near.u] + near.v) & 255
        value += near.weight * (along_x[place] * near.dx + along_y[place] * near.dy)
    return value / np.float32(NORM)


@lru_cache(maxsize=1)
def _octaves(shape: tuple[int, int]) -> list[list[_Neighbour]]:
    """The lattice points within reach of every pixel of a map, by octave; the same for every seed."""
    y, x = np.meshgrid(np.arange(shape[0], dtype=np.float32), np.arange(shape[1], dtype=np.float32), indexing="ij")
    steps = [np.float32(2**octave / PERIOD) for octave in range(OCTAVES)]
    return [_neighbours(x * step, y * step) for step in steps]


def simplex_noise(shape: tuple[int, int], seed: int | np.random.SeedSequence) -> NDArray[np.float32]:
    """One map (H, W): sum over i < 6 of 0.8^i S(x 2^i / 64, y 2^i / 64) (method 2.4).

    Not of unit variance: its RMS over many maps is about 0.57, as in the reference.
    """
    permutation = np.random.default_rng(seed).permutation(256)
    total = np.zeros(shape, dtype=np.float32)
    for octave, neighbours in enumerate(_octaves(shape)):
        total += np.float32(PERSISTENCE**octave) * _summed(neighbours, permutation)
    return total


def slice_noise(
    seed: int, slices: Sequence[int], level: int, shape: tuple[int, int], kind: str = "simplex"
) -> NDArray[np.float32]:
    """Noise for the given slices at one level, (B, 1, H, W), drawn per slice from (seed, slice, level).

    The noise of a slice therefore does not depend on its batch.
    """
    return np.stack([_slice_map(seed, int(index), level, shape, kind) for index in slices])[:, None]


@lru_cache(maxsize=512)  # more than one scan at three levels needs; all scans of a batch use the same maps
def _slice_map(seed: int, index: int, level: int, shape: tuple[int, int], kind: str) -> NDArray[np.float32]:
    sequence = np.random.SeedSequence([seed, index, level])
    if kind == "simplex":
        return simplex_noise(shape, sequence)
    return np.random.default_rng(sequence).standard_normal(shape, dtype=np.float32)


@lru_cache(maxsize=2)
def _bank(count: int, size: int, seed: int, device: torch.device) -> Tensor:
    maps = [simplex_noise((size, size), np.random.SeedSequence([seed, i])) for i in range(count)]
    return torch.from_numpy(np.stack(maps)).to(device)


class NoiseBank:
    """Precomputed simplex maps for training: a random window of a random map, turned, flipped and of random sign.

    Windows, because simplex noise is not periodic and a roll would leave seams. The maps cost some seconds when they
    are first needed.
    """

    def __init__(self, count: int = 256, size: int = 144, seed: int = 0) -> None:
        self.count, self.size, self.seed = count, size, seed

    def draw(self, batch: int, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
        """Noise (batch, 1, H, W), H = W, from the generator's state alone and on its device, in one gather."""
        side, device = shape[0], generator.device
        if shape[1] != side:
            raise ValueError(f"noise for training is square, not {shape}")
        maps = _bank(self.count, self.size, self.seed, device)

        def random(high: int) -> Tensor:
            return torch.randint(high, (batch, 1, 1), generator=generator, device=device)

        pick, top, left, turn = (
            random(self.count),
            random(self.size - side + 1),
            random(self.size - side + 1),
            random(16),
        )
        y = torch.arange(side, device=device).view(1, -1, 1)
        x = torch.arange(side, device=device).view(1, 1, -1)
        x = torch.where((turn & 4) > 0, side - 1 - x, x)  # flipped last, so looked up first
        y, x = torch.broadcast_tensors(y, x)
        for quarter in (1, 2, 3):  # pixel (y, x) of a map turned once anticlockwise is (x, side - 1 - y) of the map
            more = (turn & 3) >= quarter
            y, x = torch.where(more, x, y), torch.where(more, side - 1 - y, x)
        return torch.where((turn & 8) > 0, -1.0, 1.0)[:, None] * maps[pick, top + y, left + x][:, None]


class SharedNoise(NoiseBank):
    """True OpenSimplex noise: one new map for each call, shared by all slices of the batch, as published."""

    def draw(self, batch: int, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
        """Noise (batch, 1, H, W) determined by the generator's state, on its device; computed on the CPU."""
        seed = int(torch.randint(2**31, (1,), generator=generator, device=generator.device))
        one = torch.from_numpy(simplex_noise(shape, seed)).to(generator.device)
        return one.expand(batch, 1, *shape)
