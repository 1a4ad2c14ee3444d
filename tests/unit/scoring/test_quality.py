"""Verdicts of quality control."""

from __future__ import annotations

import math

import pytest

from uadcli import contrasts
from uadcli.scoring import quality
from uadcli.scoring.quality import BRAIN_LIMITS, Measures

GOOD = {"brain_volume_ml": 1400.0, "mask_overlap": 0.95, "border_fraction": 0.01, "stretch": 1.1}


def assess(*values, **measures):
    return quality.assess(Measures(*values, **measures))


def verdict_of(name, value):
    (check,) = [c for c in assess(**{**GOOD, name: value}).checks if c.name == name]
    return check.verdict


def test_a_good_scan_passes():
    found = assess(**GOOD)
    assert found.verdict == "pass"
    assert [c.verdict for c in found.checks] == ["pass"] * 4
    assert all(c.text for c in found.checks)


@pytest.mark.parametrize(
    ("name", "limit", "inside", "outside", "sign"),
    [
        ("brain_volume_ml", BRAIN_LIMITS["brain_volume_ml"].passing[0], "pass", "warn", 1),
        ("brain_volume_ml", BRAIN_LIMITS["brain_volume_ml"].passing[1], "pass", "warn", -1),
        ("brain_volume_ml", BRAIN_LIMITS["brain_volume_ml"].warning[0], "warn", "fail", 1),
        ("brain_volume_ml", BRAIN_LIMITS["brain_volume_ml"].warning[1], "warn", "fail", -1),
        ("mask_overlap", BRAIN_LIMITS["mask_overlap"].passing[0], "pass", "warn", 1),
        ("mask_overlap", BRAIN_LIMITS["mask_overlap"].warning[0], "warn", "fail", 1),
        ("border_fraction", BRAIN_LIMITS["border_fraction"].passing[1], "pass", "warn", -1),
        ("stretch", BRAIN_LIMITS["stretch"].passing[1], "pass", "warn", -1),
        ("stretch", BRAIN_LIMITS["stretch"].warning[1], "warn", "fail", -1),
    ],
)
def test_a_limit_belongs_to_the_better_side(name, limit, inside, outside, sign):
    assert verdict_of(name, limit) == inside
    assert verdict_of(name, limit + sign * 1e-6) == inside
    assert verdict_of(name, limit - sign * 1e-6) == outside


def test_the_border_alone_never_fails_a_scan():
    assert assess(**{**GOOD, "border_fraction": 1.0}).verdict == "warn"


def test_a_distance_may_be_below_0_and_is_at_most_a_warning():
    """That of HAND is for every other healthy scan."""
    found = {v: assess(**GOOD, distance=v, distance_limit=2.0).verdict for v in (-3.0, 2.0, 2.1, 1e9)}
    assert found == {-3.0: "pass", 2.0: "pass", 2.1: "warn", 1e9: "warn"}


def test_the_worst_check_is_the_verdict():
    assert assess(200, 0.95, 0.5).verdict == "fail"
    assert assess(1400, 0.85, 0.01).verdict == "warn"


@pytest.mark.parametrize("missing", [None, math.nan])
def test_what_is_missing_is_not_computed_and_not_counted(missing):
    assert verdict_of("mask_overlap", missing) == "not computed"
    assert assess(1400, missing, 0.01).verdict == "pass"
    assert assess(1400, missing, 0.5).verdict == "warn"


def test_a_scan_without_any_measure_does_not_pass():
    assert assess(None, None, None).verdict == "not computed"


def test_only_t1w_has_limits_of_similarity_which_no_turned_head_reaches():
    """Front to back and upside down, T1w heads have at most 0.06; good ones have 0.11 or more, but FLAIR 0.005."""
    assert [name for name, one in contrasts.ALL.items() if one.similarity] == ["T1w"]
    for value, verdict in ((0.057, "fail"), (0.08, "warn"), (0.113, "pass")):
        assert assess(**GOOD, similarity=value, similarity_limits=contrasts.T1W.similarity).verdict == verdict


def test_similarity_is_judged_where_limits_are_given():
    limits = (0.5, 0.3)
    for value, verdict in ((0.6, "pass"), (0.4, "warn"), (0.2, "fail")):
        assert assess(**GOOD, similarity=value, similarity_limits=limits).verdict == verdict
    assert assess(**GOOD, similarity_limits=limits).checks[-1].verdict == "not computed"
    assert "similarity" not in [c.name for c in assess(**GOOD, similarity=0.0).checks]
