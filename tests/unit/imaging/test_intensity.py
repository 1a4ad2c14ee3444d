"""Contrast by tissues, scaling inside the brain, and the bias field."""

from __future__ import annotations

import numpy as np
import pytest

from uadcli.config import PreprocessConfig
from uadcli.errors import InputError
from uadcli.imaging import template
from uadcli.imaging.intensity import correct_bias, scale
from uadcli.imaging.slices import GRID_SHAPE


def test_scaling_is_inside_the_mask_and_robust() -> None:
    data = np.random.default_rng(0).random((10, 10, 10)).astype(np.float32) * 500 + 100
    mask = np.zeros(data.shape, dtype=bool)
    mask[2:8, 2:8, 2:8] = True
    data[4, 4, 4] = 1e6
    x = scale(data, mask, PreprocessConfig())
    assert x[~mask].max() == 0
    assert x.min() >= 0
    assert x.max() == 1
    assert np.median(x[mask]) == pytest.approx(0.5, abs=0.1)
    with pytest.raises(InputError):
        scale(np.ones_like(data), mask, PreprocessConfig())


def test_bias_field_is_taken_out() -> None:
    mask = template.on_grid("mni_brain_mask") > 0
    flat = np.where(template.on_grid("mni_tissue_dseg") == 3, 200.0, 120.0) * mask
    ramp = np.linspace(0.7, 1.3, GRID_SHAPE[1])[None, :, None]
    white = template.on_grid("mni_tissue_dseg") == 3
    corrected = correct_bias((flat * ramp).astype(np.float32), mask)
    before, after = (flat * ramp)[white], corrected[white]
    assert after.std() / after.mean() < 0.6 * before.std() / before.mean()


def test_the_bias_field_goes_and_a_large_bright_lesion_stays() -> None:
    x, y, z = np.indices(GRID_SHAPE)
    tissue = template.on_grid("mni_tissue_dseg")
    mask = template.on_grid("mni_brain_mask") > 0
    clean = np.choose(tissue.astype(np.uint8), [0, 40, 100, 110]).astype(np.float32)
    clean[mask & (clean == 0)] = 40
    lesion = ((x - 60) / 13) ** 2 + ((y - 55) / 13) ** 2 + ((z - 45) / 13) ** 2 < 1
    clean = np.where(lesion & mask, 160, clean)
    field = np.exp(0.25 * (x - 48) / 48).astype(np.float32)
    corrected = correct_bias(np.where(mask, clean * field, 0).astype(np.float32), mask)
    white = mask & (tissue == 3) & ~lesion
    before, after = ((v[white].std() / v[white].mean()) for v in (clean * field, corrected))
    assert after < 0.5 * before
    assert np.median(corrected[lesion & mask]) / np.median(corrected[white]) > 0.93 * 160 / 110
