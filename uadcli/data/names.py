"""The names of a detection's output files, and the check that they can be written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from uadcli.config import COSTLY, SAVES
from uadcli.errors import OutputError, UsageError
from uadcli.imaging.volume import stem

LONGEST_NAME = 255  # bytes
MNI = "space-MNI152NLin2009cAsym"


@dataclass(frozen=True)
class Outputs:
    """Paths by content; files that were not requested have no entry."""

    paths: dict[str, Path]

    @property
    def map(self) -> Path:
        return self.paths["map"]


class Wanted(Protocol):
    """The options of a detection that determine its files."""

    @property
    def further(self) -> tuple[Path, ...]: ...
    @property
    def space(self) -> str: ...
    @property
    def save(self) -> tuple[str, ...]: ...
    @property
    def only_map(self) -> bool: ...
    @property
    def html(self) -> bool | str | None: ...
    @property
    def overwrite(self) -> bool: ...


def plan(scan: Path, output: Path | None, wanted: Wanted) -> Outputs:
    """Name every output file, next to the map, and refuse what must not be overwritten.

    Without `output` the map is `<scan>_desc-anomaly_map.nii.gz` next to the scan. Raises `UsageError`, `OutputError`.
    """
    outputs = name(scan, output, wanted)
    _check(outputs, [scan, *wanted.further], wanted.overwrite)
    return outputs


def name(scan: Path, output: Path | None, wanted: Wanted) -> Outputs:
    """The names only, without checks. Raises `UsageError` for a map that is not a NIfTI file."""
    target = output or scan.with_name(f"{stem(scan)}_desc-anomaly_map.nii.gz")
    if not target.name.endswith((".nii.gz", ".nii")):
        raise UsageError("the map is a NIfTI file", path=target, hint="Its name must end in .nii.gz.")
    suffix = ".nii.gz" if target.name.endswith(".nii.gz") else ".nii"
    base = target.name[: -len(suffix)]
    names = {"map": target.name}
    if not wanted.only_map:
        names |= {"mask": f"{base}_mask{suffix}", "overlay": f"{base}_overlay.png", "sidecar": f"{base}.json"}
    if wanted.space == "both":
        names["mni_map"] = f"{base}_{MNI}{suffix}"
        if not wanted.only_map:
            names["mni_mask"] = f"{base}_{MNI}_mask{suffix}"
    saved = [key for key in (*SAVES, *COSTLY) if key in wanted.save or ("all" in wanted.save and key in SAVES)]
    extras = {key: f"{base}_{key}{suffix}" for key in saved} | {"transform": f"{base}_transform.json"}
    names |= {key: extras[key] for key in saved}
    if wanted.html:
        names["page"] = f"{base}.html"
    return Outputs({key: target.parent / file for key, file in names.items()})


def refuse_long(outputs: Outputs) -> None:
    """Raises `OutputError` for a file name that is too long for file systems."""
    for path in outputs.paths.values():
        if len(os.fsencode(path.name)) > LONGEST_NAME:
            what = f"the name would have {len(os.fsencode(path.name))} bytes, but at most {LONGEST_NAME} are possible"
            raise OutputError(what, path=path, hint="Give a shorter one with -o, or rename the scan.")


def _check(outputs: Outputs, scans: Sequence[Path], overwrite: bool) -> None:
    refuse_long(outputs)
    for path in outputs.paths.values():
        if path.exists() and any(scan.exists() and path.samefile(scan) for scan in scans):
            raise UsageError("is the scan itself", path=path, hint="Give the map another name with -o.")
        if path.exists() and not overwrite:
            raise OutputError("already exists", path=path, hint="Give --overwrite or another name with -o.")
