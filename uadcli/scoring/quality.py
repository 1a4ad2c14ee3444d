"""Quality control: a verdict for each measure of a detection, and the worst of them for the scan."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

VERDICTS = ("pass", "warn", "fail")
NOT_COMPUTED = "not computed"
NO_LIMIT = float("inf")


@dataclass(frozen=True)
class Limits:
    """The limits within which a measure passes, or is a warning.

    Brain volumes: adults lie between about 0.9 and 1.9 l. Overlap: registered adult heads of the development data lie
    above 0.93; a head placed wrongly, above the template or turned by 90 degrees, falls below 0.8. Stretch: an affine
    can pull half a brain over the whole template, and then overlap says nothing; half a brain is stretched by 1.6 or
    more, whole heads by at most 1.27, or 1.51 where the header's slice spacing was a guess.
    """

    volume_pass_ml: tuple[float, float] = (900.0, 2000.0)
    volume_warn_ml: tuple[float, float] = (600.0, 2400.0)
    overlap_pass: float = 0.88
    overlap_warn: float = 0.80
    border_pass: float = 0.10
    stretch_pass: float = 1.40
    stretch_warn: float = 1.60
    similarity: tuple[float, float] | None = None  # pass and warn from here; None: not judged, as nothing is measured


@dataclass(frozen=True)
class Sign:
    """The ranges of a measure of `data.artefacts` that pass and that warn, and what it means if it does neither."""

    passing: tuple[float, float]
    warning: tuple[float, float]
    text: str


# Each limit lies beyond 54 good scans of 12 data sets, of whole heads and stripped, with at most one of them outside:
# `packaging/evaluation/artefacts.py` prints the values of good scans and what damaged ones give.
SIGNS = {
    "noise": Sign((0.0, 0.10), (0.0, 0.20), "noise, as a share of the brain's intensity"),
    "ghosts": Sign((0.0, 0.024), (0.0, 0.07), "signal in the air along one axis of the head: the head moved or pulsed"),
    "spikes": Sign((0.0, 5.5), (0.0, 7.0), "single points of k-space that stand out: stripes over the image"),
    "empty_slices": Sign((0.0, 0.0), (0.0, 1.0), "slices without signal inside the head"),
    "slice_step": Sign((0.0, 1.75), (0.0, 2.2), "step between two slices against those around: slices are missing"),
    "bias": Sign((1.0, 1.9), (1.0, 2.4), "brightest over darkest white matter by a smooth field"),
    "grey_values": Sign((24.0, NO_LIMIT), (12.0, NO_LIMIT), "distinct intensities in the brain"),
    "coverage": Sign((0.985, NO_LIMIT), (0.93, NO_LIMIT), "part of the template's brain inside the field of view"),
}


@dataclass(frozen=True)
class Check:
    """One measure with its verdict; a missing measure is `not computed` and does not count."""

    name: str
    value: float | None
    verdict: str
    text: str


@dataclass(frozen=True)
class Quality:
    """All checks of a scan; `verdict` is the worst of them."""

    verdict: str
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class Measures:
    """What is judged of a scan: brain volume (ml), Dice of the registered brain mask with the template's, and how much
    the border cuts; None and NaN are `not computed`.

    `stretch` is the ratio of the largest to the smallest scaling of the registration, `similarity` that with the
    template (0..1), `distance` that from the training scans of the model, with the limit that held-out healthy scans
    gave it. `artefacts` are measures of `SIGNS` by name.
    """

    brain_volume_ml: float | None
    mask_overlap: float | None
    border_fraction: float | None
    stretch: float | None = None
    similarity: float | None = None
    distance: float | None = None
    distance_limit: float | None = None
    artefacts: Mapping[str, float | None] = field(default_factory=dict)


def assess(of: Measures, limits: Limits | None = None) -> Quality:
    """Judge the measures of a scan.

    The similarity is judged where the limits say how; a distance beyond its limit is at most a warning; infinite, it
    has a verdict and no value. The scan's verdict is `not computed` if nothing was.
    """
    limits = limits or Limits()
    overlap, fair_overlap = (limits.overlap_pass, NO_LIMIT), (limits.overlap_warn, NO_LIMIT)
    border, fair_border = (0.0, limits.border_pass), (0.0, NO_LIMIT)  # a cut-off brain is at most a warning
    texts = (
        "volume of the brain mask; check the mask if it does not pass",
        "overlap of the registered brain with the template's brain",
        "share of the brain's surface cut by the field of view",
        "registration stretches one direction against another: part of the brain is missing, or the spacing is wrong",
    )
    checks = [
        _check("brain_volume_ml", of.brain_volume_ml, limits.volume_pass_ml, limits.volume_warn_ml, texts[0]),
        _check("mask_overlap", of.mask_overlap, overlap, fair_overlap, texts[1]),
        _check("border_fraction", of.border_fraction, border, fair_border, texts[2]),
        _check("stretch", of.stretch, (1.0, limits.stretch_pass), (1.0, limits.stretch_warn), texts[3]),
    ]
    if limits.similarity is not None:
        good, fair = limits.similarity
        text = "similarity of the registered scan to the template"
        checks.append(_check("similarity", of.similarity, (good, NO_LIMIT), (fair, NO_LIMIT), text))
    if of.distance_limit is not None:
        text = "distance of the scan from the model's training scans"
        check = _check("distance", of.distance, (0.0, of.distance_limit), (0.0, NO_LIMIT), text)
        checks.append(replace(check, value=None) if check.value == math.inf else check)
    for name, value in of.artefacts.items():
        sign = SIGNS[name]
        checks.append(_check(name, value, sign.passing, sign.warning, sign.text))
    return _of(checks)


def with_check(quality: Quality, check: Check) -> Quality:
    """The same with one more check."""
    return _of([*quality.checks, check])


def _of(checks: Sequence[Check]) -> Quality:
    counted = [c.verdict for c in checks if c.verdict in VERDICTS]
    return Quality(max(counted, key=VERDICTS.index, default=NOT_COMPUTED), tuple(checks))


def _check(
    name: str, value: float | None, passing: tuple[float, float], warning: tuple[float, float], text: str
) -> Check:
    if value is None or math.isnan(value):
        return Check(name, value, NOT_COMPUTED, text)
    if passing[0] <= value <= passing[1]:
        return Check(name, value, "pass", text)
    return Check(name, value, "warn" if warning[0] <= value <= warning[1] else "fail", text)
