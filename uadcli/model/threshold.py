"""The score above which voxels are marked, from the rule of `--threshold` and a model's healthy scans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeVar

from uadcli.config import DetectConfig, ScoringConfig
from uadcli.errors import InputError, UsageError
from uadcli.model.healthy_scans import as_calibrated, copies_in_words
from uadcli.scoring import scores
from uadcli.settings.threshold import AUTO_RATE, BORROWED_EXTENT, CONFORMAL_EXTENT, EXTENT, SHARE, Kind, ThresholdRule

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from uadcli.arrays import Array, Mask
    from uadcli.scoring.calibration import Tail
    from uadcli.weights.card import ModelCard

T = TypeVar("T")
R = TypeVar("R", bound="Threshold | ScanThreshold")
Mismatch = Literal["settings", "adapted"]
MISMATCHES: dict[Mismatch, str] = {
    "settings": "calibrated with different settings; may not hold for these",
    "adapted": "calibrated without --adapt; may not hold with it",
}


@dataclass(frozen=True)
class Basis:
    """How a threshold was chosen: the `kind` of rule, its `share`, and what it is based on.

    `card_rule` describes a calibrated threshold in the weights; `scans` is the number of healthy scans of a conformal
    one, with `degraded` copies of each, which is `approximate` if they also made the healthy reference; `dice` is that
    of an oracle. `borrowed` are the contrasts that lent and borrowed the healthy scans; `mismatches` say how its use
    differs from its calibration. `extent` is the share of healthy voxels above the score that findings extend to, for
    joined contrasts if these agree. `joined` are the contrasts of one patient whose evidence is joined, if there are
    several, and `most` the share of healthy voxels that lies above however these depend on each other.
    """

    kind: Kind
    share: float | None = None
    card_rule: str = ""
    scans: int = 0
    approximate: bool = False
    dice: float | None = None
    borrowed: tuple[str, str] | None = None
    mismatches: frozenset[Mismatch] = frozenset()
    extent: float | None = None
    joined: tuple[str, ...] = ()
    most: float | None = None
    degraded: int = 0

    @property
    def borrowed_from(self) -> str | None:
        """The contrast whose healthy scans are used instead of the scan's own contrast."""
        return self.borrowed and self.borrowed[0]

    @property
    def valid(self) -> bool:
        """Whether the threshold is calibrated for the way it is used here."""
        return not self.mismatches

    def in_words(self) -> str:
        """How the threshold was chosen, as a sentence."""
        words = [self._rule()]
        if self.extent is not None:
            agreeing = " if the scores agree around a finding" if len(self.joined) > 1 else ""
            share = f"{100 * self.extent:.3g} % of healthy voxels lie{agreeing}"
            words.append(f"extended to connected voxels above which {share}")
        words += [MISMATCHES["settings"]] if "settings" in self.mismatches else []
        if self.borrowed:
            words.append("from healthy {} scans, as there are no healthy {} ones".format(*self.borrowed))
        return "; ".join([*words, *([MISMATCHES["adapted"]] if "adapted" in self.mismatches else [])])

    def _rule(self) -> str:
        percent = f"{100 * (self.share or 0):.3g} %"
        if self.kind == "value":
            return "given by the user"
        if self.kind == "rate" and len(self.joined) > 1:
            return (
                f"rate: {percent} of healthy voxels lie above if the scores of {', '.join(self.joined)} are "
                f"independent there, at most {100 * (self.most or 0):.2g} % in any case; not calibrated on healthy "
                "subjects with all of them, as there are none"
            )
        if self.kind == "rate":
            return f"rate: {percent} of the model's healthy voxels lie above"
        if self.kind == "fdr":
            return f"fdr: at most {percent} of the marked voxels are expected to be healthy, by this scan's own map"
        if self.kind == "conformal":
            why = ["the same scans made its healthy reference"] if self.approximate else []
            why += ["copies of a brain are alike"] if self.degraded else []
            nearly = f"; approximately, as {' and '.join(why)}" if why else ""
            scans = f"healthy scans like the model's {self.scans}{copies_in_words(self.degraded)}"
            return f"conformal: at most {self.share:.3g} of {scans} have any finding{nearly}"
        if self.kind == "best-dice":
            return f"best-dice: chosen by the lesion labels (Dice {self.dice:.3f}), an oracle"
        return self.card_rule


