"""Contrast by name and image, output names, and preparation."""

from __future__ import annotations

from pathlib import Path

import cohort
import numpy as np
import phantoms
import pytest

from uadcli.config import PreprocessConfig
from uadcli.data import names
from uadcli.data.contrast import from_name
from uadcli.data.prepare import Prepared, border_fraction, load_prepared, save_prepared
from uadcli.errors import InputError, OutputError, UsageError
from uadcli.imaging import skullstrip, template
from uadcli.imaging.intensity import classify_contrast, correct_bias, scale
from uadcli.imaging.slices import GRID_SHAPE


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sub-01_T1w.nii.gz", "T1w"),
        ("sub-01_acq-se_T2w.nii", "T2w"),
        ("sub-01_FLAIR.nii.gz", "FLAIR"),
        ("501_t2_flair_tra.nii.gz", "FLAIR"),
        ("Ax T2 FLAIR.nii.gz", "FLAIR"),
        ("4_t1_mprage_sag.nii.gz", "T1w"),
        ("3_t2_tse_tra.nii.gz", "T2w"),
        ("T1.nii.gz", "T1w"),
        ("st1ff.nii.gz", None),
        ("scan.nii.gz", None),
        ("sub-01_T2starw.nii.gz", None),
        ("pet12.nii", None),
    ],
)
def test_contrast_by_name(name: str, expected: str | None) -> None:
    assert from_name(Path("t1/flair") / name) == expected


@pytest.mark.parametrize(
    ("levels", "expected"), [((30, 70, 100), "T1w"), ((200, 110, 80), "T2w"), ((20, 100, 90), "FLAIR")]
)
def test_contrast_by_tissues(levels: tuple[int, int, int], expected: str) -> None:
    tissue = template.on_grid("mni_tissue_dseg").astype(np.uint8)
    data = np.choose(tissue, [0, *levels]).astype(np.float32)
    if expected != "T2w":
        mild = np.choose(tissue, [0, 30, 100, 106]).astype(np.float32)
        assert classify_contrast(mild, tissue > 0, tissue).doubtful
    data += np.random.default_rng(0).normal(0, 3, data.shape).astype(np.float32)
    assert classify_contrast(data, tissue > 0, tissue).contrast == expected
    with pytest.raises(InputError, match="--contrast"):
        classify_contrast(data, tissue == 1, tissue)


def test_scaling_is_inside_the_mask_and_robust() -> None:
    data = np.random.default_rng(0).random((10, 10, 10)).astype(np.float32) * 500 + 100
    mask = np.zeros(data.shape, dtype=bool)
    mask[2:8, 2:8, 2:8] = True
    data[4, 4, 4] = 1e6
    x = scale(data, mask, PreprocessConfig())
    assert x[~mask].max() == 0
    assert x.min() >= 0
    assert x.max() == 1
    assert np.median(x[mask]) == pytest.approx(0.5, abs=0.1)
    with pytest.raises(InputError):
        scale(np.ones_like(data), mask, PreprocessConfig())


def test_bias_field_is_taken_out() -> None:
    mask = template.on_grid("mni_brain_mask") > 0
    flat = np.where(template.on_grid("mni_tissue_dseg") == 3, 200.0, 120.0) * mask
    ramp = np.linspace(0.7, 1.3, GRID_SHAPE[1])[None, :, None]
    white = template.on_grid("mni_tissue_dseg") == 3
    corrected = correct_bias((flat * ramp).astype(np.float32), mask)
    before, after = (flat * ramp)[white], corrected[white]
    assert after.std() / after.mean() < 0.6 * before.std() / before.mean()


def test_a_stripped_brain_is_recognised_and_a_head_is_not() -> None:
    assert skullstrip.looks_stripped(phantoms.brain())
    assert not skullstrip.looks_stripped(template.head())
    found = skullstrip.extract(phantoms.brain(), "hd-bet")
    assert found.method == "already stripped"


def test_holes_are_filled_in_every_slice() -> None:
    mask = np.zeros((20, 20, 4), dtype=bool)
    mask[4:16, 4:16] = True
    mask[8:10, 8:10] = False  # open to top and bottom
    assert skullstrip.fill(mask)[9, 9, 0]


def test_border_fraction() -> None:
    mask = np.zeros((20, 20, 20), dtype=bool)
    mask[5:15, 5:15, 5:15] = True
    assert border_fraction(mask) == 0
    mask[5:15, 5:15, :] = True
    assert 0.1 < border_fraction(mask) < 0.5


