"""Verdicts and measures in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from uadcli.report.markup import NOT_COMPUTED, number

VERDICTS = {"pass": "passed", "warn": "look first", "fail": "failed"}
ADVICE = {
    "pass": "All checks passed. They test the preparation of the scan, not whether the map is right.",
    "warn": "Something is unusual. Look at the check pictures before you use the map.",
    "fail": "The scan is damaged or was not prepared correctly. Use the map only if the check pictures convince you.",
}
UNIT = {
    "brain_volume_ml": (0, " ml"),
    **dict.fromkeys(("mask_overlap", "border_fraction", "coverage"), (2, " of 1")),
    **dict.fromkeys(("empty_slices", "grey_values"), (0, "")),
}
CHECKS = {
    "brain_volume_ml": {
        "pass": "The brain mask is as large as a brain usually is",
        "warn": "The brain mask is unusually small or large: it may miss brain or hold other tissue",
        "fail": "The brain mask is far too small or too large for an adult brain",
    },
    "mask_overlap": {
        "pass": "The brain is aligned with the template's brain",
        "warn": "The brain is only roughly aligned with the template's brain",
        "fail": "The brain is not aligned with the template's brain: the registration failed",
    },
    "border_fraction": {
        "pass": "The whole brain is in the field of view",
        "warn": "Part of the brain is outside the field of view; nothing can be found there",
    },
    "stretch": {
        "pass": "The brain has normal proportions",
        "warn": "The brain had to be stretched to fit: check the header's voxel sizes and the brain mask",
        "fail": "The brain had to be stretched implausibly: part of it is missing, or the voxel sizes are wrong",
    },
    "similarity": {
        "pass": "The tissues lie where the template has them",
        "warn": "The tissues hardly lie where the template has them: is the head the right way up?",
        "fail": "The tissues do not lie where the template has them: the head is upside down or front to back",
    },
    "distance": {
        "pass": "The scan looks like the training scans of the model",
        "warn": "The scan is unlike the training scans of the model: is it a brain, this contrast, the right way up?",
    },
    "noise": {
        "pass": "The image has little noise",
        "warn": "The image is noisy: small findings may be noise",
        "fail": "The image is far noisier than those that the model knows",
    },
    "ghosts": {
        "pass": "There are no ghosts of the head in the air",
        "warn": "There is signal in the air along one axis of the head: it moved or pulsed, and parts may be doubled",
        "fail": "There are strong ghosts of the head in the air: ghosts in the brain may be marked",
    },
    "spikes": {
        "pass": "There are no stripes from spikes in the raw data",
        "warn": "There may be stripes over the image, from spikes in the raw data",
        "fail": "There are stripes over the image, from spikes in the raw data",
    },
    "empty_slices": {
        "pass": "There is no slice without signal inside the head",
        "warn": "There is a slice without signal inside the head",
        "fail": "There are slices without signal inside the head",
    },
    "slice_step": {
        "pass": "Neighbouring slices follow each other evenly",
        "warn": "Two neighbouring slices differ more than others: slices may be missing, or the head moved",
        "fail": "Two neighbouring slices do not follow each other: slices are missing, or the head moved",
    },
    "bias": {
        "pass": "The brightness is even enough to be corrected",
        "warn": "The brightness is uneven: what is left after its correction may be marked",
        "fail": "The brightness is very uneven: what is left after its correction is probably marked",
    },
    "bias_corrected": {
        "pass": "The correction of the brightness was moderate",
        "warn": "The correction of the brightness was strong: what it left may be marked",
        "fail": "The correction of the brightness was very strong: what it left is probably marked",
    },
    "grey_values": {
        "pass": "The image has enough grey values",
        "warn": "The image has few grey values",
        "fail": "The image has so few grey values that tissues cannot be distinguished",
    },
    "coverage": {
        "pass": "The whole brain lies in the field of view, by the registration",
        "warn": "Part of the brain lies outside the field of view, by the registration; nothing can be found there",
        "fail": "A large part of the brain lies outside the field of view, or is empty",
    },
    "contrasts": {
        "pass": "All contrasts of the patient that were given are joined",
        "warn": "A contrast of the patient that was given is left out; the map rests on the others",
    },
    "contrast": {"pass": "The tissues have the intensities of the contrast"},  # else its own text says why
}

OUTSIDE = "outside the regions of the atlas"
ACROSS = 0.2  # share of a finding on the other side, from which on it is on both
SIDES_UNKNOWN = "Left and right are unknown: the header does not define them."
PARTS, SMALL = 3, 0.05  # how many parts of a finding are named, and from which share on


def verdict_word(verdict: str | None) -> str:
    """A verdict in one or two words."""
    return VERDICTS.get(verdict or "", NOT_COMPUTED)


def verdict_class(verdict: str | None) -> str:
    """The verdict as a class of the style sheet; empty for an unknown one."""
    return str(verdict) if verdict in VERDICTS else ""


def advice(verdict: str | None) -> str:
    """What to do after a verdict."""
    return ADVICE.get(verdict or "", "No check could be computed.")


def check_sentence(check: Mapping[str, Any]) -> str:
    """One check (`name`, `value`, `verdict`, `text`) of a sidecar as a sentence; unknown ones by their own text."""
    name, value, verdict = str(check["name"]), check["value"], str(check["verdict"])
    if verdict not in VERDICTS:
        return f"Not computed: {check['text']}."
    digits, unit = UNIT.get(name, (2, ""))
    sentence = CHECKS.get(name, {}).get(verdict, f"{name.capitalize()}: {check['text']}")
    if value is None:
        return f"{sentence}."
    return f"{sentence} ({name.removesuffix('_ml').replace('_', ' ')} {number(value, digits)}{unit})."


def regions_phrase(regions: Sequence[Mapping[str, Any]] | None) -> str:
    """The probable location of a finding: the three largest shares by region in per cent, and the share outside.

    `regions` as in the sidecar; None or empty: `outside the regions of the atlas`.
    """
    if not regions:
        return OUTSIDE
    shown = [part for part in regions if part["share"] >= SMALL][:PARTS] or [regions[0]]
    words = [f"{part['name']} {100 * part['share']:.0f} %" for part in shown]
    outside = 1 - sum(part["share"] for part in regions)
    if outside >= SMALL:
        words.append(f"outside {100 * outside:.0f} %")
    return ", ".join(words)


def side_of_finding(left: float, known: bool = True) -> str | None:
    """The side of a finding, given the share of it (0..1) on the left; None where left and right are unknown.

    `both` if more than a fifth of it lies on each side, wherever its centre is.
    """
    if not known:
        return None
    return "left" if left >= 1 - ACROSS else "right" if left <= ACROSS else "both"


def ends(axis: int, known: bool = True) -> tuple[str, str]:
    """The letters of the left and right edge of a plane across `axis`, radiological view; `?` for unknown sides."""
    return ("P", "A") if axis == 0 else ("R", "L") if known else ("?", "?")


def marked_sentence(count: int, volume_ml: float | None) -> str:
    """How much is marked, as a sentence."""
    if not count:
        return "Nothing is marked. This does not mean that the brain is healthy."
    regions = "1 region is marked" if count == 1 else f"{count} regions are marked"
    return f"{regions}, {number(volume_ml)} ml in total."


def healthy_share(comparison: Mapping[str, Any]) -> str:
    """How many healthy scans, as in `anomaly.healthy_scans` of the sidecar, with the interval of their share."""
    low, high = (100 * end for end in comparison["interval"])
    counted = f"{comparison['as_strong']} of {comparison['scans']} healthy scans"
    if comparison["brains"] < comparison["scans"]:
        counted += f" of {comparison['brains']} brains, as they are and degraded as by other scanners"
    return f"{counted} ({100 * comparison['share']:.0f} %, 95 % interval {low:.0f} to {high:.0f} %)"


def healthy_sentence(comparison: Mapping[str, Any] | None, unknown: str | None = None) -> str:
    """How the scan compares with healthy ones, from `anomaly.healthy_scans` of the sidecar, or why it is `unknown`."""
    if comparison is None:
        why = f": {unknown}" if unknown else " for this score, contrast or these settings"
        return f"There is no comparison with healthy scans{why}."
    return f"{healthy_share(comparison)} have a finding as strong as the strongest here."


def healthy_cell(as_strong: int | None, comparison: Mapping[str, Any] | None) -> str:
    """The same for one finding, without the interval."""
    return "n/a" if as_strong is None or comparison is None else f"{as_strong} of {comparison['scans']}"


def interval_cell(interval: Sequence[float] | None) -> str:
    """The interval of the share of healthy scans with a finding as strong, in per cent."""
    return "n/a" if interval is None else f"{100 * interval[0]:.0f} to {100 * interval[1]:.0f} %"


def adapted_phrase(by: str, healthy_scans: int | None, **_: Any) -> str:
    """By what a model was adapted, from the sidecar."""
    if healthy_scans is None:
        return {"low-rank": "a few low-rank steps on this scan"}[by]
    what = {"residual": "the mean residual", "condition": "a drift of the condition vector"}[by]
    return f"{what}, from {healthy_scans} healthy scans from the same scanner"
