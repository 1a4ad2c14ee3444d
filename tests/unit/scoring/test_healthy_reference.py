"""The healthy reference of a score: a deviation from health at a place, not the score alone, is what counts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from uadcli.errors import InputError
from uadcli.scoring import healthy_reference, scores

SHAPE = (16, 20, 12)
MASK = np.zeros(SHAPE, bool)
MASK[2:14, 2:18, 2:10] = True
RIM = np.zeros(SHAPE, bool)
RIM[2:6, 2:18, 2:10] = True


def healthy(count: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Scores that are high and vary much at the rim, in every scan."""
    rng = np.random.default_rng(seed)
    level = np.where(RIM, 0.5 + 0.1 * rng.standard_normal((count, 1, 1, 1)), 0.1)
    noise = 0.02 * rng.standard_normal((count, *SHAPE))
    return [(np.where(MASK, one, 0).astype(np.float32), MASK) for one in level + noise]


def test_normalising_ranks_an_always_high_rim_below_a_lesion():
    known = healthy_reference.fit(healthy(20))
    scan = healthy(1, seed=1)[0][0].copy()
    scan[10:12, 9:12, 5:7] = 0.3  # lower than the rim, but not of this place
    assert scan[RIM].min() > 0.3
    z = healthy_reference.z_score(scan, known, MASK)
    assert z[10:12, 9:12, 5:7].min() > z[RIM].max()
    assert (z[~MASK] == 0).all()
    assert z.min() == 0
    assert z.dtype == np.float32


def test_mean_and_deviation_are_those_of_the_scans():
    scans = [(np.full(SHAPE, value, np.float32), np.ones(SHAPE, bool)) for value in (1.0, 2.0, 3.0)]
    known = healthy_reference.fit(scans)
    inner = (slice(3, -3), slice(3, -3), slice(3, -3))  # a Gaussian reaches the border
    np.testing.assert_allclose(known.mean[inner], 2.0, rtol=1e-5)
    np.testing.assert_allclose(known.deviation[inner], np.sqrt(2 / 3), rtol=1e-5)
    z = healthy_reference.z_score(np.full(SHAPE, 4.0, np.float32), known, MASK)
    np.testing.assert_allclose(z[8, 10, 6], 2 / np.sqrt(2 / 3), rtol=1e-4)


def test_where_healthy_scans_hardly_vary_a_deviation_is_measured_by_the_median_one():
    known = healthy_reference.Reference(
        np.zeros((8, 10, 6), np.float32), np.full((8, 10, 6), 0.5, np.float32) * (np.arange(8) != 4)[:, None, None]
    )
    z = healthy_reference.z_score(np.ones(SHAPE, np.float32), known, MASK)
    np.testing.assert_allclose(z[MASK], 2, rtol=1e-5)


def test_a_scan_is_never_compared_with_itself():
    scans = healthy(6)
    odd = scans[2][0].copy()
    odd[10:14, 9:14, 5:9] = 0.9
    scans[2] = (odd, MASK)
    z = healthy_reference.cross_fitted(scans, [MASK] * 6)
    alone = healthy_reference.z_score(odd, healthy_reference.fit(scans[:2] + scans[3:]), MASK)
    np.testing.assert_allclose(z[2], alone, rtol=1e-3, atol=1e-3)
    assert z[2][11, 11, 7] > 1.5 * healthy_reference.z_score(odd, healthy_reference.fit(scans), MASK)[11, 11, 7]


def test_a_brain_is_never_compared_with_its_copies():
    scans = healthy(6)
    known = healthy_reference.of_the_others(scans, brains=[0, 1, 2, 0, 1, 2])
    expected = healthy_reference.fit([scans[i] for i in (0, 2, 3, 5)])
    for one in (known[1], known[4]):
        np.testing.assert_allclose(one.mean, expected.mean, rtol=1e-4, atol=1e-6)


def test_what_is_not_healthy_does_not_count():
    scans = healthy(6)
    lesion = scans[0][0].copy()
    lesion[10:14, 9:14, 5:9] = 50
    part = MASK & (lesion < 50)
    known = healthy_reference.fit([(lesion, part), *scans[1:]])
    assert known.mean.max() < 1
    assert known.deviation.max() < 1