@dataclass(frozen=True)
class Threshold:
    """A score above which voxels are marked, and how it was chosen.

    With an `extent`, a lower score, a finding reaches to all connected voxels above that.
    """

    value: float
    basis: Basis
    extent: float | None = None

    @property
    def lowest(self) -> float:
        """The score that every marked voxel lies above."""
        return self.value if self.extent is None else self.extent


@dataclass(frozen=True)
class ScanThreshold:
    """A threshold that depends on the scan's own map: at most a `share` of its marked voxels is expected to be healthy,
    given the healthy `tail` of the score (`scoring.calibration.fdr_threshold`)."""

    tail: Tail
    share: float
    basis: Basis

    def of(self, anomaly_map: Array, mask: Mask) -> Threshold:
        """The threshold for a map (X, Y, Z) in its brain mask. Raises `InputError` for an empty mask."""
        from uadcli.scoring.calibration import fdr_threshold

        return Threshold(fdr_threshold(anomaly_map[mask], self.tail, self.share), self.basis)


Resolved = Threshold | ScanThreshold


def best_dice(native_map: Array, labels: NDArray[np.bool_]) -> Threshold:
    """The threshold with the highest Dice of a map against lesion labels, both (X, Y, Z) on the scan's grid: an oracle.

    Raises `InputError` if there is no lesion.
    """
    import numpy as np

    from uadcli.scoring import metrics

    if not labels.any():
        raise InputError("the labels are empty", hint="There is no best Dice without a lesion.")
    _, value = metrics.best_dice(native_map, labels)
    below = float(np.nextafter(np.float32(value), np.float32(0)))  # voxels with exactly this score are marked, too
    # of what is marked: by a score of 0 all voxels would be, but only those above it are
    return Threshold(below, Basis("best-dice", dice=metrics.dice(native_map > below, labels)))


def resolve(
    rule: ThresholdRule, card: ModelCard, kind: str, contrast: str, config: DetectConfig | None = None
) -> Resolved:
    """The threshold of a score in a contrast by a rule.

    It is not valid if the healthy scans were scored with other settings than `config` (None: the defaults). Raises
    `UsageError` if the weights lack the statistics of healthy scans that it needs, or no score can exceed a value.
    """
    if rule.kind == "value":
        return _given(rule.number, kind)
    found = _automatic(card, kind, contrast) if rule.kind == "auto" else _by_health(rule, card, kind, contrast)
    asked = config or DetectConfig()
    if found.basis.kind != "conformal":  # rates of voxels do not depend on components
        asked = replace(asked, scoring=replace(asked.scoring, min_volume_mm3=ScoringConfig.min_volume_mm3))
    if not as_calibrated(card, asked):
        found = mismatched(found, "settings")
    if giver := card.borrowed.get(contrast):
        return replace(found, basis=replace(found.basis, borrowed=(giver, contrast)))
    return found


def _given(value: float, kind: str) -> Threshold:
    if value >= (most := scores.find(kind).highest):
        what = f"no voxel can exceed a threshold of {value:g}: the score {kind!r} is at most {most:g}"
        raise UsageError(what, hint=f"Give a value below {most:g}.")
    return Threshold(value, Basis("value"))


