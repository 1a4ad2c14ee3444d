"""White-matter disease: small lesions and caps at the ventricles and below the cortex, confluent sheets, oedema.

Lengths are in voxels of 2 mm. The lesions are homogeneous and stay within white matter; their places and sizes are
random, not fitted to real lesions.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from uadcli.arrays import Array, Mask
from uadcli.synthesis.random_fields import Random, log_uniform, rotation, smooth_noise
from uadcli.synthesis.tissue import Tissue, gliosis, ramp, seen

DOTS = (5, 60)
DOT_AXIS = (0.5, 4.0)  # longest half-axis
SPILL = 0.3  # weight of a dot outside white matter
OEDEMA_AXIS = (5.0, 20.0)


def dots(tissue: Tissue, rng: Random) -> tuple[Tissue, Mask]:
    """5 to 60 small sharp lesions in white matter, denser at the ventricles and below the cortex.

    Returns as a `tissue.Kind`.
    """
    places = tissue.middles(tissue.anatomy.white)
    weight, value = np.zeros(tissue.x.shape, dtype=np.float32), np.zeros(tissue.x.shape, dtype=np.float32)
    if not len(places):
        return tissue, weight > 0
    chance = _dot_density(tissue, places, rng)
    level, largest = gliosis(tissue, rng), log_uniform(0.8, DOT_AXIS[1], rng)
    for middle in places[rng.choice(len(places), round(log_uniform(*DOTS, rng)), p=chance)]:
        box, part = _dot(tissue.x.shape, middle, log_uniform(DOT_AXIS[0], largest, rng), rng)
        own = tissue.levels.white + rng.uniform(0.7, 1.15) * (level - tissue.levels.white)
        value[box] = np.where(part > weight[box], own, value[box])
        weight[box] = np.maximum(weight[box], part)
    weight *= SPILL + (1 - SPILL) * tissue.soft(tissue.anatomy.white)
    changed = tissue.with_change(weight, value)
    return changed, seen(tissue, changed, weight)


def _dot_density(tissue: Tissue, places: np.ndarray, rng: Random) -> np.ndarray:
    """The probability of each place (N, 3) to be the centre of a dot: a mixture with random shares."""
    at = tuple(places.T)
    from_grey = ndimage.distance_transform_edt(~tissue.anatomy.grey)[at]
    along_ventricles = np.exp(-tissue.from_ventricles()[at] / rng.uniform(1.0, 4.0))
    below_cortex = (from_grey < 2).astype(float)
    parts = [along_ventricles, below_cortex, np.ones(len(places))]
    shares = rng.dirichlet([2.0, 1.0, 0.7])
    chance = sum(share * part / max(part.sum(), 1e-9) for share, part in zip(shares, parts, strict=True))
    return np.asarray(chance / chance.sum())


def _dot(shape: tuple[int, ...], middle: np.ndarray, axis: float, rng: Random) -> tuple[tuple[slice, ...], Array]:
    """The box of a small ellipsoid around a voxel, and its weight there, with partial volume at the border."""
    reach = math.ceil(axis) + 2
    box = tuple(slice(max(0, int(m) - reach), min(n, int(m) + reach + 1)) for m, n in zip(middle, shape, strict=True))
    grid = np.stack(np.meshgrid(*(np.arange(s.start, s.stop) for s in box), indexing="ij"))
    centre = middle + rng.uniform(-0.5, 0.5, 3)
    axes = np.maximum(axis * np.array([1.0, rng.uniform(0.5, 1.0), rng.uniform(0.5, 1.0)]), DOT_AXIS[0])
    turned = np.tensordot(rotation(rng), grid - centre[:, None, None, None], 1)
    distance = np.sqrt(((turned / axes[:, None, None, None]) ** 2).sum(axis=0))
    bend = rng.uniform(0.0, 0.2) * smooth_noise(distance.shape, 2.0, rng) if axis > 1 else 0.0
    return box, np.clip(0.5 + (1 - distance + bend) * float(axes.min()), 0, 1).astype(np.float32)


def sheet(tissue: Tissue, rng: Random) -> tuple[Tissue, Mask]:
    """Caps, bands and confluent sheets around the ventricles, from a thin rim to most of the white matter.

    Usually with dots as well. Returns as a `tissue.Kind`.
    """
    thick = rng.uniform(-1.5, 5.0) + rng.uniform(1.0, 3.0) * smooth_noise(tissue.x.shape, rng.uniform(6, 14), rng)
    depth = (thick - tissue.from_ventricles()).astype(np.float32)
    weight = ramp(depth, rng.uniform(0.5, 2.0)) * tissue.soft(tissue.anatomy.white)
    white = tissue.levels.white
    fading = 1 - rng.uniform(0.0, 0.3) * ramp(-depth - 1, 2.0)
    value = (white + fading * (gliosis(tissue, rng) - white)).astype(np.float32)
    changed = tissue.with_change(weight, value)
    truth = seen(tissue, changed, weight)
    if rng.random() < 0.7:
        changed, more = dots(changed, rng)
        truth = truth | more
    return changed, truth


def oedema(tissue: Tissue, rng: Random) -> tuple[Tissue, Mask]:
    """A swelling that follows white matter like the fingers of a hand and spares the cortex; returns as a `Kind`."""
    places = tissue.middles(tissue.anatomy.white)
    if not len(places):
        return tissue, np.zeros_like(tissue.mask)
    weight = blob(tissue, places[rng.integers(len(places))], log_uniform(*OEDEMA_AXIS, rng), rng)
    weight = weight * tissue.soft(tissue.anatomy.white)
    changed = tissue.with_change(weight, gliosis(tissue, rng))
    return changed, seen(tissue, changed, weight)


def blob(tissue: Tissue, middle: np.ndarray, axis: float, rng: Random) -> Array:
    """The weight (X, Y, Z) of a large bent ellipsoid about a voxel."""
    grid = np.indices(tissue.x.shape).astype(np.float32) - middle[:, None, None, None]
    axes = axis * np.array([1.0, rng.uniform(0.5, 1.0), rng.uniform(0.5, 1.0)])
    turned = np.tensordot(rotation(rng).astype(np.float32), grid, 1) / axes[:, None, None, None]
    distance = np.sqrt((turned**2).sum(axis=0))
    bend = rng.uniform(0.1, 0.35) * smooth_noise(tissue.x.shape, max(2.0, axis * 0.5), rng)
    near = distance < 2.2
    depth = np.where(near, (1 - distance + bend) * axis, -30.0)
    return ramp(depth.astype(np.float32), rng.uniform(0.5, 3.0))