def test_a_place_that_no_scan_has_takes_the_nearest():
    scans = [(values, MASK & ~RIM) for values, _ in healthy(6)]
    known = healthy_reference.fit(scans)
    assert np.isfinite(known.mean).all()
    assert known.mean[1, 5, 3] == pytest.approx(0.1, abs=0.03)
    assert (known.deviation > 0).all()


def test_residuals_in_own_units_do_not_depend_on_their_overall_size():
    known = healthy_reference.fit(healthy(20), 0.75)
    scan = healthy(1, seed=1)[0][0].copy()
    scan[10:12, 9:12, 5:7] = 0.3
    z = healthy_reference.z_score(scan, known, MASK)
    assert z[10:12, 9:12, 5:7].min() > z[RIM].max()
    np.testing.assert_allclose(healthy_reference.z_score(2.5 * scan, known, MASK), z, rtol=1e-3, atol=1e-3)
    louder = [(values * (1 + i / 10), part) for i, (values, part) in enumerate(healthy(20))]
    np.testing.assert_allclose(healthy_reference.fit(louder, 0.75).mean, known.mean, rtol=1e-4)
    as_it_is = healthy_reference.fit(healthy(20))
    # as it is, most of it is unlike health
    assert np.median(healthy_reference.z_score(2.5 * scan, as_it_is, MASK)[MASK]) > 1 > np.median(z[MASK])


def test_the_absolute_residual_and_the_robust_z_are_normalised_to_healthy_scans_on_their_own_scales():
    scaled = {name: score.own_scale for name, score in scores.BY_NAME.items() if score.own_scale}
    expected = {"absolute": 0.75, "robust-z": -0.75, "brightness": 0.75}
    assert scaled == expected | {f"z-{name}": value for name, value in expected.items()}


