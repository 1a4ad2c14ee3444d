"""Matching maps and ground truth by file names and BIDS entities, or by a table."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from uadcli.config import COSTLY, SAVES
from uadcli.data.contrast import says_contrast
from uadcli.data.entities import BidsName, entities, read
from uadcli.data.names import MNI
from uadcli.errors import InputError, UsageError
from uadcli.imaging import stored
from uadcli.imaging.volume import SUFFIXES, stem

# words of a name that describe the kind of file, not the scan
ROLES = {"map", "anomaly", "mask", "seg", "dseg", "lesion", "lesions", "label", "labels", "truth", "gt", "brain"}
TRUTH_WORDS = ROLES - {"map", "anomaly", "brain"}
ROLE_ENTITIES = {"desc", "label", "space", "res", "den"}
# suffixes of files that `uad detect` writes next to a map
COMPANIONS = ("_mask", f"_{MNI}", f"_{MNI}_mask", *(f"_{extra}" for extra in (*SAVES, *COSTLY)))
HEALTHY = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": False, "n/a": False}
HEALTHY_GROUPS = {"healthy", "control", "controls", "hc"}
SHOWN = 5  # names in a message
TABLE = "Give a table with columns map and truth."


@dataclass(frozen=True)
class Case:
    """One map of one method with its ground truth; None if the user declared the scan healthy."""

    method: str
    scan: str
    subject: str
    map: Path
    truth: Path | None
    mask: Path | None = None
    healthy: bool = False


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


def from_folders(
    maps: Sequence[Path], truth: Path, *, masks: Path | None = None, unlabelled: str = "refuse"
) -> tuple[list[Case], list[str]]:
    """The cases of one or more methods, each a folder of maps (or one map), and notes for the user.

    `unlabelled` is how to treat a map without truth: as an error (`refuse`), a `healthy` scan, or left out (`skip`).
    Raises `InputError` if a match is missing or ambiguous, `UsageError` for the same maps twice.
    """
    if len({path.resolve() for path in maps}) < len(maps):
        raise UsageError("the same maps are given twice", hint="Give each method's folder once.")
    shown = [stem(path) if path.is_file() else path.name for path in maps]
    truths: Known = [(identify(p, truth), p) for p in _truth_files(truth)]
    brains: Known = [(identify(p, masks), p) for p in _files(masks)] if masks else []
    cases: list[Case] = []
    notes: list[str] = []
    for path, name in zip(maps, shown, strict=True):
        method = name if name and shown.count(name) == 1 else str(path)
        own, without = _cases(method, path, truths, brains)
        if without and unlabelled == "refuse":
            raise InputError(
                f"{_count(len(without), 'map has', 'maps have')} no ground truth in {truth} ({some(without)})",
                path=path,
                hint="Give a table, or --unlabelled healthy or skip.",
            )
        if unlabelled == "skip":
            own = [case for case in own if case.truth]
            notes += [f"{method}: skipped without ground truth: {some(without)}"] if without else []
        used = {case.truth for case in own}
        left = [p.name for _, p in truths if p not in used]
        if left:
            what = _count(
                len(left),
                "ground-truth file has no map and is ignored",
                "ground-truth files have no map and are ignored",
            )
            notes.append(f"{method}: {what} ({some(left)})")
        cases += own
    return checked(cases, notes)


def _cases(method: str, maps: Path, truths: Known, brains: Known) -> tuple[list[Case], list[str]]:
    """The cases of one method, and the names of maps without a truth; a single map and truth need no matching names."""
    cases, without = [], []
    files = _map_files(maps)
    known = [identify(path, maps) for path in files]
    twice = {scan for scan, n in Counter(i.scan for i in known).items() if n > 1}
    for path, who in zip(files, known, strict=True):
        alone = maps.is_file()
        own = truths[0][1] if alone and len(truths) == 1 else _match(path, who, truths, "truth")
        brain = brains[0][1] if alone and len(brains) == 1 else _match(path, who, brains, "mask")
        if brains and brain is None:
            raise InputError("has no mask", path=path, hint="Give a table with a column mask.")
        if own is None:
            without.append(path.name)
        scan = f"{who.folder}/{stem(path)}" if who.scan in twice else who.scan
        cases.append(Case(method, scan, who.subject, path, own, brain, healthy=own is None))
    return cases, without


def masks_of(scans: Sequence[Path], root: Path, masks: Path) -> tuple[dict[Path, Path], list[Path]]:
    """The lesion mask of each scan below `root`, and the masks without a scan.

    Raises `InputError` if a scan has no mask, or several match.
    """
    own = {path.resolve() for path in scans}
    known: Known = [(identify(p, masks), p) for p in _truth_files(masks) if p.resolve() not in own]
    hint = "Keep one, or name them like the scans."
    found = {path: _match(path, identify(path, root), known, "mask", hint) for path in scans}
    without = [path.name for path, mask in found.items() if mask is None]
    if without:
        what = f"{_count(len(without), 'scan has', 'scans have')} no mask in {masks} ({some(without)})"
        raise InputError(what, path=root, hint="Give a healthy scan an empty mask.")
    used = {path: mask for path, mask in found.items() if mask is not None}
    return used, [p for _, p in known if p not in used.values()]


def _match(path: Path, who: Identity, candidates: Known, kind: str, hint: str = TABLE) -> Path | None:
    found = [(who.closeness(other), candidate) for other, candidate in candidates if who.fits(other)]
    if not found:
        return None
    best = max(closeness for closeness, _ in found)
    top = [candidate for closeness, candidate in found if closeness == best]
    if len(top) > 1:
        names = f"{top[0].name} and {top[1].name}"
        raise InputError(f"matches two {kind}s ({names})", path=path, hint=hint)
    return top[0]


def _files(place: Path) -> list[Path]:
    """Every image below a folder (sorted), or the file itself."""
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise InputError("no such file or folder", path=place, hint="Check the path.")
    found = sorted(p for p in place.rglob("*") if p.name.lower().endswith(SUFFIXES) and not p.name.startswith("."))
    if not found:
        raise InputError("contains no NIfTI file", path=place, hint="Check the path.")
    return [p for p in found if stored.files_of(p)[0] == p]  # of a pair only the header


def _map_files(place: Path) -> list[Path]:
    """The files with the word `map` in their name, or all if none has it, without the files next to a map."""
    files = _files(place)
    stems = {(p.parent, stem(p)) for p in files}
    companions = {(folder, f"{name}{end}") for folder, name in stems for end in COMPANIONS}
    alone = [p for p in files if (p.parent, stem(p)) not in companions]
    return [p for p in alone if "map" in stem(p).lower().split("_")] or alone


def _truth_files(place: Path) -> list[Path]:
    """The files named as lesion masks; if there are none, all except brain masks."""
    files = [p for p in _files(place) if "brain" not in stem(p).lower().replace("-", "_").split("_")]
    named = [p for p in files if TRUTH_WORDS & set(stem(p).lower().replace("-", "_").split("_"))]
    if not files:
        raise InputError("contains no NIfTI file of lesions", path=place, hint="Check the path.")
    return named or files


def from_table(path: Path) -> tuple[list[Case], list[str]]:
    """The cases of a TSV table: `map`, `truth`, and if wanted `mask`, `group`, `healthy`, `method`, `scan`, `subject`.

    Paths are relative to the table. `n/a` and empty cells have no value; a row without a truth must be healthy. Raises
    `InputError` with the line number.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, delimiter="\t", restkey="")
            columns, rows = reader.fieldnames or [], list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot be read as a table ({error})", path=path, hint="Give tab-separated text.") from error
    for name in ("map", "truth"):
        if name not in columns:
            raise InputError(
                f"has no column {name}", path=path, hint="Columns: map, truth, and optionally mask, group."
            )
    if not rows:
        raise InputError("has no row", path=path, hint="Give one row for each map.")
    cases: list[Case] = []
    for line, row in enumerate(rows, start=2):
        case = _row(row, path, line)
        if any((case.method, case.scan) == (c.method, c.scan) for c in cases):
            raise InputError(
                f"line {line}: {case.scan} is listed twice", path=path, hint="Give columns scan or method."
            )
        cases.append(case)
    return checked(cases, [])


