"""A folder or BIDS dataset of scans: subject, contrast and part of the training/validation split of each file."""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from uadcli import device
from uadcli.config import PreprocessConfig
from uadcli.data.contrast import from_name
from uadcli.data.entities import entities, read
from uadcli.data.names import MOST_BYTES, is_result
from uadcli.data.scan_json import json_of, read_text
from uadcli.errors import InputError, UadError
from uadcli.files import folders_below
from uadcli.imaging.volume import stem
from uadcli.running.stage import Progress, unseen
from uadcli.workers import Died, Workers

SCANS = (".nii", ".nii.gz", ".mgz")
NOT_A_SCAN = re.compile(r"(?<![a-z])(masks?|dseg|labels?|lesions?|seg|anomaly|probseg)(?![a-z])", re.I)
LESIONS = "label-lesion"  # in the name of a lesion mask in BIDS
SYNTHETIC = '"synthetic"'  # in the sidecar of a synthetic volume; other JSON files are not parsed
NOT_RAW = {"derivatives", "sourcedata", "code"}
SIDES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}
T = TypeVar("T")
Note = Callable[[str], object]


@dataclass(frozen=True)
class Case:
    """One scan: its part (`train`, `val`; of the development data also `dev`, `healthy`), contrast, lesion mask if any.

    `contrast` is empty if the name does not give it; preparation determines it from the image.
    """

    subject: str
    source: str
    part: str
    contrast: str
    scan: Path
    lesions: Path | None = None


def unsaid(text: str) -> None:
    """The note of a search that nobody follows."""


def find(root: Path, validation_share: float | None, note: Note = unsaid) -> list[Case]:
    """Every scan below a folder, in a fixed order, split by subject; all are `train` with a share of None.

    Linked folders are followed, each real one once. The results of `uad detect` are left out, with a `note`. The split
    is that of `participants.tsv` (column `split`) if there is one, which may also name other parts, such as `test`;
    otherwise it follows from a digest of the subject's name, so that it is the same in every run. A patient's scan has
    its lesion mask next to it (`_lesions_beside`), and so has a synthetic volume with lesions (`synthetic_lesions`).

    Raises `InputError` if there is no scan, if the table puts a subject into two parts, if several lesion masks are
    next to a scan, or if a sidecar of uad is damaged.
    """
    if not root.is_dir():
        raise InputError("is not a folder", path=root, hint="Give a folder or BIDS dataset of healthy scans.")
    files, results = list[Path](), list[Path]()
    below = folders_below(root, lambda path: path.name not in NOT_RAW)
    every = sorted(folder / name for folder, names_in in below for name in names_in)
    for path in (p for p in every if _is_scan(p.relative_to(root)) and p.is_file()):
        (results if is_result(path) else files).append(path)
    if results:
        note(f"{len(results)} files that uad wrote are left out, the first is {results[0]}")
    if not files:
        raise InputError("contains no scan", path=root, hint="Scans end in .nii, .nii.gz or .mgz.")
    subjects = {p: subject_of(p.relative_to(root)) for p in files}
    parts = dict.fromkeys(subjects.values(), "train")
    if validation_share is not None:
        parts = _split(sorted(parts), root / "participants.tsv", validation_share)
    known = {folder: _lesion_masks(folder) for folder in {p.parent for p in files}}
    masks = {p: _lesions_beside(p, known[p.parent]) or synthetic_lesions(p) for p in files}
    return [Case(subjects[p], root.name, parts[subjects[p]], from_name(p) or "", p, masks[p]) for p in files]


