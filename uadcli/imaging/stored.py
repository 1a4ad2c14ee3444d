"""The stored voxels of a scan: header, volume and checksum from a single pass over its files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadcli.arrays import Array
from uadcli.errors import InputError
from uadcli.files import file_sha256
from uadcli.imaging import formats, not_a_scan
from uadcli.imaging.formats import Layout
from uadcli.imaging.scan_file import ScanFile, is_regular

PACKED = (".gz", ".mgz")
CHUNK = 1 << 20
MOST_MATRIX = 2**20  # bytes of a .mat file next to an Analyze file
BOMB_BYTES, BOMB_RATIO = 10**8, 500  # no scan that large compresses that well; the limit of deflate is 1032


@dataclass(frozen=True)
class Stored:
    """One volume (X, Y, Z) as stored (unscaled), with its header's layout and the sha256 of the files.

    `matrix` is the .mat file next to an Analyze file, if there is one.
    """

    data: NDArray[Any]
    layout: Layout
    sha256: str
    matrix: bytes | None = None
    warnings: tuple[str, ...] = ()

    def scaled(self) -> Array:
        """The volume (X, Y, Z) of stored values after slope and intercept, as float32."""
        from nibabel.volumeutils import apply_read_scaling

        result = np.empty(self.data.shape, dtype=np.float32, order="F")
        with np.errstate(all="ignore"):  # values out of range become infinite, and are counted later
            for z in range(self.data.shape[-1]):  # slice by slice, as intermediate values are float64
                result[..., z] = apply_read_scaling(self.data[..., z], self.layout.slope, self.layout.inter)
        return result


def read(path: Path, volume: int | None = None) -> Stored:
    """Read one volume (the only one, or number `volume` from 0), and every byte of its files once.

    Memory is allocated only if the file can hold what the header claims. Raises `InputError`.
    """
    header_path, image_path = files_of(path)
    with ScanFile(header_path) as file:
        layout = formats.read_header(file.peek(not_a_scan.HEAD), header_path)
        if layout.single:
            data = _voxels(file, layout, volume)
            file.finish()
            notes = (*layout.notes, *_misnamed(file))
            return Stored(data, layout, file.sha256, None, notes)
        file.finish()
    if image_path is None:
        what = "its header says that the voxels are in another file, and there is no .img file next to it"
        raise InputError(what, path=header_path, hint="Give both files of the pair, side by side.")
    with ScanFile(image_path) as image:
        data = _voxels(image, layout, volume)
        image.finish()
    matrix, digests = None, [file.sha256, image.sha256]
    if layout.kind == formats.ANALYZE and (matrix_path := _matrix_of(image_path)):
        with ScanFile(matrix_path) as extra:
            matrix = extra.peek(MOST_MATRIX)
            extra.finish()
        digests.append(extra.sha256)
    return Stored(data, layout, _joined(digests), matrix, (*layout.notes, *_misnamed(file), *_misnamed(image)))


def sha256(path: Path) -> str:
    """The sha256 that `read` returns for the scan at `path`: of the file, or of header, image and .mat of a pair.

    Raises `InputError`.
    """
    header_path, image_path = files_of(path)
    if image_path is None:
        return file_sha256(header_path)
    with ScanFile(header_path) as file:
        head = file.peek(not_a_scan.HEAD)
    kind = formats.kind_of(head)
    if kind is None or formats.is_single(head):
        return file_sha256(header_path)
    matrix = _matrix_of(image_path) if kind == formats.ANALYZE else None
    return _joined([file_sha256(part) for part in (header_path, image_path, matrix) if part])


def same_content(one: Path, other: Path) -> bool:
    """Whether two scans are the same files, or have the same bytes after decompression."""
    if files_of(one) == files_of(other):
        return True
    try:
        with ScanFile(one) as first, ScanFile(other) as second:
            while True:
                here, there = (_chunk(file) for file in (first, second))
                if here != there:
                    return False
                if not here:
                    return True
    except InputError:  # each then fails as a scan, with its own message
        return False


def _chunk(file: ScanFile) -> bytes:
    buffer = bytearray(CHUNK)
    return bytes(buffer[: file.fill(memoryview(buffer))])


def files_of(path: Path) -> tuple[Path, Path | None]:
    """The file with the header and, for a .hdr/.img pair, the file with the voxels if it exists."""
    base, packed = (path.with_suffix(""), path.suffix) if path.suffix.lower() == ".gz" else (path, "")
    kind = base.suffix.lower()
    if kind not in (".img", ".hdr"):
        return path, None
    other = ".hdr" if kind == ".img" else ".img"
    names = [base.with_suffix(end) for end in (other, other.upper())]
    pairs = [Path(f"{name}{end}") for name in names for end in dict.fromkeys((packed, "", ".gz"))]
    found = next((one for one in pairs if is_regular(one)), None)
    if kind == ".hdr":
        return path, found
    return (found, path) if found else (path, None)


def _matrix_of(image: Path) -> Path | None:
    base = image.with_suffix("") if image.suffix.lower() == ".gz" else image
    matrix = base.with_suffix(".mat")
    return matrix if is_regular(matrix) else None


def _joined(digests: list[str]) -> str:
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _misnamed(file: ScanFile) -> tuple[str, ...]:
    named = file.path.name.lower().endswith(PACKED)
    if named == file.packed:
        return ()
    return (f"{file.path.name} is {'not ' if named else ''}compressed, contrary to its name",)


def _voxels(file: ScanFile, layout: Layout, volume: int | None) -> NDArray[Any]:
    """One volume as stored. Raises `InputError` if it does not exist or the file ends before it does."""
    path = file.path
    formats.check_grid(layout, path)
    count, frame = layout.frames, layout.frame_bytes
    if count != 1 and volume is None:
        hint = f"Of a scan, uad detect takes one with --volume 0 ... {count - 1}; else store one as a file of its own."
        raise InputError(f"contains {count} volumes", path=path, hint=hint)
    if volume is not None and not 0 <= volume < count:
        raise InputError(f"has no volume {volume}", path=path, hint=f"It has {count}, counted from 0.")
    start = layout.offset + (volume or 0) * frame
    _check_room(file, start + frame)
    stored = np.empty(frame, dtype=np.uint8)
    if file.skip(start) < start or file.fill(stored.data) < frame:
        file.finish()  # reports a file that shrank during reading
        raise InputError("the file is cut short: it ends before its last voxel", path=path, hint="Copy it again.")
    return stored.view(layout.dtype).reshape(layout.shape[:3], order="F")


def _check_room(file: ScanFile, needed: int) -> None:
    """Raises `InputError` if a file cannot hold what its header claims, before memory is allocated for it."""
    if needed > file.most_bytes:
        what = f"the file is cut short: its header claims {needed} bytes, but there are at most {file.most_bytes}"
        raise InputError(what, path=file.path, hint="Copy or convert it again.")
    if file.packed and needed > BOMB_BYTES and needed > BOMB_RATIO * file.size:
        what = f"is {file.size} bytes that would decompress to {needed} bytes, which no scan does"
        raise InputError(what, path=file.path, hint="Convert the scan again.")
