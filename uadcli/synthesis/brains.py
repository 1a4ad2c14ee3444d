"""Healthy volumes of any contrast from anatomical label maps, as in SynthSeg (Billot et al. 2023).

Tissue intensities are drawn in their order for a contrast; every structure then varies slightly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uadcli import contrasts
from uadcli.arrays import Array, Mask
from uadcli.synthesis.random_fields import Random, smooth_noise

EMPTY = 0.02  # the least intensity inside the brain of a synthetic volume
CSF, CORTEX, DEEP, WHITE, OTHER, OUTER = 1, 2, 3, 4, 5, 6
CISTERN_MM = 1  # distance from its border beyond which outer fluid is like that of the ventricles
OUTER_LABEL = 24  # fluid outside the brain and in its sulci; in label maps it fills all space up to the skull
BELOW_RIM = 0.35  # change of the layer below the outermost voxels of the brain mask, of theirs
REACH_MM, FURROW_MM = 2, 10  # distances from tissue, and between tissue, beyond which outer fluid is left out
# FreeSurfer numbers by tissue; numbers from 500 are outside the brain, all others are `OTHER`
TISSUE = {
    **dict.fromkeys((4, 5, 14, 15, 43, 44, 72), CSF),
    OUTER_LABEL: OUTER,
    **dict.fromkeys((3, 8, 17, 18, 42, 47, 53, 54), CORTEX),
    **dict.fromkeys((10, 11, 12, 13, 26, 49, 50, 51, 52, 58), DEEP),
    **dict.fromkeys((2, 7, 16, 28, 41, 46, 60, 85), WHITE),
    **dict.fromkeys((77, 78, 79, *range(251, 256)), WHITE),  # darker in a patient's T1w; the corpus callosum
}

# FreeSurfer numbers of regions of cortex and white matter, from and below, and the number of the whole
PARCELS = (
    *((1000, 2000, 3), (2000, 3000, 42), (3000, 4000, 2), (4000, 5000, 41), (5001, 5002, 2), (5002, 5003, 41)),
    *((11100, 11200, 3), (12100, 12200, 42), (13100, 13200, 2), (14100, 14200, 41)),
)

LEFT = (2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 17, 18, 26, 28)
LEFT_OF = dict(zip((41, 42, 43, 44, 46, 47, 49, 50, 51, 52, 53, 54, 58, 60), LEFT, strict=True))


def without_parcels(labels: NDArray[Any]) -> NDArray[Any]:
    """The label map with cortex and white matter as wholes, of one such as aparc+aseg, wmparc or aparc.a2009s+aseg."""
    if labels.max() < PARCELS[0][0]:
        return labels
    for low, high, whole in PARCELS:
        labels = np.where((labels >= low) & (labels < high), labels.dtype.type(whole), labels)
    return labels


def brain_of(labels: NDArray[np.integer]) -> Mask:
    """The brain and the fluid around it, from a head label map (X, Y, Z) of 1 mm.

    Outer fluid is included near tissue, and between it: in sulci and fissures.
    """
    brain = np.asarray((labels > 0) & (labels < 500))
    outer = brain & (labels == OUTER_LABEL)
    if not outer.any() or (brain == outer).all():
        return brain
    tissue = brain & ~outer
    near = ndimage.distance_transform_edt(~tissue) <= REACH_MM
    return brain & (near | ndimage.binary_closing(tissue, iterations=FURROW_MM // 2))


def tissue_intensities(kind: str, rng: Random) -> dict[int, float]:
    """Mean intensities in [0, 1] by tissue, drawn from the ranges in the contrast's record."""
    drawn: dict[str, float] = {}
    for level in contrasts.ALL[kind].levels:
        drawn[level.tissue] = drawn.get(level.above, 0.0) + rng.uniform(level.low, level.high)
    csf, grey, white = (drawn[tissue] for tissue in (contrasts.CSF, contrasts.GREY, contrasts.WHITE))
    deep = grey + rng.uniform(0.1, 0.7) * (white - grey)
    return {
        CSF: csf,
        CORTEX: grey,
        DEEP: deep,
        WHITE: white,
        OTHER: 0.5 * (grey + white),
        OUTER: drawn.get(contrasts.OUTER, csf),
    }


def from_labels(labels: NDArray[np.integer], kind: str, rng: Random) -> Array:
    """A volume of the contrast `kind` at half the resolution of the label map (2X, 2Y, 2Z) -> (X, Y, Z), about [0, 1].

    Each structure has a mean close to that of its tissue and smooth variation inside; edges have partial volume. 0
    outside the brain, at least `EMPTY` inside.
    """
    means, variety = tissue_intensities(kind, rng), contrasts.ALL[kind].variety
    table = np.zeros(int(labels.max()) + 1, dtype=np.float32)
    own: dict[int, float] = {}  # deviation of a structure; nearly the same on both sides
    for number in (int(n) for n in np.unique(labels) if 0 < n < 500):
        tissue, side = TISSUE.get(number, OTHER), LEFT_OF.get(number, number)
        own.setdefault(side, 0.0 if tissue in (CSF, OUTER) else rng.normal(0, variety))
        table[number] = means[tissue] + own[side] * rng.uniform(0.9, 1.1)
    image = table[labels]
    cisterns = ndimage.binary_erosion(labels == OUTER_LABEL, iterations=CISTERN_MM)
    image[cisterns] = means[OUTER] + rng.uniform(0.7, 1.0) * (means[CSF] - means[OUTER])
    inside = image > 0
    image += np.where(inside, rng.uniform(0.005, 0.03) * smooth_noise(image.shape, rng.uniform(3, 12), rng), 0)
    blurred = ndimage.gaussian_filter(image, rng.uniform(0.6, 1.0))
    image = np.where(inside, np.maximum(blurred, EMPTY), 0)
    x, y, z = (n // 2 for n in labels.shape)
    total, filled = (v.reshape(x, 2, y, 2, z, 2).mean(axis=(1, 3, 5)) for v in (image, inside))
    made = np.where(filled >= 0.5, total / np.maximum(filled, 0.5), 0).astype(np.float32)
    return with_rim(made, made > 0, kind, rng)


def with_rim(x: Array, mask: Mask, kind: str, rng: Random) -> Array:
    """Change patches of the outermost two layers of the brain `mask` in a volume (X, Y, Z) of the contrast `kind`.

    They contain what is not brain, so that the extreme percentiles of a real brain, by which intensities are scaled,
    are not those of its tissues. Unchanged if the contrast has no `rim`.
    """
    rim = contrasts.ALL[kind].rim
    if rim is None:
        return x
    depth = ndimage.distance_transform_edt(mask)
    layer = np.where(depth <= 1, 1.0, np.where(depth <= 2, BELOW_RIM, 0.0))
    noise = smooth_noise(x.shape, 3.0, rng)
    patches = noise > np.quantile(noise[mask], 1 - rng.uniform(*rim.share))
    amount = rng.uniform(*rim.change) * layer * ndimage.gaussian_filter(patches.astype(np.float32), 0.7)
    changed = x + amount * np.maximum(x, np.median(x[mask]))
    return np.where(mask, np.maximum(changed, np.minimum(x, EMPTY)), 0).astype(np.float32)
