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


@dataclass(frozen=True)
class HealthyComparison:
    """The number of `scans` healthy scans with a finding at least as strong as the scan's, and as each component."""

    scans: int
    as_strong: int
    components: list[int]

    @property
    def p_value(self) -> float:
        """The conformal p-value of the scan among healthy scans: (as strong + 1) / (scans + 1)."""
        return (self.as_strong + 1) / (self.scans + 1)


def as_calibrated(card: ModelCard, config: DetectConfig) -> bool:
    """Whether the settings are those with which the healthy scans of the weights were prepared and scored.

    Seed and batch size do not matter. The method is not compared: for another method, weights have no healthy scans.
    Curvature flow and scaling are always those of the weights.
    """
    always = {name: getattr(config.preprocess, name) for name in ("curvature_flow", "scaling")}
    own = from_dict(PreprocessConfig, {**card.preprocess, **always})
    asked = (config.reconstruction.levels or card.levels, config.reconstruction.overlap)
    scans = (_by_network(config.preprocess), config.scoring)
    return (*scans, *asked) == (_by_network(own), ScoringConfig(), card.levels, False)


def _by_network(preprocess: PreprocessConfig) -> PreprocessConfig:
    """The same settings with `auto` replaced by `hd-bet`, which `auto` uses for whole heads."""
    return replace(preprocess, strip="hd-bet") if preprocess.strip == "auto" else preprocess


def strengths_of(card: ModelCard, kind: str, contrast: str, config: DetectConfig) -> list[float] | None:
    """The strengths of healthy scans to compare a scan with.

    None if the weights have none, or if the settings are not those of their calibration.
    """
    return (card.strengths_of(kind, contrast) or None) if as_calibrated(card, config) else None


def compare_with_healthy(
    anomaly_map: Array,
    labels: NDArray[np.uint8],
    count: int,
    healthy: Sequence[float],
    prepared: Prepared,
    config: DetectConfig,
) -> HealthyComparison:
    """Compare a scan and its `count` components in `labels` with the strengths of healthy scans.

    All volumes are (96, 96, 80) on the model's grid.
    """
    from uadcli.imaging.slices import GRID_AFFINE
    from uadcli.scoring.calibration import as_strong, component_strengths, strength

    smallest = config.scoring.min_volume_mm3 / prepared.jacobian
    whole = as_strong(healthy, strength(anomaly_map, smallest, GRID_AFFINE))
    parts = component_strengths(anomaly_map, labels, min(count, 254), smallest, GRID_AFFINE)  # the rest shares 255
    return HealthyComparison(len(healthy), whole, [as_strong(healthy, s) for s in parts])
