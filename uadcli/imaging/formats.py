"""Headers of NIfTI-1, NIfTI-2, Analyze and MGH: the format, and where in the file the voxels are.

Formats are recognised by content: NIfTI by `sizeof_hdr` and `magic` (nifti.nimh.nih.gov), Analyze 7.5 by its size of
348 without a magic, MGH by its version (FreeSurfer). Headers are checked; every correction is reported.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uadcli.errors import InputError
from uadcli.imaging import not_a_scan

NIFTI1, NIFTI2, ANALYZE, MGH = "NIfTI-1", "NIfTI-2", "Analyze", "MGH"
MAGICS = (b"n+1\0", b"ni1\0")
WORTH_SAYING = 30  # nibabel's level of reports that change what is read
MIN_VOXELS = 16  # per axis; fewer slices cannot be placed in an atlas
MAX_VOXELS = 2**29  # of one volume: 0.25 mm over a whole head
MAX_OFFSET = 2**26  # bytes of header extensions
CONVERT_AGAIN = "Convert the scan again."


@dataclass(frozen=True)
class Layout:
    """What a header says about the voxels: their grid, and how and where they are stored.

    `single`: header and voxels are in one file; `notes`: the corrections that the header needed.
    """

    kind: str
    header: Any  # nibabel's
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    slope: float | None
    inter: float | None
    single: bool
    notes: tuple[str, ...] = ()

    @property
    def frames(self) -> int:
        """The number of volumes."""
        return int(np.prod(self.shape[3:], dtype=object))

    @property
    def frame_bytes(self) -> int:
        """Bytes of one volume."""
        return int(np.prod(self.shape[:3], dtype=object)) * self.dtype.itemsize


class _Notes:
    """Stands in for a logger and collects the corrections that nibabel reports."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, level: int, message: str) -> None:
        if level >= WORTH_SAYING:
            self.lines.append(f"the header was corrected: {message}")


def kind_of(head: bytes) -> str | None:
    """The format of a header, from its first bytes; None if it is not a known one."""
    size = {int.from_bytes(head[:4], order) for order in ("little", "big")}
    if head[344:348] in MAGICS:
        return NIFTI1
    if 540 in size and len(head) >= 540:
        return NIFTI2
    if 348 in size and len(head) >= 348:
        return ANALYZE
    return MGH if len(head) >= 284 and _is_mgh(head) else None


def is_single(head: bytes) -> bool:
    """Whether header and voxels are in one file."""
    kind = kind_of(head)
    return kind == MGH or (kind == NIFTI1 and b"+" in head[344:348]) or (kind == NIFTI2 and b"+" in head[4:8])


def read_header(head: bytes, path: Path) -> Layout:
    """The layout described by `head`, the first `not_a_scan.HEAD` bytes of the file at `path`. Raises `InputError`."""
    kind = kind_of(head)
    if kind is None:
        raise not_a_scan.refuse(path, head)
    with _named(path), np.errstate(all="ignore"):
        return _mgh(head, path) if kind == MGH else _nifti_or_analyze(kind, head, path)


def check_grid(layout: Layout, path: Path) -> None:
    """Raises `InputError` unless the grid is a volume of plausible size."""
    shape = layout.shape
    size = "x".join(map(str, shape))
    if min(shape, default=0) < 1:
        raise InputError(f"contains no voxels: its header gives the size {size}", path=path, hint=CONVERT_AGAIN)
    if len(shape) == 1:
        raise InputError(f"is one row of {size} voxels", path=path, hint="A 3-D scan is needed.")
    if len(shape) < 3 or (shape[2] == 1 and layout.frames == 1):
        what = f"is one slice ({size} voxels), with 2 dimensions"
        raise InputError(what, path=path, hint="A 3-D scan is needed.")
    if shape[2] == 1:
        what = f"contains {layout.frames} slices as volumes in time ({size} voxels)"
        raise InputError(what, path=path, hint="Store them as one 3-D volume; dcm2niix does.")
    if min(shape[:3]) < MIN_VOXELS:
        hint = f"At least {MIN_VOXELS} along every axis are needed."
        raise InputError(f"is {'x'.join(map(str, shape[:3]))} voxels", path=path, hint=hint)
    if int(np.prod(shape[:3], dtype=object)) > MAX_VOXELS:
        hint = f"At most {MAX_VOXELS // 10**6} million voxels can be used; resample the scan to 1 mm."
        raise InputError(f"claims to have {size} voxels", path=path, hint=hint)
    if not 0 <= layout.offset <= MAX_OFFSET:
        raise InputError(f"claims that its voxels begin at byte {layout.offset}", path=path, hint=CONVERT_AGAIN)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turns the many kinds of errors that nibabel raises for a header into an `InputError`."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        why = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(f"its header is damaged ({why})", path=path, hint=CONVERT_AGAIN) from error


