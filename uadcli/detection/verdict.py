"""The verdict of quality control on a prepared scan, and what the user is told of it."""

from __future__ import annotations

import dataclasses
import math

from uadcli.console import Reporter
from uadcli.detection.findings import ReadyScan
from uadcli.model.out_of_distribution import Distance
from uadcli.model.quality_control import measures
from uadcli.scoring import quality


def judge(ready: ReadyScan, distance: Distance) -> quality.Quality:
    """Quality control of a prepared scan, whose distance from the model's training scans is known."""
    found = ready.found
    measured = dataclasses.replace(
        measures(ready.prepared, found.contrast, ready.artefacts),
        distance=math.inf if distance.nowhere else distance.value,
        distance_limit=distance.limit,
    )
    verdict = quality.assess(measured)
    return verdict if found.check is None else quality.with_check(verdict, found.check)


def report(verdict: quality.Quality, distance: Distance, reporter: Reporter) -> None:
    """Warn of the checks that were not passed."""
    for check in verdict.checks:
        if check.verdict in ("warn", "fail"):
            reporter.warn(f"quality control, {check.verdict}: {_in_words(check, distance)}")


def _in_words(check: quality.Check, distance: Distance) -> str:
    if check.name == "contrast":
        return f"{check.name}: {check.text}"
    value = distance.note if check.value is None else f"{check.value:.2f}"
    return f"{check.name} is {value} ({check.text})"
