"""The one reader of BIDS names: `sub-01_ses-2_acq-se_T2w.nii.gz` is entities and words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from uadcli.imaging.volume import stem

# key-value parts of BIDS 1.9 and of its derivatives; a part with another key, such as t1-mprage, is words
KEYS = re.compile(
    r"sub|ses|sample|task|tracksys|acq|ce|trc|stain|rec|dir|run|mod|echo|flip|inv|mt|part|proc|hemi|space|split"
    r"|recording|chunk|seg|res|den|label|desc|from|to|mode|atlas|scale|roi|subset|meas|model|nuc|voi"
)


@dataclass(frozen=True)
class BidsName:
    """A name by its `parts` between underscores: `entities` (key to value, in order) and `words`, the other parts."""

    parts: tuple[str, ...]
    entities: Mapping[str, str]
    words: tuple[str, ...]

    @property
    def subject(self) -> str | None:
        """The subject as BIDS writes it, such as `sub-01`; None where the name has none."""
        found = re.match(r"[A-Za-z0-9]+", self.entities.get("sub", ""))
        return f"sub-{found[0]}" if found else None

    @property
    def suffix(self) -> str:
        """The suffix of a proper BIDS name, which is one subject's entities and then this word; else empty."""
        proper = len(self.words) == 1 and self.parts[0] == self.subject and self.parts[-1] == self.words[0]
        return self.words[0] if proper else ""


def entities(path: Path) -> BidsName:
    """Read the name of a file, without its format's ending and without the folders above it."""
    return read(stem(path))


def read(name: str) -> BidsName:
    """Read a name that has no ending, such as a folder's. A key that appears twice has its last value.

    Where a name has a subject, any `key-value` is an entity; else those with a key of BIDS.
    """
    parts = tuple(part for part in name.split("_") if part)
    subject = any(part.startswith("sub-") for part in parts)
    found: dict[str, str] = {}
    words = []
    for part in parts:
        key, _, value = part.partition("-")
        if key.isalpha() and value and (subject or KEYS.fullmatch(key)):
            found[key] = value
        else:
            words.append(part)
    return BidsName(parts, MappingProxyType(found), tuple(words))
