"""Verdicts of quality control."""

from __future__ import annotations

import math

import pytest

from uadcli.scoring import quality
from uadcli.scoring.quality import Limits, Measures

GOOD = {"brain_volume_ml": 1400.0, "mask_overlap": 0.95, "border_fraction": 0.01, "stretch": 1.1}


def assess(*values, limits=None, **measures):
    return quality.assess(Measures(*values, **measures), limits)


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
        ("brain_volume_ml", Limits.volume_pass_ml[0], "pass", "warn", 1),
        ("brain_volume_ml", Limits.volume_pass_ml[1], "pass", "warn", -1),
        ("brain_volume_ml", Limits.volume_warn_ml[0], "warn", "fail", 1),
        ("brain_volume_ml", Limits.volume_warn_ml[1], "warn", "fail", -1),
        ("mask_overlap", Limits.overlap_pass, "pass", "warn", 1),
        ("mask_overlap", Limits.overlap_warn, "warn", "fail", 1),
        ("border_fraction", Limits.border_pass, "pass", "warn", -1),
        ("stretch", Limits.stretch_pass, "pass", "warn", -1),
        ("stretch", Limits.stretch_warn, "warn", "fail", -1),
    ],
)
def test_a_limit_belongs_to_the_better_side(name, limit, inside, outside, sign):
    assert verdict_of(name, limit) == inside
    assert verdict_of(name, limit + sign * 1e-6) == inside
    assert verdict_of(name, limit - sign * 1e-6) == outside


def test_the_border_alone_never_fails_a_scan():
    assert assess(**{**GOOD, "border_fraction": 1.0}).verdict == "warn"


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


def test_similarity_is_judged_where_limits_are_given():
    limits = Limits(similarity=(0.5, 0.3))
    assert assess(**GOOD, limits=limits, similarity=0.6).verdict == "pass"
    assert assess(**GOOD, limits=limits, similarity=0.4).verdict == "warn"
    assert assess(**GOOD, limits=limits, similarity=0.2).verdict == "fail"
    assert assess(**GOOD, limits=limits).checks[-1].verdict == "not computed"
    assert "similarity" not in [c.name for c in assess(**GOOD, similarity=0.0).checks]
