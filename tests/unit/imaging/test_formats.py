"""What comes in as a file: what is no scan is named, a scan has its size in mm, and its sides are known or not."""

from __future__ import annotations

import gzip
import os
import resource
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from uadcli.errors import InputError
from uadcli.imaging.volume import read_scan, write_native

GOOD = np.random.default_rng(0).integers(1, 1000, (20, 22, 24)).astype(np.int16)
OBLIQUE = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.2, 0.1, -0.3) @ np.diag([-0.9, 0.93, 5.0]), (11, -22, 33))


def _nifti(path: Path, affine: np.ndarray = OBLIQUE, data: np.ndarray = GOOD, unit: int = 2, version: int = 1) -> Path:
    image = (nib.Nifti1Image if version == 1 else nib.Nifti2Image)(data, affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    image.header["xyzt_units"] = unit
    image.to_filename(path)
    return path


# ---- what is no scan ----

HTML = b"\n<!DOCTYPE html><html><title>Sign in</title></html>"
CONTENT = {
    "empty": (b"", "is empty"),
    "zeros": (bytes(100_000), "zeros only"),
    "HTML": (HTML, "HTML page"),
    "HTML with a mark": (b"\xef\xbb\xbf<HTML><body>", "HTML page"),
    "packed HTML": (gzip.compress(HTML), "HTML page"),
    "packed nothing": (gzip.compress(b""), "is empty"),
    "XML": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML"),
    "JSON": (b'{"error": "not found"}', "JSON"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS pointer"),
    "annex": (b"/annex/objects/SHA256E-s123--00.nii.gz\n", "git-annex pointer"),
    "text": (b"subject\tage\n01\t30\n", "is text"),
    "DICOM": (bytes(128) + b"DICM" + bytes(400), "is a DICOM file"),
    "ZIP": (b"PK\3\4" + bytes(100), "ZIP"),
    "bzip2": (b"BZh9" + bytes(100), "bzip2"),
    "xz": (b"\xfd7zXZ\0" + bytes(100), "xz"),
    "Zstandard": (b"\x28\xb5\x2f\xfd" + bytes(100), "Zstandard"),
    "packed twice": (gzip.compress(gzip.compress(bytes(1000))), "twice"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
    "NRRD": (b"NRRD0004\n", "NRRD"),
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(100), "PNG"),
    "noise": (bytes(range(256)) * 4, "not a readable image"),
    "cut header": (struct.pack("<i", 348) + b"\0" * 50, "not a readable image"),
}


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".mgz", ".img", ".hdr"])
@pytest.mark.parametrize("kind", CONTENT)
def test_content_that_is_not_a_scan_is_named(kind: str, suffix: str, tmp_path: Path) -> None:
    content, word = CONTENT[kind]
    path = tmp_path / f"a_T1w{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=word) as caught:
        read_scan(path)
    assert str(path) in str(caught.value)
    assert caught.value.hint


def _link(folder: Path, target: str) -> Path:
    (folder / "a.nii.gz").symlink_to(target)
    return folder / "a.nii.gz"


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "a.nii.gz")
    return folder / "a.nii.gz"


PATHS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "dangling link": (lambda f: _link(f, "gone.nii.gz"), "is a link to gone.nii.gz, which does not exist"),
    "annex link": (lambda f: _link(f, "../.git/annex/objects/Xx/00/SHA256E-s1--0.nii.gz/0.nii.gz"), "git-annex link"),
    "circle": (lambda f: _link(f, "a.nii.gz"), "leads back to itself"),
    "pipe": (_pipe, "is a pipe"),
    "below a file": (lambda f: Path(__file__) / "a.nii.gz", "no such file"),
    "header alone": (lambda f: _halves(f, ".img"), "no .img file"),
}


def _halves(folder: Path, lost: str) -> Path:
    nib.Nifti1Pair(GOOD, np.eye(4)).to_filename(folder / "a.img")
    (folder / f"a{lost}").unlink()
    return folder / "a.hdr"


