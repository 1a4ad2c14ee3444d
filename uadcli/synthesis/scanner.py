"""Differences between scanners and preprocessing, none of which is abnormal."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from uadcli.arrays import Array, Mask
from uadcli.synthesis.random_fields import Random, log_uniform, smooth_noise

WIDER, TIGHTER = 0.25, 0.5  # shares of scans whose mask has a rim of other tissue, or lacks some of the brain
LOBES = 3  # at most, bright or dark ones, in a residual bias field
AT_EDGE = 0.6  # share of lobes that are centred at the edge of the brain mask
SLICES = (1.5, 3.5)  # spacing of thick slices, in voxels of 2 mm


def degrade(x: Array, mask: Mask, rng: Random) -> tuple[Array, Mask]:
    """A volume (X, Y, Z) as from another scanner, and its brain mask.

    Changes the intensity curve, from region to region too, adds residual bias field, thick slices with or without gaps,
    blur and noise, and makes the brain mask tighter or wider in places.
    """
    x = np.maximum(x, 0) ** np.exp(rng.uniform(-0.35, 0.35) + uneven_contrast(x.shape, rng), dtype=np.float32)
    x = x * bias_field(mask, rng)
    wrong = rng.random()
    if wrong < WIDER:
        x, mask = with_rim(x, mask, rng)
    if rng.random() < 0.4:
        x = thick_slices(x, 2 if rng.random() < 0.8 else int(rng.integers(0, 2)), rng)
    elif rng.random() < 0.3:
        x = ndimage.gaussian_filter(x, rng.uniform(0.2, 0.6))
    x = x + rng.uniform(0.0, 0.03) * rng.standard_normal(x.shape).astype(np.float32)
    if wrong > 1 - TIGHTER:
        depth = ndimage.distance_transform_edt(mask)
        mask = mask & (depth > np.clip(rng.uniform(-1, 1.5) + 1.0 * smooth_noise(x.shape, 8, rng), 0, 3))
    return np.where(mask, np.maximum(x, 0), 0).astype(np.float32), mask


def uneven_contrast(shape: tuple[int, ...], rng: Random) -> Array:
    """What an uneven transmit field does to the contrast of tissues, of `shape` (X, Y, Z).

    It is the logarithm of a power of the intensities, and changes smoothly from region to region. So grey and white
    matter differ less in some regions than in others, as around the base of the frontal lobe and in the brain stem.
    """
    return rng.uniform(0.0, 0.15) * smooth_noise(shape, log_uniform(10, 40, rng), rng)


def bias_field(mask: Mask, rng: Random) -> Array:
    """What a bias correction leaves (X, Y, Z), as a factor: a smooth field and up to `LOBES` bright or dark lobes.

    Most are centred at the edge of the brain mask, where the splines of N4 have little to hold on to.
    """
    log_field = rng.uniform(0.0, 0.12) * smooth_noise(mask.shape, log_uniform(25, 70, rng), rng)
    inside = np.argwhere(mask)
    edge = np.argwhere(mask & ~ndimage.binary_erosion(mask))
    for _ in range(int(rng.integers(LOBES + 1)) if len(inside) else 0):
        among = edge if rng.random() < AT_EDGE else inside
        centre, width = among[rng.integers(len(among))], log_uniform(8, 25, rng)
        x, y, z = (np.exp(-0.5 * ((np.arange(n) - c) / width) ** 2) for n, c in zip(mask.shape, centre, strict=True))
        log_field = log_field + rng.uniform(-0.3, 0.4) * x[:, None, None] * y[None, :, None] * z[None, None, :]
    return np.asarray(np.exp(log_field), dtype=np.float32)


def with_rim(x: Array, mask: Mask, rng: Random) -> tuple[Array, Mask]:
    """The volume (X, Y, Z) and its mask with dura, fat or bone left in places, up to 2.5 voxels deep."""
    reach = np.clip(rng.uniform(-1.5, 1.0) + smooth_noise(x.shape, 8, rng), 0, 2.5)
    rim = ~mask & (ndimage.distance_transform_edt(~mask) <= reach)
    tissue = rng.uniform(0.2, 1.2) * np.exp(0.4 * smooth_noise(x.shape, 3, rng))
    return np.where(rim, tissue, x).astype(np.float32), mask | rim


def thick_slices(x: Array, axis: int, rng: Random) -> Array:
    """The volume (X, Y, Z) as if acquired in slices 3 to 7 mm apart, interpolated linearly back to its grid.

    A slice covers 60 to 100 % of that distance; the rest is the gap between slices.
    """
    distance = rng.uniform(*SLICES)
    thickness = distance * rng.uniform(0.6, 1.0)
    smooth = ndimage.gaussian_filter1d(x, thickness / 2.355, axis=axis, mode="nearest")
    count = x.shape[axis]
    places = np.arange(rng.uniform(0, distance), count - 1, distance)
    acquired = _at(smooth, places, axis)
    return _at(acquired, (np.arange(count) - places[0]) / distance, axis)


def _at(x: Array, places: np.ndarray, axis: int) -> Array:
    """x at places along an axis, interpolated linearly and constant beyond the ends."""
    inside = np.clip(places, 0, x.shape[axis] - 1)
    below = np.minimum(inside.astype(int), max(x.shape[axis] - 2, 0))
    part = (inside - below).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    above = np.minimum(below + 1, x.shape[axis] - 1)
    return np.asarray((1 - part) * x.take(below, axis) + part * x.take(above, axis), dtype=np.float32)
