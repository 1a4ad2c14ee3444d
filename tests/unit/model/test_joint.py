"""Evidence of several contrasts, joined."""

from __future__ import annotations

import numpy as np
import pytest

from uadcli.errors import InputError
from uadcli.model import joint
from uadcli.model.joint import Evidence
from uadcli.model.threshold import Basis, Threshold
from uadcli.scoring.calibration import healthy_tail, rarity
from uadcli.settings.threshold import AUTO_RATE, EXTENT, ThresholdRule

SHAPE = (4, 3, 2)
WHOLE = np.ones(SHAPE, bool)
OWN = {"FLAIR": Threshold(1.0, Basis("rate", 0.001)), "T1w": Threshold(2.0, Basis("conformal", 0.05))}


@pytest.fixture
def equal(monkeypatch: pytest.MonkeyPatch) -> None:
    """No set of contrasts has weights of its own."""
    monkeypatch.setattr(joint, "WEIGHTS", {})


def evidence(contrast: str, value: float, mask: np.ndarray = WHOLE) -> Evidence:
    return Evidence(contrast, np.full(SHAPE, value, np.float32), mask)


@pytest.mark.usefixtures("equal")
def test_what_one_contrast_shows_alone_counts_as_a_mean_that_is_as_improbable() -> None:
    half = WHOLE.copy()
    half[:2] = False
    brain = WHOLE.copy()
    brain[0, 0, 0] = False
    found = joint.joined([evidence("FLAIR", 4.0), evidence("T1w", 1.0, half)], brain)
    assert found.dtype == np.float32
    assert found[0, 0, 0] == 0
    # T1w has nothing there, and is not assumed to be healthy
    assert np.allclose(found[:2][brain[:2]], joint.rarity_of(1e-4, [0.5, 0.5]), atol=0.01)
    assert np.allclose(found[2:], 2.5)


@pytest.mark.parametrize("lacking", ["FLAIR", "T1w"])
@pytest.mark.parametrize("rate", [0.02, 0.001])
def test_healthy_voxels_are_marked_at_the_same_rate_where_a_contrast_has_no_evidence(lacking: str, rate: float) -> None:
    shape = (200, 100, 50)
    drawn = -np.log10(np.random.default_rng(5).uniform(size=(2, *shape))).astype(np.float32)
    inside = np.ones(shape, bool)
    covered = {name: inside.copy() for name in ("FLAIR", "T1w")}
    covered[lacking][:100] = False
    gave = [Evidence(name, values, covered[name]) for name, values in zip(covered, drawn, strict=True)]
    marked = joint.joined(gave, inside) > joint.threshold(ThresholdRule("rate", rate), OWN).value
    for part in (marked[:100], marked[100:]):
        assert part.mean() == pytest.approx(rate, rel=0.15)


@pytest.mark.parametrize("of", [[1.0], [0.5, 0.5]])
def test_a_rarer_voxel_has_a_higher_mean_however_rare_it_is(of: list[float]) -> None:
    found = joint.as_rare(np.linspace(0, 60, 400, dtype=np.float32), of, [0.7, 0.2, 0.1])
    assert found[0] == 0
    assert (np.diff(found) > 0).all()
    assert joint.as_rare(np.array([20.0]), of, of)[0] == pytest.approx(20, abs=0.05)


def test_flair_outweighs_the_contrasts_that_show_fewer_lesions() -> None:
    for others in (["T1w"], ["T2w"], ["T1w", "T2w"]):
        weights = joint.weights_of([*others, "FLAIR"])
        assert weights["FLAIR"] >= 0.8
        assert sum(weights.values()) == pytest.approx(1)


@pytest.mark.usefixtures("equal")
def test_weights_are_those_of_the_set_of_contrasts_and_equal_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert joint.weights_of(["FLAIR", "T1w", "T2w"]) == pytest.approx(dict.fromkeys(("FLAIR", "T1w", "T2w"), 1 / 3))
    monkeypatch.setattr(joint, "WEIGHTS", {frozenset({"T1w", "FLAIR"}): {"FLAIR": 3.0, "T1w": 1.0}})
    assert joint.weights_of(["T1w", "FLAIR"]) == {"T1w": 0.25, "FLAIR": 0.75}
    assert joint.weights_of(["T1w"]) == {"T1w": 1.0}
    assert np.allclose(joint.joined([evidence("FLAIR", 4.0), evidence("T1w", 0.0)], WHOLE), 3.0)


def test_other_weights_can_be_given_for_map_and_threshold() -> None:
    table = {frozenset({"T1w", "FLAIR"}): {"FLAIR": 1.0, "T1w": 3.0}}
    gave = [evidence("FLAIR", 4.0), evidence("T1w", 0.0)]
    assert np.allclose(joint.joined(gave, WHOLE, table), 1.0)
    found, shipped = (joint.threshold(ThresholdRule("auto"), OWN, one) for one in (table, None))
    assert joint.share_above(found.value, [0.25, 0.75]) == pytest.approx(AUTO_RATE)
    assert found.value < shipped.value
    assert np.allclose(joint.joined(gave, WHOLE, {}), 2.0)  # not listed: equal ones