def test_the_quantile_that_tells_how_far_deviations_spread_is_used_and_kept():
    scans = healthy(20)
    known, extreme = (healthy_reference.fit(scans, 0.75, width=width) for width in (0.99, 0.999))
    assert extreme.spread[0] > 1.1 * known.spread[0]
    scan = healthy(1, seed=1)[0][0].copy()
    few = np.flatnonzero(MASK & MASK[::-1])[:: MASK.sum() // 8][:4]  # less than a hundredth, more than a thousandth
    for place in few:  # alike on both sides
        x, y, z = np.unravel_index(place, SHAPE)
        scan[[x, SHAPE[0] - 1 - x], y, z] = 3.0
    assert (
        healthy_reference.z_score(scan, extreme, MASK).max() < 0.7 * healthy_reference.z_score(scan, known, MASK).max()
    )
    state = healthy_reference.state_of({("absolute", "T1w"): known, ("brightness", "T1w"): extreme})
    back = [healthy_reference.from_state(state, name, "T1w").width for name in ("absolute", "brightness")]
    assert back == [0.99, pytest.approx(0.999)]
    assert "absolute.T1w.width" not in state  # as in models from before there was another


def test_a_scan_whose_deviations_are_wide_all_over_does_not_stand_out():
    known = healthy_reference.fit(healthy(20), 0.75)
    own, _ = known.spread
    unknown = dataclasses.replace(known, spread=None)
    wide = healthy(1, seed=1)[0][0].copy()
    wide[MASK] += 0.1 * np.random.default_rng(3).standard_normal(int(MASK.sum())).astype(np.float32)
    wide[10:12, 9:11, 5:6] = 0.9
    plain = healthy_reference.z_score(wide, unknown, MASK)
    assert np.quantile(plain[MASK], 0.99) > 1.5 * own
    z = healthy_reference.z_score(wide, known, MASK)
    assert np.quantile(z[MASK], 0.99) < 1.3 * own
    np.testing.assert_allclose(z / z.max(), plain / plain.max(), atol=1e-5)  # the order within the scan is the same
    assert z[10:12, 9:11, 5:6].min() > 1.5 * own
    each = [(healthy_reference.z_score(scan, one, MASK) for one in (unknown, known)) for scan, _ in healthy(10, seed=1)]
    narrow = [(plain, z) for plain, z in each if np.quantile(plain[MASK], 0.99) < own]
    assert len(narrow) >= 2
    assert all(np.array_equal(plain, z) for plain, z in narrow)  # never multiplied


def test_a_large_lesion_on_one_side_loses_no_strength_and_on_both_sides_it_does():
    rng = np.random.default_rng(0)
    *scans, scan = (np.where(MASK, 0.1 + 0.02 * rng.standard_normal(SHAPE), 0).astype(np.float32) for _ in range(21))
    known = healthy_reference.fit([(one, MASK) for one in scans], 0.75)
    unknown = dataclasses.replace(known, spread=None)
    middle = SHAPE[0] // 2
    for reach, weaker in ((slice(middle, None), False), (slice(None), True)):
        lesion = np.zeros(SHAPE, bool)
        lesion[reach, 4:10, 3:6] = True
        ill = np.where(lesion & MASK, scan + np.float32(0.5), scan)
        assert (lesion & MASK).sum() > 0.05 * MASK.sum()
        plain, z = (healthy_reference.z_score(ill, one, MASK)[lesion & MASK].mean() for one in (unknown, known))
        assert (z < 0.9 * plain) == weaker


def test_without_opposite_places_a_scan_has_the_spread_of_its_own():
    known = healthy_reference.fit(healthy(20), 0.75)
    half = MASK.copy()
    half[: SHAPE[0] // 2] = False
    values = healthy(1, seed=1)[0][0]
    assert np.isfinite(healthy_reference.z_score(values, known, half)).all()
    one, other = healthy_reference._spreads(values, half)
    assert one == other > 0


def test_the_spread_is_that_of_scans_compared_with_the_others():
    scans = healthy(8)
    spread = np.mean([np.quantile(z[MASK], 0.99) for z in healthy_reference.cross_fitted(scans, [MASK] * 8, 0.75)])
    known = healthy_reference.fit(scans, 0.75)
    assert known.spread[0] == pytest.approx(spread, rel=0.1)  # there, some are divided by their own
    assert known.spread[1] < known.spread[0]
    inside = np.mean([np.quantile(healthy_reference.z_score(*pair[:1], known, MASK)[MASK], 0.99) for pair in scans])
    assert known.spread[0] > inside
    twice = healthy_reference.fit([*scans, *scans], 0.75, [*range(8), *range(8)])
    assert twice.spread[0] == pytest.approx(known.spread[0], rel=1e-3)  # copies of a brain are left out with it
    assert twice.spread[1] == pytest.approx(known.spread[1], rel=0.05)
    assert healthy_reference.fit(scans).spread is healthy_reference.fit(scans, -0.75).spread is None
    assert healthy_reference.fit(scans[:1], 0.75).spread is None


def test_own_unit_deviations_do_not_depend_on_the_spread_of_a_scan():
    signed = [(values - 0.1, part) for values, part in healthy(20)]
    known = healthy_reference.fit(signed, -0.75)
    np.testing.assert_array_equal(known.mean, healthy_reference.fit(signed).mean)
    scan = known.mean.repeat(2, 0).repeat(2, 1).repeat(2, 2) + (healthy(1, seed=1)[0][0] - 0.1)
    scan[10:12, 9:12, 5:7] += 1
    z = healthy_reference.z_score(scan, known, MASK)
    assert np.quantile(z[MASK], 0.75) == pytest.approx(1, abs=1e-3)
    plain = healthy_reference.z_score(scan, healthy_reference.fit(signed), MASK)
    np.testing.assert_allclose(z * np.quantile(plain[MASK], 0.75), plain, rtol=1e-3, atol=1e-4)
    assert not healthy_reference.z_score(np.full(SHAPE, -9, np.float32), known, MASK).any()


def test_what_is_0_everywhere_has_no_scale():
    empty = np.zeros(SHAPE, np.float32)
    known = healthy_reference.fit([*healthy(5), (empty, MASK)], 0.75)
    assert np.isfinite(known.mean).all()
    assert not healthy_reference.z_score(empty, known, MASK).any()
    assert not healthy_reference.z_score(healthy(1)[0][0], known, np.zeros(SHAPE, bool)).any()


@pytest.mark.parametrize("quantile", [0.75, -0.75])
def test_what_is_0_but_for_a_small_part_has_no_scale_and_is_refused(quantile):
    """As the filtered residual in a brain mask of three slices: divided by nothing it would be enormous."""
    sparse = np.zeros(SHAPE, np.float32)
    sparse[8:12, 9:12, 5:7] = 9
    known = healthy_reference.fit(healthy(5), quantile)
    for of in (healthy_reference.z_score, healthy_reference.signed):
        with pytest.raises(InputError, match="no scale"):
            of(sparse, known, MASK)
    if quantile > 0:  # else the unit is one of the deviations, and a reference needs none
        with pytest.raises(InputError, match="no scale"):
            healthy_reference.fit([*healthy(5), (sparse, MASK)], quantile)


def test_too_few_scans_are_an_error():
    one = healthy(1)
    with pytest.raises(InputError, match="too few healthy scans"):
        healthy_reference.cross_fitted(one, [MASK])


def test_it_is_kept_in_the_weight_file():
    known = healthy_reference.fit(healthy(4))
    scaled = healthy_reference.fit(healthy(4), 0.75)
    state = healthy_reference.state_of({("absolute", "T1w"): known, ("absolute", "T2w"): scaled})
    back = healthy_reference.from_state(state, "absolute", "T1w")
    assert back is not None
    again = healthy_reference.from_state(state, "absolute", "T2w")
    assert again is not None
    assert (back.quantile, again.quantile) == (0, 0.75)
    assert (back.spread, again.spread) == (None, pytest.approx(scaled.spread, rel=1e-6))
    np.testing.assert_allclose(back.mean, known.mean, rtol=1e-3)
    np.testing.assert_allclose(back.deviation, known.deviation, rtol=1e-3, atol=1e-6)
    assert healthy_reference.from_state(state, "absolute", "FLAIR") is None
    assert healthy_reference.from_state({}, "siamese", "T1w") is None


def test_deviations_count_only_at_their_places():
    """With the spread of all of them, so that those that count are not larger without the rest."""
    scans = healthy(8)
    known = healthy_reference.fit(scans, 0.75)
    places = np.zeros(SHAPE, bool)
    places[: SHAPE[0] // 4 * 2] = True  # whole blocks
    within = known.within(places)
    state = healthy_reference.state_of({("brightness", "T1w"): within, ("absolute", "T1w"): known})
    kept, everywhere = (healthy_reference.from_state(state, kind, "T1w") for kind in ("brightness", "absolute"))
    assert kept is not None
    assert everywhere is not None
    assert everywhere.places is None
    np.testing.assert_array_equal(kept.places, within.places)
    odd = 1.5 * scans[0][0]
    before, after = (healthy_reference.z_score(odd, one, MASK) for one in (known, within))
    edge = SHAPE[0] // 4 * 2
    np.testing.assert_allclose(after[: edge - 1], before[: edge - 1], rtol=1e-6)
    assert before[edge + 1 :].any()
    assert not after[edge + 1 :].any()


@pytest.mark.parametrize("places", [None, "half"])
@pytest.mark.parametrize("quantile", [0.0, 0.75, -0.75])
def test_the_signed_deviation_is_the_z_score_before_its_cut_and_changes_by_its_slope(
    quantile: float, places: str | None
) -> None:
    rng = np.random.default_rng(2)
    maps = [(rng.normal(3, 1, (12, 12, 8)).astype(np.float32), np.ones((12, 12, 8), bool)) for _ in range(5)]
    known = healthy_reference.fit(maps, quantile)
    if places:
        known = known.within(np.indices((12, 12, 8))[1] < 6)
    mask = np.ones((12, 12, 8), bool)
    mask[0] = False
    values = rng.normal(3, 2, mask.shape).astype(np.float32)
    signed, slope = healthy_reference.signed(values, known, mask)
    assert np.allclose(np.maximum(signed, 0), healthy_reference.z_score(values, known, mask), atol=1e-5)
    assert signed.min() < 0
    assert not signed[~mask].any()
    top = np.unravel_index(signed.argmax(), mask.shape)
    values[top] += 1  # changes no quantile below the highest value
    assert healthy_reference.signed(values, known, mask)[0][top] - signed[top] == pytest.approx(slope[top], rel=1e-3)
