"""How a scan's findings compare with those of the healthy scans that a model was calibrated with."""

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
    from uadcli.weights.weights import ModelCard


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


def strengths_of(card: ModelCard, kind: str, contrast: str, config: DetectConfig) -> list[float] | None:
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
