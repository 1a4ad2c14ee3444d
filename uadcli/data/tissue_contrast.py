"""The contrast of a scan from the intensities of its tissues, located by the template's tissue map.

All statistics are invariant to an increasing linear map of the intensities. Their limits separate the scans of the
development data (52 T1w, 47 FLAIR, 11 T2w, including gliomas, strokes and multiple sclerosis) from images of other
contrasts made from label maps; `packaging/evaluation/contrast_statistics.py` prints both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uadcli import contrasts
from uadcli.arrays import Array, Mask
from uadcli.errors import InputError
from uadcli.imaging import template
from uadcli.imaging.template import CSF, GREY, WHITE

FEWEST = 50  # voxels of a tissue
BRIGHT_CSF, DOUBTFUL_CSF = 0.9, (0.6, 1.2)  # `csf_over_white`: dark CSF up to 0.3 (FLAIR), bright from 3.2 on (T2w)
LIKE_T1W, DOUBTFUL_T1W = 0.85, (0.55, 1.1)  # `likeness`: FLAIR up to 0.77, T1w from 0.91 on
DOUBTFUL_WHITE = (1.03, 1.13)  # `wm_to_gm`: FLAIR 0.86 to 1.07, T1w 1.09 to 1.80
LOW_CSF, HIGH_CSF = 1.7, 4.2  # `csf_to_gm` of T2w: 2.0 to 3.2
LOW_STEP = 1.5  # `step` of T2w: 2.6 to 8.0
FLAT = 0.4  # grey over white in spreads; T2w from 0.7 on
LOW_RATIO = 1.7  # `ratio` of T2w: 1.8 to 3.1
TURNED = 1.35  # `inversion` of T2w: 1.6 to 7.3; of T1 maps made from healthy T1w scans 0 to 1.4, a tenth of them above


@dataclass(frozen=True)
class TissueStatistics:
    """Medians of the tissues of a brain in relation to each other.

    A spread is the mean of the quartile ranges of grey and white matter.
    """

    csf_to_gm: float  # ratios, each above the darkest of the brain (percentile 0.5)
    wm_to_gm: float
    csf_over_white: float  # differences, in spreads
    white_over_grey: float
    step: float  # CSF over grey, in steps from white to grey
    depth: float  # grey over the darkest of the brain, in steps between white and grey
    correlation: float  # rank correlation with the T1w template
    ratio: float | None = None  # fluid to white matter, above air; None where the level of air is not known

    @property
    def likeness(self) -> float:
        """How much the brain looks like T1w rather than FLAIR."""
        return self.white_over_grey + self.correlation

    @property
    def inversion(self) -> float:
        """Low for an inverted T1w image: its ranks are reversed, and nothing is darker than white matter."""
        return self.depth + 10 * (self.correlation + 0.5)


@dataclass(frozen=True)
class ContrastGuess:
    """The most likely contrast, and in `other` why it is not a known one, if that is certain."""

    contrast: str
    statistics: TissueStatistics
    other: str = ""

    @property
    def doubtful(self) -> bool:
        """Whether two contrasts are hard to distinguish here."""
        found = self.statistics
        if _within(found.csf_over_white, DOUBTFUL_CSF):
            return True
        dark = self.contrast != contrasts.T2W.name
        return dark and (_within(found.wm_to_gm, DOUBTFUL_WHITE) or _within(found.likeness, DOUBTFUL_T1W))


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] < value < limits[1]


def measure(data: Array, mask: Mask, tissue: NDArray[np.uint8], from_air: bool = False) -> TissueStatistics:
    """The statistics of a brain (96, 96, 80) on the model's grid; `tissue` is 0 none, 1 CSF, 2 grey, 3 white matter.

    `from_air`: 0 is the intensity of air, which a stripped scan has lost. Raises `InputError` if a tissue is missing
    from the field of view, or has the same intensity as the others.
    """
    low, high = (float(v) for v in np.percentile(data[mask], [0.5, 99.5])) if mask.any() else (0.0, 0.0)
    quartiles = [_quartiles(data[mask & (tissue == label)]) for label in (CSF, GREY, WHITE)]
    if not (high > low and all(quartiles)):
        raise InputError("the contrast cannot be determined from this field of view", hint="Give it with --contrast.")
    (_, csf, _), (_, grey, _), (_, white, _) = quartiles
    least = 0.01 * (high - low)  # the smallest difference that counts
    spread = max(sum(upper - lower for lower, _, upper in quartiles[1:]) / 2, least)
    step = math.copysign(max(abs(grey - white), least), grey - white)
    return TissueStatistics(
        csf_to_gm=(csf - low) / max(grey - low, least),
        wm_to_gm=(white - low) / max(grey - low, least),
        csf_over_white=(csf - white) / spread,
        white_over_grey=(white - grey) / spread,
        step=(csf - grey) / step,
        depth=(grey - low) / abs(step),
        correlation=_rank_correlation(data[mask], template.on_grid("mni_head_T1w", 1)[mask]),
        ratio=csf / max(white, least) if from_air else None,
    )


def _rank_correlation(one: Array, other: Array) -> float:
    """Spearman's correlation of two images (N,), as `scipy.stats` has it, whose import takes longer than `measure`."""
    return float(np.corrcoef(_ranks(one), _ranks(other))[0, 1])


def _ranks(values: Array) -> NDArray[np.float64]:
    """The rank of each value (N,), the mean rank where values are equal."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(count) - (count - 1) / 2)[place]
    return ranks


def _quartiles(values: Array) -> tuple[float, ...]:
    """The quartiles of a tissue; none if it has too few voxels."""
    return tuple(np.percentile(values, [25, 50, 75]).tolist()) if len(values) >= FEWEST else ()


def classify_contrast(data: Array, mask: Mask, tissue: NDArray[np.uint8], from_air: bool = False) -> ContrastGuess:
    """Distinguish T1w, T2w and FLAIR, and recognise images of other contrasts.

    `data`, brain `mask` and `tissue` (labels of the template) are (96, 96, 80) on the model's grid. If CSF is brighter
    than white matter, the scan is T2-weighted; otherwise, if white matter is clearly brighter than grey matter,
    T1-weighted; in FLAIR both are about equal. `from_air` and errors are as in `measure`.
    """
    found = measure(data, mask, tissue, from_air)
    if found.csf_over_white > BRIGHT_CSF:
        return ContrastGuess(contrasts.T2W.name, found, _not_t2w(found))
    dark = contrasts.T1W if found.likeness > LIKE_T1W else contrasts.FLAIR
    return ContrastGuess(dark.name, found)


def _not_t2w(found: TissueStatistics) -> str:
    """Why an image with bright CSF is not T2w; empty if it may be."""
    if found.csf_over_white < DOUBTFUL_CSF[1]:
        return ""
    if found.white_over_grey > -FLAT or found.csf_to_gm > HIGH_CSF:
        return "fluid is far brighter than both tissues, as in diffusion images"
    if found.step < LOW_STEP:
        return "fluid is hardly brighter than grey matter, as in proton density"
    if found.csf_to_gm < LOW_CSF or (found.ratio is not None and found.ratio < LOW_RATIO):
        return "fluid is little brighter than the tissues, as in T2*"
    if found.inversion < TURNED:
        return "the image looks like an inverted T1w, as T1 maps do"
    return ""
