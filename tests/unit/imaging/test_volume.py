"""Reading every kind of bad file with a clear word, and writing on the scan's own grid bit for bit."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import phantoms
import pytest

from uadcli.errors import InputError, OutputError
from uadcli.imaging.volume import read_scan, stem, write_native

RNG = np.random.default_rng(0)
GOOD = RNG.integers(1, 1000, (20, 22, 24)).astype(np.int16)


def _write(path: Path, data: np.ndarray, affine: np.ndarray | None = None, code: int = 1) -> Path:
    image = nib.Nifti1Image(data, np.eye(4) if affine is None else affine)
    image.header["sform_code"] = code
    image.to_filename(path)
    return path


def _truncated(folder: Path) -> Path:
    path = _write(folder / "a.nii.gz", GOOD)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def _text(folder: Path) -> Path:
    (folder / "a.nii.gz").write_text("not an image")
    return folder / "a.nii.gz"


def _dicom(folder: Path) -> Path:
    (folder / "x.dcm").write_bytes(b"DICM")
    return folder


def _rgb(folder: Path) -> Path:
    data = np.zeros((20, 20, 20), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    return _write(folder / "a.nii", data)


def _nan(folder: Path) -> Path:
    data = GOOD.astype(np.float32)
    data[:4] = np.nan
    return _write(folder / "a.nii.gz", data)


def _affine(folder: Path, value: float) -> Path:
    path = _write(folder / "a.nii", GOOD)
    image = nib.load(path)
    header = image.header.copy()
    header["srow_x"] = value
    header["srow_y"] = value
    raw = path.read_bytes()
    path.write_bytes(header.binaryblock + raw[348:])
    return path


BAD = {
    "missing": (lambda f: f / "none.nii.gz", "no such file"),
    "text": (_text, "not a readable image"),
    "other kind": (lambda f: Path(__file__), "not a NIfTI"),
    "truncated": (_truncated, "cut short"),
    "dicom folder": (_dicom, "dcm2niix"),
    "4-D": (lambda f: _write(f / "a.nii.gz", np.stack([GOOD] * 3, -1)), "--volume"),
    "2-D": (lambda f: _write(f / "a.nii.gz", GOOD[:, :, 0]), "2 dimensions"),
    "few slices": (lambda f: _write(f / "a.nii.gz", GOOD[:, :, :9]), "at least 16"),
    "zero": (lambda f: _write(f / "a.nii.gz", GOOD * 0), "all voxels are zero"),
    "constant": (lambda f: _write(f / "a.nii.gz", GOOD * 0 + 7), "same value"),
    "complex": (lambda f: _write(f / "a.nii.gz", GOOD.astype(np.complex64)), "complex"),
    "rgb": (_rgb, "RGB"),
    "nan": (_nan, "NaN"),
    "affine not finite": (lambda f: _affine(f, float("nan")), "not finite"),
    "affine singular": (lambda f: _affine(f, 0.0), "singular"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_says_file_fault_and_remedy(kind: str, tmp_path: Path) -> None:
    make, word = BAD[kind]
    path = make(tmp_path)
    with pytest.raises(InputError) as caught:
        read_scan(path)
    line = str(caught.value)
    assert word.lower() in line.lower()
    assert path.name in line
    assert caught.value.hint
    assert "\n" not in line
    assert caught.value.exit_code == 3


def test_few_bad_voxels_become_zero_and_are_counted(tmp_path: Path) -> None:
    data = GOOD.astype(np.float32)
    data[0, 0, :5] = [np.nan, np.inf, -np.inf, np.nan, 3]
    scan = read_scan(_write(tmp_path / "a.nii.gz", data))
    assert scan.nonfinite_voxels == 4
    assert np.isfinite(scan.volume.data).all()
    assert any("4 voxels" in w for w in scan.warnings)


@pytest.mark.parametrize(("slope", "inter", "what"), [(1e-4, 1e9, "the same value"), (1e-60, 0, "all voxels are zero")])
def test_a_scan_that_single_precision_makes_constant_is_refused(
    slope: float, inter: float, what: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=what):
        read_scan(_write(tmp_path / "a.nii.gz", GOOD * slope + inter))


def test_one_volume_of_4d_is_squeezed_and_one_of_many_chosen(tmp_path: Path) -> None:
    assert read_scan(_write(tmp_path / "a.nii.gz", GOOD[..., None])).volume.shape == (20, 22, 24)
    many = np.stack([GOOD, GOOD[::-1]], -1)
    path = _write(tmp_path / "b.nii.gz", many)
    assert np.array_equal(read_scan(path, volume=1).volume.data, GOOD[::-1])
    with pytest.raises(InputError, match="no volume 2"):
        read_scan(path, volume=2)


def test_sheared_affine_warns_in_mm(tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[0, 1] = 0.2
    scan = read_scan(_write(tmp_path / "a.nii.gz", GOOD, affine))
    assert any("sheared" in w and "mm" in w for w in scan.warnings)


def test_header_without_orientation_warns_about_left_and_right(tmp_path: Path) -> None:
    image = nib.Nifti1Image(GOOD, None)
    image.header["sform_code"] = image.header["qform_code"] = 0
    image.to_filename(tmp_path / "a.nii.gz")
    assert any("left and right" in w for w in read_scan(tmp_path / "a.nii.gz").warnings)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".img", ".mgz"])
def test_formats(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"scan{suffix}"
    if suffix == ".mgz":
        nib.MGHImage(GOOD, np.eye(4)).to_filename(path)
    elif suffix == ".img":
        nib.Nifti1Pair(GOOD, np.eye(4)).to_filename(path)
    else:
        _write(path, GOOD)
    scan = read_scan(path)
    assert np.array_equal(scan.volume.data, GOOD)
    write_native(tmp_path / "out.nii.gz", scan.volume.data, scan)
    again = nib.load(tmp_path / "out.nii.gz")
    assert np.allclose(again.affine, scan.source_affine)


GEOMETRY = (
    "dim pixdim qform_code sform_code quatern_b quatern_c quatern_d qoffset_x qoffset_y qoffset_z "
    "srow_x srow_y srow_z xyzt_units"
)


def test_written_header_is_the_source_bit_for_bit_without_its_texts(tmp_path: Path) -> None:
    affine = phantoms.rotation((7, -3, 11)) @ np.diag([-0.9, 0.93, 5.0, 1])
    affine[:3, 3] = (11.1, -22.2, 33.3)
    path = phantoms.save(tmp_path / "a.nii.gz", GOOD, affine)
    image = nib.load(path)
    image.header["descrip"] = b"DOE^JANE"
    image.header["db_name"] = b"PATIENT 7"
    image.header.extensions.append(nib.nifti1.Nifti1Extension(6, b"Jane Doe"))
    image.header["qform_code"], image.header["sform_code"] = 1, 2
    image.to_filename(path)
    scan = read_scan(path)
    out = tmp_path / "map.nii.gz"
    write_native(out, scan.volume.data / 7, scan, name="anomaly score")
    source, written = nib.load(path).header, nib.load(out).header
    for field in GEOMETRY.split():
        assert source[field].tobytes() == written[field].tobytes(), field
    assert written.get_data_dtype() == np.float32
    assert written.get_slope_inter() in {(1.0, 0.0), (None, None)}
    assert b"DOE" not in written.binaryblock
    assert b"PATIENT" not in written.binaryblock
    assert not len(written.extensions)
    assert np.allclose(nib.load(out).get_fdata(), GOOD / 7, rtol=1e-6)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_no_text_field_of_a_header_reaches_what_is_written(tmp_path: Path, kind: type) -> None:
    image = kind(GOOD.astype(np.int16), np.diag([2.0, 2, 2, 1]))
    texts = [name for name in image.header.keys() if image.header[name].dtype.kind == "S" and name != "magic"]  # noqa: SIM118
    for name in texts:
        image.header[name] = b"DOE"
    image.to_filename(tmp_path / "a.nii.gz")
    assert b"DOE" in nib.load(tmp_path / "a.nii.gz").header.binaryblock
    scan = read_scan(tmp_path / "a.nii.gz")
    write_native(tmp_path / "map.nii.gz", scan.volume.data, scan, name="anomaly score")
    written = nib.load(tmp_path / "map.nii.gz").header
    assert isinstance(written, kind.header_class)
    assert b"DOE" not in written.binaryblock


def test_writing_leaves_nothing_where_it_fails(tmp_path: Path) -> None:
    scan = read_scan(_write(tmp_path / "a.nii.gz", GOOD))
    with pytest.raises(OutputError):
        write_native(tmp_path / "none" / "map.nii.gz", scan.volume.data, scan)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nii.gz"]


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    scan = read_scan(_write(tmp_path / "a.nii.gz", GOOD))
    for name in ("x.nii.gz", "y.nii.gz"):
        write_native(tmp_path / name, scan.volume.data, scan)
    assert (tmp_path / "x.nii.gz").read_bytes() == (tmp_path / "y.nii.gz").read_bytes()


def test_stem() -> None:
    assert stem(Path("a.b.nii.gz")) == "a.b"
    assert stem(Path("A.MGZ")) == "A"
