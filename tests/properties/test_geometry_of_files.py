"""A ball in world space is found where it is, and drawn where it was found, whatever the file: left is never right.

Each case: a scan file with a ball on the left, read, brought to the model's grid, marked there, brought back and
written; nibabel, which knows nothing of this package, then says where the mark lies.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import phantoms
import pytest

from uadcli.data.prepare import Prepared, to_native
from uadcli.imaging import geometry
from uadcli.imaging.slices import GRID_AFFINE, GRID_SHAPE
from uadcli.imaging.volume import Scan, Volume, read_scan, write_native

BALL, RADIUS = (-32.0, -10.0, 28.0), 14.0
VIEW_MM = 60.0
FIELDS = (
    "pixdim qform_code sform_code quatern_b quatern_c quatern_d qoffset_x qoffset_y qoffset_z "
    "srow_x srow_y srow_z xyzt_units"
)
Angles = tuple[float, float, float]


def _volume(spacing: Angles, angles: Angles, order: int = 0) -> Volume:
    """A ball of 900 in 100 on an oblique grid about it, its axes permuted and flipped; the grid sees no symmetry."""
    affine = phantoms.rotation(angles) @ np.diag([*spacing, 1.0])
    shape = tuple(max(16, round(VIEW_MM / s) + 2 * n) for n, s in enumerate(spacing))
    affine[:3, 3] = (
        np.array(BALL) + phantoms.rotation(angles)[:3, :3] @ (12, -9, 10) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    )
    data = np.where(phantoms.ball(Volume(np.empty(shape), affine), BALL, RADIUS), 900, 100).astype(np.float32)
    return phantoms.turned(Volume(data, affine), phantoms.orientations()[order])


def _nifti(path: Path, volume: Volume, kind: type = nib.Nifti1Image) -> Path:
    image = kind(volume.data.astype(np.int16), volume.affine)
    image.set_sform(volume.affine, 1)
    image.set_qform(volume.affine, 1)
    image.header.set_xyzt_units("mm")
    image.to_filename(path)
    return path


def _centre(weight: np.ndarray, affine: np.ndarray) -> np.ndarray:
    points = np.argwhere(weight > 0)
    return geometry.apply(affine, np.average(points, axis=0, weights=weight[weight > 0]))


def _found_on_the_grid(scan: Scan) -> np.ndarray:
    """The ball on the model's grid, as if the patient lay in MNI space."""
    volume = scan.volume
    return geometry.resample(volume.data, volume.affine, GRID_SHAPE, GRID_AFFINE, order=1, antialias=True) > 500


def _written(scan: Scan, marked: np.ndarray, path: Path) -> nib.Nifti1Image:
    prepared = Prepared(marked, marked, np.eye(4), "none", 1400.0, 0.0, 1.0, 1.0)
    write_native(path, to_native(marked.astype(np.float32), scan, prepared, 1), scan)
    return nib.load(path)


def _check(
    scan: Scan, path: Path, affine_of: Callable[[nib.Nifti1Image], np.ndarray] = lambda image: image.affine
) -> nib.Nifti1Image:
    diagonal = float(np.linalg.norm(geometry.spacing(scan.source_affine)))
    marked = _found_on_the_grid(scan)
    assert np.linalg.norm(_centre(marked, GRID_AFFINE) - BALL) < diagonal
    image = _written(scan, marked, path)
    weight = np.asarray(image.dataobj)
    there = _centre(np.where(weight > 0.5, weight, 0), affine_of(image))
    assert np.linalg.norm(there - BALL) < diagonal
    assert there[0] < -10
    return image


def _same_header(source: Path, written: nib.Nifti1Image) -> None:
    header = nib.load(source).header
    for field in FIELDS.split():
        assert header[field].tobytes() == written.header[field].tobytes(), field


@pytest.mark.parametrize("order", range(48))
def test_every_axis_order(order: int, tmp_path: Path) -> None:
    angles = [(0, 0, 0), (25, -10, 15), (-40, 5, 0), (10, 40, -20), (0, -15, 40)][order % 5]
    path = _nifti(tmp_path / "a.nii.gz", _volume((1.4, 2.1, 3.2), angles, order))
    _same_header(path, _check(read_scan(path), tmp_path / "map.nii.gz"))


