"""The scans of a batch: from files, folders, patterns, BIDS datasets and lists of these."""

from __future__ import annotations

import codecs
import glob
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from uadcli.batches import bids
from uadcli.batches.bids import Selection
from uadcli.data.dataset import NOT_A_SCAN
from uadcli.data.names import is_result
from uadcli.errors import InputError, UsageError
from uadcli.files import folders_below
from uadcli.imaging import stored
from uadcli.imaging.volume import SUFFIXES

WIDE = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)  # byte-order marks and their codecs


@dataclass(frozen=True)
class Found:
    """A scan, the folder of its results relative to the output folder, and whether it is in a BIDS dataset.

    `name` is the stem of its results, if it is not the scan's name without suffix. `further` are scans of the same
    patient to be joined with it, `columns` the contrasts of all of them if a table gives these.
    """

    scan: Path
    folder: Path = Path()
    in_bids: bool = False
    name: str = ""
    further: tuple[Path, ...] = ()
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Search:
    """The scans found, the masks, maps and results of uad left out, and whether the inputs include a BIDS dataset."""

    found: list[Found]
    left_out: list[Path]
    bids_root: bool


def find(inputs: Sequence[Path], listed: Sequence[Path], selection: Selection, output: Path) -> Search:
    """Every scan of the inputs, in their order, folders sorted by name; `output` inside a folder is skipped.

    Linked folders are followed, each real one once (`folders_below`).
    Results of a file go directly into the output folder; for folders and patterns the subfolders are mirrored. In
    `listed`, missing paths are kept (and fail later) and no character is special. Raises `UsageError` for an input
    without scans, `InputError` for a damaged sidecar of uad.
    """
    found: list[Found] = []
    left_out: list[Path] = []
    roots = 0
    for path, kept in [*((p, False) for p in inputs), *((p, True) for p in listed)]:
        is_folder = os.path.isdir(path)  # False also for a path that cannot be looked up, which fails later
        if is_folder and bids.is_root(path):
            found += [Found(scan, scan.relative_to(path).parent, True) for scan in bids.scans(path, selection)]
            roots += 1
        elif is_folder:
            found += _filled(path, _below(path, path, output, left_out))
        elif kept or path.exists():
            found.append(Found(path))
        elif glob.has_magic(str(path)):
            found += _filled(path, _matching(path, output, left_out))
        else:
            raise UsageError("no such file or folder", path=path, hint="Check the path.")
    if selection.narrow and not roots:
        raise UsageError("--participant-label and --session need a BIDS dataset", hint="Give the dataset's folder.")
    return Search(found, left_out, roots > 0)


def read_list(source: str, nul: bool = False) -> list[Path]:
    """The paths in a file, or from standard input for `-`: one per line, or with `nul` terminated by NUL.

    Empty lines are ignored. A relative path that does not exist is looked up next to the list. Raises `InputError` if
    it cannot be read, `UsageError` if it is empty.
    """
    paths = [listed(line, source) for line in read_lines(source, nul) if line]
    if not paths:
        raise UsageError(
            "the list is empty", path=source, hint="Give one path per line, or NUL-separated ones with -0."
        )
    return paths


def read_lines(source: str, nul: bool = False) -> list[str]:
    """The lines of a list as text. Raises `InputError`."""
    try:
        content = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as error:
        raise InputError(f"the list cannot be read: {error.strerror}", path=source, hint="Check the path.") from error
    return _lines(content, nul)


def _lines(content: bytes, nul: bool) -> list[str]:
    """The lines of a list, or its NUL-terminated entries; UTF-8, or UTF-16 recognised by its mark or zeros."""
    if nul:
        return [os.fsdecode(part) for part in content.split(b"\0")]
    wide = next((code for mark, code in WIDE if content.startswith(mark)), None)
    if wide is None and len(content) > 1 and len(content) % 2 == 0 and b"\0" in content[:4]:
        wide = "utf-16-le" if content[1] == 0 else "utf-16-be"
    text = content.decode(wide, "replace") if wide else os.fsdecode(content.removeprefix(codecs.BOM_UTF8))
    return [line.rstrip("\r") for line in text.split("\n")] if "\n" in text else text.split("\r")


def listed(line: str, source: str) -> Path:
    """The path of a line: as written if it exists, else without quotes and blanks, with `~`, or next to the list."""
    near = Path() if source == "-" else Path(source).parent
    if os.path.lexists(line):
        return Path(line)
    own = bare(line)
    tried = [Path(own), Path(os.path.expanduser(own)), near / own]
    return next((path for path in tried if own and os.path.lexists(path)), Path(line))


def bare(text: str) -> str:
    """A line of a list or a cell of a table without the blanks and quotes around it."""
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _filled(path: Path, scans: Iterator[Found]) -> list[Found]:
    result = list(scans)
    if not result:
        hint = "Scans end in .nii, .nii.gz, .img, .hdr or .mgz; convert DICOM with `dcm2niix -z y FOLDER`."
        raise UsageError("contains no scan", path=path, hint=hint)
    return result


def _matching(pattern: Path, output: Path, left_out: list[Path]) -> Iterator[Found]:
    """Matching files, and the content of matching folders, mirrored from the fixed part of the pattern."""
    parts = pattern.parts
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:fixed])
    for name in sorted(glob.glob(str(pattern), recursive=True)):
        path = Path(name)
        if path.is_dir():
            if "**" not in parts and not _same(path, output):  # "**" already descends into every folder
                yield from _below(path, root, output, left_out)
        elif _is_scan(path, left_out) and not _inside(path, output):
            yield Found(path, path.parent.relative_to(root))


def _below(folder: Path, root: Path, output: Path, left_out: list[Path]) -> Iterator[Found]:
    for here, files in folders_below(folder, lambda path: not _same(path, output)):
        for name in files:
            path = here / name
            if not name.startswith(".") and _is_scan(path, left_out):
                yield Found(path, here.relative_to(root))


def _is_scan(path: Path, left_out: list[Path]) -> bool:
    """Whether a file is a scan; masks, maps and results of uad are recorded, and the header of a pair is skipped."""
    name = path.name.lower()
    if not name.endswith(SUFFIXES):
        return False
    if NOT_A_SCAN.search(path.name) or is_result(path):
        left_out.append(path)
        return False
    return not name.endswith((".hdr", ".hdr.gz")) or stored.files_of(path)[1] is None


def _same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def _inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())
