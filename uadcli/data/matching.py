"""Which file belongs to which scan, by file names and BIDS entities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from uadcli.config import COSTLY, SAVES
from uadcli.data.contrast import says_contrast
from uadcli.data.entities import BidsName, entities, read
from uadcli.data.names import MNI
from uadcli.errors import InputError
from uadcli.imaging import stored
from uadcli.imaging.volume import SUFFIXES, stem

# words of a name that describe the kind of file, not the scan
ROLES = {"map", "anomaly", "mask", "seg", "dseg", "lesion", "lesions", "label", "labels", "truth", "gt", "brain"}
TRUTH_WORDS = ROLES - {"map", "anomaly", "brain"}
ROLE_ENTITIES = {"desc", "label", "space", "res", "den"}
# suffixes of files that `uad detect` writes next to a map
COMPANIONS = ("_mask", f"_{MNI}", f"_{MNI}_mask", *(f"_{extra}" for extra in (*SAVES, *COSTLY)))
SHOWN = 5  # names in a message
TABLE = "Give a table with columns map and truth."


@dataclass(frozen=True)
class Identity:
    """The scan a file belongs to, from its name: BIDS entities, or words without `sub-`; contrasts, and folder."""

    entities: frozenset[tuple[str, str]]
    words: tuple[str, ...]
    contrasts: frozenset[str]
    folder: str
    scan: str

    @property
    def subject(self) -> str:
        """`sub-...` if there is one, otherwise the words of the name without contrasts."""
        return next((f"sub-{value}" for key, value in self.entities if key == "sub"), "_".join(self.words))

    def fits(self, other: Identity) -> bool:
        """Whether the two names are compatible: BIDS names by entities, others by their words."""
        own, theirs = dict(self.entities), dict(other.entities)
        same = all(own[key] == theirs[key] for key in own.keys() & theirs.keys())
        return same and self.words == other.words and bool(own) == bool(theirs)

    def closeness(self, other: Identity) -> tuple[int, int, bool]:
        """How well they match: number of common entities and contrasts, and whether the folder is the same."""
        shared = len(self.entities & other.entities)
        return shared, len(self.contrasts & other.contrasts), self.folder == other.folder


Known = list[tuple[Identity, Path]]


def identify(path: Path, root: Path) -> Identity:
    """Parse a file name and, for what is missing in it (subject and session, or any name), the folders below `root`."""
    folder = path.parent.relative_to(root) if root in path.parents else Path()
    own, above = _whose(entities(path)), [_whose(read(part)) for part in folder.parts]
    contrasts = frozenset(word.lower().removesuffix("w") for word in own if says_contrast(word))
    outer = [word for part in above for word in part if word.startswith(("sub-", "ses-"))]
    if any(word.startswith("sub-") for word in (*outer, *own)):
        keys = {word.partition("-")[0] for word in own}
        own = [word for word in outer if word.partition("-")[0] not in keys] + own
        named = frozenset(read("_".join(own)).entities.items())
        return Identity(named, (), contrasts, folder.as_posix(), "_".join(own))
    names = [word for word in own if not says_contrast(word)]
    if not names:  # such as map.nii.gz: the nearest folder with a name, otherwise the file name
        nearest = next((part for part in reversed(above) if part), [stem(path)])
        names, own = nearest, [*nearest, *own]
    return Identity(frozenset(), tuple(names), contrasts, folder.as_posix(), "_".join(own))


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
    found = {path: match(path, identify(path, root), known, "mask", hint) for path in scans}
    without = [path.name for path, mask in found.items() if mask is None]
    if without:
        what = f"{count(len(without), 'scan has', 'scans have')} no mask in {masks} ({some(without)})"
        raise InputError(what, path=root, hint="Give a healthy scan an empty mask.")
    used = {path: mask for path, mask in found.items() if mask is not None}
    return used, [p for _, p in known if p not in used.values()]


def match(path: Path, who: Identity, candidates: Known, kind: str, hint: str = TABLE) -> Path | None:
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
    """Every image below a folder (sorted), or the file itself."""
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise InputError("no such file or folder", path=place, hint="Check the path.")
    found = sorted(p for p in place.rglob("*") if p.name.lower().endswith(SUFFIXES) and not p.name.startswith("."))
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
    """The files named as lesion masks; if there are none, all except brain masks."""
    files = [p for p in files_in(place) if "brain" not in stem(p).lower().replace("-", "_").split("_")]
    named = [p for p in files if TRUTH_WORDS & set(stem(p).lower().replace("-", "_").split("_"))]
    if not files:
        raise InputError("contains no NIfTI file of lesions", path=place, hint="Check the path.")
    return named or files


def some(names: Sequence[str]) -> str:
    """The first names of a list, and the number of the others."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def count(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"
