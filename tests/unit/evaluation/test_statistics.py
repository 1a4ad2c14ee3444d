"""Confidence intervals over subjects and paired tests, against SciPy and against what is known."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve

from uadcli.evaluation.statistics import auroc_over_scans, holm, mean, paired, ratio, sensitivity_at


def names(n):
    return [f"sub-{i}" for i in range(n)]


def test_the_interval_of_a_mean_is_that_of_scipy():
    values = np.random.default_rng(0).gamma(2, size=40)
    found = mean(values, names(40), resamples=20000)
    expected = stats.bootstrap((values,), np.mean, n_resamples=20000, method="percentile", random_state=1)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=0.02)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=0.02)
    assert (found.scans, found.subjects) == (40, 40)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = [mean(rng.normal(size=30), names(30), resamples=500, seed=i) for i in range(200)]
    assert 0.87 < np.mean([e.low <= 0 <= e.high for e in held]) <= 0.99


def test_the_same_seed_gives_the_same_interval_and_another_does_not():
    values = np.random.default_rng(0).random(12)
    assert mean(values, names(12), seed=3) == mean(values, names(12), seed=3)
    assert mean(values, names(12), seed=3) != mean(values, names(12), seed=4)


def test_scans_of_one_subject_are_drawn_together():
    values = np.repeat(np.random.default_rng(0).random(10), 20)
    alone = mean(values, names(200))
    together = mean(values, [f"sub-{i // 20}" for i in range(200)])
    assert together.value == alone.value
    assert together.high - together.low > 2 * (alone.high - alone.low)
    assert together.subjects == 10


def test_what_was_not_computed_is_left_out_and_never_taken_as_zero():
    found = mean([1.0, math.nan, 3.0, math.nan], names(4))
    assert (found.value, found.scans, found.low) == (2, 2, 1)
    nothing = mean([math.nan], names(1))
    assert nothing.scans == nothing.subjects == 0
    assert all(math.isnan(v) for v in (nothing.value, nothing.low, nothing.high))


def test_one_subject_has_a_value_and_no_interval():
    found = mean([0.2, 0.4], ["sub-1", "sub-1"])
    assert found.value == pytest.approx(0.3)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_a_ratio_pools_over_scans():
    found = ratio([1, 0, 9], [2, 0, 10], names(3))
    assert found.value == pytest.approx(10 / 12)
    assert found.scans == 2  # a scan without a lesion says nothing
    assert 0.5 <= found.low <= found.value <= found.high <= 0.9
    assert math.isnan(ratio([0], [0], names(1)).value)


@pytest.mark.parametrize("seed", range(3))
def test_the_auroc_over_scans_is_that_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    sick = rng.random(40) < 0.5
    scores = np.round(rng.random(40) + 0.3 * sick, 1)
    found = auroc_over_scans(scores, sick, names(40))
    assert found.value == pytest.approx(roc_auc_score(sick, scores))
    assert found.low < found.value < found.high


def test_the_auroc_over_scans_needs_both_groups():
    assert math.isnan(auroc_over_scans([1.0, 2.0], [True, True], names(2)).value)
    assert math.isnan(auroc_over_scans([1.0, math.nan], [True, False], names(2)).value)


def test_the_auroc_of_scans_that_are_apart_has_a_sharp_interval():
    found = auroc_over_scans([0, 1, 2, 7, 8, 9], [False] * 3 + [True] * 3, names(6))
    assert (found.value, found.low, found.high) == (1, 1, 1)


def test_a_paired_test_is_that_of_scipy():
    rng = np.random.default_rng(0)
    a = rng.random(25)
    b = a + rng.normal(0.05, 0.1, 25)
    found = paired(b, a, names(25))
    assert found.difference.value == pytest.approx((b - a).mean())
    assert found.p_wilcoxon == pytest.approx(stats.wilcoxon(b, a).pvalue)
    swapped = paired(a, b, names(25))
    assert swapped.difference.value == -found.difference.value
    assert swapped.p_wilcoxon == found.p_wilcoxon
    assert swapped.p_permutation == found.p_permutation


def test_a_clear_difference_is_found_and_none_is_not():
    rng = np.random.default_rng(1)
    a = rng.random(30)
    clear = paired(a + 0.2 + rng.normal(0, 0.05, 30), a, names(30))
    assert max(clear.p_permutation, clear.p_wilcoxon) < 0.01
    assert clear.p_permutation > 0  # a finite number of swaps cannot show more
    assert clear.difference.low > 0
    noise = paired(a + rng.normal(0, 0.3, 30), a, names(30))
    assert min(noise.p_permutation, noise.p_wilcoxon) > 0.05


def test_scans_that_one_method_lacks_are_left_out_of_the_pairs():
    found = paired([0.5, math.nan, 0.9], [0.1, 0.4, math.nan], names(3))
    assert (found.difference.scans, found.difference.value) == (1, pytest.approx(0.4))
    assert math.isnan(found.p_permutation)


def test_scans_of_one_subject_are_one_pair():
    a, b = np.array([1.0, 3.0, 5.0, 2.0]), np.array([0.0, 1.0, 2.0, 3.0])
    found = paired(a, b, ["s1", "s1", "s2", "s3"])
    assert found.p_wilcoxon == pytest.approx(stats.wilcoxon([1.5, 3.0, -1.0]).pvalue)
    assert found.difference.value == pytest.approx((1 + 2 + 3 - 1) / 4)


def test_methods_without_any_difference_have_no_test():
    found = paired([0.5, 0.6], [0.5, 0.6], names(2))
    assert found.difference.value == 0
    assert math.isnan(found.p_wilcoxon)
    assert found.p_permutation == 1


def test_few_subjects_cannot_show_much():
    found = paired([1.0, 1.1, 1.2], [0.0, 0.0, 0.0], names(3))
    assert found.p_permutation == found.p_wilcoxon == 2 / 2**3


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1, 1])
    adjusted = holm([0.02, math.nan, 0.03])
    assert adjusted[0] == pytest.approx(0.04)
    assert math.isnan(adjusted[1])
    assert holm([]) == []


def test_the_sensitivity_at_a_specificity_is_read_off_the_roc_curve():
    rng = np.random.default_rng(0)
    scores, sick = rng.normal(size=70) + np.repeat([1.5, 0], [30, 40]), np.repeat([True, False], [30, 40])
    wrong, right, _ = roc_curve(sick, scores, drop_intermediate=False)
    for specificity in (0.9, 0.95):
        found = sensitivity_at(specificity, scores, sick, names(70), resamples=200)
        assert found.value == pytest.approx(right[1 - wrong >= specificity - 1e-9].max())
        assert 0 < found.low <= found.value <= found.high <= 1
        assert found == sensitivity_at(specificity, scores, sick, names(70), resamples=200)


def test_the_healthy_scans_are_drawn_as_well():
    """One scan with a lesion of a known score: only the healthy ones can move its side of the threshold."""
    scores, sick = np.array([*range(20), 18.5]), np.array([False] * 20 + [True])
    found = sensitivity_at(0.95, scores, sick, names(21), resamples=500)
    assert (found.value, found.low, found.high) == (1, 0, 1)


def test_too_few_healthy_scans_do_not_determine_a_sensitivity():
    scores, sick = np.arange(40.0), np.repeat([False, True], [19, 21])
    assert sensitivity_at(0.9, scores, sick, names(40), resamples=50).value == 1
    assert math.isnan(sensitivity_at(0.95, scores, sick, names(40), resamples=50).value)
    assert math.isnan(sensitivity_at(0.9, scores, np.zeros(40, bool), names(40), resamples=50).value)
    unknown = np.where(np.arange(40) < 12, np.nan, scores)  # scans without a score do not count
    assert math.isnan(sensitivity_at(0.9, unknown, sick, names(40), resamples=50).value)


@pytest.mark.parametrize("statistic", [auroc_over_scans, functools.partial(sensitivity_at, 0.9)])
def test_there_is_no_interval_if_no_draw_has_both_groups(statistic):
    healthy = 12
    scores, sick = [*range(healthy), 100], [False] * healthy + [True]
    owners = ["sub-healthy"] * healthy + ["sub-sick"]
    found = [statistic(scores, sick, owners, resamples=1, seed=seed) for seed in range(10)]
    assert {estimate.value for estimate in found} == {1.0}
    assert {math.isnan(estimate.low) for estimate in found} == {True, False}
