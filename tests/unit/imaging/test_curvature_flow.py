"""Curvature flow: what it does to a volume, and that a scan in use is smoothed as those its model was trained on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import phantoms
import pytest
from models import export

from uadcli.config import DetectConfig, ModelConfig, PreprocessConfig, training_preset
from uadcli.console import Reporter
from uadcli.data import names, prepare
from uadcli.detection import detect
from uadcli.detection.options import DetectOptions
from uadcli.detection.session import Session
from uadcli.errors import WeightsError
from uadcli.imaging.geometry import resample
from uadcli.imaging.intensity import curvature_flow
from uadcli.imaging.slices import GRID_AFFINE, GRID_SHAPE
from uadcli.weights import weights


def test_noise_goes_and_an_edge_stays() -> None:
    rng = np.random.default_rng(0)
    clean = np.zeros((40, 40, 40), dtype=np.float32)
    clean[20:] = 100
    noisy = (clean + rng.normal(0, 5, clean.shape)).astype(np.float32)
    smoothed = curvature_flow(noisy, 1.0, 3)
    tiny = curvature_flow(noisy * np.float32(1e-7), 1.0, 3)
    assert np.allclose(tiny * 1e7, smoothed, atol=1e-2)
    inner = (slice(4, 16), slice(4, -4), slice(4, -4))
    assert smoothed[inner].std() < 0.7 * noisy[inner].std()
    across = smoothed[:, 10:30, 10:30].mean(axis=(1, 2))
    assert across[20] - across[19] > 90


def test_the_fine_grid_nests_in_the_models_voxels_and_only_the_brain_counts() -> None:
    volume = phantoms.brain()
    brain = volume.data > 0.25 * volume.data.max()
    inside = np.where(brain, volume.data, 0).astype(np.float32)
    plain = resample(inside, volume.affine, GRID_SHAPE, GRID_AFFINE, np.eye(4), order=3, antialias=True)
    config = PreprocessConfig(curvature_flow=1)
    smoothed = prepare._on_grid(prepare.Stripped(volume, brain, np.eye(4)), config)
    assert smoothed.shape == GRID_SHAPE
    centre = [np.average(np.indices(GRID_SHAPE)[axis], weights=one) for one in (plain, smoothed) for axis in range(3)]
    assert np.abs(np.subtract(centre[:3], centre[3:])).max() < 0.05  # voxels: a shift by half of a fine one is 0.25
    assert np.corrcoef(plain.ravel(), smoothed.ravel())[0, 1] > 0.98


def test_what_is_kept_is_found_again_by_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = tmp_path / "a.nii.gz"
    scan.write_bytes(b"x")
    asked = []
    monkeypatch.setattr(prepare, "read_scan", lambda path: path)
    monkeypatch.setattr(prepare, "prepare", lambda scan, config, brain_mask: (asked.append(config), None))
    monkeypatch.setattr(prepare, "save_prepared", lambda file, _: file.write_bytes(b""))
    monkeypatch.setattr(prepare, "read_packed", lambda file: file.name)
    monkeypatch.setattr(prepare, "unpacked", lambda name: name)
    plain, flow = PreprocessConfig(), PreprocessConfig(curvature_flow=3)
    files = [prepare.prepare_cached(scan, config, tmp_path / "cache") for config in (plain, flow, plain, flow)]
    assert asked == [plain, flow]
    assert files[0] == files[2] != files[1] == files[3]


def test_the_reference_profile_smooths_and_the_small_one_does_not() -> None:
    assert training_preset("reference").preprocess.curvature_flow == 3
    assert training_preset("small").preprocess.curvature_flow == 0


@pytest.fixture
def smoothing(tiny: ModelConfig, tmp_path: Path) -> Path:
    """Weights that were trained with curvature flow."""
    return export(tmp_path / "flow", tiny, curvature_flow=3) / "flow.safetensors"


def test_the_weights_say_how_a_scan_is_smoothed(
    smoothing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = phantoms.brain()
    scan = tmp_path / "a_FLAIR.nii.gz"
    nib.Nifti1Image(volume.data, volume.affine).to_filename(scan)
    asked = []

    def stand_in(scan, config, **_):  # type: ignore[no-untyped-def]
        asked.append(config.curvature_flow)
        guess = SimpleNamespace(contrast="FLAIR", doubtful=False, other=None)
        return SimpleNamespace(contrast=lambda: guess, strip="none"), SimpleNamespace(brain=None, volume=None)

    monkeypatch.setattr(detect, "prepare", stand_in)
    monkeypatch.setattr(detect.artefacts, "measure", lambda *_: None)
    assert weights.read_card(smoothing).curvature_flow == 3
    options = DetectOptions(weights=str(smoothing), contrast="FLAIR", device="cpu")
    session = Session(DetectConfig(), options, "cpu", Reporter(silent=True))
    ready = detect.ready_scan(scan, session)
    assert asked == [3]
    with pytest.raises(WeightsError, match="3 iterations of curvature flow, the scan prepared with 0"):
        detect.finish(
            dataclasses.replace(ready, curvature_flow=0),
            names.plan(scan, None, options),
            session,
        )
    wanted = DetectConfig(preprocess=PreprocessConfig(curvature_flow=1))
    reporter = Reporter(silent=True)
    detect.ready_scan(scan, Session(wanted, options, "cpu", reporter))
    assert asked == [3, 3]
    assert any("curvature_flow is ignored: the weights need 3" in text for text in reporter.warnings)


def test_bundled_models_need_no_cache() -> None:
    """Before the contrast is known, the first of them stands for all."""
    from uadcli.weights import registry

    assert {weights.read_card(registry.folder() / one.file).curvature_flow for one in registry.bundled()} == {0}
