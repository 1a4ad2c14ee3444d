"""How well two brains agree: by edges the same in any contrast, and by chance for strangers; null if not computed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from uadcli.imaging.registration import gradient_agreement, similarity


def texture(seed: int) -> np.ndarray:
    """A smooth random volume."""
    return ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(40, 40, 40)), 2).astype(np.float32)


def inner() -> np.ndarray:
    mask = np.zeros((40, 40, 40), dtype=bool)
    mask[4:-4, 4:-4, 4:-4] = True
    return mask


def test_edges_agree_whatever_the_contrast() -> None:
    one = texture(1)
    assert gradient_agreement(one, one, inner()) == pytest.approx(1)
    assert gradient_agreement(one, 5 - 3 * one, inner()) == pytest.approx(1)
    assert gradient_agreement(one, np.exp(20 * one), inner()) > 0.9


def test_strangers_agree_by_chance() -> None:
    assert gradient_agreement(texture(1), texture(2), inner()) == pytest.approx(1 / 3, abs=0.04)


def test_without_edges_or_brain_no_agreement_is_computed() -> None:
    one = texture(1)
    assert gradient_agreement(one, np.ones_like(one), inner()) is None
    assert gradient_agreement(one, one, np.zeros_like(inner())) is None


def test_with_few_voxels_or_one_value_no_similarity_is_computed() -> None:
    one, few = texture(1), np.zeros((40, 40, 40), dtype=bool)
    few[20, 20, :31] = True
    assert similarity(one, one, few) is None
    assert similarity(np.ones_like(one), one, inner()) is None
    assert similarity(one, one, inner()) == pytest.approx(1, abs=0.02)


def test_the_rim_does_not_count() -> None:
    one, other, mask = texture(1), texture(2), inner()
    rim = mask & ~ndimage.binary_erosion(mask, iterations=3)
    same_rim = np.where(rim, one, other)
    assert gradient_agreement(one, np.where(mask, same_rim, 100), mask) < 0.4
