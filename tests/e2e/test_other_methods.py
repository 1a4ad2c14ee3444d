"""`uad train --method`, `uad calibrate`, `uad export` and `uad detect` with the result, by methods beside the cDDPM.

The phantoms are slabs of brains on the model's grid, so that nothing is registered and little has to be rebuilt.
"""

from __future__ import annotations

import json
from pathlib import Path

import cohort
import nibabel as nib
import numpy as np
import pytest
from cohort import uad

from uadcli.calibration import health
from uadcli.reconstruction.noise import NoiseBank
from uadcli.training import reconstruction
from uadcli.weights.weights import read_card

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("other methods")]  # one process for what its tests share
DRAWN = {"mahalanobis", "z-mahalanobis"}  # scores that differ by the noise
PLAIN = {"absolute", "z-absolute"}
TINY = (
    "preprocess.strip=none",
    "model.unet.channels=8",
    "model.unet.multipliers=[1, 1]",
    "model.unet.blocks=1",
    "model.unet.unshuffle=2",
    "model.unet.head_channels=8",
    "model.unet.embedding=16",
    "model.encoder.blocks=[1, 1]",
    "model.encoder.unshuffle=2",
    "model.encoder.width=4",
    "model.encoder.condition=16",
    "train.steps=4",
    "train.batch_size=4",
    "siamese.channels=[8, 16]",
    "siamese.steps=2",
    "siamese.batch_size=4",
    "siamese.pool=2",
)


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `data` to train on, and others in `healthy`."""
    folder = tmp_path_factory.mktemp("slabs")
    cohort.slabs(folder / "data", range(3))
    cohort.slabs(folder / "healthy", range(3, 5))
    return folder


@pytest.mark.parametrize("method", ["dae", "vae", "pddpm", "synomaly"])
def test_from_scans_to_a_map(method: str, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort.as_they_are(monkeypatch)
    monkeypatch.setattr(
        health, "calibrated", lambda: [*PLAIN, *DRAWN]
    )  # the others are no different and take their time
    monkeypatch.setattr(reconstruction, "NoiseBank", lambda seed: NoiseBank(24, 110, seed))
    run, lab, scan = tmp_path / "run", tmp_path / "lab", scans / "healthy" / "sub-3_T1w.nii.gz"
    settings = [part for text in TINY for part in ("--set", text)]
    assert uad("train", scans / "data", "--out", run, "--method", method, *settings) == 0
    assert uad("calibrate", run, scans / "healthy") == 0
    assert uad("export", run, "-o", lab) == 0
    card, draws = read_card(lab / "lab.safetensors"), method in ("pddpm", "synomaly")
    assert set(card.thresholds) == (PLAIN | DRAWN if draws else PLAIN)
    assert card.thresholds["absolute"]["T1w"] > 0
    assert (card.steps, card.levels == (200, 150, 100)) == (4, method == "synomaly")
    using = ["--weights", lab, "--strip", "none", "--score", "absolute"]
    assert uad("detect", scan, "-o", tmp_path / "map.nii.gz", *using) == 0
    report = json.loads((tmp_path / "map.json").read_text())
    assert (report["weights"]["name"], report["weights"]["method"], report["score"]) == ("lab", method, "absolute")
    dissimilarity = report["anomaly"]["latent_dissimilarity"]
    assert (dissimilarity is not None) == (method == "vae")
    assert all(row["value"] > 0 for row in dissimilarity or [])
    assert len(dissimilarity or []) in (0, cohort.SLAB.stop - cohort.SLAB.start)
    values, brain = nib.load(tmp_path / "map.nii.gz").get_fdata(), nib.load(scan).get_fdata() > 0
    assert np.isfinite(values).all()
    assert values[brain].any()
    assert not values[~brain].any()


def test_a_reconstruction_without_a_score_network(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A published method by itself: it calibrates, exports and detects, and what asks for a network is refused."""
    cohort.as_they_are(monkeypatch)
    monkeypatch.setattr(health, "calibrated", lambda: [*PLAIN, "siamese", "fusion-absolute", "z-siamese"])
    run, lab, scan = tmp_path / "run", tmp_path / "lab", scans / "healthy" / "sub-3_T1w.nii.gz"
    settings = [part for text in (*TINY, "siamese.steps=0") for part in ("--set", text)]
    assert uad("train", scans / "data", "--out", run, "--method", "dae", *settings) == 0
    assert not (run / "siamese").exists()
    assert uad("train", "--resume", run) == 0
    assert uad("calibrate", run, scans / "healthy") == 0
    assert uad("export", run, "-o", lab) == 0
    card = read_card(lab / "lab.safetensors")
    assert (card.siamese, card.scores, set(card.thresholds)) == (None, {"T1w": "absolute"}, PLAIN)
    text = (lab / "lab.md").read_text()
    assert "score: no network" in text
    assert "fusion" not in text
    using = ["--weights", lab, "--strip", "none"]
    assert uad("detect", scan, "-o", tmp_path / "map.nii.gz", *using) == 0
    report = json.loads((tmp_path / "map.json").read_text())
    assert (report["score"], report["weights"]["method"]) == ("absolute", "dae")
    assert report["threshold"]["value"] > 0
    capsys.readouterr()
    assert uad("detect", scan, "-o", tmp_path / "other.nii.gz", *using, "--score", "siamese") == 4
    err = capsys.readouterr().err
    assert "has no network for the score 'siamese'" in err
    assert "brain mask" not in err  # refused before the work


def test_what_cannot_be_trained_is_refused_before_the_work(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [part for text in (*TINY, "train.steps=0") for part in ("--set", text)]
    assert uad("train", scans / "data", "--out", tmp_path / "run", *settings) == 2
    assert "train.steps must be at least 1" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_not_trained_is_refused_before_its_scans_are_prepared(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.toml").write_text("")
    (run / "data.tsv").write_text("subject\tpart\tcontrast\tscan\tsha256\tfault\tlesions\n")
    assert uad("calibrate", run, scans / "healthy") == 3
    err = capsys.readouterr().err
    assert "is not fully trained" in err
    assert not (run / "cache").exists()
