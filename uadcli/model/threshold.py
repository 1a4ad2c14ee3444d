"""What `--threshold` means, and how a scan's findings compare with those of healthy scans."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeVar

from uadcli.config import BEST_DICE, DetectConfig, PreprocessConfig, ScoringConfig, from_dict
from uadcli.errors import InputError, UsageError
from uadcli.scoring import scores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from uadcli.arrays import Array, Mask
    from uadcli.data.prepare import Prepared
    from uadcli.scoring.calibration import Tail
    from uadcli.weights.weights import ModelCard

T = TypeVar("T")
R = TypeVar("R", bound="Threshold | ScanThreshold")
SHARE = 0.05  # of healthy scans with any finding, of `conformal` without a number
# Of healthy voxels, of `rate` without a number: 2 ml of a brain of 1.35 l, the most that a healthy scan should show.
RATE = 0.0015
FALSE = 0.05  # expected share of healthy voxels among those marked, of `fdr` without a number
USUAL: dict[Literal["conformal", "rate", "fdr"], float] = {
    "conformal": SHARE,
    "rate": RATE,
    "fdr": FALSE,
}  # kinds that have a number, and what it is without one
HINT = (
    "Give `auto`, `calibrated`, `rate`, `conformal`, `fdr`, the last three also with a share, as in `fdr:0.1`, "
    "or a number above 0."
)


@dataclass(frozen=True)
class ThresholdRule:
    """A rule for the threshold, with its parameter.

    `calibrated` (the 99.5th percentile of healthy voxels), `rate` (another share of them), `conformal` (a share of
    healthy scans), `fdr` (an expected share of the marked voxels that is healthy), a `value`, or `auto`: conformal
    where the weights know enough whole healthy scans, else by rate; calibrated of weights older than rates. `best-dice`
    takes lesion labels, for comparison with papers that do.
    """

    kind: Literal["auto", "calibrated", "rate", "conformal", "fdr", "best-dice", "value"]
    number: float = 0.0


@dataclass(frozen=True)
class Threshold:
    """A score above which voxels are marked, and in words how it was chosen."""

    value: float
    rule: str


@dataclass(frozen=True)
class ScanThreshold:
    """A threshold that each scan sets by its own map: the false discoveries among its marked voxels are at most a
    `share`, by the healthy `tail` of the score (`scoring.calibration.fdr_threshold`)."""

    share: float
    tail: Tail
    rule: str

    def of(self, anomaly_map: Array, mask: Mask) -> Threshold:
        """The threshold for a map (X, Y, Z) in its brain mask. Raises `InputError` for an empty mask."""
        from uadcli.scoring.calibration import fdr_threshold

        return Threshold(fdr_threshold(anomaly_map[mask], self.tail, self.share), self.rule)


Resolved = Threshold | ScanThreshold


@dataclass(frozen=True)
class BesideHealthy:
    """How many of `scans` healthy scans have a finding at least as strong as the scan's, and as each component."""

    scans: int
    as_strong: int
    components: list[int]

    @property
    def p_value(self) -> float:
        """The conformal p-value of the scan: its chance among healthy scans of this kind, at least."""
        return (self.as_strong + 1) / (self.scans + 1)


def parse(text: str) -> ThresholdRule:
    """`auto`, `calibrated`, `rate:0.001`, `conformal`, `conformal:0.1`, `fdr:0.05`, `best-dice` or a score above 0.

    Raises `UsageError` for anything else.
    """
    name, colon, rest = text.strip().lower().partition(":")
    for kind in ("auto", "calibrated", "best-dice"):
        if name == kind and not colon:
            return ThresholdRule(kind)
    for of_share, usual in USUAL.items():
        if name == of_share:
            share = _number(rest) if colon else usual
            if share is None or not 0 < share < 1:
                raise UsageError(f"--threshold cannot be {text!r}", hint="The share lies between 0 and 1.")
            return ThresholdRule(of_share, share)
    value = _number(text)
    if value is None or value <= 0:
        raise UsageError(f"--threshold cannot be {text!r}", hint=HINT)
    return ThresholdRule("value", value)