def _row(row: dict[str, str | None], path: Path, line: int) -> Case:
    if "" in row:
        raise InputError(f"line {line} has more cells than the first", path=path, hint="Separate cells by one tab.")
    cells = {key: (value or "").strip() for key, value in row.items()}
    given = {key: "" if value.lower() == "n/a" else value for key, value in cells.items()}
    if not given["map"]:
        raise InputError(f"line {line} has no map", path=path, hint="Leave the row out.")
    word = given.get("healthy", "").lower()
    if word not in HEALTHY:
        raise InputError(f"line {line}: healthy cannot be {word!r}", path=path, hint="Give true, false or n/a.")
    healthy = HEALTHY[word] or given.get("group", "").lower() in HEALTHY_GROUPS
    if not given["truth"] and not healthy:
        raise InputError(f"line {line} has no truth", path=path, hint="Give one, or the group healthy.")
    places = {key: path.parent / given[key] if given.get(key) else None for key in ("truth", "mask")}
    who = identify(Path(given["map"]), Path())
    subject = given.get("subject") or given.get("participant_id") or who.subject
    method = given.get("method") or path.stem
    scan = given.get("scan") or who.scan
    return Case(method, scan, subject, path.parent / given["map"], places["truth"], places["mask"], healthy)


def checked(cases: list[Case], notes: list[str]) -> tuple[list[Case], list[str]]:
    """The cases, with a note if a method lacks a scan that another has.

    Raises `InputError` if there is no case, or if one method has two of the same name.
    """
    if not cases:
        raise InputError("there is no map with a ground truth", hint="Check the paths.")
    have = Counter((c.method, c.scan) for c in cases)
    (method, scan), times = have.most_common(1)[0]
    if times > 1:
        raise InputError(f"{method} has two maps of {scan}", hint="Give a table with columns map, truth and scan.")
    methods, scans = dict.fromkeys(c.method for c in cases), dict.fromkeys(c.scan for c in cases)
    missing = [f"{m} {s}" for m in methods for s in scans if (m, s) not in have]
    if missing:
        about = "not every method has every scan; methods are compared on the scans they share"
        notes = [*notes, f"{about} (missing: {some(missing)})"]
    return cases, notes


def some(names: Sequence[str]) -> str:
    """The first names of a list, and the number of the others."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _count(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"
