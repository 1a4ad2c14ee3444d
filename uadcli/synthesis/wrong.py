"""Volumes that are wrong inputs, as a network that has to recognise them is taught with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from uadcli.arrays import Array, Mask
from uadcli.synthesis.random_fields import Random


def wrong(x: Array, mask: Mask, rng: Random) -> Array:
    """One of five ways to spoil a volume (X, Y, Z) in about [0, 1]; 0 outside its brain `mask`.

    None of them is among the inputs of `packaging/evaluation/out_of_distribution.py`.
    """
    spoil = WAYS[int(rng.integers(len(WAYS)))]
    return np.where(mask, np.maximum(spoil(x, rng), 0), 0).astype(np.float32)


def _exchanged(x: Array, rng: Random) -> Array:
    """Twenty pairs of cubes change places; a later pair may overlap an earlier one."""
    side, made = int(rng.integers(8, 20)), x.copy()
    for _ in range(20):
        here, there = (tuple(slice(at, at + side) for at in rng.integers(0, np.array(x.shape) - side)) for _ in "ab")
        made[here] = x[there]
    return made


def _ghosts(x: Array, rng: Random) -> Array:
    """Two copies of the head along the second axis."""
    distance = x.shape[1] // int(rng.integers(3, 6))
    return x + rng.uniform(0.3, 0.7) * (np.roll(x, distance, 1) + np.roll(x, 2 * distance, 1))


def _stripes(x: Array, rng: Random) -> Array:
    """A plane wave over the image, as from a spike in k-space."""
    wave = rng.uniform(-1.2, 1.2, 3)
    phase = sum(step * at for step, at in zip(wave, np.meshgrid(*map(np.arange, x.shape), indexing="ij"), strict=True))
    return x + rng.uniform(0.15, 0.5) * np.cos(phase)


def _moved(x: Array, rng: Random) -> Array:
    """Each coronal slice from another position of the head."""
    rows = [np.roll(x[:, j], tuple(rng.integers(-6, 7, 2)), (0, 1)) for j in range(x.shape[1])]
    return np.stack(rows, axis=1)


def _wrapped(x: Array, rng: Random) -> Array:
    """The head once more, shifted: the field of view was too small."""
    return 0.6 * x + rng.uniform(0.4, 1) * np.roll(x, int(rng.integers(20, 60)), int(rng.integers(2)))


WAYS: tuple[Callable[[Array, Random], Array], ...] = (_exchanged, _ghosts, _stripes, _moved, _wrapped)
