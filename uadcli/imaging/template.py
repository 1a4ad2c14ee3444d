"""The bundled MNI152NLin2009cAsym template at 2 mm (see `templates/NOTICE.md`).

The head is a lossless JPEG 2000 picture, six tenths of its size as NIfTI: it is most of a wheel without weights. Every
second sagittal plane is stored as its difference from the mean of its two neighbours, which saves 31 kB. Labels are
NIfTI packed by xz, a quarter smaller than by bzip2.
"""

from __future__ import annotations

import csv
import lzma
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadcli.imaging.geometry import resample, spacing
from uadcli.imaging.slices import GRID_AFFINE, GRID_SHAPE
from uadcli.imaging.volume import Volume

FOLDER = Path(__file__).parent / "templates"
HEAD = "mni_head_T1w"
CSF, GREY, WHITE = 1, 2, 3  # tissue classes in `mni_tissue_dseg`
REGISTERED_MM = 3.0  # how exactly tissue is known after an affine registration: of a Gaussian
SURE = 0.8  # of the smoothed white matter, from where on it is certain
NEAR = 0.2  # of the smoothed tissue, from where on a voxel may be brain; packaging/docs/decisions.md compares others
ZERO = 256  # what a difference of 0 is stored as


@cache
def _read(name: str) -> Volume:
    import nibabel as nib

    if name == HEAD:
        mask = _read("mni_brain_mask")  # on the same grid
        return Volume(_unpacked(_picture(FOLDER / f"{HEAD}.jp2").reshape(mask.shape)), mask.affine)
    image: Any = nib.Nifti1Image.from_bytes(lzma.decompress((FOLDER / f"{name}.nii.xz").read_bytes()))
    return Volume(np.asarray(image.dataobj, dtype=np.float32), np.asarray(image.affine))


def packed(head: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """A head (X, Y, Z), X odd, every second plane at the end, as its difference from the mean of its neighbours.

    Stored as it is, `_unpacked` gives the head back.
    """
    even = head[::2].astype(np.int32)
    return np.concatenate([even, head[1::2] - ((even[:-1] + even[1:]) >> 1) + ZERO]).astype(np.uint16)


def _unpacked(planes: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The head (X, Y, Z) of which `packed` made these."""
    count = (len(planes) + 1) // 2
    even, between = planes[:count].astype(np.int32), planes[count:].astype(np.int32) - ZERO
    head = np.empty(planes.shape, dtype=np.float32)
    head[::2], head[1::2] = even, between + ((even[:-1] + even[1:]) >> 1)
    return head


def _picture(path: Path) -> NDArray[np.uint16]:
    """The grey values of a picture."""
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image)


def head() -> Volume:
    """The T1w head, (97, 115, 97) at 2 mm, 0..255."""
    return _read(HEAD)


def brain_mask() -> NDArray[np.bool_]:
    """The brain mask (X, Y, Z) on the grid of `head`."""
    return _read("mni_brain_mask").data > 0


def brain() -> Volume:
    """The T1w brain on the grid of `head` (X, Y, Z), MNI; 0 outside the brain."""
    return Volume(np.where(brain_mask(), head().data, 0).astype(np.float32), head().affine)


@cache
def regions() -> NDArray[np.uint8]:
    """The most probable region of each voxel of the model's grid (96, 96, 80) after an affine registration.

    Numbers as in `region_names`, 0 for none; majority vote of 20 healthy heads.
    """
    numbers = _read("mni_regions_dseg").data.astype(np.uint8)
    numbers.setflags(write=False)
    return numbers


@cache
def white_matter() -> NDArray[np.float32]:
    """How surely each voxel of the model's grid (96, 96, 80) is white matter after an affine registration, 0 to 1."""
    from scipy import ndimage

    white = (_on_grid("mni_tissue_dseg", 0) == WHITE).astype(np.float32)
    certain = np.minimum(ndimage.gaussian_filter(white, REGISTERED_MM / spacing(GRID_AFFINE)) / SURE, 1)
    certain.setflags(write=False)
    return np.asarray(certain)


@cache
def tissue() -> NDArray[np.bool_]:
    """Where grey or white matter may be on the model's grid (96, 96, 80) after an affine registration.

    Not in the fluid between brain and skull, where sinuses and larger vessels run.
    """
    from scipy import ndimage

    share = (_on_grid("mni_tissue_dseg", 0) >= GREY).astype(np.float32)
    near = ndimage.gaussian_filter(share, REGISTERED_MM / spacing(GRID_AFFINE)) > NEAR
    near.setflags(write=False)
    return np.asarray(near)


@cache
def region_names() -> Mapping[int, str]:
    """The names of the regions by number; `left` and `right` are the patient's."""
    with (FOLDER / "mni_regions_dseg.tsv").open(encoding="utf-8", newline="") as stream:
        return MappingProxyType({int(row["index"]): row["name"] for row in csv.DictReader(stream, delimiter="\t")})


def on_grid(name: str, order: int = 0) -> NDArray[np.float32]:
    """One of `mni_head_T1w`, `mni_brain_mask` and `mni_tissue_dseg`, resampled to the model's grid (96, 96, 80)."""
    return _on_grid(name, order).copy()


@cache
def _on_grid(name: str, order: int) -> NDArray[np.float32]:
    volume = _read(name)
    return resample(volume.data, volume.affine, GRID_SHAPE, GRID_AFFINE, order=order)
