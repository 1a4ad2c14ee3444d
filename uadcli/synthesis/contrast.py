"""Healthy T2w and FLAIR volumes made from T1w scans, whose intensities determine the tissue of a voxel."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from uadcli.arrays import Array, Mask
from uadcli.contrasts import FROM_T1W
from uadcli.synthesis.anatomy import Anatomy, levels
from uadcli.synthesis.brains import CORTEX, CSF, OUTER, WHITE, tissue_intensities, with_rim
from uadcli.synthesis.random_fields import Random, smooth_noise

NEAR = 1.0  # distance from tissue (voxels) within which dark voxels outside the ventricles are fluid
RIM = 2  # depth in the brain mask (voxels) from which fluid in cisterns and sulci is like that of the ventricles
BEYOND = (0.0, 0.3)  # share of bright outer fluid farther out, where dark voxels in T1w are membranes and bone


def from_t1(x: Tensor, kind: str, generator: torch.Generator) -> Tensor:
    """Convert T1w slices (B, 1, H, W) in [0, 1] to another contrast by a random intensity curve.

    T1w intensity determines the tissue: dark is CSF, then grey, then white matter. Their new intensities are drawn from
    the record of the contrast `kind`, with linear interpolation between; 0 outside the brain stays 0.
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


def volume_from_t1(x: Array, mask: Mask, anatomy: Anatomy, contrast: str, rng: Random) -> Array:
    """A volume of another contrast from a T1w scan (X, Y, Z), x linear in its intensities.

    A voxel between the levels of fluid, grey and white matter contains two of them (partial volume) and gets the mean
    of their new intensities, which are drawn as for label maps. There is no grey matter between ventricles and adjacent
    white matter. About [0, 1]; 0 outside the brain `mask`.
    """
    means = tissue_intensities(contrast, rng)
    known, dark = levels(x, mask, anatomy), float(np.percentile(x[mask], 1))
    grey, white = max(known.grey, dark + 1e-3), max(known.white, known.grey + 1e-3)
    fluid = _fluid(anatomy, mask, means, rng)
    of_grey = np.clip((x - dark) / (grey - dark), 0, 1)
    of_white = np.clip((x - grey) / (white - grey), 0, 1)
    matter = means[CORTEX] + of_white * (means[WHITE] - means[CORTEX])
    mixed = fluid + of_grey * (matter - fluid)
    direct = means[CSF] + np.clip((x - dark) / (white - dark), 0, 1) * (means[WHITE] - means[CSF])
    nearby = ndimage.gaussian_filter(ndimage.binary_dilation(anatomy.ventricles).astype(np.float32), 0.7)
    made = mixed + nearby * (direct - mixed)
    made = made + rng.uniform(0.003, 0.03) * smooth_noise(x.shape, rng.uniform(2, 8), rng)
    return with_rim(np.where(mask, np.maximum(made, 0), 0).astype(np.float32), mask, contrast, rng)


def _fluid(anatomy: Anatomy, mask: Mask, means: dict[int, float], rng: Random) -> Array:
    """The intensity of fluid at each place: that of ventricles, cisterns, outer fluid near tissue, or none."""
    far = ndimage.distance_transform_edt(~(mask & ~anatomy.fluid)) > NEAR
    nothing = means[OUTER] * rng.uniform(*BEYOND) if means[CSF] > means[CORTEX] else means[OUTER]
    cistern = means[OUTER] + rng.uniform(0.5, 1.0) * (means[CSF] - means[OUTER])
    deep = ndimage.binary_erosion(mask, iterations=RIM)
    level = np.where(far, nothing, np.where(deep, cistern, means[OUTER])).astype(np.float32)
    inside = ndimage.gaussian_filter(anatomy.ventricles.astype(np.float32), 0.6)
    inside = np.minimum(2 * inside, 1)
    uneven = 1 + rng.uniform(0.0, 0.15) * smooth_noise(mask.shape, 4.0, rng)
    return np.asarray(level * uneven + inside * (means[CSF] - level * uneven), dtype=np.float32)
