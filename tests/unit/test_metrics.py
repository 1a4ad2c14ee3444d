"""Metrics, against scikit-learn where it has them and by hand where not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from uadcli.scoring.metrics import auroc, average_precision, best_dice, dice


def case(seed, levels):
    """Scores with many ties (`levels` distinct values) that know a little of the truth."""
    rng = np.random.default_rng(seed)
    truth = rng.random((9, 8, 7)) < 0.2
    scores = np.round((rng.random(truth.shape) + 0.4 * truth) * levels) / levels
    return scores.astype(np.float32), truth


@pytest.mark.parametrize("levels", [2, 5, 1000])
@pytest.mark.parametrize("seed", range(5))
def test_areas_equal_those_of_scikit_learn(seed, levels):
    scores, truth = case(seed, levels)
    assert average_precision(scores, truth) == pytest.approx(average_precision_score(truth.ravel(), scores.ravel()))
    assert auroc(scores, truth) == pytest.approx(roc_auc_score(truth.ravel(), scores.ravel()))


@pytest.mark.parametrize("levels", [2, 7, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_best_dice_is_the_best_of_all_thresholds(seed, levels):
    scores, truth = case(seed, levels)
    best, threshold = best_dice(scores, truth)
    assert best == pytest.approx(dice(scores >= threshold, truth))
    assert best == pytest.approx(max(dice(scores >= t, truth) for t in np.unique(scores)))


def test_a_constant_map_has_the_prevalence_as_precision():
    truth = np.zeros((4, 5, 5), dtype=bool)
    truth[0] = True
    scores = np.zeros(truth.shape, dtype=np.float32)
    assert average_precision(scores, truth) == pytest.approx(0.25)
    assert auroc(scores, truth) == pytest.approx(0.5)


def test_a_perfect_map_reaches_one():
    truth = np.random.default_rng(0).random((6, 6, 6)) < 0.3
    scores = truth.astype(np.float32)
    assert average_precision(scores, truth) == auroc(scores, truth) == best_dice(scores, truth)[0] == 1


def test_dice_by_hand():
    a, b = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 1], bool)
    assert dice(a, b) == pytest.approx(2 / 5)
    assert dice(a, ~a) == 0
    assert dice(np.zeros(4, bool), a) == 0


def test_what_is_not_defined_is_nan_and_not_zero():
    scores, none = np.random.default_rng(0).random((4, 4, 4)).astype(np.float32), np.zeros((4, 4, 4), bool)
    assert math.isnan(dice(none, none))
    assert math.isnan(average_precision(scores, none))
    assert math.isnan(auroc(scores, none))
    assert math.isnan(auroc(scores, ~none))
    assert all(math.isnan(v) for v in best_dice(scores, none))
