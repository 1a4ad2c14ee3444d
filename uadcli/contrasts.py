"""The contrasts that uad knows, one record each, with everything that depends on the contrast.

To add a contrast, add a record to `ALL`, then train a model for it. Intensities are those of the scaled brain, [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

CSF, GREY, WHITE = "CSF", "grey", "white"
OUTER = "outer fluid"  # around the brain and in its sulci, crossed by vessels and membranes


@dataclass(frozen=True)
class Level:
    """The mean intensity of a tissue, drawn from `low` to `high`, added to that of the tissue `above` if there is one.

    Levels are drawn in the order of a contrast's list.
    """

    tissue: str
    low: float
    high: float
    above: str = ""


@dataclass(frozen=True)
class Rim:
    """What the outermost voxels of a brain mask contain in addition to brain, in synthetic volumes.

    `share` of them, in patches, change by `change` times their intensity (the median of the brain where that is
    higher): bone and dura are dark; fat, vessels and cortex close to the receiver coil are bright. Both are ranges.
    """

    change: tuple[float, float]
    share: tuple[float, float]


@dataclass(frozen=True)
class MadeFromT1w:
    """How a T1w scan is converted to another contrast: each tissue gets the intensity `low + width * draw`.

    `slices` is the share of T1w slices in a batch that are converted when training the reconstruction; `volumes` the
    share of volumes when training the score.
    """

    csf: tuple[float, float]
    grey: tuple[float, float]
    white_below_grey: tuple[float, float]
    slices: float
    volumes: float


@dataclass(frozen=True)
class Contrast:
    """One contrast. `name` is the BIDS suffix, and the word used everywhere else."""

    name: str
    words: str  # regular expression: a whole word of a file name (lower case) that names this contrast
    levels: tuple[Level, ...]  # of the tissues in synthetic brains
    bright_lesions: float  # share of synthetic lesions that are brighter than the tissue they replace
    volumes: float  # share of volumes, when training the score, that are real scans of this contrast
    fisher: Mapping[str, float]  # scores combined by the score `fisher`, with their shares
    # radius, in voxels of 2 mm, in which the learned score follows the edges of the scan (`siamese.guided_filter`);
    # chosen on the development scans (packaging/docs/decisions.md)
    guide_radius: int = 0
    variety: float = 0.015  # standard deviation of the means of structures of one tissue in synthetic brains
    also_says: frozenset[str] = field(
        default_factory=frozenset
    )  # contrasts that a file name of this one may mention too
    made_from_t1w: MadeFromT1w | None = None
    rim: Rim | None = None
    resembles: str = ""  # images that no model covers and whose tissues may have the same intensities
    similarity: tuple[float, float] | None = None  # with the T1w template: passes and warns from here; None: not judged
    quality: Mapping[str, tuple[float, float]] = field(
        default_factory=dict
    )  # measures of quality control that pass and warn up to these values, where the usual limits do not suit

    @property
    def lesions(self) -> str:
        """How most lesions compare with healthy tissue: `bright` or `dark`."""
        return "bright" if self.bright_lesions > 0.5 else "dark"

    @property
    def dark_fluid(self) -> bool:
        """Whether CSF is darker than brain tissue."""
        return self.levels[0].tissue == CSF


_PLANE = r"(?:[23]d|ax|axial|sag|sagittal|cor|coronal|tra|transversal)?"
_WEIGHTED = r"(?:w|wi|weighted)?"
_SEQUENCE = r"(?:[23]d|mprage|mpr|gre|ffe|flash|t?se|fr?fse|frfse|tfe|f?spgr|space|cube|vista|vibe|propeller|blade)"
_AGENT = r"(?:ce|gd|km|c|n|post|pre)?"
_SEQUENCES = rf"{_SEQUENCE}{{0,2}}{_PLANE}(?:fs)?"

T1W = Contrast(
    name="T1w",
    words=rf"{_PLANE}t1{_WEIGHTED}{_AGENT}{_SEQUENCES}|m?e?mprage|(?:ir)?f?spgr|bravo|t1w?(?:flair|tirm)",
    levels=(
        Level(CSF, 0.02, 0.2),
        Level(GREY, 0.4, 0.6),
        Level(WHITE, 0.12, 0.35, above=GREY),
        Level(OUTER, 0.0, 0.1, above=CSF),
    ),
    bright_lesions=0.25,
    volumes=0.34,
    fisher={"log-odds": 0.3, "z-absolute": 0.4, "z-brightness": 0.3},
    guide_radius=2,
    similarity=(0.10, 0.075),
)
T2W = Contrast(
    name="T2w",
    words=rf"{_PLANE}t2{_WEIGHTED}(?:ce|gd)?{_SEQUENCES}",
    levels=(
        Level(WHITE, 0.2, 0.3),
        Level(GREY, 0.08, 0.16, above=WHITE),
        Level(CSF, 1.0, 1.0),
        Level(OUTER, 0.5, 0.7),
    ),
    bright_lesions=0.8,
    volumes=0.22,
    fisher={"siamese": 0.5, "z-bright-weighted": 0.5},
    guide_radius=3,
    made_from_t1w=MadeFromT1w((0.85, 0.15), (0.38, 0.2), (0.08, 0.14), slices=0.3, volumes=0.12),
    rim=Rim(change=(-1.0, -0.6), share=(0.6, 1.0)),
    resembles="T2* and diffusion images",
    quality={"bias_corrected": (1.5, 2.0)},
)
FLAIR = Contrast(
    name="FLAIR",
    words=rf"{_PLANE}(?:t2w?)?(?:flair|tirm){_AGENT}{_SEQUENCES}|t2f|t2w?darkfluid|darkfluid",
    levels=(
        Level(CSF, 0.02, 0.25),
        Level(WHITE, 0.4, 0.65),
        Level(GREY, 0.04, 0.2, above=WHITE),
        Level(OUTER, 0.0, 0.12, above=CSF),
    ),
    variety=0.04,
    bright_lesions=0.85,
    volumes=0.22,
    # includes the scan's own brightness by voxel, as the other scores smooth small lesions away; without clipping, as
    # the brightest percentile of the scaled scan is constant
    fisher={"siamese": 0.2, "z-bright-weighted": 0.1, "z-robust-z": 0.7},
    guide_radius=4,
    also_says=frozenset({"T2w"}),
    made_from_t1w=MadeFromT1w((0.05, 0.25), (0.5, 0.25), (0.02, 0.16), slices=0.2, volumes=0.10),
    rim=Rim(change=(0.1, 0.9), share=(0.1, 0.4)),
    quality={"bias_corrected": (1.5, 2.0)},
)
ALL: dict[str, Contrast] = {one.name: one for one in (T1W, T2W, FLAIR)}
# contrasts that are made from T1w scans for training, and how
FROM_T1W: dict[str, MadeFromT1w] = {name: one.made_from_t1w for name, one in ALL.items() if one.made_from_t1w}


def in_words() -> str:
    """The names for a sentence: `T1w, T2w or FLAIR`."""
    *others, last = ALL
    return f"{', '.join(others)} or {last}"