def test_output_names(tmp_path: Path) -> None:
    scan = tmp_path / "a b.nii.gz"
    files = names.plan(scan, None, "both", ("all",), False, False).paths
    assert files["map"].name == "a b_desc-anomaly_map.nii.gz"
    assert set(files) == {"map", "mask", "overlay", "sidecar", "mni_map", "mni_mask", "recon", "brain", "transform"}
    assert list(names.plan(scan, tmp_path / "m.nii", "native", (), True, False).paths) == ["map"]
    page = names.plan(scan, tmp_path / "m.nii.gz", "native", (), False, False, html=True).paths["page"]
    assert page == tmp_path / "m.html"
    with pytest.raises(UsageError):
        names.plan(scan, tmp_path / "map.png", "native", (), False, False)


def test_existing_output_and_the_scan_itself_are_not_overwritten(tmp_path: Path) -> None:
    scan = tmp_path / "a.nii.gz"
    scan.write_bytes(b"x")
    (tmp_path / "m_mask.nii.gz").write_bytes(b"x")
    with pytest.raises(OutputError, match="exists"):
        names.plan(scan, tmp_path / "m.nii.gz", "native", (), False, False)
    assert names.plan(scan, tmp_path / "m.nii.gz", "native", (), False, True)
    with pytest.raises(UsageError, match="scan itself"):
        names.plan(scan, scan, "native", (), False, True)


def test_prepared_scans_are_kept(tmp_path: Path) -> None:
    data = np.random.default_rng(0).random(GRID_SHAPE, dtype=np.float32) * 900
    one = Prepared(data, data > 400, np.eye(4), "hd-bet", 1400.0, 0.0, 0.95, 0.3)
    save_prepared(tmp_path / "a.npz", one)
    two = load_prepared(tmp_path / "a.npz")
    assert np.abs(two.data - one.data).max() < 1.0
    assert np.array_equal(two.mask, one.mask)
    assert (two.strip, two.brain_volume_ml, two.mask_overlap) == ("hd-bet", 1400.0, 0.95)


def test_prepared_scans_are_small(tmp_path: Path) -> None:
    """150 of them in 60 MB; real ones of the development data take up to a sixth more than this phantom."""
    data = cohort.head(0).astype(np.float32)
    save_prepared(tmp_path / "a.npz", Prepared(data, data > 0, np.eye(4), "none", 1400.0, 0.0, 0.95, 0.5))
    assert 7 / 6 * (tmp_path / "a.npz").stat().st_size < 60e6 / 150


def test_the_bias_field_goes_and_a_large_bright_lesion_stays() -> None:
    x, y, z = np.indices(GRID_SHAPE)
    tissue = template.on_grid("mni_tissue_dseg")
    mask = template.on_grid("mni_brain_mask") > 0
    clean = np.choose(tissue.astype(np.uint8), [0, 40, 100, 110]).astype(np.float32)
    clean[mask & (clean == 0)] = 40
    lesion = ((x - 60) / 13) ** 2 + ((y - 55) / 13) ** 2 + ((z - 45) / 13) ** 2 < 1
    clean = np.where(lesion & mask, 160, clean)
    field = np.exp(0.25 * (x - 48) / 48).astype(np.float32)
    corrected = correct_bias(np.where(mask, clean * field, 0).astype(np.float32), mask)
    white = mask & (tissue == 3) & ~lesion
    before, after = ((v[white].std() / v[white].mean()) for v in (clean * field, corrected))
    assert after < 0.5 * before
    assert np.median(corrected[lesion & mask]) / np.median(corrected[white]) > 0.93 * 160 / 110


def test_a_method_that_the_weights_do_not_serve_is_known_before_the_work(
    example: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from uadcli.config import DetectConfig, ReconstructionConfig
    from uadcli.console import Reporter
    from uadcli.detection import detect
    from uadcli.detection.options import DetectOptions
    from uadcli.errors import WeightsError

    monkeypatch.delenv("UAD_WEIGHTS_DIR", raising=False)
    monkeypatch.setattr(detect, "prepare", lambda *_, **__: pytest.fail("it was prepared"))
    config = DetectConfig(reconstruction=ReconstructionConfig(method="dae"))
    with pytest.raises(WeightsError, match="--method dae"):
        detect.ready_scan(example, config, DetectOptions(), "cpu", Reporter(silent=True))


def test_the_result_gives_the_map_and_the_findings(tmp_path: Path) -> None:
    import inspect

    import nibabel as nib

    import uadcli
    from uadcli.detection.detect import DetectResult

    data = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    nib.Nifti1Image(data, np.diag([1.0, 2, 3, 1])).to_filename(tmp_path / "map.nii.gz")
    found = DetectResult(tmp_path / "map.nii.gz", {"anomaly": {"components": [{"index": 1, "volume_ml": 2.0}]}})
    assert np.array_equal(found.image.get_fdata(), data)
    assert np.array_equal(found.image.affine, np.diag([1.0, 2, 3, 1]))
    assert found.findings == [{"index": 1, "volume_ml": 2.0}]
    parameters = inspect.signature(uadcli.detect).parameters
    assert len(parameters) <= 8
    assert "config" in parameters
