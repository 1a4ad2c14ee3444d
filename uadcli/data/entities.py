"""Parsing BIDS names: `sub-01_ses-2_acq-se_T2w.nii.gz` has entities and words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from uadcli.imaging.volume import stem

# keys of BIDS 1.9 and its derivatives; parts with other keys, such as t1-mprage, are words
KEYS = re.compile(
    r"sub|ses|sample|task|tracksys|acq|ce|trc|stain|rec|dir|run|mod|echo|flip|inv|mt|part|proc|hemi|space|split"
    r"|recording|chunk|seg|res|den|label|desc|from|to|mode|atlas|scale|roi|subset|meas|model|nuc|voi"
)


@dataclass(frozen=True)
class BidsName:
    """The `parts` of a name between underscores: `entities` (key to value, in order) and `words` (all others)."""

    parts: tuple[str, ...]
    entities: Mapping[str, str]
    words: tuple[str, ...]

    @property
    def subject(self) -> str | None:
        """The subject as in BIDS, such as `sub-01`; None if the name has none."""
        found = re.match(r"[A-Za-z0-9]+", self.entities.get("sub", ""))
        return f"sub-{found[0]}" if found else None

    @property
    def suffix(self) -> str:
        """The suffix of a valid BIDS name (entities of one subject, then this word); otherwise empty."""
        proper = len(self.words) == 1 and self.parts[0] == self.subject and self.parts[-1] == self.words[0]
        return self.words[0] if proper else ""


def entities(path: Path) -> BidsName:
    """Parse the name of a file, without its suffix and folders."""
    return read(stem(path))


def read(name: str) -> BidsName:
    """Parse a name without suffix, such as a folder's. A key that appears twice has its last value.

    In a name with a subject every `key-value` is an entity, otherwise only those with a key of BIDS.
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
