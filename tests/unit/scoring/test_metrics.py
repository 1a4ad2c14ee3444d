"""Metrics, against scikit-learn where it has them and by hand where not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from uadcli.scoring.metrics import average_precision, best_dice, curve, dice, precision, recall


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
    assert curve(scores, truth).auroc == pytest.approx(roc_auc_score(truth.ravel(), scores.ravel()))


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
    assert curve(scores, truth).auroc == pytest.approx(0.5)


def test_a_perfect_map_reaches_one():
    truth = np.random.default_rng(0).random((6, 6, 6)) < 0.3
    scores = truth.astype(np.float32)
    assert average_precision(scores, truth) == curve(scores, truth).auroc == best_dice(scores, truth)[0] == 1


def test_dice_by_hand():
    a, b = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 1], bool)
    assert dice(a, b) == pytest.approx(2 / 5)
    assert dice(a, ~a) == 0
    assert dice(np.zeros(4, bool), a) == 0


def test_what_is_not_defined_is_nan_and_not_zero():
    scores, none = np.random.default_rng(0).random((4, 4, 4)).astype(np.float32), np.zeros((4, 4, 4), bool)
    assert math.isnan(dice(none, none))
    assert math.isnan(average_precision(scores, none))
    assert math.isnan(curve(scores, none).auroc)
    assert math.isnan(curve(scores, ~none).auroc)
    assert all(math.isnan(v) for v in best_dice(scores, none))


@pytest.mark.parametrize("levels", [2, 7, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_the_curve_is_that_of_scikit_learn(seed, levels):
    scores, truth = case(seed, levels)
    found = curve(scores, truth)
    precision, recall, thresholds = precision_recall_curve(truth.ravel(), scores.ravel())
    places = np.searchsorted(thresholds, found.thresholds)
    assert found.precision == pytest.approx(precision[places])
    assert found.recall == pytest.approx(recall[places])


def test_precision_at_a_recall_is_the_step_that_reaches_it():
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5], np.float32)
    found = curve(scores, np.array([1, 0, 1, 0, 0], bool))
    assert found.precision_at(np.array([0.0, 0.5, 0.51, 1.0])) == pytest.approx([1, 1, 2 / 3, 2 / 3])


def test_the_steps_enclose_the_average_precision():
    scores, truth = case(0, 1000)
    found = curve(scores, truth)
    grid = (np.arange(20000) + 0.5) / 20000
    assert found.precision_at(grid).mean() == pytest.approx(found.average_precision, abs=1e-3)


def test_without_a_lesion_no_precision_is_given():
    found = curve(np.zeros((3, 3, 3), np.float32), np.zeros((3, 3, 3), bool))
    assert np.isnan(found.precision_at(np.array([0.0, 1.0]))).all()


@pytest.mark.parametrize("seed", range(5))
def test_overlap_equals_that_of_simple_itk(seed):
    import SimpleITK as sitk

    rng = np.random.default_rng(seed)
    found, truth = (rng.random((12, 11, 10)) < share for share in (0.3, 0.2))
    measure = sitk.LabelOverlapMeasuresImageFilter()
    measure.Execute(*(sitk.GetImageFromArray(v.astype(np.uint8)) for v in (found, truth)))  # source, target
    assert dice(found, truth) == pytest.approx(measure.GetDiceCoefficient())
    assert precision(found, truth) == pytest.approx(1 - measure.GetFalseDiscoveryRate())
    assert recall(found, truth) == pytest.approx(1 - measure.GetFalseNegativeError())


def test_precision_and_recall_of_nothing_are_nan():
    some, none = np.ones((2, 2, 2), bool), np.zeros((2, 2, 2), bool)
    assert math.isnan(precision(none, some))
    assert math.isnan(recall(some, none))
    assert precision(some, none) == recall(none, some) == 0


def test_a_volume_of_1_mm_has_finite_figures():
    rng = np.random.default_rng(0)
    scores = rng.random((182, 218, 182), dtype=np.float32)
    truth = np.zeros(scores.shape, bool)
    truth[80:110, 90:130, 70:100] = True
    found = curve(scores, truth)
    assert all(math.isfinite(v) for v in (found.average_precision, found.auroc, *found.best_dice))
