"""Structural similarity: against the formula window by window, and the ensemble of widths."""

from __future__ import annotations

import numpy as np
import pytest

from uadcli.errors import InputError
from uadcli.scoring import ssim


def pair(shape=(14, 13, 12), seed=0):
    rng = np.random.default_rng(seed)
    x = rng.random(shape).astype(np.float32)
    return x, np.clip(x + rng.normal(0, 0.2, shape), 0, 1).astype(np.float32)


def by_window(x, y, place, sigma, span):
    """SSIM at one voxel from its window alone, with the Gaussian weights written out."""
    radius = int(3.5 * sigma + 0.5)
    axis = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights = axis[:, None, None] * axis[None, :, None] * axis[None, None, :]
    weights /= weights.sum()
    a, b = (np.pad(v.astype(np.float64), radius, mode="reflect") for v in (x, y))
    window = tuple(slice(p, p + 2 * radius + 1) for p in place)
    a, b = a[window], b[window]
    mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
    var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
    both = (weights * (a - mean_a) * (b - mean_b)).sum()
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    return (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))


@pytest.mark.parametrize("sigma", ssim.WIDTHS)
def test_each_width_is_the_formula(sigma):
    x, y = pair()
    found = ssim.similarity(x, y, sigma, 0.9)
    for place in ((0, 0, 0), (7, 6, 5), (13, 12, 11), (3, 0, 9)):
        assert found[place] == pytest.approx(by_window(x, y, place, sigma, 0.9), abs=1e-9)


def test_the_windows_are_those_of_the_paper():
    assert [2 * ssim.radius(sigma) + 1 for sigma in ssim.WIDTHS] == [3, 5, 5, 7, 9, 11, 11, 13]


def test_the_ensemble_weighs_low_similarity_more():
    x, y = pair()
    span = max(np.ptp(x), np.ptp(y))
    each = np.stack([ssim.similarity(x, y, sigma, span) for sigma in ssim.WIDTHS])
    weights = np.exp(-each) / np.exp(-each).sum(axis=0)
    expected = 1 - (weights * each).sum(axis=0)
    found = ssim.ssim_score(x, y, np.ones(x.shape, bool))
    assert found == pytest.approx(expected, abs=1e-5)
    assert (found >= 1 - each.mean(axis=0) - 1e-5).all()


def test_equal_images_score_nothing_and_a_change_scores_where_it_is():
    x, _ = pair((24, 24, 24))
    mask = np.ones(x.shape, bool)
    assert np.abs(ssim.ssim_score(x, x, mask)).max() < 1e-5
    changed = x.copy()
    changed[10:13, 10:13, 10:13] = 1 - changed[10:13, 10:13, 10:13]
    score = ssim.ssim_score(changed, x, mask)
    assert score[11, 11, 11] > 0.5
    assert np.abs(score[:3]).max() < 1e-5  # farther than the widest window reaches


def test_outside_the_mask_is_zero_and_the_mask_changes_nothing_inside():
    x, y = pair((40, 38, 30))
    mask = np.zeros(x.shape, bool)
    mask[12:20, 13:22, 11:19] = True
    found, whole = ssim.ssim_score(x, y, mask), ssim.ssim_score(x, y, np.ones(x.shape, bool))
    assert not found[~mask].any()
    assert found[mask] == pytest.approx(whole[mask], abs=1e-5)


def test_flat_images_and_an_empty_mask_score_zero():
    flat = np.full((9, 9, 9), 0.5, np.float32)
    assert np.abs(ssim.ssim_score(flat, flat, np.ones(flat.shape, bool))).max() < 1e-6
    x, y = pair()
    assert not ssim.ssim_score(x, y, np.zeros(x.shape, bool)).any()


def test_different_shapes_are_an_error():
    x, y = pair()
    with pytest.raises(InputError, match="shape"):
        ssim.ssim_score(x, y[1:], np.ones(x.shape, bool))
