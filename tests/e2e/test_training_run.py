"""`uad train`, `uad calibrate`, `uad export` and then `uad detect` with the result, on phantoms.

The phantoms are slabs of brains on the model's grid, so that nothing is registered and little has to be rebuilt. Whole
brains are prepared for training and calibration in `test_smoke.py`, and for detection in other tests.
"""

from __future__ import annotations

import json
from pathlib import Path

import cohort
import nibabel as nib
import pytest
from cohort import uad

from uadcli.scoring import scores
from uadcli.weights.weights import load

pytestmark = pytest.mark.slow
TINY = [
    "preprocess.strip=none",
    "preprocess.curvature_flow=1",
    "model.unet.channels=8",
    "model.unet.multipliers=[1, 1]",
    "model.unet.unshuffle=2",
    "model.unet.embedding=16",
    "model.encoder.unshuffle=2",
    "model.encoder.width=8",
    "model.encoder.condition=16",
    "train.steps=4",
    "train.batch_size=4",
    "siamese.channels=[8, 16]",
    "siamese.steps=4",
    "siamese.batch_size=4",
    "siamese.pool=4",
    'contrasts=["T1w", "T2w"]',
]


def refused(code: int, say: str, capsys: pytest.CaptureFixture[str], *arguments: object) -> None:
    """A command that ends before any work."""
    capsys.readouterr()
    assert uad(*arguments) == code
    assert say in capsys.readouterr().err


def test_from_a_folder_of_scans_to_a_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort.as_they_are(monkeypatch)
    data, healthy, run = (
        cohort.slabs(tmp_path / "data", range(10, 13)),
        cohort.slabs(tmp_path / "healthy", range(20, 22)),
        tmp_path / "run",
    )
    (data / "sub-19_T1w.nii.gz").write_bytes(b"broken")
    settings = [part for text in TINY for part in ("--set", text)]
    assert uad("train", data, "--out", run, *settings) == 0
    out, err = capsys.readouterr()
    assert out.strip() == str(run)
    assert "sub-19_T1w.nii.gz: left out" in err
    rows = (run / "data.tsv").read_text().splitlines()
    assert len(rows) == 5
    refused(6, "run", capsys, "train", data, "--out", run)  # a run is never begun twice
    assert uad("train", "--resume", run, "--set", "train.steps=6") == 0
    assert (run / "log.csv").read_text().splitlines()[-1].startswith("6,")
    refused(3, "not calibrated", capsys, "export", run, "-o", tmp_path / "lab")
    refused(3, "model was trained on this scan", capsys, "calibrate", run, data)
    refused(2, "does not cover FLAIR", capsys, "calibrate", run, healthy, "--borrow", "FLAIR=T1w")
    refused(2, "T1w has its own healthy scans", capsys, "calibrate", run, healthy, "--borrow", "T1w=T2w")
    assert uad("calibrate", run, healthy, "--borrow", "T2w=T1w") == 0
    kept = json.loads((run / "thresholds.json").read_text())
    assert kept["scans"] == {"T1w": 2}
    assert kept["thresholds"]["z-absolute"]["T1w"] > 0  # each scan held against the other
    assert kept["thresholds"]["fisher"]["T1w"] > 0
    assert kept["reference_erosion"] == 1
    assert kept["fusion_power"] in map(float, kept["precision_by_power"])
    assert uad("export", run, "-o", tmp_path / "lab") == 0
    assert (tmp_path / "lab" / "lab.md").exists()
    lab = load(tmp_path / "lab" / "lab.safetensors")
    assert lab.card.fusion_power == kept["fusion_power"]
    assert lab.card.reference_erosion == 1
    assert lab.card.contrasts == ("T1w", "T2w")
    assert lab.card.scores == {"T1w": "siamese", "T2w": "siamese"}
    assert lab.card.thresholds["absolute"]["T2w"] == lab.card.thresholds["absolute"]["T1w"]
    assert "T2w" not in lab.card.thresholds["fisher"]
    assert lab.card.shares == kept["shares"]
    assert sum(lab.card.shares["T1w"].values()) == pytest.approx(1)
    best = max(kept["precision_by_shares"]["T1w"].values())
    assert kept["precision_by_shares"]["T1w"][" ".join(map(str, lab.card.shares["T1w"].values()))] >= 0.9 * best
    assert "T2w has no healthy scans and borrows those of T1w" in lab.card.threshold_rule
    assert {name.rpartition(".")[0] for name in lab.reference_state} == {f"{score}.T1w" for score in scores.plain()}
    assert sorted(lab.reference_state)[:2] == ["absolute.T1w.deviation", "absolute.T1w.mean"]
    before = {name: value for name, value in kept.items() if name != "reference_erosion"}
    (run / "thresholds.json").write_text(json.dumps(before))
    refused(3, "is damaged", capsys, "export", run, "-o", tmp_path / "old")
    scan = next(healthy.glob("*.nii.gz"))
    assert uad("detect", scan, "-o", tmp_path / "map.nii.gz", "--weights", tmp_path / "lab", "--strip", "none") == 0
    assert (nib.load(tmp_path / "map.nii.gz").affine == nib.load(scan).affine).all()
    report = json.loads((tmp_path / "map.json").read_text())
    assert report["weights"]["name"] == "lab"
    assert report["weights"]["curvature_flow"] == 1
    assert report["score"] == "siamese"
    other = ["--weights", tmp_path / "lab", "--contrast", "FLAIR"]
    refused(2, "FLAIR", capsys, "detect", scan, "-o", tmp_path / "b.nii.gz", *other)