def test_a_voxel_without_any_evidence_is_an_error_and_not_healthy() -> None:
    with pytest.raises(InputError, match="without evidence"):
        joint.joined([evidence("FLAIR", 1.0, ~WHOLE)], WHOLE)
    without = {frozenset({"T1w", "FLAIR"}): {"FLAIR": 1.0, "T1w": 0.0}}
    with pytest.raises(InputError, match="without evidence"):
        joint.joined([evidence("FLAIR", 1.0, ~WHOLE), evidence("T1w", 9.0)], WHOLE, without)
    assert np.allclose(joint.joined([evidence("FLAIR", 1.0), evidence("T1w", 9.0, ~WHOLE)], WHOLE, without), 1.0)


def test_the_threshold_is_that_of_a_rate_and_says_what_it_rests_on() -> None:
    found = joint.threshold(ThresholdRule("auto"), OWN)
    weights = joint.weights_of(list(OWN)).values()
    assert joint.share_above(found.value, list(weights)) == pytest.approx(AUTO_RATE)
    words = found.basis.in_words()
    assert "if the scores of FLAIR, T1w are independent" in words
    assert f"at most {200 * 10**-found.value:.2g} % in any case" in words
    assert "not calibrated on healthy subjects" in words
    given = joint.threshold(ThresholdRule("value", 4.5), OWN)
    assert given.value == 4.5
    assert given.basis.in_words() == "given by the user"


@pytest.mark.parametrize("others", [["T1w"], ["T2w"], ["T1w", "T2w"]])
def test_a_finding_extends_to_what_is_rare_if_the_contrasts_agree(others: list[str]) -> None:
    own = dict.fromkeys(["FLAIR", *others], OWN["FLAIR"])
    found = joint.threshold(ThresholdRule("auto"), own)
    assert found.extent == pytest.approx(-np.log10(EXTENT))
    agreeing = -np.log10(np.random.default_rng(0).uniform(size=(100, 100, 40))).astype(np.float32)
    together = joint.joined([Evidence(name, agreeing, agreeing >= 0) for name in own], agreeing >= 0)
    assert (together > found.lowest).mean() == pytest.approx(EXTENT, rel=0.1)
    assert "above which 0.5 % of healthy voxels lie if the scores agree around a finding" in found.basis.in_words()


def test_with_equal_weights_what_makes_a_finding_is_lower_than_that_and_nothing_extends() -> None:
    found = joint.threshold(ThresholdRule("auto"), {"T1w": OWN["T1w"], "T2w": OWN["T1w"]})
    assert found.value < -np.log10(EXTENT)
    assert (found.extent, found.basis.extent) == (None, None)
    assert "extended" not in found.basis.in_words()


def test_one_contrast_alone_has_the_threshold_of_its_rate() -> None:
    assert joint.rarity_of(0.01, [1.0]) == pytest.approx(2)
    assert joint.share_above(2.0, [1.0, 0.0]) == pytest.approx(0.01)


@pytest.mark.parametrize("weights", [(0.95, 0.05), (0.5, 0.5), (0.9, 0.05, 0.05)])
def test_the_share_above_a_mean_of_independent_rarities_is_that_of_a_simulation(weights: tuple[float, ...]) -> None:
    drawn = -np.log10(np.random.default_rng(0).uniform(size=(len(weights), 2_000_000)))
    for rate in (0.01, 0.001):
        above = float((np.array(weights) @ drawn > joint.rarity_of(rate, weights)).mean())
        assert above == pytest.approx(rate, rel=0.1)


def test_what_flair_shows_alone_is_found_with_a_further_contrast_that_does_not_show_it() -> None:
    """A lesion just above the threshold of FLAIR, at the median of T1w and T2w."""
    for others in (["T1w"], ["T2w"], ["T1w", "T2w"]):
        own = dict.fromkeys(["FLAIR", *others], OWN["FLAIR"])
        gave = [evidence("FLAIR", -np.log10(AUTO_RATE) + 0.05), *(evidence(c, np.log10(2)) for c in others)]
        assert (joint.joined(gave, WHOLE) > joint.threshold(ThresholdRule("auto"), own).value).all()


def test_a_mismatch_of_one_contrast_is_one_of_the_joined_threshold() -> None:
    other = {"T2w": Threshold(1.0, Basis("rate", 0.01, borrowed=("FLAIR", "T2w"), mismatches=frozenset({"settings"})))}
    found = joint.threshold(ThresholdRule("auto"), OWN | other).basis
    assert not found.valid
    assert found.borrowed_from == "FLAIR"


@pytest.mark.parametrize("dependence", [0.0, 0.6, 1.0, -1.0])
def test_healthy_voxels_are_marked_no_more_often_than_the_sidecar_says(dependence: float) -> None:
    """Two contrasts, calibrated by themselves, whose scores depend on each other in various ways."""
    rng = np.random.default_rng(3)
    size, rate = (100, 100, 40), 0.002
    first, own = rng.normal(size=size), rng.normal(size=size)
    second = dependence * first + np.sqrt(1 - dependence**2) * own
    inside = np.ones(size, bool)
    scores = [np.exp(one).astype(np.float32) for one in (first, second)]
    maps = [rarity(one, healthy_tail([(one, inside)])) for one in scores]
    together = joint.joined([Evidence(n, m, inside) for n, m in zip(("T1w", "FLAIR"), maps, strict=True)], inside)
    used = joint.threshold(ThresholdRule("rate", rate), OWN)
    marked = float((together > used.value).mean())
    assert used.basis.most is not None
    assert marked <= used.basis.most
    if dependence == 1:
        assert marked == pytest.approx(10**-used.value, rel=0.1)
    if dependence == 0:
        assert marked == pytest.approx(rate, rel=0.1)
