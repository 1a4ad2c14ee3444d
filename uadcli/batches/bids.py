"""BIDS: the anatomical scans of a dataset, and the description of a dataset of results."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uadcli import __version__
from uadcli.config import CONTRASTS
from uadcli.data.entities import BidsName, entities
from uadcli.errors import RESEARCH_USE, UsageError
from uadcli.files import write_json

DESCRIPTION = "dataset_description.json"
BIDS_VERSION = "1.9.0"
SCANS = (".nii", ".nii.gz")


@dataclass(frozen=True)
class Selection:
    """Selected scans of a BIDS dataset, with or without `sub-` and `ses-`; empty or None selects all."""

    participants: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    contrast: str | None = None

    @property
    def narrow(self) -> bool:
        """Whether it selects participants or sessions, which only BIDS datasets have."""
        return bool(self.participants or self.sessions)


def is_root(folder: Path) -> bool:
    """Whether a folder is a raw BIDS dataset: a description, and subjects below."""
    return (folder / DESCRIPTION).is_file() and any(p.is_dir() for p in folder.glob("sub-*"))


def scans(root: Path, selection: Selection) -> list[Path]:
    """The selected images of a BIDS root with a contrast of `CONTRASTS`, sorted by name.

    Raises `UsageError` if there are none, or a selected participant or session does not exist.
    """
    files = sorted({*root.glob("sub-*/anat/*.nii*"), *root.glob("sub-*/ses-*/anat/*.nii*")})
    named = [(path, name) for path in files if path.name.endswith(SCANS) and _is_scan(name := entities(path))]
    participants = _known(
        root, "participant", "sub-", selection.participants, (name.entities["sub"] for _, name in named)
    )
    sessions = _known(root, "session", "ses-", selection.sessions, (name.entities.get("ses", "") for _, name in named))
    chosen = [
        path
        for path, name in named
        if (not participants or name.entities["sub"] in participants)
        and (not sessions or name.entities.get("ses") in sessions)
        and selection.contrast in (None, name.parts[-1])
    ]
    if not chosen:
        what = f" of contrast {selection.contrast}" if selection.contrast else ""
        raise UsageError(f"no scan{what} is selected in this BIDS dataset", path=root, hint="Check the selection.")
    return chosen


def _is_scan(name: BidsName) -> bool:
    """Whether it is the name of a subject's image with a known contrast, not one hidden as macOS makes them (`._`)."""
    return name.subject is not None and name.parts[-1] in CONTRASTS and not name.parts[0].startswith(".")


def _known(root: Path, kind: str, prefix: str, wanted: Iterable[str], present: Iterable[str]) -> set[str]:
    """The labels without their prefix. Raises `UsageError` for one that is not in the dataset."""
    labels, there = {label.removeprefix(prefix) for label in wanted}, set(present)
    missing = sorted(labels - there)
    if missing:
        raise UsageError(f"there is no scan of {kind} {missing[0]}", path=root, hint="Check the label.")
    return labels


def description() -> dict[str, Any]:
    """The content of `dataset_description.json` for a dataset of results."""
    return {
        "Name": "Anomaly maps of brain MRI (research use only)",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "uad", "Version": __version__, "Description": RESEARCH_USE}],
    }


def check_output(folder: Path) -> None:
    """Raises `UsageError` if an output folder contains a dataset not made by uad."""
    place = folder / DESCRIPTION
    if not place.exists():
        return
    try:
        made_by = [entry["Name"] for entry in json.loads(place.read_text(encoding="utf-8"))["GeneratedBy"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        made_by = []  # not a dataset of ours
    if "uad" not in made_by:
        raise UsageError("is a dataset not made by uad", path=folder, hint="Choose another folder with -o.")


def describe(folder: Path) -> None:
    """Write the description into a folder of results. Raises `OutputError`."""
    write_json(folder / DESCRIPTION, description())
