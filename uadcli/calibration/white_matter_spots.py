"""Small bright lesions in white matter, as of white-matter disease, on which the shares of `fisher` are fitted, too.

Number, place, size and brightness are drawn, and fitted to no real lesion.
"""

from __future__ import annotations

import numpy as np

from uadcli.arrays import Array, Mask
from uadcli.imaging import template

WHITE, FLUID = 3, 1  # labels of the tissue template
COUNT, RADIUS = (5, 40), (0.9, 3.0)  # lesions of a scan; their radii in voxels of 2 mm, each with a voxel of its own
REACH = 4.0  # voxels from fluid, over which lesions become rarer e times
BRIGHTER = (2.0, 6.0)  # than the median of white matter, in its robust deviations


def paste_spots(x: Array, mask: Mask, allowed: Mask, rng: np.random.Generator) -> tuple[Array, Mask]:
    """A volume (96, 96, 80) with 5 to 40 bright balls in white matter, most of them near fluid; and where they are.

    They lie in the brain `mask`, their middles where it is `allowed`; none where no white matter is allowed.
    """
    from scipy import ndimage

    tissue = template.on_grid("mni_tissue_dseg")
    places = np.argwhere((tissue == WHITE) & mask & allowed)
    weight = np.zeros(x.shape, dtype=np.float32)
    if not len(places):
        return x, weight > 0
    from_fluid = ndimage.distance_transform_edt(tissue != FLUID)[tuple(places.T)]
    chance = np.exp(-from_fluid / REACH) + 0.05
    largest = np.exp(rng.uniform(0, np.log(RADIUS[1])))
    for middle in places[rng.choice(len(places), int(rng.integers(*COUNT, endpoint=True)), p=chance / chance.sum())]:
        _add_ball(weight, middle + rng.uniform(-0.5, 0.5, 3), rng.uniform(RADIUS[0], max(largest, RADIUS[0])))
    weight *= mask
    white = x[(tissue == WHITE) & mask]
    middle_level = float(np.median(white))
    spread = 1.4826 * float(np.median(np.abs(white - middle_level)))
    level = middle_level + rng.uniform(*BRIGHTER) * spread
    return (x + weight * np.maximum(level - x, 0)).astype(np.float32), weight > 0.5


def _add_ball(weight: Array, centre: np.ndarray, radius: float) -> None:
    """Raise the weights to those of a ball, 1 inside, with partial volume on its surface."""
    box = tuple(slice(max(0, int(c - radius) - 1), int(c + radius) + 3) for c in centre)
    grid = np.meshgrid(*(np.arange(n)[part] for n, part in zip(weight.shape, box, strict=True)), indexing="ij")
    distance = np.sqrt(sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)))
    weight[box] = np.maximum(weight[box], np.clip(radius - distance + 0.5, 0, 1))
