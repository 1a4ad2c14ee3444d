"""The fused score: the residual decides what is seen at all, the learned score the order and the healthy rest."""

from __future__ import annotations

import numpy as np
import pytest

from uadcli.scoring.fusion import FLOOR, POWER, RESIDUALS, fused_score


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


def test_without_power_the_learned_score_has_no_say() -> None:
    rng = np.random.default_rng(5)
    x, recon, p = (rng.random((12, 12, 12), dtype=np.float32) for _ in range(3))
    mask = np.ones(x.shape, dtype=bool)
    plain = fused_score(x, recon, p, mask, "fusion-absolute", 0.0)
    assert np.array_equal(plain, fused_score(x, recon, 1 - p, mask, "fusion-absolute", 0.0))
    assert not np.array_equal(plain, fused_score(x, recon, p, mask, "fusion-absolute", 0.5))
