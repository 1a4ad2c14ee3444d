"""Which file belongs to which scan, by file names and BIDS entities."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from uadcli.data.contrast import said_in_text, says_contrast
from uadcli.data.entities import BidsName, entities, read
from uadcli.data.names import COMPANIONS, is_result
from uadcli.errors import InputError
from uadcli.files import folders_below
from uadcli.imaging import stored
from uadcli.imaging.volume import SUFFIXES, stem

# words of a name that describe the kind of file, not the scan
ROLES = {"map", "anomaly", "mask", "seg", "dseg", "lesion", "lesions", "label", "labels", "truth", "gt", "brain"}
TRUTH_WORDS = ROLES - {"map", "anomaly", "brain"}
# a word that numbers scans, such as SWI001, although it begins like a kind of image; INV1 is one of a pair of images
NUMBERED = re.compile(r"(?!inv|inplane)[a-z]{3,}[0-9][a-z0-9]*")
ROLE_ENTITIES = {"desc", "label", "space", "res", "den"}
SHOWN = 5  # names in a message
TABLE = "Give a table with columns map and truth."


@dataclass(frozen=True)
class Identity:
    """The scan a file belongs to, from its name: BIDS entities, words, contrasts in their order, and folder.

    `words` are without contrasts and entities. Words and contrasts are those of the folders (`place` and the rest) if
    the file name has none.
    """

    entities: frozenset[tuple[str, str]]
    words: tuple[str, ...]
    contrasts: tuple[str, ...]
    folder: str
    place: tuple[str, ...]
    scan: str

    @property
    def subject(self) -> str:
        """`sub-...` if there is one, otherwise the words of the name without contrasts."""
        return next((f"sub-{value}" for key, value in self.entities if key == "sub"), "_".join(self.words))

    def fits(self, other: Identity) -> bool:
        """Whether the names are compatible: in BIDS by entities and numbered words, otherwise by words and contrast.

        A BIDS name says whose scan it is, so that another contrast can only be one of the same person.
        """
        if bool(self.entities) != bool(other.entities):
            return False
        if not self.entities:
            return (self._named_by(other) or other._named_by(self)) and not self.of_another_contrast(other)
        own, theirs = dict(self.entities), dict(other.entities)
        same = all(own[key] == theirs[key] for key in own.keys() & theirs.keys())
        return same and _nested(*({word for word in one.words if re.search("[0-9]", word)} for one in (self, other)))

    def _named_by(self, other: Identity) -> bool:
        """Whether the words are the same; words from folders may begin higher up in the tree."""
        above = len(self.words) - len(other.words) if self.words == self.place else 0
        return self.words[max(above, 0) :] == other.words

    def of_another_contrast(self, other: Identity) -> bool:
        """Whether both names say a contrast, and not the same one; `T2_FLAIR` is FLAIR, and `MPRAGE` is T1w."""
        own, theirs = said_in_text("_".join(self.contrasts)), said_in_text("_".join(other.contrasts))
        return own != theirs if any(own) and any(theirs) else not _nested(set(self.contrasts), set(other.contrasts))

    def may_share(self, other: Identity) -> bool:
        """Whether one truth can be that of both: of several contrasts of a scan, but not of scans in different folders.

        A BIDS truth is for everything that its name does not exclude, such as all sessions.
        """
        different = set(self.contrasts) != set(other.contrasts)
        return bool(self.entities) or different or self.place == other.place

    def closeness(self, other: Identity) -> tuple[int, int, bool]:
        """How well they match: number of common entities and contrasts, and whether the folder is the same."""
        shared = len(self.entities & other.entities)
        return shared, len(set(self.contrasts) & set(other.contrasts)), self.folder == other.folder


Known = list[tuple[Identity, Path]]


def identify(path: Path, root: Path) -> Identity:
    """Parse a file name and, for what is missing in it (subject and session, or any name), the folders below `root`."""
    folder = path.parent.relative_to(root) if root in path.parents else Path()
    own, above = _whose(entities(path)), [_whose(read(part)) for part in folder.parts]
    said = [word for word in own if _is_contrast(word)] or [word for part in above for word in part if _is_sure(word)]
    contrasts = tuple(word.lower().removesuffix("w") for word in said)
    place = tuple(word for part in above for word in part if not _is_sure(word))
    outer = [word for part in above for word in part if word.startswith(("sub-", "ses-"))]
    if any(word.startswith("sub-") for word in (*outer, *own)):
        keys = {word.partition("-")[0] for word in own}
        own = [word for word in outer if word.partition("-")[0] not in keys] + own
        name = read("_".join(own))
        words = tuple(word for word in name.words if not _is_contrast(word))
        return Identity(frozenset(name.entities.items()), words, contrasts, folder.as_posix(), place, "_".join(own))
    names = [word for word in own if not _is_contrast(word)]
    if not names:  # such as map.nii.gz: all folders, as many have one that is called ses-1; otherwise the file name
        own = [*place, *own] or [stem(path)]
        names = list(place) or own
    return Identity(frozenset(), tuple(names), contrasts, folder.as_posix(), place, "_".join(own))


def _is_contrast(word: str) -> bool:
    """Whether a word of a name is a contrast and not, although it looks like one, the number of a scan."""
    known, _ = said_in_text(word.lower())
    return says_contrast(word) and (known is not None or not NUMBERED.fullmatch(word.lower()))


def _is_sure(word: str) -> bool:
    """The same of a word of a folder: `PD` and `CT` are more often groups of persons."""
    return _is_contrast(word) and any(said_in_text(word))


def _nested(one: set[str], other: set[str]) -> bool:
    """Whether one of two sets says nothing that the other does not."""
    return one <= other or other <= one


def _whose(name: BidsName) -> list[str]:
    """The parts of a name that identify the scan, including BIDS entities."""
    return [p for p in name.parts if p.lower() not in ROLES and p.partition("-")[0] not in ROLE_ENTITIES]


def masks_of(scans: Sequence[Path], root: Path, masks: Path) -> tuple[dict[Path, Path], list[Path]]:
    """The lesion mask of each scan below `root`, and the masks without a scan.

    Raises `InputError` if a scan has no mask, or several match.
    """
    own = {path.resolve() for path in scans}
    known: Known = [(identify(p, masks), p) for p in truth_files(masks) if p.resolve() not in own]
    hint = "Keep one, or name them like the scans."
    found = matches([(identify(path, root), path) for path in scans], known, "mask", hint)
    without = [path.name for path, mask in found.items() if mask is None]
    if without:
        what = f"{count(len(without), 'scan has', 'scans have')} no mask in {masks} ({some(without)})"
        raise InputError(what, path=root, hint="Give a healthy scan an empty mask.")
    used = {path: mask for path, mask in found.items() if mask is not None}
    return used, [p for _, p in known if p not in used.values()]


def matches(scans: Known, candidates: Known, kind: str, hint: str = TABLE) -> dict[Path, Path | None]:
    """The candidate of each scan; None if there is none.

    Raises `InputError` if a scan has several, or if one candidate is that of scans that may be of two subjects.
    """
    found = {path: _match(path, who, candidates, kind, hint) for who, path in scans}
    users: dict[Path, Known] = {}
    for who, path in scans:
        one = found[path]
        if one is None:
            continue
        before = users.setdefault(one, [])
        if other := next((there for known, there in before if not who.may_share(known)), None):
            raise InputError(f"matches {other} and {path}, which may be two subjects", path=one, hint=hint)
        before.append((who, path))
    return found


def _match(path: Path, who: Identity, candidates: Known, kind: str, hint: str) -> Path | None:
    found = [(who.closeness(other), candidate) for other, candidate in candidates if who.fits(other)]
    if not found:
        return None
    best = max(closeness for closeness, _ in found)
    top = [candidate for closeness, candidate in found if closeness == best]
    if len(top) > 1:
        names = f"{top[0].name} and {top[1].name}"
        raise InputError(f"matches two {kind}s ({names})", path=path, hint=hint)
    return top[0]


def files_in(place: Path) -> list[Path]:
    """Every image below a folder (sorted), or the file itself; linked folders are followed, each real one once.

    Raises `InputError` if there is none.
    """
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise InputError("no such file or folder", path=place, hint="Check the path.")
    every = sorted(folder / name for folder, names in folders_below(place) for name in names)
    found = [p for p in every if p.name.lower().endswith(SUFFIXES) and not p.name.startswith(".")]
    if not found:
        raise InputError("contains no NIfTI file", path=place, hint="Check the path.")
    return [p for p in found if stored.files_of(p)[0] == p]  # of a pair only the header


def map_files(place: Path) -> list[Path]:
    """The files with the word `map` in their name, or all if none has it, without the files next to a map."""
    files = files_in(place)
    stems = {(p.parent, stem(p)) for p in files}
    companions = {(folder, f"{name}{end}") for folder, name in stems for end in COMPANIONS}
    alone = [p for p in files if (p.parent, stem(p)) not in companions]
    return [p for p in alone if "map" in stem(p).lower().split("_")] or alone


def truth_files(place: Path) -> list[Path]:
    """The files named as lesion masks; if there are none, all except brain masks.

    Without those that `uad detect` wrote, unless one is given by itself. Raises `InputError` if there is none.
    """
    files = [p for p in files_in(place) if "brain" not in _words(p) and (p == place or not _is_written(p))]
    if not files:
        what = "contains no NIfTI file of lesions, apart from what uad detect wrote"
        raise InputError(what, path=place, hint="Check the path.")
    return [p for p in files if TRUTH_WORDS & _words(p)] or files


def brain_files(place: Path) -> list[Path]:
    """The files named as masks of the brain; if there are none, all except those that `uad detect` wrote."""
    files = files_in(place)
    return [p for p in files if "brain" in _words(p)] or [p for p in files if p == place or not is_result(p)]


def _is_written(path: Path) -> bool:
    """Whether `uad detect` wrote a file: its map is no ground truth, nor is its mask; one may be a `lesion_map`."""
    return is_result(path) and not (TRUTH_WORDS & _words(path) and stem(path).lower().endswith("_map"))


def _words(path: Path) -> set[str]:
    return set(stem(path).lower().replace("-", "_").split("_"))


def some(names: Sequence[str]) -> str:
    """The first names of a list, and the number of the others."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def count(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"
