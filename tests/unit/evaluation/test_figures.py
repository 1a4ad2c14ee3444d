"""The figures of one scan, and of a method over scans."""

from __future__ import annotations

import math

import numpy as np
import pytest

from uadcli.evaluation.figures import RECALLS, Figures, Result, compare, mean_curve, scan_figures, summarise
from uadcli.evaluation.marking import Marking
from uadcli.evaluation.read import Labelled
from uadcli.scoring import metrics

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def figures_of(scores, truth, affine, marking, mask=None, found=None):
    return scan_figures(Labelled(scores, affine, truth, mask, (), (), found), marking)


def case(seed=0, lesion=True):
    rng = np.random.default_rng(seed)
    truth = np.zeros((20, 20, 20), bool)
    if lesion:
        truth[4:8, 4:8, 4:8] = truth[14:16, 14:16, 14:16] = True
    scores = (rng.random(truth.shape) * 0.5 + 0.4 * truth).astype(np.float32)
    return scores, truth


def test_the_figures_of_a_scan_with_lesions():
    scores, truth = case()
    figures = figures_of(scores, truth, AFFINE, Marking(0.45))
    found = scores > 0.45
    assert figures.dice == metrics.dice(found, truth)
    assert figures.auprc == metrics.average_precision(scores, truth)
    assert figures.auroc == metrics.curve(scores, truth).auroc
    assert (figures.best_dice_oracle, figures.best_threshold_oracle) == metrics.best_dice(scores, truth)
    assert figures.truth_ml == pytest.approx(72 * 0.008)
    assert figures.found_ml == pytest.approx(found.sum() * 0.008)
    assert figures.volume_error_ml == pytest.approx(figures.found_ml - figures.truth_ml)
    assert (figures.lesions, figures.lesions_found) == (2, 2)
    assert (figures.bins, figures.bins_found) == ((1, 1, 0, 0), (1, 1, 0, 0))
    assert figures.healthy_fp_ml is None
    assert figures.scan_score == pytest.approx(scores.sum() * 0.008, rel=1e-5)


def test_without_a_threshold_nothing_that_needs_one_is_given():
    figures = figures_of(*case(), AFFINE, Marking(None))
    assert figures.auprc > 0
    for name in ("threshold", "dice", "found_ml", "volume_error_ml", "lesions_found", "lesion_f1", "false_positives"):
        assert getattr(figures, name) is None, name
    assert figures.bins == (1, 1, 0, 0)
    assert figures.bins_found is None


def test_a_healthy_scan_has_false_volume_and_no_figure_of_lesions():
    scores, truth = case(lesion=False)
    figures = figures_of(scores, truth, AFFINE, Marking(0.49))
    assert figures.healthy_fp_ml == figures.found_ml == pytest.approx((scores > 0.49).sum() * 0.008)
    assert figures.false_positives > 0
    for name in ("auprc", "auroc", "dice", "precision", "recall", "best_dice_oracle", "volume_error_ml", "lesion_f1"):
        assert getattr(figures, name) is None, name
    assert figures.precision_at is None


def test_a_healthy_scan_where_nothing_is_found_is_a_true_zero():
    figures = figures_of(np.zeros((9, 9, 9), np.float32), np.zeros((9, 9, 9), bool), AFFINE, Marking(1))
    assert (figures.healthy_fp_ml, figures.false_positives) == (0, 0)


def test_small_findings_are_dropped():
    scores, truth = np.zeros((20, 20, 20), np.float32), np.zeros((20, 20, 20), bool)
    truth[4:8, 4:8, 4:8] = True
    scores[truth] = 1
    scores[15, 15, 15] = 1
    assert figures_of(scores, truth, AFFINE, Marking(0.5)).false_positives == 1
    kept = figures_of(scores, truth, AFFINE, Marking(0.5, 16))
    assert (kept.false_positives, kept.dice) == (0, 1)


def test_only_voxels_inside_the_mask_count():
    scores, truth = case()
    mask = np.zeros(truth.shape, bool)
    mask[2:12, 2:12, 2:12] = True
    figures = figures_of(scores, truth, AFFINE, Marking(0.45), mask=mask)
    assert figures.auprc == metrics.average_precision(scores[mask], truth[mask])
    assert figures.dice == metrics.dice((scores > 0.45) & mask, truth & mask)
    assert figures.lesions == 1
    assert figures.truth_outside_mask_ml == pytest.approx(8 * 0.008)


def results(method="a", healthy=True, shift=0.0, n=6):
    made = []
    for i in range(n):
        scores, truth = case(i)
        figures = figures_of(scores + np.float32(shift) * truth, truth, AFFINE, Marking(0.45))
        made.append(Result(method, f"scan-{i}", f"sub-{i}", figures))
    if healthy:
        for i in range(3):
            scores, truth = case(100 + i, lesion=False)
            figures = figures_of(scores * 0.9, truth, AFFINE, Marking(0.44))
            made.append(Result(method, f"healthy-{i}", f"control-{i}", figures))
    return made