def _by_health(rule: ThresholdRule, card: ModelCard, kind: str, contrast: str) -> Resolved:
    if rule.kind == "fdr":
        return _by_false_discoveries(rule.number, card, kind, contrast)
    if rule.kind == "conformal":
        return _conformal(rule.number, card, kind, contrast)
    if rule.kind == "rate":
        return _by_rate(rule.number, card, kind, contrast)
    try:
        return Threshold(card.thresholds[kind][contrast], Basis("calibrated", card_rule=card.threshold_rule))
    except KeyError as error:
        known = ", ".join(k for k in card.thresholds if contrast in card.thresholds[k])
        raise UsageError(
            f"{card.name} has no threshold for the score {kind!r} in {contrast}",
            hint=f"It has one for {known}. Or give --threshold." if known else "Give --threshold a value.",
        ) from error


def _automatic(card: ModelCard, kind: str, contrast: str) -> Resolved:
    """The threshold of `auto`: strict as to whether there is a finding, gentler as to how far it reaches.

    Healthy scans have as few findings as by the strict threshold alone.
    """
    tail = card.tail_of(kind, contrast)
    if card.scans_of(kind, contrast) + 1 >= 1 / SHARE:
        found, rate = _conformal(SHARE, card, kind, contrast), CONFORMAL_EXTENT
    elif tail:
        rate = BORROWED_EXTENT if contrast in card.borrowed else EXTENT
        found = _by_rate(AUTO_RATE, card, kind, contrast)
    else:
        return _by_health(ThresholdRule("calibrated"), card, kind, contrast)
    return extended(found, _by_rate(rate, card, kind, contrast)) if tail else found


def extended(found: Threshold, extent: Threshold) -> Threshold:
    """The threshold with the extent of a rate, unless that is not below it."""
    if extent.value >= found.value:
        return found
    return replace(found, extent=extent.value, basis=replace(found.basis, extent=extent.basis.share))


def _by_rate(rate: float, card: ModelCard, kind: str, contrast: str) -> Threshold:
    from uadcli.scoring.calibration import rate_threshold

    tail = card.tail_of(kind, contrast)
    value = _of_healthy("rate", rate_threshold, tail, rate, _no_quantiles(card, kind, contrast))
    return Threshold(value, Basis("rate", rate))


def _by_false_discoveries(share: float, card: ModelCard, kind: str, contrast: str) -> ScanThreshold:
    tail = card.tail_of(kind, contrast)
    if not tail:
        raise UsageError(_no_quantiles(card, kind, contrast), hint="Give --threshold calibrated or a value.")
    return ScanThreshold(tail, share, Basis("fdr", share))


def _no_quantiles(card: ModelCard, kind: str, contrast: str) -> str:
    return f"{card.name} has no score quantiles of healthy {contrast} voxels for the score {kind!r}"


def _conformal(share: float, card: ModelCard, kind: str, contrast: str) -> Threshold:
    from uadcli.scoring.calibration import conformal_threshold

    strengths = card.strengths_of(kind, contrast)
    lacking = f"{card.name} has no whole healthy {contrast} scans for the score {kind!r}"
    value = _of_healthy("conformal", conformal_threshold, strengths, share, lacking)
    nearly = scores.find(kind).normalised
    basis = Basis("conformal", share, scans=card.scans_of(kind, contrast), approximate=nearly, degraded=card.degraded)
    return Threshold(value, basis)


def _of_healthy(
    name: str, find: Callable[[Sequence[T], float], float], known: Sequence[T], share: float, lacking: str
) -> float:
    """The threshold of a rule from the healthy scans of the weights. Raises `UsageError` if there are too few."""
    if not known:
        raise UsageError(lacking, hint="Give --threshold calibrated or a value.")
    try:
        return find(known, share)
    except InputError as error:
        raise UsageError(f"--threshold {name}: {error.what}", hint=error.hint) from error


def mismatched(found: R, why: Mismatch) -> R:
    """The threshold with one more mismatch, unless the user gave its value."""
    if found.basis.kind == "value":
        return found
    return replace(found, basis=replace(found.basis, mismatches=found.basis.mismatches | {why}))
