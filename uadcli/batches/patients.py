"""The patients of a batch: the contrasts of one subject and session, to be joined."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from uadcli.batches.inputs import Found, bare, listed, read_lines
from uadcli.config import CONTRASTS
from uadcli.data.contrast import from_name
from uadcli.data.entities import entities
from uadcli.detection.options import DetectOptions
from uadcli.errors import UsageError
from uadcli.imaging.volume import stem

ORDER = ("FLAIR", "T2w", "T1w")  # the first of these that a patient has gives the grid of the map
ABSENT = ("", "n/a")  # in a table


def check(options: DetectOptions) -> None:
    """Raises `UsageError` for options that cannot be combined with `--join`."""
    if options.contrast:
        raise UsageError("--contrast and --join cannot be combined", hint="Leave one of them out.")
    replace(options, further=(Path(),)).check_further()


def grouped(found: Sequence[Found]) -> list[Found]:
    """One entry for each subject and session in a folder, in the order of their first scans.

    Raises `UsageError` for a scan whose name has no subject.
    """
    patients: dict[tuple[Path, str, str], list[Found]] = {}
    for one in found:
        name = entities(one.scan)
        if name.subject is None:
            hint = "Name scans as in BIDS (sub-01_ses-1_FLAIR.nii.gz), or give a table with --list."
            raise UsageError("--join needs a subject in the name of every scan", path=one.scan, hint=hint)
        patients.setdefault((one.folder, name.subject, name.entities.get("ses", "")), []).append(one)
    return [_patient(scans) for scans in patients.values()]


def _patient(scans: Sequence[Found]) -> Found:
    first, *others = sorted(scans, key=lambda one: _rank(one.scan))
    return replace(first, further=tuple(one.scan for one in others))


def _rank(scan: Path) -> int:
    contrast = from_name(scan)
    return ORDER.index(contrast) if contrast in ORDER else len(ORDER)


def of_table(rows: Sequence[Mapping[str, Path]]) -> list[Found]:
    """The entries of the patients in a table, whose columns give the contrasts.

    Results go directly into the output folder; if different first scans have one name, the folders of all first scans
    are mirrored from their common parent.
    """
    found = []
    for scans in rows:
        first, *others = scans.values()
        found.append(Found(first, further=tuple(others), columns=tuple(scans)))
    scan_of: dict[str, Path] = {}
    resolved = [(stem(one.scan), one.scan.resolve()) for one in found]  # a scan may be given by several paths
    if all(scan_of.setdefault(name, scan) == scan for name, scan in resolved):
        return found
    folders = [os.path.abspath(one.scan.parent) for one in found]
    root = os.path.commonpath(folders)
    return [replace(one, folder=Path(os.path.relpath(place, root))) for one, place in zip(found, folders, strict=True)]


def read_table(source: str) -> list[dict[str, Path]]:
    """The scans of each patient by contrast, from a table with a column for each, separated by tabs; `-` is stdin.

    The first line names the contrasts; the map lies on the grid of the first scan of a row. Empty cells and `n/a` are
    scans that do not exist. Raises `InputError` if it cannot be read, `UsageError` if it is not such a table.
    """
    head, *rows = [line for line in read_lines(source) if line.strip()] or [""]
    columns = [bare(cell) for cell in head.split("\t")]
    if not set(columns) <= set(CONTRASTS) or len(set(columns)) < len(columns):
        hint = f"Give a table with tabs whose first line names the contrasts: {', '.join(CONTRASTS)}."
        raise UsageError("--join needs a column per contrast in the list", path=source, hint=hint)
    cells = [zip(columns, row.split("\t"), strict=False) for row in rows]
    patients = [{name: listed(cell, source) for name, cell in row if bare(cell).lower() not in ABSENT} for row in cells]
    if not any(patients) or any(len(row.split("\t")) > len(columns) for row in rows):
        hint = "Give one patient per line, and one path or n/a per column."
        raise UsageError("the list has no patient, or a line with too many columns", path=source, hint=hint)
    return [patient for patient in patients if patient]
