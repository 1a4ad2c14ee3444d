"""The record of a score. To add a score, add a file to this folder that defines `SCORES`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from uadcli.config import ScoringConfig
    from uadcli.scoring.calibration import Tail
    from uadcli.scoring.healthy_reference import Reference

    Array = NDArray[np.float32]
    Mask = NDArray[np.bool_]
    FeaturePairs = tuple[NDArray[np.int64], list[tuple[Tensor, Tensor]]]
else:  # names alone: listing the scores must not load NumPy
    Array = Mask = FeaturePairs = object

Z = "z-"  # prefix of a score that is normalised to healthy scans


class Evidence(Protocol):
    """What a score may use of one scan. All volumes are (X, Y, Z) on the model's grid, 0 outside the brain mask."""

    @property
    def x(self) -> Array:
        """The scaled scan, in [0, 1]."""

    @property
    def robust_z(self) -> Array:
        """The scan in robust standard deviations from its normal tissue, unclipped; positive towards lesions.

        Lesions are bright, or dark in contrasts whose lesions are dark. Raises `UsageError` if it is not known.
        """

    @property
    def recon(self) -> Array:
        """Its pseudo-healthy reconstruction, in [0, 1]."""

    @property
    def shaded(self) -> Array:
        """The reconstruction with the shading of the scan, if residuals are so compared with healthy scans."""

    @property
    def mask(self) -> Mask:
        """The brain mask."""

    @property
    def scoring(self) -> ScoringConfig:
        """Erosion and median of the post-processing."""

    @property
    def reference_scoring(self) -> ScoringConfig:
        """The post-processing of maps that are compared with healthy scans."""

    @property
    def fusion_power(self) -> float:
        """The power of the learned probability in the fused scores."""

    @property
    def likely(self) -> Array | float:
        """How much less likely a lesion is at each place than in white matter: log10, at most 0 (`fusion.prior`)."""

    @property
    def probability(self) -> Array:
        """The probability of abnormality from the score network. Raises `WeightsError` if the model has none."""

    @property
    def draws(self) -> NDArray[np.float32]:
        """Reconstructions (n, X, Y, Z) that differ by their noise alone. Raises `UsageError` if they cannot differ."""

    @property
    def features(self) -> Iterator[FeaturePairs]:
        """The network's feature maps of scan and reconstruction, in batches of axial slices.

        The indices (B,) of the slices along Z, and for each scale a pair (B, C, h, w), h along Y and w along X. Raises
        `UsageError` if the network has none.
        """

    def score(self, name: str) -> Array:
        """The map of another score."""

    def raw(self, name: str) -> Array:
        """The map of a score `z-NAME` before it is normalised to healthy scans: what its reference is made from."""

    def reference(self, name: str) -> Reference:
        """The healthy reference of a score. Raises `UsageError` if the model has none for the contrast."""

    def parts(self, name: str) -> Sequence[tuple[str, Tail, float]]:
        """Name, healthy tail and share of each score that a joined score is made of. Raises `UsageError`."""


@dataclass(frozen=True)
class Score:
    """One anomaly score: how it is computed, and what the rest of the program needs to know about it."""

    name: str  # for --score
    title: str  # for documents
    compute: Callable[[Evidence], Array]  # the map (X, Y, Z): >= 0, and 0 outside the brain mask
    cites: tuple[str, ...] = ()  # keys of `report.citation`
    aliases: tuple[str, ...] = ()  # other names that --score takes
    # The quantile of the scan that is the unit of the score when it is normalised to healthy scans. 0: no unit; below
    # 0: that quantile of the scan's deviations is the unit (`scoring.healthy_reference.Reference`).
    own_scale: float = 0.0
    # The quantile of these deviations that is their spread, where the unit is one of the scan; None: the usual.
    spread: float | None = None
    in_tissue: bool = False  # normalised to healthy scans it counts only where the template has grey or white matter
    behind: Callable[[Evidence], Array] | None = None  # the map compared with healthy scans if not the score; any sign
    costly: bool = False  # computed once and kept
    learned: bool = False  # uses the score network
    draws: bool = False  # needs several reconstructions at another noise level
    noise: bool = True  # changes with the seed
    normalised: bool = False  # needs healthy scans of the contrast, and not only for its threshold
    by_voxel: bool = False  # of the unclipped intensity of each voxel alone (`model.own_grid`)
    joined: bool = False  # made of other scores and their tails
    highest: float = 1.0  # no voxel scores above this


def normalised_to_healthy(plain: Score) -> Score:
    """The score `z-NAME`: how many healthy standard deviations the plain one lies above the healthy mean."""

    def compute(evidence: Evidence) -> Array:
        from uadcli.scoring.healthy_reference import z_score

        return z_score(evidence.raw(Z + plain.name), evidence.reference(plain.name), evidence.mask)

    return Score(
        Z + plain.name,
        f"{plain.title}, normalised to healthy scans",
        compute,
        plain.cites,
        own_scale=plain.own_scale,
        spread=plain.spread,
        in_tissue=plain.in_tissue,
        learned=plain.learned,
        draws=plain.draws,
        noise=plain.noise,
        normalised=True,
        by_voxel=plain.by_voxel,
        highest=math.inf,
    )