@pytest.mark.parametrize("kind", PATHS)
def test_path_that_is_no_scan_is_named(kind: str, tmp_path: Path) -> None:
    make, word = PATHS[kind]
    with pytest.raises(InputError, match=word):
        read_scan(make(tmp_path))


# ---- grids ----


def _dims(folder: Path, *dims: int) -> Path:
    path = _nifti(folder / "a.nii")
    raw = bytearray(path.read_bytes())
    raw[40:56] = struct.pack("<8h", *dims, *[1] * (8 - len(dims)))
    path.write_bytes(raw)
    return path


GRIDS = {
    "one slice": ((2, 96, 110), "one slice .96x110 voxels., with 2 dimensions"),
    "one slice in 3-D": ((3, 96, 110, 1), "one slice"),
    "line": ((1, 9600), "one row of 9600 voxels"),
    "no dimension": ((0, 20, 22, 24), "0 dimensions"),
    "dimension of 0": ((3, 20, 0, 24), "no voxels"),
    "negative dimension": ((3, 20, -22, 24), "no voxels"),
    "stack in time": ((4, 20, 22, 1, 24), "24 slices as volumes in time"),
    "no volume": ((4, 20, 22, 24, 0), "no voxels"),
    "few slices in time": ((4, 20, 22, 9, 3), "20x22x9 voxels"),
    "more than the file holds": ((3, 200, 220, 240), "cut short"),
    "absurd": ((7, 30000, 30000, 30000, 30000, 30000, 30000, 30000), "claims to have"),
}


@pytest.mark.parametrize("kind", GRIDS)
def test_grid_that_is_no_volume_is_named(kind: str, tmp_path: Path) -> None:
    dims, word = GRIDS[kind]
    with pytest.raises(InputError, match=word):
        read_scan(_dims(tmp_path, *dims))


def test_compressed_stream_that_is_far_too_large_is_refused_before_decompression(tmp_path: Path) -> None:
    header = nib.Nifti1Header()
    header.set_data_shape((640, 640, 610))
    header.set_data_dtype(np.uint8)
    header["vox_offset"] = 352
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(header.binaryblock + bytes(4) + bytes(640 * 640 * 610)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="which no scan does"):
        read_scan(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


# ---- units and voxel sizes ----


def _scaled(factor: float) -> np.ndarray:
    return np.diag([factor, factor, factor, 1.0]) @ OBLIQUE


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("unit", "factor"), [(0, 1.0), (1, 1e-3), (2, 1.0), (3, 1e3), (1 | 8, 1e-3), (3 | 16, 1e3)])
@pytest.mark.parametrize("geometry", ["auto", "sform", "qform"])
def test_units_are_read_and_the_header_is_kept(
    geometry: str, unit: int, factor: float, version: int, tmp_path: Path
) -> None:
    path = _nifti(tmp_path / "a.nii.gz", _scaled(factor), unit=unit, version=version)
    scan = read_scan(path, geometry=geometry)
    assert np.allclose(scan.source_affine, OBLIQUE, atol=1e-4)
    assert any("unit" in text for text in scan.warnings) == (factor != 1)
    write_native(tmp_path / "map.nii.gz", scan.volume.data, scan)
    source, written = nib.load(path).header, nib.load(tmp_path / "map.nii.gz").header
    for field in ("pixdim", "srow_x", "srow_y", "srow_z", "qoffset_x", "xyzt_units", "sform_code", "qform_code"):
        assert source[field].tobytes() == written[field].tobytes(), field


@pytest.mark.parametrize(("unit", "factor"), [(2, 1e-3), (2, 1e3), (1, 1.0), (3, 1.0), (0, 1e5), (2, 20.0)])
def test_implausible_voxel_sizes_are_refused_with_the_remedy(unit: int, factor: float, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"voxels of .* mm") as caught:
        read_scan(_nifti(tmp_path / "a.nii", _scaled(factor), unit=unit))
    assert "xyzt_units" in caught.value.hint


