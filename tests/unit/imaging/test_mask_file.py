"""A mask is what it marks: labels as they are, probabilities from one half on, and distance maps not at all."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import phantoms
import pytest
from scipy import ndimage

from uadcli.errors import InputError
from uadcli.imaging import skullstrip
from uadcli.imaging.mask_file import marked, read_labels
from uadcli.imaging.volume import read_scan

SHAPE = (40, 44, 36)
AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])
HERE = Path("mask.nii.gz")


def _ellipsoid() -> np.ndarray:
    x, y, z = np.indices(SHAPE)
    return ((x - 20) / 15) ** 2 + ((y - 22) / 17) ** 2 + ((z - 18) / 13) ** 2 < 1


BALL = _ellipsoid()
SOFT = np.clip(ndimage.gaussian_filter(BALL.astype(np.float32), 2), 1e-6, 1 - 1e-6)
INNER, OUTER = ndimage.distance_transform_edt(BALL), ndimage.distance_transform_edt(~BALL)
TISSUE = np.select([INNER > 6, INNER > 3, INNER > 0], [3, 2, 1]).astype(np.float32)
X, Y, Z = np.indices(SHAPE)
ATLAS = np.where(BALL, 1 + X // 8 + 5 * (Y // 9) + 25 * (Z // 9), 0)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("binary", BALL),
        ("bytes", BALL * 255),
        ("any number", BALL * 0.7),
        ("numbers that a slope rounded", BALL * 0.99999),
        ("three tissues, the outermost with the least number", TISSUE),
        ("a hundred regions", ATLAS),
        ("sparse numbers", np.where(BALL, 1000 + ATLAS * 17, 0)),
    ],
)
def test_labels_are_taken_as_they_are(name: str, data: np.ndarray) -> None:
    found = marked(data.astype(np.float32), HERE)
    assert np.array_equal(found.voxels, BALL)
    assert found.plain


@pytest.mark.parametrize(
    ("name", "data", "cut"),
    [
        ("probability", SOFT, "0.5"),
        ("percent", 100 * SOFT, "50"),
        ("bytes", np.round(255 * SOFT), "127.5"),
        ("whole percent", np.round(100 * SOFT), "50"),
        ("a spline's overshoot", SOFT * 1.2 - 0.1, "0.5"),
    ],
)
def test_probabilities_are_cut_at_one_half(name: str, data: np.ndarray, cut: str) -> None:
    found = marked(data.astype(np.float32), HERE)
    clear = np.abs(SOFT - 0.5) > 0.01  # whole percent round
    assert np.array_equal(found.voxels & clear, (SOFT >= 0.5) & clear)
    assert found.taken == f"probabilities, cut at {cut}"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("negative inside", OUTER - INNER),
        ("negative outside", INNER - OUTER),
        ("signed and rounded", np.round(INNER - OUTER)),
        ("signed and cut off", np.clip(INNER - OUTER, -1, 1)),
        ("to the edge, inside alone", INNER),
        ("to the mask, outside alone", OUTER),
        ("rounded, inside alone", np.round(3 * INNER)),
        ("an image", np.where(BALL, np.random.default_rng(0).normal(500, 90, SHAPE), 0)),
        ("an image in whole numbers", np.where(BALL, np.random.default_rng(0).integers(100, 900, SHAPE), 0)),
        ("log odds", np.log(SOFT / (1 - SOFT))),
    ],
)
def test_what_is_not_a_mask_is_refused(name: str, data: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"mask\.nii\.gz: .*(distance|image|below 0).*Give a mask of 0 and 1"):
        marked(data.astype(np.float32), HERE)


@pytest.mark.parametrize("data", [1 + BALL, 1 + TISSUE, 0.999999 * (1 + BALL)])
def test_labels_without_a_background_are_refused(data: np.ndarray) -> None:
    """Such as 1 for the background and 2 for the lesion: every voxel would be one of the lesion."""
    with pytest.raises(InputError, match=r"mask\.nii\.gz: has no voxel of 0 \(from 1 to [24]\)"):
        marked(data.astype(np.float32), HERE)
    assert marked(np.ones(SHAPE, np.float32), HERE).voxels.all()  # of a scan cropped to the brain, say


def test_probabilities_below_one_half_everywhere_are_an_error() -> None:
    with pytest.raises(InputError, match=r"between 0 and 0\.5"):
        marked((0.45 * SOFT).astype(np.float32), HERE)
    assert not marked(np.zeros(SHAPE, np.float32), HERE).voxels.any()


@pytest.mark.parametrize("kind", ["nan", "probability"])
def test_a_brain_mask_says_what_was_taken(tmp_path: Path, kind: str) -> None:
    scan = read_scan(phantoms.save(tmp_path / "scan.nii.gz", 100 * BALL + X, AFFINE))
    data = np.where(BALL, 1, np.nan) if kind == "nan" else SOFT
    path = phantoms.save(tmp_path / "m.nii.gz", data, AFFINE, np.float32)
    found = skullstrip.read_mask(path, scan)
    assert np.array_equal(found.mask, BALL if kind == "nan" else SOFT >= 0.5)
    assert found.method == f"given: m.nii.gz ({'voxels above 0' if kind == 'nan' else 'probabilities, cut at 0.5'})"


def test_labels_of_lesions_go_by_the_same_rule(tmp_path: Path) -> None:
    scan = read_scan(phantoms.save(tmp_path / "scan.nii.gz", 100 * BALL + X, AFFINE))
    soft = phantoms.save(tmp_path / "soft.nii.gz", SOFT, AFFINE, np.float32)
    assert np.array_equal(read_labels(soft, scan).voxels, SOFT >= 0.5)
    with pytest.raises(InputError, match="distance map"):
        read_labels(phantoms.save(tmp_path / "d.nii.gz", INNER - OUTER, AFFINE, np.float32), scan)


TURNED = AFFINE @ phantoms.rotation((0, 0, 20))  # the sform of the next tests; the qform is AFFINE


def _of_two_forms(path: Path, data: np.ndarray, sform: np.ndarray = TURNED, codes: tuple[int, int] = (1, 1)) -> Path:
    """A file whose sform and qform differ, with the codes of both."""
    image = nib.Nifti1Image(data.astype(np.int16), None)
    image.header.set_sform(sform, codes[0])
    image.header.set_qform(AFFINE, codes[1])
    image.to_filename(path)
    return path


@pytest.mark.parametrize("geometry", ["auto", "sform", "qform", "trust"])
def test_a_mask_with_the_header_of_the_scan_lies_on_it_in_each_geometry(tmp_path: Path, geometry: str) -> None:
    """Their axes point elsewhere in the sform, and voxels still correspond one by one."""
    sform = TURNED @ np.diag([-1, 1, 1, 1])
    scan = read_scan(_of_two_forms(tmp_path / "scan.nii.gz", 100 * BALL + X, sform), geometry=geometry)
    mask = _of_two_forms(tmp_path / "mask.nii.gz", BALL & (X > 12), sform)
    expected = (scan.volume.data > 100) & (np.mod(scan.volume.data, 100) > 12)
    assert np.array_equal(skullstrip.read_mask(mask, scan).mask, expected)
    assert np.array_equal(read_labels(mask, scan).voxels, expected)


def test_a_mask_of_one_geometry_is_read_by_that(tmp_path: Path) -> None:
    scan = read_scan(_of_two_forms(tmp_path / "scan.nii.gz", 100 * BALL + X), geometry="qform")
    mask = _of_two_forms(tmp_path / "mask.nii.gz", BALL, AFFINE, (1, 0))
    assert np.array_equal(read_labels(mask, scan).voxels, BALL)
    mgz = tmp_path / "mask.mgz"
    nib.MGHImage(BALL.astype(np.float32), AFFINE).to_filename(mgz)
    assert np.array_equal(read_labels(mgz, scan).voxels, BALL)


def test_a_mask_that_only_has_the_other_geometry_is_not_to_be_resampled(tmp_path: Path) -> None:
    """It may have been drawn on the scan: resampling would then move it."""
    scan = read_scan(_of_two_forms(tmp_path / "scan.nii.gz", 100 * BALL + X), geometry="qform")
    mask = _of_two_forms(tmp_path / "mask.nii.gz", BALL, codes=(1, 0))
    with pytest.raises(InputError, match=r"not on the grid .* by its qform.*copy the scan's header"):
        read_labels(mask, scan)
    with pytest.raises(InputError, match=r"not on the scan's grid\. Resample it"):
        read_labels(_of_two_forms(tmp_path / "b.nii.gz", BALL, AFFINE, (1, 0)), read_scan(scan.path))