def is_synthetic(scan: Path) -> bool:
    """Whether the sidecar next to a scan marks it as synthetic, as that of `uad synth` does; False without a sidecar.

    Raises `InputError` if the sidecar cannot be read.
    """
    sidecar = json_of(scan)
    if not sidecar.exists():
        return False
    try:
        content = json.loads(sidecar.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError("cannot be read as JSON", path=sidecar, hint="Repair or remove it.") from error
    return isinstance(content, dict) and content.get("synthetic") is True


def synthetic_lesions(scan: Path) -> Path | None:
    """The lesion mask that `uad synth --lesions` wrote next to a volume, whatever its name; None if it has no lesion.

    The sidecar says whether it has, so that a volume whose mask is lost does not count as healthy: the path is then
    that of the missing file. Raises `InputError` if a sidecar that speaks of synthesis cannot be read.
    """
    try:
        text = read_text(json_of(scan), MOST_BYTES)
    except (OSError, ValueError):  # not of uad; what needs it says so (`scan_json.describe`)
        return None
    if text is None or SYNTHETIC not in text or not is_synthetic(scan):
        return None
    volume = json.loads(text).get("lesion_volume_ml")
    if isinstance(volume, bool) or not isinstance(volume, int | float) or volume <= 0:
        return None
    name = stem(scan)
    return scan.with_name(f"{name}_lesions{scan.name.removeprefix(name)}")


def _lesion_masks(folder: Path) -> dict[str | None, list[Path]]:
    """The lesion masks of a folder in BIDS by subject; read once, as a folder may hold thousands of scans."""
    found = dict[str | None, list[Path]]()
    for path in sorted(folder.glob("sub-*_mask.nii*")):
        if any(part.startswith(LESIONS) for part in entities(path).parts):
            found.setdefault(entities(path).subject, []).append(path)
    return found


def _lesions_beside(scan: Path, masks: Mapping[str | None, Sequence[Path]]) -> Path | None:
    """The lesion mask of a patient's scan in BIDS: `..._label-lesion_mask.nii.gz` in the scan's folder, all of whose
    entities match the scan's (`sub-1_label-lesion_mask` is for all contrasts of `sub-1`); of several, the most
    specific. `masks` are those of the folder.

    Raises `InputError` if two are equally specific.
    """
    name, found = entities(scan), list[tuple[int, Path]]()
    for path in masks.get(name.subject, ()):
        parts = {part for part in entities(path).parts if part != "mask" and not part.startswith(LESIONS)}
        if parts <= set(name.parts):
            found.append((len(parts), path))
    best = [path for count, path in found if count == max(found)[0]]
    if len(best) > 1:
        names = " and ".join(path.name for path in best)
        raise InputError(f"has several lesion masks: {names}", path=scan, hint="Keep only one of them.")
    return best[0] if best else None


def doubtful_mask(case: Case) -> Path | None:
    """A file next to a subject's scan whose name suggests a lesion mask, although it is not its `lesions`."""
    if case.lesions is not None or not case.subject.startswith("sub-"):
        return None
    session = entities(case.scan).entities.get("ses")
    for path in sorted(case.scan.parent.glob(f"{case.subject}_*.nii*")):
        other = entities(path).entities.get("ses")
        same = session is None or other is None or session == other
        if same and re.search("lesion|tumou?r", path.name, re.I) and NOT_A_SCAN.search(path.name):
            return path
    return None


def _is_scan(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts)
    return (
        path.name.endswith(SCANS) and not hidden and not NOT_RAW & set(path.parts) and not NOT_A_SCAN.search(path.name)
    )


def subject_of(path: Path) -> str:
    """`sub-...` from a BIDS path, otherwise the name of the scan's folder, otherwise of the scan."""
    for part in path.parts:
        if subject := read(part).subject:
            return subject
    return path.parts[-2] if len(path.parts) > 1 else path.name.split(".")[0]


def _split(subjects: list[str], participants: Path, share: float) -> dict[str, str]:
    assigned = _assigned(participants) if participants.exists() else {}
    if assigned:
        return {s: assigned.get(s.removeprefix("sub-"), "train") for s in subjects}
    ranked = sorted(subjects, key=lambda s: hashlib.sha256(s.encode()).hexdigest())
    count = min(max(round(share * len(subjects)), 1), len(subjects) - 1) if share > 0 else 0
    return {s: "val" if i < count else "train" for i, s in enumerate(ranked)}


def _assigned(participants: Path) -> dict[str, str]:
    """The part of each subject (without `sub-`) from a table. Raises `InputError` if a subject has two."""
    try:
        with participants.open(newline="", encoding="utf-8-sig") as stream:
            rows = [
                (r.get("participant_id") or "", r.get("split") or "") for r in csv.DictReader(stream, delimiter="\t")
            ]
    except UnicodeDecodeError as error:
        raise InputError("is not text in UTF-8", path=participants, hint="Save it as UTF-8.") from error
    except (OSError, csv.Error) as error:
        raise InputError(f"cannot be read as a table: {error}", path=participants, hint="Fix or remove it.") from error
    assigned: dict[str, str] = {}
    for name, side in ((name.strip().removeprefix("sub-"), side.strip().lower()) for name, side in rows):
        part = SIDES.get(side, side)
        if name and part and assigned.setdefault(name, part) != part:
            what = f"{name} is both in {assigned[name]} and in {part}"
            raise InputError(what, path=participants, hint="Assign each subject to one part of the split.")
    return assigned


@dataclass(frozen=True)
class Checked:
    """What `check` found of one file; `problem` is empty if it can be used."""

    case: Case
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    sha256: str
    problem: str

    @property
    def readable(self) -> bool:
        """Whether it can be read; it may still be the same as another one, and is then not used."""
        return bool(self.sha256)


def check(cases: list[Case], progress: Progress = unseen) -> list[Checked]:
    """Read every file once, to find broken files and duplicates, in particular across the split."""
    from uadcli.imaging.geometry import spacing
    from uadcli.imaging.volume import read_scan

    result = []
    for done, case in enumerate(cases):
        progress(done, len(cases))
        try:
            scan = read_scan(case.scan)
            sizes = tuple(round(float(v), 3) for v in spacing(scan.source_affine))
            result.append(Checked(case, tuple(scan.source_shape), sizes, scan.sha256, ""))
        except UadError as error:
            result.append(Checked(case, (), (), "", error.what))
    first: dict[str, Checked] = {}
    for i, row in sorted(enumerate(result), key=lambda one: one[1].case.part != "train"):  # as `scans.each_once`
        if not row.readable:
            continue
        twin = first.setdefault(row.sha256, row)
        if twin is not row:
            both = ", in training and validation" if twin.case.part != row.case.part else ""
            result[i] = Checked(row.case, row.shape, row.spacing_mm, row.sha256, f"same as {twin.case.scan.name}{both}")
    return result


def in_words(checked: list[Checked]) -> str:
    """The result of `check` as text: counts, then a line for each problem."""
    counts = Counter((c.case.contrast or "contrast unknown", c.case.part) for c in checked if not c.problem)
    lines = [f"{n} {contrast} scans in {part}" for (contrast, part), n in sorted(counts.items())]
    shapes = Counter("x".join(map(str, c.shape)) for c in checked if c.shape)
    lines += [f"{n} of {shape} voxels" for shape, n in shapes.most_common(5)]
    lines += [f"{c.case.scan}: {c.problem}" for c in checked if c.problem]
    return "\n".join(lines)


def evenly(items: Sequence[T], most: int) -> list[T]:
    """At most `most` of the items, evenly spaced and in order; always the same ones."""
    import numpy as np

    places = np.linspace(0, len(items) - 1, min(most, len(items)))
    return [items[i] for i in sorted({round(place) for place in places.tolist()})]


def prepare_all(
    chosen: list[Case], cache: Path, config: PreprocessConfig, workers: int = 2, progress: Progress = unseen
) -> dict[Case, str]:
    """Prepare cases in parallel single-threaded processes; returns the fault of each that failed.

    A scan whose process dies, perhaps out of memory, has failed; another process continues with the rest.
    """
    faults = dict[Case, str]()
    done = Workers(functools.partial(_fault, cache=cache, config=config), workers).run(chosen)
    for count, (case, fault) in enumerate(done, start=1):
        progress(count, len(chosen))
        if isinstance(fault, Died):
            faults[case] = f"the process that prepared it {fault.in_words()}"
        elif fault:
            faults[case] = fault
    return {case: faults[case] for case in chosen if case in faults}


def _fault(case: Case, cache: Path, config: PreprocessConfig) -> str:
    """Prepare a case into the cache on one thread; returns what was wrong with it, if anything."""
    from uadcli.data.prepare import prepare_cached

    try:
        with device.one_torch_thread():
            prepare_cached(case.scan, config, cache)
    except UadError as error:
        return error.what
    except Exception as error:  # one bad scan must not end the run
        return f"{type(error).__name__}: {error}"
    return ""