def by_metric(rows, method="a"):
    return {row.metric: row for row in rows if row.method == method}


def test_the_summary_of_a_method():
    rows = results()
    table = by_metric(summarise(rows, resamples=200, seed=0))
    dices = [r.figures.dice for r in rows if r.figures.dice is not None]
    assert table["dice"].estimate.value == pytest.approx(np.mean(dices))
    assert table["dice"].median == pytest.approx(np.median(dices))
    assert table["dice"].sd == pytest.approx(np.std(dices, ddof=1))
    assert (table["dice"].estimate.scans, table["healthy_fp_ml"].estimate.scans) == (6, 3)
    assert table["sensitivity_<0.1"].estimate.value == 1
    assert math.isnan(table["sensitivity_>=10"].estimate.value)
    assert table["scan_auroc"].estimate.value == 1
    assert table["scan_auroc"].estimate.scans == 9
    assert table["best_dice_oracle"].oracle
    assert not table["dice"].oracle


def test_scans_are_ranked_by_what_their_sidecars_say():
    ranked = [
        Result("a", f"scan-{i}", f"sub-{i}", Figures(0.0, 1.0, strength=float(i), lesions=None if i < 20 else 1))
        for i in range(25)
    ]
    table = by_metric(summarise(ranked, resamples=50, seed=0))
    assert table["scan_auroc_strength"].estimate.value == 1
    assert table["scan_sensitivity_95_strength"].estimate.value == 1
    assert table["scan_auroc"].estimate.value == 0.5  # all have the same sum
    assert table["scan_sensitivity_90"].estimate.value == 0
    assert math.isnan(table["scan_sensitivity_90_volume"].estimate.value)


def test_without_healthy_scans_there_is_no_scan_level_auroc():
    table = by_metric(summarise(results(healthy=False), resamples=50, seed=0))
    assert math.isnan(table["scan_auroc"].estimate.value)
    assert math.isnan(table["healthy_fp_ml"].estimate.value)


def test_methods_are_compared_on_the_scans_they_share():
    rows = results("a")[1:] + results("b", shift=0.1)
    found = {c.metric: c for c in compare(rows, resamples=500, seed=0)}
    a = {r.scan: r.figures.auprc for r in rows if r.method == "a"}
    b = {r.scan: r.figures.auprc for r in rows if r.method == "b"}
    gaps = [a[s] - b[s] for s in a if a[s] is not None]
    assert (found["auprc"].a, found["auprc"].b) == ("a", "b")
    assert found["auprc"].paired.difference.value == pytest.approx(np.mean(gaps))
    assert found["auprc"].paired.difference.scans == 5
    assert found["auprc"].paired.difference.high < 0
    assert found["auprc"].p_holm == found["auprc"].paired.p_wilcoxon  # one pair only
    assert compare(results("a"), resamples=50, seed=0) == []


def test_three_methods_make_three_pairs_and_a_correction():
    rows = results("a") + results("b", shift=0.02) + results("c", shift=0.2)
    found = [c for c in compare(rows, resamples=50, seed=0) if c.metric == "auprc"]
    assert [(c.a, c.b) for c in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert all(c.p_holm >= c.paired.p_wilcoxon for c in found)


def test_the_mean_curve_is_over_scans_with_lesions():
    rows = results()
    precision = mean_curve(rows)
    curves = [r.figures.precision_at for r in rows if r.figures.precision_at is not None]
    assert len(curves) == 6
    assert precision == pytest.approx(np.mean(curves, axis=0))
    assert mean_curve([r for r in rows if r.figures.auprc is None]) is None


@pytest.mark.parametrize("size", [20, 50, 100, 200, 300])
def test_the_curve_has_the_precision_of_the_first_threshold_that_reaches_a_recall(size):
    """Of `np.linspace`, 0.35 and nine others are a last bit too large, so the next threshold was taken."""
    precision = np.random.default_rng(0).random(size)
    true = np.arange(1, size + 1)
    found = metrics.Curve(np.zeros(size), true, true / precision - true, size, 0.5).precision_at(RECALLS)
    first = np.maximum(-(-size * np.arange(101) // 100), 1) - 1
    assert found == pytest.approx(precision[first])


def test_a_1_mm_volume_has_all_figures():
    rng = np.random.default_rng(0)
    truth = np.zeros((182, 218, 182), bool)
    truth[80:110, 90:130, 70:100] = True
    scores = np.where(rng.random(truth.shape) < 0.3, 0, rng.random(truth.shape) + 0.3 * truth).astype(np.float32)
    assert figures_of(scores, truth, np.eye(4), Marking(0.98, 8)).lesions == 1
