"""Vascular lesions: lacunes with a rim, territorial infarcts, haemorrhages with perifocal oedema.

Lengths are in voxels of 2 mm. Nothing is fitted to real lesions.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from uadcli.arrays import Mask
from uadcli.synthesis.random_fields import Random, log_uniform, smooth_noise
from uadcli.synthesis.tissue import Tissue, cavity, gliosis, ramp, seen
from uadcli.synthesis.white_matter import blob

LACUNES, LACUNE_AXIS = (1, 5), (0.8, 3.5)
DEEP = 12  # distance from the ventricles (voxels) within which lacunes are
INFARCT_AXIS, BLEEDING_AXIS = (5.0, 20.0), (2.0, 10.0)
OLD = 0.4  # share of infarcts with a cavity


def lacunes(tissue: Tissue, rng: Random) -> tuple[Tissue, Mask]:
    """One to five small cavities deep in the brain, most with a rim of gliosis; returns as a `tissue.Kind`."""
    places = tissue.middles((tissue.from_ventricles() < DEEP) & (tissue.anatomy.white | tissue.anatomy.grey))
    truth, result = np.zeros_like(tissue.mask), tissue
    for _ in range(int(rng.integers(LACUNES[0], LACUNES[1] + 1)) if len(places) else 0):
        offset = places[rng.integers(len(places))] + rng.uniform(-0.5, 0.5, 3)
        grid = np.indices(tissue.x.shape).astype(np.float32) - offset[:, None, None, None]
        grid /= rng.uniform(0.8, 1.25, (3, 1, 1, 1))
        depth = log_uniform(*LACUNE_AXIS, rng) - np.sqrt((grid**2).sum(axis=0))
        whole = ramp(depth + (rng.uniform(0.3, 1.2) if rng.random() < 0.7 else 0.0), 0.8)
        before = result
        result = result.with_change(whole, gliosis(tissue, rng)).with_change(ramp(depth, 0.8), cavity(tissue, rng))
        truth |= seen(before, result, whole)
    return result, truth


def infarct(tissue: Tissue, rng: Random) -> tuple[Tissue, Mask]:
    """A territorial infarct: cortex and the white matter below it, in one hemisphere; returns as a `tissue.Kind`.

    Old ones have a cavity.
    """
    places = tissue.middles(tissue.anatomy.grey)
    if not len(places):
        return tissue, np.zeros_like(tissue.mask)
    middle, axis = places[rng.integers(len(places))], log_uniform(*INFARCT_AXIS, rng)
    weight = blob(tissue, middle, axis, rng) * _hemisphere(tissue.mask, middle)
    weight = weight * tissue.soft(tissue.anatomy.white | tissue.anatomy.grey)
    change = gliosis(tissue, rng) - tissue.levels.white
    kept = rng.uniform(0.0, 0.6) * (tissue.x - ndimage.gaussian_filter(tissue.x, 2.0))  # of the underlying structure
    level = ndimage.gaussian_filter(np.where(tissue.anatomy.grey, tissue.levels.grey, tissue.levels.white), 1.0)
    result = tissue.with_change(weight, np.maximum(level + change + kept, 0).astype(np.float32))
    if rng.random() < OLD:
        inner = ndimage.distance_transform_edt(weight > 0.5) - rng.uniform(0.5, 4.0)
        inner = inner + smooth_noise(tissue.x.shape, 4.0, rng)
        result = result.with_change(ramp(inner, 1.0) * (weight > 0.5), cavity(tissue, rng))
    return result, seen(tissue, result, weight)


def _hemisphere(mask: Mask, middle: np.ndarray) -> Mask:
    """The hemisphere of a voxel; the first axis runs from one side to the other."""
    midline = np.argwhere(mask).mean(axis=0)[0]
    side = np.arange(mask.shape[0]) > midline
    return np.broadcast_to((side == (middle[0] > midline))[:, None, None], mask.shape)


def bleeding(tissue: Tissue, rng: Random) -> tuple[Tissue, Mask]:
    """A haemorrhage of random age, often with a dark rim and oedema around; returns as a `tissue.Kind`."""
    places = tissue.middles(tissue.anatomy.white | tissue.anatomy.grey)
    if not len(places):
        return tissue, np.zeros_like(tissue.mask)
    middle, axis = places[rng.integers(len(places))], log_uniform(*BLEEDING_AXIS, rng)
    core, result = blob(tissue, middle, axis, rng), tissue
    depth = ndimage.distance_transform_edt(core > 0.5) - ndimage.distance_transform_edt(core <= 0.5)
    whole = core
    if rng.random() < 0.6:
        halo = ramp(depth + rng.uniform(1.0, 5.0), 1.0) * tissue.soft(tissue.anatomy.white)
        result, whole = result.with_change(halo, gliosis(tissue, rng)), np.maximum(core, halo)
    uneven = 1 + rng.uniform(0.0, 0.3) * smooth_noise(tissue.x.shape, rng.uniform(1.5, 4.0), rng)
    result = result.with_change(core, (rng.uniform(0.2, 1.9) * tissue.levels.white * uneven).astype(np.float32))
    if rng.random() < 0.5:
        rim = ramp(1.0 - np.abs(depth), 0.8) * core
        result = result.with_change(rim, rng.uniform(0.1, 0.4) * tissue.levels.white)
    return result, seen(tissue, result, whole)
