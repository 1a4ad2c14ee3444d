"""Comparing a scan's findings with the healthy scans that a model was calibrated with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from uadcli.config import DetectConfig, PreprocessConfig, ScoringConfig, from_dict

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from uadcli.arrays import Array
    from uadcli.data.prepare import Prepared
    from uadcli.weights.card import ModelCard

FEWEST = 9  # healthy scans: with fewer, not even a scan beyond all of them is known to be in the highest tenth
NOT_ADAPTED = "the model's healthy scans were scored without --adapt"
Figure = dict[str, int | float | list[float]]


@dataclass(frozen=True)
class HealthyComparison:
    """The number of `scans` healthy scans with a finding at least as strong as the scan's, and as each component.

    `strength` is that of the scan (`scoring.calibration.strength`). The scans are of fewer `brains` if there are
    degraded copies of them.
    """

    scans: int
    as_strong: int
    components: list[int]
    strength: float
    brains: int

    @property
    def p_value(self) -> float:
        """The conformal p-value of the scan among healthy scans: (as strong + 1) / (scans + 1).

        With copies approximate, as those of a brain are alike (pooled, as in Dunn et al. 2022, arXiv 1809.07441).
        """
        return (self.as_strong + 1) / (self.scans + 1)

    @property
    def of_scan(self) -> Figure:
        """The figures of the scan for the sidecar."""
        return {"scans": self.scans, "brains": self.brains, "as_strong": self.as_strong, **self._share(self.as_strong)}

    def of_component(self, index: int) -> Figure | None:
        """The figures of a component, counted from 1; None beyond those that were compared."""
        if index > len(self.components):
            return None
        count = self.components[index - 1]
        return {"as_strong": count, **self._share(count)}

    def _share(self, count: int) -> Figure:
        """The share of healthy scans as strong, its 95 % interval over all healthy scans, and the p-value."""
        from uadcli.scoring.calibration import interval_of_share

        interval = list(interval_of_share(count * self.brains / self.scans, self.brains))
        return {"share": count / self.scans, "interval": interval, "p_value": (count + 1) / (self.scans + 1)}


def as_calibrated(card: ModelCard, config: DetectConfig) -> bool:
    """Whether the settings are those with which the healthy scans of the weights were prepared and scored.

    Seed and batch size do not matter, nor the arithmetic of the brain mask, which is the same but for rounding. The
    method is not compared: for another method, weights have no healthy scans. Curvature flow and scaling are always
    those of the weights.
    """
    always = {name: getattr(config.preprocess, name) for name in ("curvature_flow", "scaling", "precision")}
    own = from_dict(PreprocessConfig, {**card.preprocess, **always})
    settings = config.reconstruction
    asked = (settings.levels or card.levels, settings.overlap, settings.arithmetic == "bf16")
    scans = (_by_network(config.preprocess), config.scoring)
    return (*scans, *asked) == (_by_network(own), ScoringConfig(), card.levels, False, False)


def _by_network(preprocess: PreprocessConfig) -> PreprocessConfig:
    """The same settings with `auto` replaced by `hd-bet`, which `auto` uses for whole heads."""
    return replace(preprocess, strip="hd-bet") if preprocess.strip == "auto" else preprocess


def strengths_of(card: ModelCard, kind: str, contrast: str, config: DetectConfig) -> list[float] | None:
    """The strengths of healthy scans to compare a scan with; None if they cannot be compared (`why_unknown`)."""
    return None if why_unknown(card, kind, contrast, config) else card.strengths_of(kind, contrast)


def why_unknown(card: ModelCard, kind: str, contrast: str, config: DetectConfig) -> str | None:
    """Why a scan cannot be compared with whole healthy scans; None if it can.

    The weights have fewer than `FEWEST`, or the settings are not those of their calibration.
    """
    known = card.scans_of(kind, contrast)
    if known < FEWEST:
        scans = f"{known or 'no'} whole healthy {contrast} {'scan' if known == 1 else 'scans'}"
        return f"the model has {scans} for the score {kind!r}; {FEWEST} are needed"
    return None if as_calibrated(card, config) else "the model's healthy scans were scored with other settings"


def copies_in_words(degraded: int) -> str:
    """What to add to a number of healthy scans of which there are so many `degraded` copies each."""
    known = {0: "", 1: " and a degraded copy of each"}
    return known.get(degraded, f" and {degraded} degraded copies of each")


def compare_with_healthy(
    anomaly_map: Array,
    labels: NDArray[np.uint8],
    healthy: Sequence[float],
    prepared: Prepared,
    config: DetectConfig,
    degraded: int = 0,
) -> HealthyComparison:
    """Compare a scan and its components in `labels` with the strengths of healthy scans and `degraded` copies of each.

    All volumes are (96, 96, 80) on the model's grid.
    """
    from uadcli.imaging.slices import GRID_AFFINE
    from uadcli.scoring.calibration import as_strong, component_strengths, strength

    smallest = config.scoring.min_volume_mm3 / prepared.jacobian
    whole = strength(anomaly_map, smallest, GRID_AFFINE)
    count = min(int(labels.max()), 254)  # the rest shares 255
    parts = component_strengths(anomaly_map, labels, count, smallest, GRID_AFFINE)
    counts, brains = [as_strong(healthy, s) for s in parts], len(healthy) // (1 + degraded)
    return HealthyComparison(len(healthy), as_strong(healthy, whole), counts, whole, brains)
