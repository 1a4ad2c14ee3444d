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
    """The ranges of a measure that pass and that are a warning, and what the measure is."""

    passing: tuple[float, float]
    warning: tuple[float, float]
    text: str


# Brain volumes: adults lie between about 0.9 and 1.9 l. Overlap: registered adult heads of the development data lie
# above 0.93; a head placed wrongly, above the template or turned by 90 degrees, falls below 0.8. A brain cut off by the
# border is at most a warning. Stretch: an affine can pull half a brain over the whole template, and then overlap says
# nothing; half a brain is stretched by 1.6 or more, whole heads by at most 1.27, or 1.51 where the header's slice
# spacing was a guess.
BRAIN_LIMITS = {
    "brain_volume_ml": Limits((900, 2000), (600, 2400), "volume of the brain mask; check the mask if it does not pass"),
    "mask_overlap": Limits(
        (0.88, NO_LIMIT), (0.8, NO_LIMIT), "overlap of the registered brain with the template's brain"
    ),
    "border_fraction": Limits((0.0, 0.1), (0.0, NO_LIMIT), "share of the brain's surface cut by the field of view"),
    "stretch": Limits(
        (1.0, 1.4),
        (1.0, 1.6),
        "registration stretches one direction against another: part of the brain is missing, or the spacing is wrong",
    ),
}
# Of `data.artefacts`. Each limit lies beyond 54 good scans of 12 data sets, of whole heads and stripped, with at most
# one of them outside: `packaging/evaluation/artefacts.py` prints the values of good scans and of damaged ones.
ARTEFACT_LIMITS = {
    "noise": Limits((0.0, 0.10), (0.0, 0.20), "noise, as a share of the brain's intensity"),
    "ghosts": Limits(
        (0.0, 0.024), (0.0, 0.065), "signal in the air along one axis of the head: the head moved or pulsed"
    ),
    "spikes": Limits((0.0, 5.5), (0.0, 7.0), "single points of k-space that stand out: stripes over the image"),
    "empty_slices": Limits((0.0, 0.0), (0.0, 1.0), "slices without signal inside the head"),
    "slice_step": Limits((0.0, 1.75), (0.0, 2.2), "step between two slices against those around: slices are missing"),
    "bias": Limits((1.0, 1.9), (1.0, 2.4), "brightest over darkest white matter by a smooth field"),
    "bias_corrected": Limits((1.0, 1.65), (1.0, 2.2), "range of the bias field that was corrected; part of it is left"),
    "grey_values": Limits((24.0, NO_LIMIT), (12.0, NO_LIMIT), "distinct intensities in the brain"),
    "coverage": Limits((0.985, NO_LIMIT), (0.975, NO_LIMIT), "part of the template's brain inside the field of view"),
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

    `stretch` is the ratio of the largest to the smallest scaling of the registration, `distance` that from the training
    scans of the model, with the limit that held-out healthy scans gave it. `similarity` is that of the registered scan
    with the template; it passes from the first of `similarity_limits` and is a warning from the second, and is not
    judged without them. `artefacts` are the measures of `ARTEFACT_LIMITS` by name; a measure in `upper_limits` passes
    and warns up to these values instead.
    """

    brain_volume_ml: float | None
    mask_overlap: float | None
    border_fraction: float | None
    stretch: float | None = None
    distance: float | None = None
    distance_limit: float | None = None
    similarity: float | None = None
    similarity_limits: tuple[float, float] | None = None
    artefacts: Mapping[str, float | None] = field(default_factory=dict)
    upper_limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def assess(of: Measures) -> Quality:
    """Judge the measures of a scan.

    A distance beyond its limit is at most a warning; infinite, it has a verdict and no value. The scan's verdict is
    `not computed` if nothing was.
    """
    checks = [_check(name, getattr(of, name), limits) for name, limits in BRAIN_LIMITS.items()]
    if of.similarity_limits is not None:
        passing, warning = ((low, NO_LIMIT) for low in of.similarity_limits)
        text = "similarity with the template; low in a head that is upside down or front to back"
        checks.append(_check("similarity", of.similarity, Limits(passing, warning, text)))
    if of.distance_limit is not None:
        text = "distance of the scan from the model's training scans"
        check = _check("distance", of.distance, Limits((-NO_LIMIT, of.distance_limit), (-NO_LIMIT, NO_LIMIT), text))
        checks.append(replace(check, value=None) if check.value == math.inf else check)
    checks += [_check(name, value, _limits(name, of.upper_limits)) for name, value in of.artefacts.items()]
    return _of(checks)


def _limits(name: str, upper: Mapping[str, tuple[float, float]]) -> Limits:
    usual = ARTEFACT_LIMITS[name]
    if name not in upper:
        return usual
    passing, warning = upper[name]
    return Limits((usual.passing[0], passing), (usual.warning[0], warning), usual.text)


def with_check(quality: Quality, check: Check) -> Quality:
    """The same with one more check."""
    return _of([*quality.checks, check])


def _of(checks: Sequence[Check]) -> Quality:
    counted = [c.verdict for c in checks if c.verdict in VERDICTS]
    return Quality(max(counted, key=VERDICTS.index, default=NOT_COMPUTED), tuple(checks))


def _check(name: str, value: float | None, limits: Limits) -> Check:
    if value is None or math.isnan(value):
        return Check(name, value, NOT_COMPUTED, limits.text)
    if limits.passing[0] <= value <= limits.passing[1]:
        return Check(name, value, "pass", limits.text)
    return Check(name, value, "warn" if limits.warning[0] <= value <= limits.warning[1] else "fail", limits.text)
