"""The card of a model: its use, its training, and the statistics of its scores in healthy scans."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from uadcli.config import SiameseConfig, from_dict
from uadcli.weights.checks import ADDED_TO_SCORE


@dataclass(frozen=True)
class ModelCard:
    """The description in a weight file. `scores` names the default score of each contrast, `thresholds` are by score
    and contrast.

    `strengths` are those of whole healthy scans (`scoring.calibration.strength`), `tails` the thresholds for rates of
    false positives among healthy voxels (`scoring.calibration.healthy_tail`), both by score and contrast. The
    thresholds hold for `along_slices`, the smoothing of the learned score, `guide_radius`, in voxels, of the filter by
    which it follows the edges of the scan (`siamese.guided_filter`; 0: none), `fusion_power`, its power in the fused
    scores, and `reference_erosion`, the erosion of the brain mask for residuals that are compared with the healthy
    reference. `curvature_flow` is the number of smoothing iterations, `scaling` the scaling of intensities
    (`config.SCALINGS`), both in training and in use. `siamese` holds the settings of the score network, if there is
    one; `labelled_cases` is the number of scans with lesion masks it was trained on, 0 for synthetic lesions only.
    `shares` are those of the scores in `fisher`, by contrast; `borrowed` maps contrasts without healthy scans to the
    one whose thresholds they use. `preprocess` are the settings with which the healthy scans were prepared. Of each
    healthy scan there are `degraded` copies as from other scanners, which count in all statistics. Residuals are
    compared with the healthy reference `without_shading` (`scoring.residual.shading`), or as they are. `fisher` takes a
    lesion outside white matter for less likely by `odds_outside_white_matter` (`scoring.fusion.prior`).
    """

    name: str
    version: str
    contrasts: tuple[str, ...]
    scores: dict[str, str]
    thresholds: dict[str, dict[str, float]]
    threshold_rule: str
    levels: tuple[int, ...]
    intensity_range: str
    training_data: str
    licence: str
    steps: int = 0
    siamese: dict[str, Any] | None = None
    strengths: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    tails: dict[str, dict[str, list[tuple[float, float]]]] = field(default_factory=dict)
    along_slices: float = 0.0
    guide_radius: int = 0
    fusion_power: float = 0.2
    reference_erosion: int = 3
    curvature_flow: int = 0
    scaling: str = "percentile"
    labelled_cases: int = 0
    shares: dict[str, dict[str, float]] = field(default_factory=dict)
    borrowed: dict[str, str] = field(default_factory=dict)
    preprocess: dict[str, Any] = field(default_factory=dict)
    degraded: int = 0
    without_shading: bool = False
    odds_outside_white_matter: float = 1.0

    def tail_of(self, score: str, contrast: str) -> list[tuple[float, float]]:
        """The (rate, threshold) pairs of a score among healthy voxels of a contrast; empty if there are none."""
        return self.tails.get(score, {}).get(contrast, [])

    def strengths_of(self, score: str, contrast: str) -> list[float]:
        """The strengths of the whole healthy scans of a contrast by a score, and of their copies; empty if there are
        none."""
        return self.strengths.get(score, {}).get(contrast, [])

    def scans_of(self, score: str, contrast: str) -> int:
        """The number of whole healthy scans of a contrast whose strengths by a score are known, without copies."""
        return len(self.strengths_of(score, contrast)) // (1 + self.degraded)

    @property
    def score_network(self) -> SiameseConfig | None:
        """The settings of the score network in the file; None if it has none. Raises `UsageError` for invalid ones.

        What a score network of an earlier version does not say is as it was then.
        """
        if self.siamese is None:
            return None
        return from_dict(SiameseConfig, ADDED_TO_SCORE | self.siamese)
