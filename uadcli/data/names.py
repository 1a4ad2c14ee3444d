"""The names of a detection's output files, how to know them, and the check that they replace no file that is read."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from uadcli.config import COSTLY, SAVES
from uadcli.data.scan_json import json_of, read_text
from uadcli.errors import InputError, OutputError, UsageError
from uadcli.imaging.volume import stem

LONGEST_NAME = 255  # bytes
MNI = "space-MNI152NLin2009cAsym"
# ends of the names of files that are written next to a map
COMPANIONS = ("_mask", f"_{MNI}", f"_{MNI}_mask", *(f"_{extra}" for extra in (*SAVES, *COSTLY)))
# a map, and what `uad detect` writes next to it
MAP = re.compile(rf"(^|_)map({'|'.join(COMPANIONS)})?\.", re.I)
MARK = '"research_use_only"'  # in every sidecar; JSON files without it are not parsed, as there may be thousands
MOST_BYTES = 1 << 24  # of a sidecar, which lists every component


@dataclass(frozen=True)
class Outputs:
    """Paths by content; files that were not requested have no entry."""

    paths: dict[str, Path]

    @property
    def map(self) -> Path:
        return self.paths["map"]


class Wanted(Protocol):
    """The options of a detection that determine its files, and those that name files to read."""

    @property
    def further(self) -> tuple[Path, ...]: ...
    @property
    def healthy(self) -> tuple[Path, ...]: ...
    @property
    def brain_mask(self) -> Path | None: ...
    @property
    def labels(self) -> Path | None: ...
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
    refuse_long(outputs)
    refuse_inputs(outputs.paths.values(), read_files(scan, wanted))
    if not wanted.overwrite and (there := next((path for path in outputs.paths.values() if path.exists()), None)):
        raise OutputError("already exists", path=there, hint="Give --overwrite or another name with -o.")
    return outputs


def read_files(scan: Path, wanted: Wanted) -> dict[Path, str]:
    """The user's files that a detection reads, each with what it is: no result may take their place.

    The JSON file of a scan is one of them even if there is none yet: a sidecar there would be read as one next time.
    """
    scans = {path: "a healthy scan of --adapt" for path in wanted.healthy}
    scans |= {path: "a scan of --with" for path in wanted.further} | {scan: "the scan"}
    masks = ((wanted.brain_mask, "the brain mask"), (wanted.labels, "the label mask"))
    found = {json_of(path): f"the JSON file of {what}" for path, what in scans.items()}
    return found | {path: what for path, what in masks if path is not None} | scans | {scan: "the scan itself"}


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


def refuse_inputs(outputs: Iterable[Path], inputs: Mapping[Path, str]) -> None:
    """Raises `UsageError` for an output file that is one of the `inputs`, under any name."""
    for path in outputs:
        for other, what in inputs.items():
            both_exist = path.exists() and other.exists()
            if path.samefile(other) if both_exist else os.path.realpath(path) == os.path.realpath(other):
                raise UsageError(f"is {what}", path=path, hint="Give the result another name with -o.")


def is_result(image: Path) -> bool:
    """Whether an image is a map or one of the images that `uad detect` writes next to it.

    Its name says so (`map_brain`), or the sidecar next to it; a scan may have the name `sub-01_brain`. Raises
    `InputError` for a sidecar of uad that is damaged.
    """
    if MAP.search(image.name):
        return True
    name = stem(image)
    maps = [name, *(name.removesuffix(end) for end in COMPANIONS if name.endswith(end))]
    return any(image.name in _outputs(image.with_name(f"{one}.json")) for one in maps)


def _outputs(sidecar: Path) -> set[str]:
    """The names of the files that a detection wrote, as its sidecar lists them, even if all were renamed alike.

    Empty without a sidecar of uad. Raises `InputError` for one that is damaged.
    """
    try:
        text = read_text(sidecar, MOST_BYTES)
    except (OSError, ValueError):  # perhaps of another program; what needs it says so (`scan_json.describe`)
        return set()
    if text is None or MARK not in text:
        return set()
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError("cannot be read as JSON", path=sidecar, hint="Repair or remove it.") from error
    if not isinstance(content, dict) or content.get("synthetic") is True:
        return set()
    tool, outputs = content.get("tool"), content.get("outputs")
    if not isinstance(tool, dict) or tool.get("name") != "uad" or not isinstance(outputs, dict):
        return set()
    base = str(outputs.get("sidecar", sidecar.name)).removesuffix(".json")
    return {f"{sidecar.stem}{name.removeprefix(base)}" for name in map(str, outputs.values()) if name.startswith(base)}
