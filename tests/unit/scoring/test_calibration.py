"""Thresholds from healthy scans."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from scipy import stats

from uadcli.errors import InputError
from uadcli.scoring import calibration
from uadcli.scoring.calibration import (
    as_strong,
    component_strengths,
    conformal_threshold,
    fdr_threshold,
    healthy_quantile,
    healthy_tail,
    interval_of_share,
    rarity,
    rate_threshold,
    strength,
    tails_of_the_others,
)
from uadcli.scoring.components import components


def scans(count=3):
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield rng.gamma(2, 0.05, (12, 13, 14)).astype(np.float32), rng.random((12, 13, 14)) < 0.4


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.995])
def test_the_share_above_the_threshold_is_what_was_asked_for(quantile):
    threshold = healthy_quantile(scans(), quantile)
    pooled = np.concatenate([score[mask] for score, mask in scans()])
    assert (pooled > threshold).mean() == pytest.approx(1 - quantile, abs=2 / pooled.size)


def test_voxels_outside_the_mask_do_not_count():
    changed = [(np.where(mask, score, 99).astype(np.float32), mask) for score, mask in scans()]
    assert healthy_quantile(changed) == healthy_quantile(scans())


def test_scans_are_pooled_and_their_order_is_free():
    pairs = list(scans())
    assert healthy_quantile(pairs[::-1]) == pytest.approx(healthy_quantile(pairs))


def test_no_voxel_is_an_input_error():
    empty = (np.zeros((3, 3, 3), np.float32), np.zeros((3, 3, 3), bool))
    for maps in ([], [empty]):
        with pytest.raises(InputError, match="no healthy voxel"):
            healthy_quantile(maps)


def test_no_function_takes_labels():
    for name in (
        "healthy_quantile",
        "healthy_tail",
        "strength",
        "conformal_threshold",
        "rate_threshold",
        "fdr_threshold",
    ):
        parameters = inspect.signature(getattr(calibration, name)).parameters
        assert not {"labels", "truth", "lesions"} & set(parameters)


AFFINE = np.diag([2.0, 2, 2, 1])


def marked(score_map, threshold, smallest=64.0):
    return components(score_map, threshold, smallest, AFFINE)[1]


@pytest.mark.parametrize("seed", range(4))
def test_the_strength_is_the_lowest_threshold_without_findings(seed):
    from scipy import ndimage

    noise = np.random.default_rng(seed).random((20, 21, 22)).astype(np.float32)
    score_map = ndimage.gaussian_filter(noise, 1.5).astype(np.float32)
    found = strength(score_map, 64.0, AFFINE)
    assert not marked(score_map, found)
    below = score_map[score_map < found].max()
    assert marked(score_map, float(below))


def test_a_map_without_a_component_large_enough_has_no_strength():
    one = np.zeros((9, 9, 9), dtype=np.float32)
    assert strength(one, 64.0, AFFINE) == 0
    one[4, 4, 4] = 1
    assert strength(one, 64.0, AFFINE) == 0
    assert strength(one, 0.0, AFFINE) == 1


def test_a_higher_score_elsewhere_does_not_hide_a_component():
    score_map = np.zeros((12, 9, 9), dtype=np.float32)
    score_map[1:5, 1:5, 1:5], score_map[10, 7, 7] = 0.4, 0.9
    assert strength(score_map, 64.0, AFFINE) == np.float32(0.4)


def test_each_component_has_the_strength_it_would_have_alone():
    score_map = np.zeros((30, 12, 12), dtype=np.float32)
    score_map[2:6, 2:6, 2:6], score_map[12:15, 4:7, 4:7], score_map[13, 5, 5] = 0.4, 0.6, 0.9
    labels, table = components(score_map, 0.1, 64.0, AFFINE)
    assert component_strengths(score_map, labels, len(table), 64.0, AFFINE) == pytest.approx([0.4, 0.6])
    assert strength(score_map, 64.0, AFFINE) == pytest.approx(0.6)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3])
def test_a_new_healthy_scan_is_marked_no_more_often_than_promised(share):
    rng = np.random.default_rng(1)
    draws = rng.gamma(2, 0.1, (4000, 40))
    marked_share = np.mean([row[-1] > conformal_threshold(list(row[:-1]), share) for row in draws])
    assert marked_share <= share + 0.015
    assert marked_share >= share - 1 / 40 - 0.015  # nor much less often


def test_few_healthy_scans_do_not_allow_a_small_share():
    assert conformal_threshold(list(range(19)), 0.05) == 18
    with pytest.raises(InputError, match="18 healthy scans") as error:
        conformal_threshold(list(range(18)), 0.05)
    assert "19" in error.value.hint


def test_as_strong_counts_ties():
    assert as_strong([0.1, 0.2, 0.2, 0.5], 0.2) == 3


def test_a_tail_gives_back_the_rate_that_was_asked_for():
    tail = healthy_tail(scans(20))
    pooled = np.concatenate([score[mask] for score, mask in scans(20)])
    for rate in (0.05, 0.005, 0.0005):
        assert (pooled > rate_threshold(tail, rate)).mean() == pytest.approx(rate, abs=2 / pooled.size)
    between = rate_threshold(tail, 0.003)
    assert (pooled > between).mean() == pytest.approx(0.003, rel=0.2)
    assert rate_threshold(tail, 0.005) < between < rate_threshold(tail, 0.002)


def test_the_tail_that_judges_a_scan_does_not_know_it():
    known = list(scans(4))
    unlike = [(known[0][0] * 10, known[0][1]), *known[1:]]
    before, after = tails_of_the_others(known), tails_of_the_others(unlike)
    assert before[0] == after[0] == healthy_tail(known[1:])
    assert all(old[-1] < new[-1] for old, new in zip(before[1:], after[1:], strict=True))


def test_a_tail_is_made_of_quantiles_also_where_most_scores_are_zero():
    sparse = [(np.where(score > 0.3, score, 0).astype(np.float32), mask) for score, mask in scans(5)]
    for known in (list(scans(5)), sparse):
        for i, found in enumerate(tails_of_the_others(known)):
            others = known[:i] + known[i + 1 :]
            pooled = np.concatenate([score[mask] for score, mask in others]).astype(np.float64)
            expected = [(rate, pytest.approx(np.quantile(pooled, 1 - rate), rel=1e-6)) for rate, _ in found]
            assert found == healthy_tail(others) == expected


def test_rarity_at_the_ceiling_is_the_share_of_voxels_there():
    score = np.minimum(np.random.default_rng(2).gamma(2, 0.05, (60, 60, 20)), 0.3).astype(np.float32)
    tail = healthy_tail([(score, np.ones(score.shape, dtype=bool))])
    assert sum(value == score.max() for _, value in tail) >= 3
    clipped = (score == score.max()).mean()
    largest = max(rate for rate, value in tail if value == score.max())
    assert largest <= clipped
    found = rarity(np.array([0.2, score.max()], np.float32), tail)
    assert found[1] == pytest.approx(-np.log10(largest))
    assert found[0] < found[1]


def test_the_tail_that_judges_a_brain_knows_none_of_its_copies():
    known = list(scans(6))
    found = tails_of_the_others(known, [0, 1, 2, 0, 1, 2])
    assert found[1] == found[4] == healthy_tail([known[i] for i in (0, 2, 3, 5)])


def test_without_others_there_is_no_tail():
    with pytest.raises(InputError, match="no healthy voxel"):
        tails_of_the_others(list(scans(1)))


@pytest.mark.parametrize("rate", [0.1, 1e-5])
def test_a_rate_too_small_for_the_number_of_voxels_is_an_error(rate):
    with pytest.raises(InputError, match="do not determine the threshold"):
        rate_threshold(healthy_tail(scans()), rate)


def test_rarity_is_the_share_of_healthy_voxels_above():
    tail = healthy_tail(scans(20))
    pooled = np.concatenate([score[mask] for score, mask in scans(20)])
    for rate in (0.05, 0.01, 0.0005):
        value = np.quantile(pooled, 1 - rate).astype(np.float32)
        assert rarity(np.array([value]), tail)[0] == pytest.approx(-np.log10(rate), abs=0.01)
    values = np.linspace(0, 3 * pooled.max(), 500).astype(np.float32)
    found = rarity(values, tail)
    assert (np.diff(found) > 0).all()  # it orders as the score does, beyond all healthy voxels too
    assert found[0] == 0
    assert found[-1] > 5


def test_beyond_a_flat_tail_nothing_is_rarer():
    level = float(np.float32(0.2))
    flat = [(0.05, 0.0), (0.005, level), (0.0005, level)]
    assert rarity(np.array([0.0, level, 9.0], np.float32), flat) == pytest.approx(
        [0, -np.log10(0.005), -np.log10(0.0005)]
    )


def with_lesion(voxels, seed=4):
    """A brain of 50,000 voxels, of which so many come from elsewhere; and its healthy tail."""
    rng = np.random.default_rng(seed)
    health = rng.gamma(2, 0.05, (50, 50, 100)).astype(np.float32)
    values = rng.gamma(2, 0.05, 50_000).astype(np.float32)
    values[:voxels] += 0.6
    return values, healthy_tail([(health, np.ones(health.shape, dtype=bool))])


@pytest.mark.parametrize("voxels", [0, 50, 2_000, 10_000])
@pytest.mark.parametrize("share", [0.05, 0.2])
def test_false_discoveries_are_controlled_as_by_benjamini_and_hochberg(voxels, share):
    from scipy.stats import false_discovery_control

    values, tail = with_lesion(voxels)
    marked = values > fdr_threshold(values, tail, share)
    p_values = 10.0 ** -rarity(values, tail).astype(np.float64)
    np.testing.assert_array_equal(marked, false_discovery_control(p_values) <= share)
    if voxels:
        assert marked[:voxels].mean() > 0.9
    if voxels >= 2_000:  # of fewer the share is a matter of chance
        assert marked[voxels:].sum() / marked.sum() < 1.2 * share


def test_the_more_is_rare_the_lower_the_threshold():
    found = [fdr_threshold(*with_lesion(voxels), 0.05) for voxels in (50, 2_000, 10_000)]
    assert found == sorted(found, reverse=True)
    assert found[0] > found[-1]


def test_a_healthy_brain_stays_empty():
    marked = [
        (values > fdr_threshold(values, tail, 0.05)).sum() for values, tail in map(with_lesion, [0] * 10, range(10))
    ]
    assert sorted(marked)[8] == 0


def test_no_brain_has_no_rate_of_false_discoveries():
    with pytest.raises(InputError, match="no voxel"):
        fdr_threshold(np.zeros(0, np.float32), with_lesion(0)[1], 0.05)


def test_copies_of_a_brain_do_not_make_an_interval_narrower():
    assert interval_of_share(9 / 3, 20) == pytest.approx(interval_of_share(3, 20))
    between = interval_of_share(10 / 3, 20)
    assert interval_of_share(3, 20)[0] < between[0] < interval_of_share(4, 20)[0]
    assert interval_of_share(3, 20)[1] < between[1] < interval_of_share(4, 20)[1]


def test_the_interval_of_a_share_holds_the_true_share_at_least_as_often_as_it_says():
    """Summed over every possible count, for shares and numbers of scans as they occur."""
    for scans in (9, 20, 60):
        every = [interval_of_share(count, scans) for count in range(scans + 1)]
        assert (every[0][0], every[-1][1]) == (0, 1)
        assert every[0][1] == pytest.approx(1 - 0.025 ** (1 / scans))  # none of n
        for share in (0.01, 0.05, 0.3, 0.5):
            chance = stats.binom.pmf(np.arange(scans + 1), scans, share)
            assert sum(p for p, (low, high) in zip(chance, every, strict=True) if low <= share <= high) >= 0.95