def check(text: str, labelled: bool) -> None:
    """Raises `UsageError` unless `best-dice` and lesion labels are given together."""
    if (parse(text).kind == BEST_DICE) != labelled:
        raise UsageError(
            "--threshold best-dice and --labels need each other",
            hint="That threshold is chosen by lesion labels, for comparison with papers that do so.",
        )


def best_dice(native_map: Array, labels: NDArray[np.bool_]) -> Threshold:
    """The threshold with the highest Dice against the lesion labels, both on the scan's grid: an oracle.

    Raises `InputError` if there is no lesion.
    """
    import numpy as np

    from uadcli.scoring import metrics

    if not labels.any():
        raise InputError("the labels are empty", hint="There is no best Dice without a lesion.")
    found, value = metrics.best_dice(native_map, labels)
    below = float(np.nextafter(np.float32(value), np.float32(0)))  # what has this very score is marked, too
    return Threshold(below, f"best-dice: chosen by the lesion labels (Dice {found:.3f}), an oracle")


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def resolve(text: str, card: ModelCard, kind: str, contrast: str, config: DetectConfig | None = None) -> Resolved:
    """The threshold of a score in a contrast by the rule in `text` (see `parse`).

    It says so where the healthy scans were scored by other settings than `config` (the defaults if None). Raises
    `UsageError` if the healthy scans of the weights do not give one.
    """
    rule = parse(text)
    if rule.kind == "value":
        return Threshold(rule.number, "given by the user")
    if rule.kind == "auto":
        rule = _automatic(card, kind, contrast)
    found = _by_health(rule, card, kind, contrast)
    asked = config or DetectConfig()
    if rule.kind != "conformal":  # rates of voxels do not know components
        asked = replace(asked, scoring=replace(asked.scoring, min_volume_mm3=ScoringConfig.min_volume_mm3))
    if not as_calibrated(card, asked):
        found = not_vouched(found, text, "calibrated with different settings; may not hold for these")
    if giver := card.borrowed.get(contrast):
        words = f"{found.rule}; from healthy {giver} scans, as there are no healthy {contrast} ones"
        return replace(found, rule=words)
    return found


def _by_health(rule: ThresholdRule, card: ModelCard, kind: str, contrast: str) -> Resolved:
    if rule.kind == "fdr":
        return _by_false_discoveries(rule.number, card, kind, contrast)
    if rule.kind == "conformal":
        return _conformal(rule.number, card, kind, contrast)
    if rule.kind == "rate":
        return _by_rate(rule.number, card, kind, contrast)
    try:
        return Threshold(card.thresholds[kind][contrast], card.threshold_rule)
    except KeyError as error:
        known = ", ".join(k for k in card.thresholds if contrast in card.thresholds[k])
        raise UsageError(
            f"{card.name} has no threshold for the score {kind!r} in {contrast}",
            hint=f"It has one for {known}. Or give --threshold." if known else "Give --threshold a value.",
        ) from error


def _automatic(card: ModelCard, kind: str, contrast: str) -> ThresholdRule:
    if len(card.strengths.get(kind, {}).get(contrast, ())) + 1 >= 1 / SHARE:
        return ThresholdRule("conformal", SHARE)
    return ThresholdRule("rate", RATE) if card.tails.get(kind, {}).get(contrast) else ThresholdRule("calibrated")


def _by_rate(rate: float, card: ModelCard, kind: str, contrast: str) -> Threshold:
    from uadcli.scoring.calibration import rate_threshold

    tail = card.tails.get(kind, {}).get(contrast, [])
    lacking = f"{card.name} has no score quantiles of healthy {contrast} voxels for the score {kind!r}"
    value = _of_healthy("rate", rate_threshold, tail, rate, lacking)
    return Threshold(value, f"rate: {100 * rate:.3g} % of the model's healthy voxels lie above")


