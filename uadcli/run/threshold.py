"""What `--threshold` means, and how a scan's findings compare with those of healthy scans."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from uadcli.config import DetectConfig
from uadcli.errors import InputError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from uadcli.imaging.geometry import Array
    from uadcli.reconstruction.weights import ModelCard
    from uadcli.run.prepare import Prepared

SHARE = 0.05  # of healthy scans with any finding, of `conformal` without a number
HINT = "Give `auto`, `calibrated`, `conformal`, `conformal:SHARE` or a number above 0."


@dataclass(frozen=True)
class ThresholdRule:
    """`calibrated` (a quantile of healthy voxels), `conformal` (a share of healthy scans), a `value`, or `auto`:
    conformal where the weights know enough whole healthy scans, else calibrated."""

    kind: Literal["auto", "calibrated", "conformal", "value"]
    number: float = 0.0


@dataclass(frozen=True)
class Threshold:
    """A score above which voxels are marked, and in words how it was chosen."""

    value: float
    rule: str


@dataclass(frozen=True)
class BesideHealthy:
    """Of `scans` healthy ones, how many have a finding at least as strong as the scan's, and as each component."""

    scans: int
    as_strong: int
    components: list[int]

    @property
    def p_value(self) -> float:
        """The conformal p-value of the scan: its chance among healthy scans of this kind, at least."""
        return (self.as_strong + 1) / (self.scans + 1)


def parse(text: str) -> ThresholdRule:
    """`auto`, `calibrated`, `conformal`, `conformal:0.1` or a score above 0. Raises `UsageError` for anything else."""
    name, colon, rest = text.strip().lower().partition(":")
    if name in ("auto", "calibrated") and not colon:
        return ThresholdRule("auto", SHARE) if name == "auto" else ThresholdRule("calibrated")
    if name == "conformal":
        share = _number(rest) if colon else SHARE
        if share is None or not 0 < share < 1:
            raise UsageError(f"--threshold cannot be {text!r}", hint="The share lies between 0 and 1.")
        return ThresholdRule("conformal", share)
    value = _number(text)
    if value is None or value <= 0:
        raise UsageError(f"--threshold cannot be {text!r}", hint=HINT)
    return ThresholdRule("value", value)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def resolve(text: str, card: ModelCard, kind: str, contrast: str) -> Threshold:
    """The threshold of a score in a contrast by the rule in `text` (see `parse`).

    Raises `UsageError` if the healthy scans of the weights do not give one.
    """
    rule = parse(text)
    if rule.kind == "value":
        return Threshold(rule.number, "given by the user")
    enough = len(card.strengths.get(kind, {}).get(contrast, ())) + 1 >= 1 / SHARE
    if rule.kind == "conformal" or (rule.kind == "auto" and enough):
        return _conformal(rule.number, card, kind, contrast)
    try:
        return Threshold(card.thresholds[kind][contrast], card.threshold_rule)
    except KeyError as error:
        known = ", ".join(k for k in card.thresholds if contrast in card.thresholds[k])
        raise UsageError(
            f"{card.name} has no threshold for the score {kind!r} in {contrast}",
            hint=f"It has one for {known}. Or give --threshold." if known else "Give --threshold a value.",
        ) from error


def _conformal(share: float, card: ModelCard, kind: str, contrast: str) -> Threshold:
    from uadcli.scoring.calibration import conformal_threshold

    strengths = card.strengths.get(kind, {}).get(contrast)
    if not strengths:
        raise UsageError(
            f"{card.name} knows no whole healthy {contrast} scans for the score {kind!r}",
            hint="Give --threshold calibrated or a value.",
        )
    try:
        value = conformal_threshold(strengths, share)
    except InputError as error:
        raise UsageError(f"--threshold conformal: {error.what}", hint=error.hint) from error
    scans = f"healthy scans like the {len(strengths)} of the weights"
    return Threshold(value, f"conformal: at most {share:.3g} of {scans} have any finding")


def healthy_scans(card: ModelCard, kind: str, contrast: str, config: DetectConfig) -> list[float] | None:
    """The strengths of healthy scans that a scan may be set beside.

    None where the weights know none, or where preprocessing or post-processing are not those of their calibration.
    """
    default = DetectConfig()
    if (config.scoring, config.preprocess) != (default.scoring, default.preprocess):
        return None
    return card.strengths.get(kind, {}).get(contrast)


def beside_healthy(
    anomaly_map: Array,
    labels: NDArray[np.uint8],
    count: int,
    healthy: Sequence[float],
    prepared: Prepared,
    config: DetectConfig,
) -> BesideHealthy:
    """Set a scan, and each of its `count` components in `labels`, beside the strengths of healthy scans."""
    from uadcli.imaging.slices import GRID_AFFINE
    from uadcli.scoring.calibration import as_strong, component_strengths, strength

    smallest = config.scoring.min_volume_mm3 / prepared.size_factor
    whole = as_strong(healthy, strength(anomaly_map, smallest, GRID_AFFINE))
    parts = component_strengths(anomaly_map, labels, min(count, 254), smallest, GRID_AFFINE)  # 255 stands for the rest
    return BesideHealthy(len(healthy), whole, [as_strong(healthy, s) for s in parts])
