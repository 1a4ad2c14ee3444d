"""Scans in one folder whose names differ only in the suffix, such as `T1.nii` and `T1.nii.gz`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from uadcli.batches.inputs import Found
from uadcli.imaging.stored import same_content
from uadcli.imaging.volume import stem


def separated(found: Sequence[Found]) -> tuple[list[Found], list[str]]:
    """The scans without duplicates of the same content, each with its own name, and what was left out, in words.

    Scans of the same name in different folders stay: they are an error in `plan.jobs`.
    """
    groups: dict[tuple[str, ...], list[Found]] = {}
    for one in found:
        place = os.path.abspath(one.scan.parent)
        groups.setdefault((str(one.folder), place, stem(one.scan)), []).append(one)
    kept: dict[int, Found] = {}
    notes: list[str] = []
    for group in groups.values():
        different = _different(group, notes)
        for one in different:
            name = one.scan.name.replace(".", "_") if len(different) > 1 else ""
            kept[id(one)] = replace(one, name=name)
    return [kept[id(one)] for one in found if id(one) in kept], notes


def _different(group: list[Found], notes: list[str]) -> list[Found]:
    """The first scan of each distinct content."""
    different: list[Found] = []
    for one in group:
        if any(one.scan.name == other.scan.name for other in different):  # given twice
            continue
        twin = next((other for other in different if same_content(one.scan, other.scan)), None)
        if twin is None:
            different.append(one)
        else:
            notes.append(f"{one.scan} has the same content as {twin.scan.name}, and is left out")
    return different
