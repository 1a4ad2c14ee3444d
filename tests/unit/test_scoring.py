"""Scores, components, metrics, thresholds and quality control."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

from uadcli.config import ScoringConfig
from uadcli.errors import InputError, UsageError
from uadcli.scoring.calibration import healthy_quantile
from uadcli.scoring.components import components
from uadcli.scoring.metrics import auroc, average_precision, best_dice, dice
from uadcli.scoring.quality import assess
from uadcli.scoring.scores.residual import anomaly_score, erode_axial, median_filter, postprocess, residual

RNG = np.random.default_rng(0)
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def test_residuals_split_by_sign() -> None:
    x, y = RNG.random((2, 6, 6, 6), dtype=np.float32)
    both = residual(x, y, "bright") + residual(x, y, "dark")
    assert np.allclose(residual(x, y), both)
    assert residual(x, y, "bright")[x < y].max() == 0
    with pytest.raises(UsageError, match="no score"):
        residual(x, y, "other")


def test_median_is_scipys() -> None:
    volume = RNG.random((12, 13, 14), dtype=np.float32)
    expected = ndimage.median_filter(volume, size=5, mode="constant")
    assert np.allclose(median_filter(volume, 5), expected)
    assert median_filter(volume, 1) is volume


def test_erosion_is_axial() -> None:
    mask = np.zeros((20, 20, 3), dtype=bool)
    mask[2:18, 2:18, 1] = True
    eroded = erode_axial(mask, 3)
    assert eroded[:, :, 1].sum() == 10 * 10
    assert not eroded[:, :, [0, 2]].any()
    assert erode_axial(mask, 0).sum() == mask.sum()


def test_postprocessing_is_zero_outside_and_forgets_single_voxels() -> None:
    mask = np.ones((30, 30, 10), dtype=bool)
    score = np.zeros(mask.shape, dtype=np.float32)
    score[15, 15, 5] = 1
    assert postprocess(score, mask, ScoringConfig()).max() == 0
    score[8:20, 8:20, 2:8] = 1
    result = postprocess(score, mask, ScoringConfig())
    assert result[12, 12, 5] == 1
    assert result[:3].max() == 0


def test_the_weighted_score_needs_both() -> None:
    mask = np.ones((30, 30, 10), dtype=bool)
    x, x0_hat = np.full(mask.shape, 0.5, np.float32), np.full(mask.shape, 0.5, np.float32)
    x[8:22, 8:22] = 0.9
    result = anomaly_score(x, x0_hat, mask, "bright-weighted", ScoringConfig())
    assert result[15, 15, 5] == pytest.approx(np.sqrt(0.4 * 0.9), abs=1e-5)
    assert result[4, 4, 5] == 0
    plain = anomaly_score(x, x0_hat, mask, "absolute", ScoringConfig())
    assert np.array_equal(plain, postprocess(np.abs(x - x0_hat), mask, ScoringConfig()))


def test_components_are_sorted_filtered_and_placed() -> None:
    volume = np.zeros((30, 30, 30), dtype=np.float32)
    volume[2:4, 2:4, 2:4] = 0.6
    volume[10:16, 10:16, 10:16] = 0.5
    volume[12, 13, 14] = 0.9
    volume[25, 25, 25] = 1.0
    affine = AFFINE.copy()
    affine[:3, 3] = (-10, 5, 0)
    labels, table = components(volume, 0.4, 64, affine)
    assert [c.volume_mm3 for c in table] == pytest.approx([216 * 8, 64])
    assert table[0].peak == pytest.approx(0.9)
    assert table[0].peak_mm == (14, 31, 28)
    assert table[0].centroid_mm == pytest.approx((15, 30, 25))
    assert labels[2, 2, 2] == 2
    assert labels[25, 25, 25] == 0
    assert len(components(volume, 0.4, 0, affine)[1]) == 3
    assert components(volume, 2.0, 0, affine)[1] == []


def test_touching_at_a_corner_is_one_component() -> None:
    volume = np.zeros((5, 5, 5), dtype=np.float32)
    volume[1, 1, 1] = volume[2, 2, 2] = 1
    assert len(components(volume, 0.5, 0, AFFINE)[1]) == 1


@pytest.mark.parametrize("seed", range(5))
def test_metrics_are_scikit_learns_with_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = np.round(rng.random(2000), 1 + seed % 3).astype(np.float32)
    truth = rng.random(2000) < 0.05 + 0.5 * scores
    assert average_precision(scores, truth) == pytest.approx(average_precision_score(truth, scores))
    assert auroc(scores, truth) == pytest.approx(roc_auc_score(truth, scores))
    best = max(dice(scores >= t, truth) for t in np.unique(scores))
    value, threshold = best_dice(scores, truth)
    assert value == pytest.approx(best)
    assert dice(scores >= threshold, truth) == pytest.approx(best)


def test_what_is_not_defined_is_nan() -> None:
    none, scores = np.zeros(5, dtype=bool), np.arange(5, dtype=np.float32)
    assert math.isnan(dice(none, none))
    assert math.isnan(average_precision(scores, none))
    assert math.isnan(auroc(scores, none))
    assert math.isnan(best_dice(scores, none)[0])


def test_threshold_is_the_pooled_healthy_quantile() -> None:
    maps = [(RNG.random((10, 10, 10), dtype=np.float32) * k, RNG.random((10, 10, 10)) < 0.5) for k in (1, 3)]
    value = healthy_quantile(maps, 0.9)
    pooled = np.concatenate([m[k] for m, k in maps])
    assert (pooled > value).mean() == pytest.approx(0.1, abs=0.01)
    with pytest.raises(InputError):
        healthy_quantile([])


@pytest.mark.parametrize(
    ("volume", "overlap", "border", "verdict"),
    [
        (1400, 0.95, 0, "pass"),
        (700, 0.95, 0, "warn"),
        (300, 0.95, 0, "fail"),
        (1400, 0.5, 0, "fail"),
        (1400, 0.95, 0.3, "warn"),
    ],
)
def test_quality_is_the_worst_check(volume: float, overlap: float, border: float, verdict: str) -> None:
    assert assess(volume, overlap, border).verdict == verdict
