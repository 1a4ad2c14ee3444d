"""`uad train --score siamese --labels`, `uad calibrate`, `uad export` and `uad detect` with the result, on phantoms.

The phantoms lie on the model's grid, so that nothing has to be registered.
"""

from __future__ import annotations

import csv
import json
import re
from functools import partial
from pathlib import Path

import cohort
import pytest
from cohort import uad

from uadcli.calibration import health
from uadcli.config import SiameseConfig
from uadcli.weights.weights import read_card

pytestmark = pytest.mark.slow
SETTINGS = (
    "preprocess.strip=none",
    "siamese.channels=[8, 16]",
    "siamese.batch_size=8",
    "siamese.learning_rate=0.005",
    "siamese.warmup=5",
    "siamese.pool=2",
    "siamese.draws=100",
    "siamese.checkpoint_every=25",
)
SIZES = SiameseConfig(channels=(8, 16))
SLAB = partial(cohort.slab, places=slice(36, 64))  # a brain in the axial slices where the lesions are


def test_labelled_cases_teach_the_score_of_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort.as_they_are(monkeypatch)
    monkeypatch.setattr(health, "calibrated", lambda: ["absolute", "siamese"])  # the others take their time
    parts = {"a": True, "b": True, "c": False, "d": True, "e": True, "f": True}
    scans, masks = cohort.cohort(tmp_path / "cases", parts, dict.fromkeys("def", "val"), brain=SLAB)
    healthy, _ = cohort.cohort(tmp_path / "healthy", {"g": False}, {}, brain=SLAB)
    base, run, lab = cohort.base(tmp_path / "base", cohort.TINY, SIZES), tmp_path / "run", tmp_path / "lab"
    settings = [part for text in SETTINGS for part in ("--set", text)]
    taught = ["--score", "siamese", "--labels", masks, "--weights", base, "--out", run]
    assert uad("train", scans, *taught, "--max-steps", 25, *settings) == 0
    out, err = capsys.readouterr()
    assert out.strip() == str(run)
    start = float(re.search(r"AUPRC (0\.\d+) on 3 held-out cases", err)[1])  # type: ignore[index]
    assert uad("train", "--resume", run, "--set", "siamese.steps=50", "--set", "max_steps=0") == 0
    with (run / "siamese" / "log.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["step"] for row in rows] == ["25", "50"]
    assert float(rows[-1]["auprc"]) > max(5 * start, 0.3)
    assert uad("calibrate", run, healthy) == 0
    assert uad("export", run, "-o", lab) == 0
    card = read_card(lab / "lab.safetensors")
    assert (card.labelled_cases, card.contrasts, card.steps) == (3, ("T1w",), 3)
    assert card.siamese is not None
    assert card.siamese["steps"] - SIZES.steps in (25, 50)  # the better one, after those of the base
    assert "saw those of 3 cases" in (lab / "lab.md").read_text()
    scan, found = scans / "sub-d_T1w.nii.gz", tmp_path / "map.nii.gz"
    assert uad("detect", scan, "-o", found, "--weights", lab, "--strip", "none") == 0
    report = json.loads((tmp_path / "map.json").read_text())
    assert (report["score"], report["weights"]["labelled_cases"]) == ("siamese", 3)
    assert report["gate"]["limit"] == 1000  # that of the reconstruction, which is no other
