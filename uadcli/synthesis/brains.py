"""Healthy volumes of any contrast from anatomical label maps, in the way of SynthSeg (Billot et al. 2023).

Tissue intensities are drawn in their physical order for a contrast; every structure then varies a little by itself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from uadcli import contrasts
from uadcli.arrays import Array, Mask
from uadcli.synthesis.lesions import Random, smooth_noise

EMPTY = 0.02  # below it a made volume has no brain
CSF, CORTEX, DEEP, WHITE, OTHER = 1, 2, 3, 4, 5
# FreeSurfer numbers by tissue; numbers from 500 up are outside the brain, all that is not named here is `OTHER`
TISSUE = {
    **dict.fromkeys((4, 5, 14, 15, 24, 30, 43, 44, 62, 72), CSF),
    **dict.fromkeys((3, 8, 17, 18, 42, 47, 53, 54), CORTEX),
    **dict.fromkeys((10, 11, 12, 13, 26, 49, 50, 51, 52, 58), DEEP),
    **dict.fromkeys((2, 7, 16, 28, 41, 46, 60, 85), WHITE),
}


def brain_of(labels: NDArray[np.integer]) -> Mask:
    """The brain with the fluid around it, of a head label map."""
    return np.asarray((labels > 0) & (labels < 500))


def tissue_intensities(kind: str, rng: Random) -> dict[int, float]:
    """Mean intensities in [0, 1] by tissue, drawn as the record of the contrast says."""
    drawn: dict[str, float] = {}
    for level in contrasts.ALL[kind].levels:
        drawn[level.tissue] = drawn.get(level.above, 0.0) + rng.uniform(level.low, level.high)
    csf, grey, white = (drawn[tissue] for tissue in (contrasts.CSF, contrasts.GREY, contrasts.WHITE))
    deep = grey + rng.uniform(0.1, 0.7) * (white - grey)
    return {CSF: csf, CORTEX: grey, DEEP: deep, WHITE: white, OTHER: 0.5 * (grey + white)}


def from_labels(labels: NDArray[np.integer], kind: str, rng: Random) -> Array:
    """A volume of the contrast `kind` at half the resolution of the label map (2X, 2Y, 2Z) -> (X, Y, Z), about [0, 1].

    Each structure has its own mean about that of its tissue and smooth variation inside; edges are blurred by partial
    volume. 0 outside the brain.
    """
    from scipy import ndimage

    means = tissue_intensities(kind, rng)
    table = np.zeros(int(labels.max()) + 1, dtype=np.float32)
    for number in np.unique(labels):
        if 0 < number < 500:
            tissue = TISSUE.get(int(number), OTHER)
            table[number] = means[tissue] + (0.0 if tissue == CSF else rng.normal(0, 0.015))
    image = table[labels]
    image += np.where(image > 0, rng.uniform(0.005, 0.03) * smooth_noise(image.shape, rng.uniform(3, 12), rng), 0)
    image = ndimage.gaussian_filter(image, rng.uniform(0.3, 0.9))
    x, y, z = (n // 2 for n in labels.shape)
    return np.asarray(image.reshape(x, 2, y, 2, z, 2).mean(axis=(1, 3, 5)), dtype=np.float32)


def halved(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """The affine (4, 4) of a grid of half the resolution, each voxel the mean of 2 x 2 x 2, as `from_labels` has it."""
    result = affine @ np.diag([2.0, 2.0, 2.0, 1.0])
    result[:3, 3] = (affine @ np.array([0.5, 0.5, 0.5, 1.0]))[:3]
    return result