@pytest.mark.parametrize("sizes", [(1.0, 1.0, 500.0), (30.5, 30.5, 30.5), (0.04, 1.0, 1.0), (29.0, 29.0, 29.0)])
def test_one_implausible_axis_is_enough(sizes: tuple[float, float, float], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="plausible"):
        read_scan(_nifti(tmp_path / "a.nii", np.diag([*sizes, 1.0])))


def test_grid_at_the_end_of_the_world_is_refused(tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[0, 3] = 1e12
    with pytest.raises(InputError, match="from the origin"):
        read_scan(_nifti(tmp_path / "a.nii", affine))


def test_voxel_size_of_zero_is_said(tmp_path: Path) -> None:
    path = _nifti(tmp_path / "a.nii")
    raw = bytearray(path.read_bytes())
    raw[80:92] = bytes(12)  # pixdim[1..3]
    raw[254:256] = bytes(2)  # sform_code
    path.write_bytes(raw)
    assert any("corrected" in text for text in read_scan(path).warnings)


# ---- sides ----


def _analyze(folder: Path, matrix: str = "") -> Path:
    from scipy.io import savemat

    image = nib.AnalyzeImage(GOOD, None)
    image.header.set_zooms((0.9, 0.9, 5.5))
    image.to_filename(folder / "a.img")
    if matrix:
        savemat(folder / "a.mat", {matrix: OBLIQUE}, format="4")
    return folder / "a.img"


def _mgh(folder: Path, good: int, empty: bool = False) -> Path:
    image = nib.MGHImage(GOOD.astype(np.float32), OBLIQUE)
    image.to_filename(folder / "a.mgh")
    raw = bytearray((folder / "a.mgh").read_bytes())
    raw[28:30] = struct.pack(">h", good)
    if empty:
        raw[30:90] = bytes(60)
    (folder / "a.mgh").write_bytes(raw)
    return folder / "a.mgh"


def _coded(folder: Path, sform: int, qform: int, mirror: bool = False) -> Path:
    path = _nifti(folder / "a.nii.gz")
    image = nib.load(path)
    if mirror:
        image.header.set_qform(OBLIQUE @ np.diag([-1.0, 1, 1, 1]), 1)
    image.header["sform_code"], image.header["qform_code"] = sform, qform
    nib.Nifti1Image(GOOD, None, image.header).to_filename(path)
    return path


SIDES: dict[str, tuple[Callable[[Path], Path], bool]] = {
    "NIfTI": (lambda f: _coded(f, 1, 1), True),
    "NIfTI, sform alone": (lambda f: _coded(f, 2, 0), True),
    "NIfTI, qform alone": (lambda f: _coded(f, 0, 1), True),
    "NIfTI without codes": (lambda f: _coded(f, 0, 0), False),
    "NIfTI, mirrored forms": (lambda f: _coded(f, 1, 1, mirror=True), False),
    "MGH": (lambda f: _mgh(f, 1), True),
    "MGH without orientation": (lambda f: _mgh(f, 0), False),
    "MGH without anything": (lambda f: _mgh(f, 0, empty=True), False),
    "Analyze": (_analyze, False),
    "Analyze with mat": (lambda f: _analyze(f, "mat"), True),
    "Analyze with M": (lambda f: _analyze(f, "M"), False),
}


@pytest.mark.parametrize("kind", SIDES)
def test_sides_are_known_if_the_header_defines_them(kind: str, tmp_path: Path) -> None:
    make, known = SIDES[kind]
    scan = read_scan(make(tmp_path))
    assert scan.sides_known == known
    assert any("left and right are unknown" in text for text in scan.warnings) != known
    trusted = read_scan(scan.path, geometry="trust")
    assert trusted.sides_known
    assert np.array_equal(trusted.source_affine, scan.source_affine)
    assert not any("left and right are unknown" in text for text in trusted.warnings)


@pytest.mark.parametrize("kind", SIDES)
def test_codes_of_a_map_are_those_of_its_source(kind: str, tmp_path: Path) -> None:
    make, known = SIDES[kind]
    scan = read_scan(make(tmp_path))
    write_native(tmp_path / "map.nii.gz", scan.volume.data, scan)
    written = nib.load(tmp_path / "map.nii.gz")
    codes = int(written.header["sform_code"]), int(written.header["qform_code"])
    if kind.startswith("NIfTI"):
        source = nib.load(scan.path).header
        assert codes == (int(source["sform_code"]), int(source["qform_code"]))
    else:
        assert codes == ((1, 1) if known else (0, 0))
        assert np.allclose(written.header.get_zooms(), np.linalg.norm(scan.source_affine[:3, :3], axis=0), atol=1e-5)
    assert np.array_equal(np.asarray(written.dataobj), GOOD)


def test_voxel_sizes_of_an_mgh_file_without_orientation_are_kept_or_said_to_be_unknown(tmp_path: Path) -> None:
    assert np.allclose(read_scan(_mgh(tmp_path, 0)).source_affine, OBLIQUE, atol=1e-4)
    assumed = read_scan(_mgh(tmp_path, 0, empty=True))
    assert any("1 mm is assumed" in text for text in assumed.warnings)
    assert np.allclose(assumed.source_affine, nib.load(assumed.path).affine)


@pytest.mark.parametrize("content", [b"", b"nonsense", bytes(200)])
def test_damaged_matrix_next_to_an_analyze_file_is_an_error_or_none(content: bytes, tmp_path: Path) -> None:
    path = _analyze(tmp_path)
    (tmp_path / "a.mat").write_bytes(content)
    if not content:
        assert not read_scan(path).sides_known
        return
    with pytest.raises(InputError, match=r"a\.mat"):
        read_scan(path)


# ---- names ----


@pytest.mark.parametrize(
    ("stored", "named"), [(".nii", ".nii.gz"), (".nii.gz", ".nii"), (".mgh", ".mgz"), (".mgz", ".mgh")]
)
def test_file_that_is_packed_other_than_its_name_says_is_read_with_a_warning(
    stored: str, named: str, tmp_path: Path
) -> None:
    path = tmp_path / f"a{stored}"
    image = nib.MGHImage(GOOD.astype(np.float32), OBLIQUE) if "mg" in stored else nib.Nifti1Image(GOOD, OBLIQUE)
    image.to_filename(path)
    scan = read_scan(path.rename(tmp_path / f"b{named}"))
    assert any("contrary to its name" in text for text in scan.warnings)
    assert sorted(scan.volume.data.ravel()) == sorted(GOOD.ravel())


@pytest.mark.parametrize("half", [".img", ".hdr"])
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_either_half_of_a_pair_is_the_scan(half: str, packed: str, tmp_path: Path) -> None:
    nib.Nifti1Pair(GOOD, np.eye(4)).to_filename(tmp_path / f"a.img{packed}")
    assert np.array_equal(read_scan(tmp_path / f"a{half}{packed}").volume.data, GOOD)


# ---- voxels without a value ----


def _stripped(value: float) -> np.ndarray:
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in GOOD.shape], indexing="ij"))
    return np.where(np.linalg.norm(grid, axis=0) < 0.8, GOOD, value).astype(np.float32)


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_voxels_without_a_value_around_a_brain_are_background(value: float, tmp_path: Path) -> None:
    scan = read_scan(_nifti(tmp_path / "a.nii.gz", np.eye(4), _stripped(value)))
    assert np.array_equal(scan.volume.data, _stripped(0))
    assert any("background" in text for text in scan.warnings)


def test_voxels_without_a_value_inside_an_image_are_no_background(tmp_path: Path) -> None:
    data = _stripped(np.nan)
    data[8:12, 8:14, 8:16] = np.nan
    with pytest.raises(InputError, match="NaN"):
        read_scan(_nifti(tmp_path / "a.nii.gz", np.eye(4), data))


def test_volume_of_hardly_anything_but_nan_is_refused(tmp_path: Path) -> None:
    data = np.full(GOOD.shape, np.nan, dtype=np.float32)
    data[10:14, 10:14, 10:14] = GOOD[10:14, 10:14, 10:14]
    with pytest.raises(InputError, match="NaN"):
        read_scan(_nifti(tmp_path / "a.nii.gz", np.eye(4), data))
