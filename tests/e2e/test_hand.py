"""`uad calibrate --gate hand`, `uad export`, `uad detect` with the result, on phantoms on the model's grid."""

from __future__ import annotations

import json
from pathlib import Path

import cohort
import nibabel as nib
import numpy as np
import pytest

from uadcli.calibration import calibrate, fit_hand
from uadcli.cli.app import main
from uadcli.config import PreprocessConfig, SiameseConfig, TrainConfig, TrainingConfig
from uadcli.console import Reporter
from uadcli.settings.training import HAND, CalibrationMachine, Fitted, Machine, Taught
from uadcli.training import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_picture")]
SETTINGS = TrainingConfig(
    preprocess=PreprocessConfig(strip="none"),
    model=cohort.TINY,
    train=TrainConfig(steps=2, batch_size=4, warmup=1, checkpoint_every=2),
    siamese=SiameseConfig(steps=0),
)


def test_a_model_with_hand_flags_a_wrong_input_and_says_by_which_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort.as_they_are(monkeypatch)
    for name, value in {"SCENES": 4, "BATCH": 8, "STEPS": 60}.items():
        monkeypatch.setattr(fit_hand, name, value)
    run, reporter = tmp_path / "run", Reporter(silent=True)
    scans, _ = cohort.cohort(tmp_path, dict.fromkeys("abcdefghijklmnopq", False), {"l": "val"}, brain=cohort.slab)
    healthy = tmp_path / "healthy"
    healthy.mkdir()
    for name in "mnopq":
        (scans / f"sub-{name}_T1w.nii.gz").rename(healthy / f"sub-{name}_T1w.nii.gz")
    train.train(scans, run, SETTINGS, taught=Taught(), machine=Machine(0), reporter=reporter)
    fitted = Fitted(("absolute",), HAND)
    calibrate.calibrate(run, healthy, machine=CalibrationMachine(0), reporter=reporter, fitted=fitted)
    assert main(["export", str(run), "-o", str(tmp_path / "lab")]) == 0
    good = scans / "sub-l_T1w.nii.gz"
    image = nib.load(good)
    turned = np.where(np.asarray(image.dataobj) > 0, 301 - np.asarray(image.dataobj), 0)
    bad = tmp_path / "sub-x_T1w.nii.gz"
    nib.Nifti1Image(turned.astype(np.float32), image.affine).to_filename(bad)
    found = {}
    for scan in (good, bad):
        out = tmp_path / f"{scan.name}_map.nii.gz"
        options = ["--weights", tmp_path / "lab", "--strip", "none", "--contrast", "T1w", "--threads", 1]
        assert main([str(part) for part in ("detect", scan, "-o", out, *options)]) == 0
        found[scan] = json.loads(out.with_name(out.name.removesuffix(".nii.gz") + ".json").read_text())["gate"]
    assert [(one["check"], one["beyond"]) for one in found.values()] == [(HAND, False), (HAND, True)]
