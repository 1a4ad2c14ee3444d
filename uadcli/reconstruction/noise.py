"""Noise for the diffusion: 2-D OpenSimplex in six octaves (Wyatt et al. 2022), or Gaussian.

OpenSimplex is K. Spencer's 2014 noise: the plane is squashed onto a lattice of squares, each split into two
triangles; every lattice point within reach adds (2 - d^2)^4 <g, d>, with a gradient g chosen from an octagon.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

Points = NDArray[np.float64]  # one coordinate of each
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
class Lattice:
    """Simplex noise at fixed points as a sparse matrix (points, 2 x lattice points), to be multiplied by the gradients
    of the lattice points. `u` and `v` are their places on the lattice, which repeats every 256."""

    matrix: csr_array
    u: NDArray[np.int64]
    v: NDArray[np.int64]

    @classmethod
    def of(cls, octaves: Sequence[tuple[float, Points, Points]]) -> Lattice:
        """The sum of octaves, each an amplitude and the points x, y (N,) in its own units."""
        terms = [
            (np.arange(len(x)), u & 255, v & 255, amplitude / NORM * weight * dx, amplitude / NORM * weight * dy)
            for amplitude, x, y in octaves
            for dx, dy, weight, u, v in _in_reach(x, y)
        ]
        rows, u, v, along_x, along_y = (np.concatenate(parts) for parts in zip(*terms, strict=True))
        near = (along_x != 0) | (along_y != 0)
        known, column = np.unique(256 * u[near] + v[near], return_inverse=True)
        values = np.concatenate([along_x[near], along_y[near]]).astype(np.float32)
        places = np.tile(rows[near], 2), np.concatenate([2 * column, 2 * column + 1])
        matrix = csr_array((values, places), shape=(len(octaves[0][1]), 2 * len(known)))
        return cls(matrix, known // 256, known % 256)

    def noise(self, permutation: NDArray[np.int64]) -> NDArray[np.float32]:
        """The noise (N,) at the points, by a permutation (256,)."""
        gradients = GRADIENTS[permutation[(permutation[self.u] + self.v) & 255] & 7]
        found: NDArray[np.float32] = self.matrix @ gradients.ravel()
        return found


def _in_reach(x: Points, y: Points) -> Iterator[tuple[Points, Points, Points, NDArray[np.int64], NDArray[np.int64]]]:
    """The offset of the points from each lattice point in their reach, its weight, and its place on the lattice."""
    stretch = (x + y) * STRETCH
    u, v = np.floor(x + stretch), np.floor(y + stretch)
    squish = (u + v) * SQUISH
    dx0, dy0 = x - (u + squish), y - (v + squish)  # offset from the square's origin, in the plane
    iu, iv = u.astype(np.int64), v.astype(np.int64)
    for i, j in REACH:
        dx, dy = dx0 - (i + (i + j) * SQUISH), dy0 - (j + (i + j) * SQUISH)
        yield dx, dy, np.maximum(2 - dx * dx - dy * dy, 0) ** 4, iu + i, iv + j


@lru_cache(maxsize=2)
def _map_lattice(shape: tuple[int, int]) -> Lattice:
    """The lattice of a map (H, W) of all octaves; the same for every seed."""
    y, x = (part.ravel() for part in np.mgrid[: shape[0], : shape[1]].astype(np.float64))
    steps = [2**octave / PERIOD for octave in range(OCTAVES)]
    return Lattice.of([(PERSISTENCE**octave, x * step, y * step) for octave, step in enumerate(steps)])


def simplex_noise(shape: tuple[int, int], seed: int | np.random.SeedSequence) -> NDArray[np.float32]:
    """One map (H, W): sum over i < 6 of 0.8^i S(x 2^i / 64, y 2^i / 64) (method 2.4).

    Not of unit variance: its RMS over many maps is about 0.57, as in the reference.
    """
    return _map_lattice(shape).noise(np.random.default_rng(seed).permutation(256)).reshape(shape)


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
