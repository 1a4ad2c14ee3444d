"""The rule given by `--threshold`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from uadcli.errors import UsageError

Kind = Literal["auto", "calibrated", "rate", "conformal", "fdr", "best-dice", "value"]
WITHOUT_SHARE: tuple[Literal["auto", "calibrated", "best-dice"], ...] = ("auto", "calibrated", "best-dice")
SHARE = 0.05  # default of `conformal`: share of healthy scans with any finding
# default of `rate`: share of healthy voxels; 2 ml of a brain of 1.35 l, the most to be marked in a healthy scan
RATE = 0.0015
# `auto`: shares of healthy voxels above the threshold of a finding, where there are too few whole healthy scans for
# `conformal`, and above the extent of a finding: narrower where the thresholds are borrowed from another contrast, and
# with `conformal` (packaging/docs/decisions.md)
AUTO_RATE, EXTENT, BORROWED_EXTENT, CONFORMAL_EXTENT = 0.0005, 0.005, 0.001, 0.0005
FALSE = 0.05  # default of `fdr`: expected share of healthy voxels among the marked ones
USUAL: dict[Literal["conformal", "rate", "fdr"], float] = {
    "conformal": SHARE,
    "rate": RATE,
    "fdr": FALSE,
}  # kinds that take a number, with its default
HINT = (
    "Give `auto`, `calibrated`, `rate`, `conformal`, `fdr`, the last three also with a share, as in `fdr:0.1`, "
    "or a number above 0."
)


@dataclass(frozen=True)
class ThresholdRule:
    """A rule for the threshold, with its parameter.

    `calibrated` (the 99.5th percentile of healthy voxels), `rate` (another share of them), `conformal` (a share of
    healthy scans), `fdr` (an expected share of healthy voxels among the marked ones), a `value`, or `auto`: conformal
    if the weights have enough healthy scans, otherwise a strict rate, and findings extend to connected voxels above a
    gentler rate; `calibrated` if the weights have no rates. `best-dice` uses lesion labels, for comparison with papers
    that do.
    """

    kind: Kind
    number: float = 0.0

    @classmethod
    def parse(cls, text: str | ThresholdRule) -> ThresholdRule:
        """The rule for a text such as `auto`, `calibrated`, `rate:0.001`, `conformal:0.1`, `fdr`, `best-dice` or `2.5`.

        A rule is returned unchanged. Raises `UsageError` for anything else.
        """
        if isinstance(text, ThresholdRule):
            return text
        name, colon, rest = text.strip().lower().partition(":")
        for kind in WITHOUT_SHARE:
            if name == kind and not colon:
                return cls(kind)
        for of_share, usual in USUAL.items():
            if name == of_share:
                share = _number(rest) if colon else usual
                if share is None or not 0 < share < 1:
                    raise UsageError(f"--threshold cannot be {text!r}", hint="The share must be between 0 and 1.")
                return cls(of_share, share)
        value = _number(text)
        if value is None or value <= 0:
            raise UsageError(f"--threshold cannot be {text!r}", hint=HINT)
        return cls("value", value)

    def __str__(self) -> str:
        """The shortest text that `parse` reads as this rule."""
        if self.kind == "value":
            return _shortest(self.number)
        usual = self.kind not in USUAL or self.number == USUAL[self.kind]
        return self.kind if usual else f"{self.kind}:{_shortest(self.number)}"

    @property
    def by_labels(self) -> bool:
        """Whether lesion labels choose the threshold: an oracle, only for comparison with papers."""
        return self.kind == "best-dice"

    def check_labels(self, labelled: bool) -> None:
        """Raises `UsageError` unless `best-dice` and lesion labels are given together."""
        if self.by_labels != labelled:
            raise UsageError(
                "--threshold best-dice and --labels need each other",
                hint="That threshold is chosen by lesion labels, for comparison with papers that do so.",
            )


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _shortest(number: float) -> str:
    return repr(number).removesuffix(".0")