SPACINGS = [(0.4, 0.4, 0.4), (0.4, 0.7, 8.0), (8.0, 1.0, 1.0), (1.0, 8.0, 2.0), (5.0, 5.0, 5.0), (8.0, 8.0, 8.0)]


@pytest.mark.parametrize("kind", ["NIfTI-1", "NIfTI-2", "big-endian", "pair", "metres", "microns", "MGH", "packed MGH"])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_every_format_and_spacing(spacing: Angles, kind: str, tmp_path: Path) -> None:
    case = SPACINGS.index(spacing)
    volume = _volume(spacing, (20.0 - 8 * case, 40.0, -13.0 + 5 * case), 7 * case)
    if "MGH" in kind:
        path = tmp_path / ("a.mgz" if "packed" in kind else "a.mgh")
        nib.MGHImage(volume.data, volume.affine).to_filename(path)
        written = _check(read_scan(path), tmp_path / "map.nii.gz")
        assert np.allclose(written.affine, nib.load(path).affine, atol=1e-3)
        return
    scale, unit = {"metres": (1e-3, 1), "microns": (1e3, 3)}.get(kind, (1.0, 2))
    size = np.diag([scale, scale, scale, 1.0])
    path = tmp_path / ("a.img" if kind == "pair" else "a.nii.gz")
    types = {"NIfTI-2": nib.Nifti2Image, "pair": nib.Nifti1Pair}
    _nifti(path, dataclasses.replace(volume, affine=size @ volume.affine), types.get(kind, nib.Nifti1Image))
    image = nib.load(path)
    image.header["xyzt_units"] = unit
    endian = image.header.as_byteswapped(">") if kind == "big-endian" else image.header
    type(image)(np.array(image.dataobj), None, endian).to_filename(path)  # a copy: the file is mapped into memory
    written = _check(read_scan(path), tmp_path / "map.nii.gz", lambda made: np.linalg.inv(size) @ made.affine)
    if kind != "big-endian":
        _same_header(path, written)
    assert np.array_equal(written.affine, nib.load(path).affine)


@pytest.mark.parametrize("order", range(0, 48, 5))
def test_analyze_keeps_every_voxel_in_its_place(order: int, tmp_path: Path) -> None:
    """What nibabel takes for world space is a guess there: the mark lies on the voxels of the ball."""
    volume = _volume((1.4, 2.1, 3.2), (0, 0, 0), order)
    image = nib.AnalyzeImage(volume.data.astype(np.int16), None)
    image.header.set_zooms(geometry.spacing(volume.affine))
    image.to_filename(tmp_path / "a.img")
    scan = read_scan(tmp_path / "a.img")
    marked = scan.volume.data > 500
    write_native(tmp_path / "map.nii.gz", marked.astype(np.float32), scan)
    written = nib.load(tmp_path / "map.nii.gz")
    assert np.array_equal(np.asarray(written.dataobj), volume.data > 500)
    assert np.allclose(written.header.get_zooms(), geometry.spacing(volume.affine), atol=1e-5)
    assert not scan.sides_known


@pytest.mark.parametrize("order", range(0, 48, 7))
@pytest.mark.parametrize("true", ["sform", "qform"])
def test_sform_and_qform_in_disagreement(true: str, order: int, tmp_path: Path) -> None:
    """The one that is believed decides, and both stay in the header."""
    volume = _volume((1.2, 1.2, 4.0), (12, -20, 8), order)
    other = phantoms.rotation((6, 9, -11)) @ volume.affine
    other[:3, 3] += (40, -25, 30)
    path = _nifti(tmp_path / "a.nii.gz", volume)
    image = nib.load(path)
    image.set_sform(volume.affine if true == "sform" else other, 1)
    image.set_qform(volume.affine if true == "qform" else other, 1)
    image.to_filename(path)
    scan = read_scan(path, geometry="auto" if true == "sform" else "qform")
    written = _check(scan, tmp_path / "map.nii.gz", lambda made: getattr(made, f"get_{true}")())
    _same_header(path, written)
    assert any("differ" in text for text in scan.warnings) == (true == "sform")
