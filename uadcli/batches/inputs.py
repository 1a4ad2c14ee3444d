"""Which scans a batch is about: files, folders, patterns, BIDS roots and lists of all these."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from uadcli.batches import bids
from uadcli.batches.bids import Selection
from uadcli.data.dataset import NOT_A_SCAN
from uadcli.errors import InputError, UsageError
from uadcli.imaging.volume import SUFFIXES


@dataclass(frozen=True)
class Found:
    """A scan, the folder of its results relative to the batch's, and whether it lies in a BIDS root."""

    scan: Path
    folder: Path = Path()
    in_bids: bool = False


@dataclass(frozen=True)
class Search:
    """What was found, the names that were left out as masks or maps, and whether a BIDS root was among the inputs."""

    found: list[Found]
    left_out: list[Path]
    bids_root: bool


def find(inputs: Sequence[Path], listed: Sequence[Path], selection: Selection, output: Path) -> Search:
    """Every scan of the inputs, in their order, the content of folders by name; `output` inside a folder is left out.

    A file's results go straight into the output folder, those of a folder or pattern are mirrored. In `listed` a
    path that does not exist is kept (it fails as a scan) and no character is special.
    Raises `UsageError` for an input that holds no scan.
    """
    found: list[Found] = []
    left_out: list[Path] = []
    roots = 0
    for path, kept in [*((p, False) for p in inputs), *((p, True) for p in listed)]:
        if path.is_dir() and bids.is_root(path):
            found += [Found(scan, scan.relative_to(path).parent, True) for scan in bids.scans(path, selection)]
            roots += 1
        elif path.is_dir():
            found += _filled(path, _below(path, path, output, left_out))
        elif kept or path.exists():
            found.append(Found(path))
        elif glob.has_magic(str(path)):
            found += _filled(path, _matching(path, output, left_out))
        else:
            raise UsageError("no such file or folder", path=path, hint="Check the path.")
    if selection.narrow and not roots:
        raise UsageError("--participant-label and --session need a BIDS root", hint="Give the dataset's folder.")
    return Search(found, left_out, roots > 0)


def read_list(source: str, nul: bool = False) -> list[Path]:
    """The paths in a file, or of standard input for `-`, one a line, or with `nul` ended by NUL.

    Empty lines do not count. Raises `InputError` if it cannot be read, `UsageError` if no path is in it.
    """
    try:
        content = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as error:
        raise InputError(f"the list cannot be read: {error.strerror}", path=source, hint="Check the path.") from error
    parts = content.split(b"\0") if nul else [line.rstrip(b"\r") for line in content.split(b"\n")]
    paths = [Path(os.fsdecode(part)) for part in parts if part]
    if not paths:
        raise UsageError("the list is empty", path=source, hint="Give one path a line, or NUL-ended ones with -0.")
    return paths


def _filled(path: Path, scans: Iterator[Found]) -> list[Found]:
    result = list(scans)
    if not result:
        hint = "Scans end in .nii, .nii.gz, .img, .hdr or .mgz; convert DICOM with `dcm2niix -z y FOLDER`."
        raise UsageError("holds no scan", path=path, hint=hint)
    return result


def _matching(pattern: Path, output: Path, left_out: list[Path]) -> Iterator[Found]:
    """Files that match, and what folders that match hold, mirrored from the part of the pattern that is fixed."""
    parts = pattern.parts
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:fixed])
    for name in sorted(glob.glob(str(pattern), recursive=True)):
        path = Path(name)
        if path.is_dir():
            if "**" not in parts and not _same(path, output):  # "**" already goes into every folder
                yield from _below(path, root, output, left_out)
        elif _is_scan(path, left_out) and not _inside(path, output):
            yield Found(path, path.parent.relative_to(root))


def _below(folder: Path, root: Path, output: Path, left_out: list[Path]) -> Iterator[Found]:
    for place, folders, files in os.walk(folder):
        here = Path(place)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and not _same(here / f, output))
        for name in sorted(files):
            path = here / name
            if not name.startswith(".") and _is_scan(path, left_out):
                yield Found(path, here.relative_to(root))


def _is_scan(path: Path, left_out: list[Path]) -> bool:
    """Whether the name is an image's; masks and maps are noted, and a pair's header is no second one."""
    name = path.name.lower()
    if not name.endswith(SUFFIXES):
        return False
    if NOT_A_SCAN.search(path.name):
        left_out.append(path)
        return False
    if name.endswith((".hdr", ".hdr.gz")):
        image = path.with_name(path.name.replace(".hdr", ".img").replace(".HDR", ".IMG"))
        return not image.exists()
    return True


def _same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def _inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())
