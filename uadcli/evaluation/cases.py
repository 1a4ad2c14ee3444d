"""The cases of an evaluation: maps, each with its ground truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from uadcli.data.matching import Known, brain_files, count, identify, map_files, matches, some, truth_files
from uadcli.errors import InputError, UsageError
from uadcli.imaging.volume import stem


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
    scored = {p.resolve() for path in maps for p in map_files(path)}
    truths: Known = [(identify(p, truth), p) for p in truth_files(truth) if p.resolve() not in scored]
    brains = _brain_masks(masks, scored | {p.resolve() for _, p in truths}) if masks else []
    cases: list[Case] = []
    notes: list[str] = []
    for path, name in zip(maps, shown, strict=True):
        method = name if name and shown.count(name) == 1 else str(path)
        own, without, others = _cases(method, path, truths, brains)
        if without and unlabelled == "refuse":
            raise InputError(
                f"{count(len(without), 'map has', 'maps have')} no ground truth in {truth} ({some(without)})",
                path=path,
                hint="Give a table, or --unlabelled healthy or skip.",
            )
        if unlabelled == "skip":
            own = [case for case in own if case.truth]
        if without:  # also because two names do not match
            treated = "skipped" if unlabelled == "skip" else "counted as healthy"
            notes.append(f"{method}: {treated} without ground truth: {some(without)}")
        if others:
            what = count(len(others), "map is", "maps are")
            notes.append(f"{method}: {what} compared with the ground truth of another contrast ({some(others)})")
        used = {case.truth for case in own}
        left = [p.name for _, p in truths if p not in used]
        if left:
            what = count(
                len(left),
                "ground-truth file has no map and is ignored",
                "ground-truth files have no map and are ignored",
            )
            notes.append(f"{method}: {what} ({some(left)})")
        cases += own
    return checked(cases, notes)


def _brain_masks(place: Path, others: Collection[Path]) -> Known:
    """The brain masks below a folder, none of which is one of the `others`, the maps and the ground truth.

    Raises `InputError` if there is none.
    """
    found: Known = [(identify(p, place), p) for p in brain_files(place) if p.resolve() not in others]
    if not found:
        what = "contains no brain mask, apart from maps, ground truth and what uad detect wrote"
        raise InputError(what, path=place, hint="Give brain masks, or leave --masks out.")
    return found


def _cases(method: str, maps: Path, truths: Known, brains: Known) -> tuple[list[Case], list[str], list[str]]:
    """The cases of one method, and the names of maps without a truth, and with that of another contrast.

    A single map and truth need no matching names.
    """
    cases, without, others = list[Case](), list[str](), list[str]()
    scans = [(identify(path, maps), path) for path in map_files(maps)]
    truth_of, brain_of = _of_each(maps, scans, truths, "truth"), _of_each(maps, scans, brains, "mask")
    whose = {path: who for who, path in truths}
    twice = {scan for scan, n in Counter(who.scan for who, _ in scans).items() if n > 1}
    for who, path in scans:
        own, brain = truth_of[path], brain_of[path]
        if brains and brain is None:
            raise InputError("has no mask", path=path, hint="Give a table with a column mask.")
        if own is None:
            without.append(path.name)
        elif who.of_another_contrast(whose[own]):
            others.append(path.name)
        scan = f"{who.folder}/{stem(path)}" if who.scan in twice else who.scan
        cases.append(Case(method, scan, who.subject, path, own, brain, healthy=own is None))
    return cases, without, others


def _of_each(maps: Path, scans: Known, candidates: Known, kind: str) -> dict[Path, Path | None]:
    if maps.is_file() and len(candidates) == 1:
        return {path: candidates[0][1] for _, path in scans}
    return matches(scans, candidates, kind)


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