def _nifti_or_analyze(kind: str, head: bytes, path: Path) -> Layout:
    import nibabel as nib

    single = is_single(head)  # the only difference between the two classes of each NIfTI version
    images: dict[str, Any] = {
        NIFTI1: nib.Nifti1Image if single else nib.Nifti1Pair,
        NIFTI2: nib.Nifti2Image if single else nib.Nifti2Pair,
        ANALYZE: nib.Spm2AnalyzeImage,
    }
    header_class = images[kind].header_class
    header = header_class(head[: header_class.sizeof_hdr], check=False)
    dimensions = int(header["dim"][0])
    if not 1 <= dimensions <= 7:
        what = f"its header gives {dimensions} dimensions (dim[0])"
        raise InputError(what, path=path, hint="A 3-D scan is needed; convert it again.")
    notes = _Notes()
    header.check_fix(notes, 40)
    _check_type(header.get_data_dtype(), path)
    slope, inter = header.get_slope_inter()
    return Layout(
        kind=kind,
        header=header,
        shape=tuple(int(n) for n in header.get_data_shape()),
        dtype=header.get_data_dtype(),
        offset=int(header.get_data_offset()),
        slope=None if slope is None else float(slope),
        inter=None if inter is None else float(inter),
        single=single,
        notes=tuple(notes.lines),
    )


def _check_type(dtype: np.dtype[Any], path: Path) -> None:
    if dtype.fields is not None:
        raise InputError("is a colour (RGB) image", path=path, hint="Give the grey-scale scan itself.")
    if np.issubdtype(dtype, np.complexfloating):
        raise InputError("contains complex numbers", path=path, hint="Give the magnitude image.")
    if dtype.kind not in "iuf":
        raise InputError(
            f"contains voxels of the type {dtype.name}", path=path, hint="Give the grey-scale scan itself."
        )


def _is_mgh(head: bytes) -> bool:
    version, *dims = (int.from_bytes(head[n : n + 4], "big", signed=True) for n in range(0, 20, 4))
    return version & 0xFF == 1 and 0 <= version >> 8 < 2**16 and min(dims) > 0  # an intent may stand above the version


def _mgh(head: bytes, path: Path) -> Layout:
    from nibabel.freesurfer import mghformat

    raw = np.frombuffer(head, dtype=mghformat.header_dtype, count=1)[0]
    header = mghformat.MGHHeader(head[: mghformat.header_dtype.itemsize], check=False)
    for name in mghformat.header_dtype.names or ():  # the class put defaults where goodRASFlag is 0
        header[name] = raw[name]
    code = int(raw["type"])
    if code not in {0, 1, 3, 4, 10}:
        raise InputError(
            f"contains voxels of an unknown type ({code})", path=path, hint="Convert it with `mri_convert`."
        )
    shape = tuple(int(n) for n in raw["dims"])
    return Layout(
        kind=MGH,
        header=header,
        shape=shape[:3] if shape[3] == 1 else shape,
        dtype=header.get_data_dtype(),
        offset=mghformat.DATA_OFFSET,
        slope=None,
        inter=None,
        single=True,
    )
