"""Damaged scans for a fuzz test: seeds of every format, and mutations of their bytes, each made from one number."""

from __future__ import annotations

import functools
import gzip
import io
import random
import struct
import tempfile
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np

KINDS = (".nii", ".nii.gz", "-2.nii", "-2.nii.gz", "-be.nii", "-4d.nii.gz", "-analyze.img", "-pair.img", ".mgh", ".mgz")
EDGES = (
    0,
    1,
    -1,
    2,
    7,
    8,
    16,
    127,
    -128,
    255,
    2**15 - 1,
    -(2**15),
    2**16 - 1,
    2**31 - 1,
    -(2**31),
    2**63 - 1,
    -(2**63),
)
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e-38, 1e38, 3.4e38, -3.4e38, 1e-3, 1e3, 1e5, 0.04, 31.0,
          float("inf"), float("-inf"), float("nan"), 1e300)  # fmt: skip
# where a header says how much there is: dim, datatype, bitpix, vox_offset, slope, units, codes of NIfTI-1, -2 and MGH
HOT = (0, 40, 42, 44, 46, 48, 50, 54, 70, 72, 76, 80, 84, 88, 92, 108, 112, 116, 123, 252, 254, 280, 344,
       4, 12, 14, 16, 24, 32, 40, 104, 112, 120, 128, 168, 176, 184, 344, 348, 400, 500,
       4, 8, 12, 16, 20, 28, 30, 34, 42, 78)  # fmt: skip


@functools.cache
def seeds() -> dict[str, dict[str, bytes]]:
    """The files of a good scan of each kind, by their endings; the first is the scan."""
    rng = np.random.default_rng(0)
    data = rng.integers(0, 900, (17, 18, 19)).astype(np.int16)
    affine = np.diag([-9.0, 9.5, 8.0, 1.0])
    affine[:3, 3] = (80, -90, -70)
    with tempfile.TemporaryDirectory() as folder:
        made = {}
        for kind in KINDS:
            place = Path(folder) / kind
            place.mkdir()
            _image(kind, data, affine).to_filename(place / f"a{kind}")
            made[kind] = {file.name[1:]: file.read_bytes() for file in sorted(place.iterdir(), reverse=True)}
        return made


def _image(kind: str, data: np.ndarray, affine: np.ndarray) -> nib.spatialimages.SpatialImage:
    if kind.startswith("-2"):
        return nib.Nifti2Image(data, affine)
    if kind == "-be.nii":
        return nib.Nifti1Image(data.astype(">i2"), affine, nib.Nifti1Header(endianness=">"))
    if kind == "-4d.nii.gz":
        return nib.Nifti1Image(np.stack([data, data], -1), affine)
    if kind == "-analyze.img":
        return nib.Spm99AnalyzeImage(data, affine)
    if kind == "-pair.img":
        return nib.Nifti1Pair(data, affine)
    return nib.MGHImage(data, affine) if "mg" in kind else nib.Nifti1Image(data.astype(np.float32), affine)


def write(number: int, folder: Path) -> Path:
    """The damaged scan of this number, written into `folder` with the files that belong to it."""
    rng = random.Random(number)
    kind = KINDS[number % len(KINDS)]
    files = dict(seeds()[kind])
    target = rng.choice(sorted(files))
    files[target] = _damaged(files[target], target, rng)
    if len(files) > 1 and rng.random() < 0.05:
        del files[rng.choice(sorted(files))]
    name = f"a{kind}" if rng.random() > 0.05 else f"a{kind}".replace(".nii", rng.choice([".mgh", ".img", ".nii"]))
    for end, content in files.items():
        (folder / (name if end == kind else f"a{end}")).write_bytes(content)
    return folder / name


def _damaged(raw: bytes, name: str, rng: random.Random) -> bytes:
    """Mutate what is stored; of a packed file mostly what is inside, sometimes the stream itself."""
    if not name.endswith(("gz",)):
        return _mutated(raw, rng)
    if rng.random() < 0.3:
        return _mutated(raw, rng)
    inside = _mutated(gzip.decompress(raw), rng)
    if rng.random() < 0.1:  # a bomb: far more than the header promises
        return gzip.compress(inside, 1) + _bomb() * rng.randint(1, 8)
    if rng.random() < 0.05:
        return gzip.compress(b"", 1) * rng.randint(2, 3000) + gzip.compress(inside, 1)
    return gzip.compress(inside, 1)


@functools.cache
def _bomb() -> bytes:
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=9, mtime=0) as file:
        file.write(bytes(64 << 20))
    return stream.getvalue()


def _mutated(raw: bytes, rng: random.Random) -> bytes:
    content = bytearray(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        _change(content, rng)
    return bytes(content)


def _change(content: bytearray, rng: random.Random) -> None:
    if not content:
        return
    at = rng.choice(HOT) if rng.random() < 0.7 else rng.randrange(min(len(content), 600))
    at = min(at, len(content) - 1)
    way = rng.randrange(8)
    if way <= 2:
        size, order = rng.choice((1, 2, 4, 8)), rng.choice("<>")
        value = rng.choice(EDGES) if rng.random() < 0.7 else rng.getrandbits(8 * size)
        limit = 1 << (8 * size)
        content[at : at + size] = (value % limit).to_bytes(size, "little" if order == "<" else "big")
    elif way <= 4:
        value = rng.choice(FLOATS)
        single = rng.random() < 0.7
        if single and abs(value) > 3.4e38 and np.isfinite(value):
            value = 3.4e38
        new = struct.pack(rng.choice("<>") + ("f" if single else "d"), value)
        content[at : at + len(new)] = new
    elif way == 5:
        content[at] ^= 1 << rng.randrange(8)
    elif way == 6:
        del content[rng.randrange(len(content)) :]
    else:
        content[at:at] = rng.randbytes(rng.choice((1, 4, 352)))


def checksum(path: Path) -> int:
    """To see that a case is made alike again."""
    return zlib.crc32(b"".join(file.read_bytes() for file in sorted(path.parent.iterdir())))