def _by_false_discoveries(share: float, card: ModelCard, kind: str, contrast: str) -> ScanThreshold:
    tail = card.tails.get(kind, {}).get(contrast, [])
    if not tail:
        lacking = f"{card.name} has no score quantiles of healthy {contrast} voxels for the score {kind!r}"
        raise UsageError(lacking, hint="Give --threshold calibrated or a value.")
    rule = f"fdr: at most {100 * share:.3g} % of the marked voxels are expected to be healthy, by this scan's own map"
    return ScanThreshold(share, tail, rule)


def _conformal(share: float, card: ModelCard, kind: str, contrast: str) -> Threshold:
    from uadcli.scoring.calibration import conformal_threshold

    strengths = card.strengths.get(kind, {}).get(contrast, [])
    lacking = f"{card.name} has no whole healthy {contrast} scans for the score {kind!r}"
    value = _of_healthy("conformal", conformal_threshold, strengths, share, lacking)
    scans = f"healthy scans like the model's {len(strengths)}"
    nearly = "; approximately, as the same scans made its healthy reference" if scores.find(kind).normalised else ""
    return Threshold(value, f"conformal: at most {share:.3g} of {scans} have any finding{nearly}")


def _of_healthy(
    name: str, find: Callable[[Sequence[T], float], float], known: Sequence[T], share: float, lacking: str
) -> float:
    """The threshold of a rule from the healthy scans of the weights. Raises `UsageError` if they do not give one."""
    if not known:
        raise UsageError(lacking, hint="Give --threshold calibrated or a value.")
    try:
        return find(known, share)
    except InputError as error:
        raise UsageError(f"--threshold {name}: {error.what}", hint=error.hint) from error


def as_calibrated(card: ModelCard, config: DetectConfig) -> bool:
    """Whether the settings are those with which the healthy scans of the weights were prepared and scored.

    Seed and batch size are free. The method is not looked at: by another than their own, weights know no healthy scans.
    Curvature flow and scaling are always as the weights say.
    """
    always = {name: getattr(config.preprocess, name) for name in ("curvature_flow", "scaling")}
    own = from_dict(PreprocessConfig, {**card.preprocess, **always})
    asked = (config.reconstruction.levels or card.levels, config.reconstruction.overlap)
    scans = (_by_network(config.preprocess), config.scoring)
    return (*scans, *asked) == (_by_network(own), ScoringConfig(), card.levels, False)


def _by_network(preprocess: PreprocessConfig) -> PreprocessConfig:
    """The same settings, with the network's masks where `auto` stands, which takes it for whole heads."""
    return replace(preprocess, strip="hd-bet") if preprocess.strip == "auto" else preprocess


def not_vouched(found: R, text: str, why: str) -> R:
    """The threshold with the reason why it may not hold, unless the rule in `text` is a value."""
    return found if parse(text).kind == "value" else replace(found, rule=f"{found.rule}; {why}")


def healthy_scans(card: ModelCard, kind: str, contrast: str, config: DetectConfig) -> list[float] | None:
    """The strengths of healthy scans that a scan may be compared with.

    None where the weights know none, or where the settings are not those of their calibration.
    """
    return card.strengths.get(kind, {}).get(contrast) if as_calibrated(card, config) else None


def beside_healthy(
    anomaly_map: Array,
    labels: NDArray[np.uint8],
    count: int,
    healthy: Sequence[float],
    prepared: Prepared,
    config: DetectConfig,
) -> BesideHealthy:
    """Compare a scan, and each of its `count` components in `labels`, with the strengths of healthy scans."""
    from uadcli.imaging.slices import GRID_AFFINE
    from uadcli.scoring.calibration import as_strong, component_strengths, strength

    smallest = config.scoring.min_volume_mm3 / prepared.size_factor
    whole = as_strong(healthy, strength(anomaly_map, smallest, GRID_AFFINE))
    parts = component_strengths(anomaly_map, labels, min(count, 254), smallest, GRID_AFFINE)  # 255 stands for the rest
    return BesideHealthy(len(healthy), whole, [as_strong(healthy, s) for s in parts])
