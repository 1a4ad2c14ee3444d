"""Which contrast a scan has: said by the user, by its name, or by its tissue intensities."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

NAMES = (  # in this order: a "t2_flair" is a FLAIR
    ("FLAIR", re.compile(r"flair|dark[-_ ]?fluid", re.I)),
    ("T1w", re.compile(r"(?<![a-z0-9])t1(w|_?mprage|_?mpr|_?gre|_?se|ce|c|gd)?(?![a-z0-9*])|mprage", re.I)),
    ("T2w", re.compile(r"(?<![a-z0-9])t2(w|_?tse|_?fse|_?se)?(?![a-z0-9*])", re.I)),
)


@dataclass(frozen=True)
class FoundContrast:
    """The contrast and where it is known from: `option`, `file name` or `image`."""

    contrast: str
    source: str


def from_name(path: Path) -> str | None:
    """The contrast that a file name tells (BIDS suffix or the words scanners use), or None."""
    name = path.name.replace("_", " _ ").replace(" _ ", "_")
    return next((contrast for contrast, pattern in NAMES if pattern.search(name.replace("_", " "))), None)


def known_before(path: Path, option: str | None) -> FoundContrast | None:
    """The contrast, if it is known without looking at the image."""
    if option is not None:
        return FoundContrast(option, "option")
    named = from_name(path)
    return FoundContrast(named, "file name") if named else None
