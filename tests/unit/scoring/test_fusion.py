"""The fused score: the residual decides what is seen at all, the learned score the order and the healthy rest."""

from __future__ import annotations

import numpy as np
import pytest

from uadcli.scoring.calibration import healthy_tail
from uadcli.scoring.fusion import FLOOR, POWER, RESIDUALS, fisher_score, fused_score, prior


def volumes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    mask = np.zeros((24, 24, 24), dtype=bool)
    mask[3:21, 3:21, 3:21] = True
    recon = np.where(mask, 0.4, 0).astype(np.float32)
    x = recon.copy()
    x[6:10, 8:14, 8:14] = 0.8  # two equal bright spots
    x[14:18, 8:14, 8:14] = 0.8
    return x, recon, mask


@pytest.mark.parametrize("kind", RESIDUALS)
def test_of_two_equal_residuals_the_likelier_is_higher(kind: str) -> None:
    x, recon, mask = volumes()
    probability = np.where(mask, FLOOR, 0).astype(np.float32)
    probability[6:10, 8:14, 8:14] = 0.9
    fused = fused_score(x, recon, probability, mask, kind)
    likely, unlikely = fused[8, 11, 11], fused[16, 11, 11]
    assert likely > unlikely > 0
    assert unlikely / likely == pytest.approx((FLOOR / 0.9) ** POWER, rel=1e-3)
    assert not fused[~mask].any()


def test_a_single_likely_voxel_raises_nothing() -> None:
    """The learned probability is smoothed by a median, as is the residual."""
    x, recon, mask = volumes()
    probability = np.where(mask, 0.01, 0).astype(np.float32)
    plain = fused_score(x, recon, probability, mask, "fusion-absolute")
    probability[8, 11, 11] = 0.9
    assert plain[8, 11, 11] > 0
    assert np.array_equal(fused_score(x, recon, probability, mask, "fusion-absolute"), plain)


@pytest.mark.parametrize("kind", RESIDUALS)
def test_without_a_residual_there_is_nothing(kind: str) -> None:
    _, recon, mask = volumes()
    assert not fused_score(recon, recon, mask.astype(np.float32), mask, kind).any()


def test_the_sign_counts_in_one_of_them() -> None:
    x, recon, mask = volumes()
    darker = 2 * recon - x
    probability = mask.astype(np.float32)
    assert fused_score(darker, recon, probability, mask, "fusion-absolute").any()
    assert not fused_score(darker, recon, probability, mask, "fusion-bright").any()


def test_power_zero_ignores_the_learned_score() -> None:
    rng = np.random.default_rng(5)
    x, recon, p = (rng.random((12, 12, 12), dtype=np.float32) for _ in range(3))
    mask = np.ones(x.shape, dtype=bool)
    plain = fused_score(x, recon, p, mask, "fusion-absolute", 0.0)
    assert np.array_equal(plain, fused_score(x, recon, 1 - p, mask, "fusion-absolute", 0.0))
    assert not np.array_equal(plain, fused_score(x, recon, p, mask, "fusion-absolute", 0.5))


def test_fisher_ranks_voxels_rare_in_two_scores_first() -> None:
    rng = np.random.default_rng(0)
    mask = np.ones((40, 40, 20), dtype=bool)
    healthy = [rng.gamma(2, scale, mask.shape).astype(np.float32) for scale in (0.05, 3.0)]  # of quite other ranges
    tails = [healthy_tail([(one, mask)]) for one in healthy]
    first, second = (one.copy() for one in healthy)
    first[5], second[5] = (np.quantile(one, 0.999) for one in healthy)
    first[15], second[25] = first[5], second[5]
    second[15] = np.median(healthy[1])
    first[25] = np.median(healthy[0])
    mask[35] = False
    fused = fisher_score([(first, tails[0], 0.5), (second, tails[1], 0.5)], mask)
    assert fused[5].min() == pytest.approx(3, abs=0.01)  # once in a thousand in both
    assert 1.5 < fused[15].min() < fused[5].min()
    assert 1.5 < fused[25].min() < fused[5].min()
    assert not fused[35].any()
    assert fused.dtype == np.float32


def test_fisher_does_not_depend_on_the_range_of_its_parts() -> None:
    rng = np.random.default_rng(1)
    mask = np.ones((30, 30, 10), dtype=bool)
    a, b = (rng.gamma(2, 0.1, mask.shape).astype(np.float32) for _ in range(2))
    of_a, of_b = ((one, healthy_tail([(one, mask)])) for one in (a, b))
    plain = fisher_score([(*of_a, 0.3), (*of_b, 0.7)], mask)
    wide = fisher_score([(*of_a, 0.3), (64 * b, healthy_tail([(64 * b, mask)]), 0.7)], mask)
    np.testing.assert_allclose(wide, plain, atol=1e-4)
    alone, other = fisher_score([(*of_a, 1.0)], mask), fisher_score([(*of_b, 1.0)], mask)
    np.testing.assert_allclose(plain, np.sqrt(0.3 * alone**2 + 0.7 * other**2), atol=1e-5)


def test_one_very_rare_score_counts_for_more_than_two_slightly_unusual_ones() -> None:
    rng = np.random.default_rng(2)
    mask = np.ones((40, 40, 20), dtype=bool)
    of = [rng.gamma(2, 0.1, mask.shape).astype(np.float32) for _ in range(2)]
    tails = [healthy_tail([(one, mask)]) for one in of]
    first, second = (one.copy() for one in of)
    first[0], second[0] = np.quantile(of[0], 0.9999), 0
    first[1], second[1] = (np.quantile(one, 0.99) for one in of)  # the same mean rarity, 2
    fused = fisher_score([(first, tails[0], 0.5), (second, tails[1], 0.5)], mask)
    assert fused[0].min() > 1.3 * fused[1].max()


def test_a_lesion_outside_white_matter_is_less_likely_by_the_odds() -> None:
    white = np.array([1.0, 0.5, 0.0], np.float32).reshape(3, 1, 1)
    likely = prior(0.01, white)
    np.testing.assert_allclose(likely.ravel(), [0, -1, -2], atol=1e-6)
    assert not prior(1.0, white).any()
    tail = [(10.0**-n, float(n)) for n in (1, 2, 3)]  # the rarity of a score is the score
    mask = np.array([True, True, True]).reshape(3, 1, 1)
    for value, expected in ((2.5, [2.5, 1.5, 0.5]), (1.5, [1.5, 0.5, 0.0])):  # never below 0, the score of nothing
        values = np.full((3, 1, 1), value, np.float32)
        np.testing.assert_allclose(fisher_score([(values, tail, 1.0)], mask, likely).ravel(), expected, atol=1e-5)
    assert not fisher_score([(np.full((3, 1, 1), 3, np.float32), tail, 1.0)], ~mask, likely).any()
