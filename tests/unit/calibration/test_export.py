"""What `uad export` makes the default score of a model, and what its card says."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
from pathlib import Path
from typing import Any

import cohort
import numpy as np
import pytest
from safetensors.torch import save

import uadcli
from uadcli.calibration import calibrate as calibration
from uadcli.calibration import export
from uadcli.calibration.calibrate import calibrate
from uadcli.calibration.export import default_score
from uadcli.config import TrainingConfig, to_toml
from uadcli.console import Reporter
from uadcli.data.dataset import Case
from uadcli.errors import DeviceError, InputError, OutputError
from uadcli.imaging.slices import GRID_SHAPE
from uadcli.model.hand import HandGate
from uadcli.model.model import Model
from uadcli.model.out_of_distribution import state_of
from uadcli.reconstruction.hand import Hand
from uadcli.scoring.fusion import ENOUGH
from uadcli.scoring.out_of_distribution import Gate
from uadcli.settings.training import CalibrationMachine
from uadcli.training import run_folder
from uadcli.weights import weights
from uadcli.weights.card import ModelCard

CARD = ModelCard("lab", "1", ("T1w",), {"T1w": "siamese"}, {}, "", (500,), "", "", "")
CALIBRATED: dict[str, Any] = {  # but for the networks
    **{name: {} for name in ("strengths", "tails", "shares", "patients", "synthetic", "borrowed")},
    **{"thresholds": {"absolute": {"T1w": 0.2}}, "scans": {"T1w": 3}, "fusion_power": 0.2, "reference_erosion": 3},
}


@pytest.mark.parametrize(
    ("scans", "labelled", "thresholds", "expected"),
    [
        (ENOUGH, 0, {"fisher": {"T1w": 2.5}}, "fisher"),
        (ENOUGH - 1, 0, {"fisher": {"T1w": 2.5}}, "siamese"),
        (ENOUGH, 0, {"fisher": {"FLAIR": 2.5}}, "siamese"),
        (ENOUGH, 0, {}, "siamese"),
        (ENOUGH, 7, {"fisher": {"T1w": 2.5}}, "siamese"),
        (0, 0, {"fisher": {"T1w": 2.5}}, "siamese"),
    ],
)
def test_fisher_is_the_default_with_enough_healthy_scans(
    scans: int, labelled: int, thresholds: dict[str, dict[str, float]], expected: str
) -> None:
    card = dataclasses.replace(CARD, labelled_cases=labelled)
    assert default_score(card, "T1w", scans, thresholds) == expected


@pytest.mark.parametrize(("scaling", "said"), [("percentile", "percentiles 1 and 99"), ("tissue", "grey and white")])
def test_the_card_says_how_intensities_are_scaled(scaling: str, said: str) -> None:
    card = dataclasses.replace(CARD, scaling=scaling)
    found = export.calibrated_card(card, "lab", CALIBRATED, TrainingConfig().preprocess).intensity_range
    assert said in found
    assert ("percentiles" in found) == (scaling == "percentile")


@pytest.mark.parametrize(("siamese", "said"), [(None, False), ({"headroom": False}, False), ({"headroom": True}, True)])
def test_the_card_says_whether_the_learned_score_sees_more(siamese: dict[str, Any] | None, said: bool) -> None:
    card = dataclasses.replace(CARD, scaling="percentile", siamese=siamese)
    found = export.calibrated_card(card, "lab", CALIBRATED, TrainingConfig().preprocess).intensity_range
    assert found.endswith("also sees what lies above") is said


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> weights.Weights:
    """The weights of a run in `tmp_path`."""
    trained = weights.load(cohort.base(tmp_path / "base", cohort.TINY, None) / "base.safetensors")
    monkeypatch.setattr(export, "trained_weights", lambda _: trained)
    return trained


def calibrated(run: Path, made: weights.Weights) -> None:
    """Write settings and calibration of a run."""
    content = CALIBRATED | {"networks": export.digest_of(made)}
    (run / "config.toml").write_text(to_toml(TrainingConfig(model=cohort.TINY)))
    (run / "thresholds.json").write_text(json.dumps(content))


def test_a_calibration_of_earlier_networks_is_not_exported(tmp_path: Path, made: weights.Weights) -> None:
    """As after `uad train --resume`: the thresholds would be those of networks that are gone."""
    calibrated(tmp_path, made)
    next(made.model.parameters()).data += 1
    with pytest.raises(InputError, match="trained further") as refused:
        export.export(tmp_path, tmp_path / "lab", overwrite=False, reporter=Reporter(silent=True))
    assert "uad calibrate" in refused.value.hint
    assert not (tmp_path / "lab").exists()


def test_a_folder_that_cannot_be_made_is_no_bug(tmp_path: Path, made: weights.Weights) -> None:
    calibrated(tmp_path, made)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be created"):
        export.export(tmp_path, tmp_path / "file" / "lab", overwrite=False, reporter=Reporter(silent=True))


def test_a_run_that_cannot_be_written_is_not_calibrated_for_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.toml").write_text(to_toml(TrainingConfig(model=cohort.TINY)))
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(OutputError, match="cannot be written") as refused:
        calibrate(tmp_path, tmp_path / "healthy", machine=CalibrationMachine(0), reporter=Reporter(silent=True))
    assert "-o" not in refused.value.hint  # it has no such option


def test_in_python_paths_may_be_texts(tmp_path: Path, made: weights.Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    calibrated(tmp_path, made)
    monkeypatch.setattr(export, "trained_weights", lambda _: made)
    monkeypatch.setattr(calibration, "trained_weights", lambda _: made)
    run_folder.write_rows(tmp_path / "data.tsv", [], {})
    for file in (export.GATE_FILE, export.REFERENCE_FILE):
        (tmp_path / file).write_bytes(save({}))
    assert uadcli.export(str(tmp_path), str(tmp_path / "lab")) == tmp_path / "lab" / "lab.safetensors"
    with pytest.raises(InputError, match="no scan"):
        uadcli.calibrate(str(tmp_path), str(tmp_path / "lab"))


def test_a_device_that_is_missing_is_refused_at_once(tmp_path: Path, made: weights.Weights) -> None:
    calibrated(tmp_path, made)
    (before := tmp_path / "thresholds.json").write_text("{}")
    machine = CalibrationMachine(0, device="cuda:99")
    with pytest.raises(DeviceError, match="cuda:99"):
        calibrate(tmp_path, tmp_path / "healthy", machine=machine, reporter=Reporter(silent=True))
    assert before.read_text() == "{}"


def test_the_networks_are_on_the_chosen_device(
    tmp_path: Path, made: weights.Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model of the published size takes minutes for a scan on a CPU, and a second on a GPU."""
    calibrated(tmp_path, made)
    (tmp_path / "healthy").mkdir()
    (tmp_path / "healthy" / "sub-1_T1w.nii").write_bytes(b"one")
    run_folder.write_rows(tmp_path / "data.tsv", [], {})
    devices: list[str] = []

    def measured(model: Model, *_: object, **__: object) -> None:
        devices.append(model.device)
        raise InputError("enough")

    usable = {tmp_path / "1": Case("1", "1", "val", "T1w", tmp_path / "1")}
    monkeypatch.setattr(calibration.device, "choose", lambda name: (f"{name}-found", "as requested"))
    monkeypatch.setattr(calibration, "trained_weights", lambda _: made)
    monkeypatch.setattr(calibration, "prepare_usable", lambda *_: usable)
    monkeypatch.setattr(calibration, "healthy_of", lambda found, *_: found)
    monkeypatch.setattr(calibration, "usable_cases", lambda _: [])
    monkeypatch.setattr(calibration, "measure", measured)
    for machine in (None, CalibrationMachine(0, device="cuda:1")):
        with pytest.raises(InputError, match="enough"):
            calibrate(tmp_path, tmp_path / "healthy", machine=machine, reporter=Reporter(silent=True))
    assert devices == ["auto-found", "cuda:1-found"]


def test_a_disk_that_fills_leaves_the_calibration_before(
    tmp_path: Path, made: weights.Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrated(tmp_path, made)
    names = (export.GATE_FILE, export.REFERENCE_FILE, "thresholds.json")
    for name in names[:2]:
        (tmp_path / name).write_bytes(save({}))
    run_folder.write_rows(tmp_path / "data.tsv", [], {})
    (tmp_path / "healthy").mkdir()
    (tmp_path / "healthy" / "sub-1_T1w.nii").write_bytes(b"one")
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    monkeypatch.setattr(calibration, "trained_weights", lambda _: made)
    monkeypatch.setattr(calibration, "prepare_usable", lambda cases, *_: {case.scan: case for case in cases})
    monkeypatch.setattr(calibration, "healthy_of", lambda found, *_: found)
    monkeypatch.setattr(calibration, "usable_cases", lambda _: [])
    monkeypatch.setattr(calibration, "measure", lambda *_, **__: ({"new": 1}, {}))
    monkeypatch.setattr(calibration, "_gates", lambda *_: {})
    sync, left = os.fsync, [0]

    def filling(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", filling)
    for written, name in enumerate(names):
        left[0] = written
        with pytest.raises(OutputError, match="No space left") as full:
            calibrate(tmp_path, tmp_path / "healthy", machine=CalibrationMachine(0), reporter=Reporter(silent=True))
        assert full.value.path == tmp_path / name
        assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    left[0] = len(names)
    calibrate(tmp_path, tmp_path / "healthy", machine=CalibrationMachine(0), reporter=Reporter(silent=True))
    assert json.loads((tmp_path / "thresholds.json").read_text())["new"] == 1


def test_a_healthy_scan_that_is_there_twice_counts_once(
    tmp_path: Path, made: weights.Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its copy would agree with the reference that it is compared with, and count as another person."""
    calibrated(tmp_path, made)
    run_folder.write_rows(tmp_path / "data.tsv", [], {})
    (tmp_path / "healthy").mkdir()
    for name, content in (("sub-1", b"one"), ("sub-2", b"two"), ("sub-3", b"one")):
        (tmp_path / "healthy" / f"{name}_T1w.nii").write_bytes(content)
    found: list[str] = []

    def prepared(cases: list[Case], *_: object) -> dict[Path, Case]:
        found.extend(case.subject for case in cases)
        return {}

    monkeypatch.setattr(calibration, "trained_weights", lambda _: made)
    monkeypatch.setattr(calibration, "prepare_usable", prepared)
    reporter = Reporter(silent=True)
    with pytest.raises(InputError, match="no usable scan"):
        calibrate(tmp_path, tmp_path / "healthy", machine=CalibrationMachine(0), reporter=reporter)
    assert found == ["sub-1", "sub-2"]
    assert "sub-1_T1w.nii" in next(text for text in reporter.warnings if "sub-3_T1w.nii: left out" in text)


def test_a_scan_that_the_model_was_trained_on_is_refused_compressed_too(
    tmp_path: Path, made: weights.Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrated(tmp_path, made)
    scan = tmp_path / "sub-1_T1w.nii"
    scan.write_bytes(b"one")
    case = Case("sub-1", "lab", "train", "T1w", scan)
    run_folder.write_rows(tmp_path / "data.tsv", [case], {scan: case})
    (tmp_path / "healthy").mkdir()
    (tmp_path / "healthy" / "sub-1_T1w.nii.gz").write_bytes(gzip.compress(b"one"))
    monkeypatch.setattr(calibration, "trained_weights", lambda _: made)
    with pytest.raises(InputError, match=r"trained on this scan \(as sub-1\)"):
        calibrate(tmp_path, tmp_path / "healthy", machine=CalibrationMachine(0), reporter=Reporter(silent=True))


@pytest.mark.parametrize("overwrite", [False, True])
def test_weights_are_not_exported_next_to_others(tmp_path: Path, made: weights.Weights, overwrite: bool) -> None:
    """As into a folder that was renamed: `uad detect --weights` refuses a folder with two models."""
    (tmp_path / "config.toml").write_text(to_toml(TrainingConfig(model=cohort.TINY)))
    out = made.path.parent.rename(tmp_path / "new")
    with pytest.raises(OutputError, match=r"other weights \(base.safetensors\)"):
        export.export(tmp_path, out, overwrite=overwrite, reporter=Reporter(silent=True))
    assert sorted(path.name for path in out.glob("*.safetensors")) == ["base.safetensors"]


def test_the_card_names_the_out_of_distribution_check_of_each_contrast(tmp_path: Path, made: weights.Weights) -> None:
    wide = Gate(np.zeros((GRID_SHAPE[2], 16), np.float32), np.eye(16, dtype=np.float32), 1000.0)
    hand = HandGate(Hand().eval(), np.zeros(2, np.float32), np.ones(2, np.float32), 1.0)
    empty = {name: {} for name in ("strengths", "tails", "shares", "patients", "synthetic")}
    content = {"thresholds": {"absolute": {"T1w": 0.2, "FLAIR": 0.3}}, "scans": {"T1w": 3, "FLAIR": 2}, **empty}
    content |= {"borrowed": {"T2w": "FLAIR"}, "fusion_power": 0.2, "reference_erosion": 3}
    content |= {"networks": export.digest_of(made)}
    (tmp_path / "config.toml").write_text(to_toml(TrainingConfig(model=cohort.TINY)))
    (tmp_path / "thresholds.json").write_text(json.dumps(content))
    (tmp_path / export.GATE_FILE).write_bytes(save(state_of({"T1w": wide, "FLAIR": hand})))
    (tmp_path / export.REFERENCE_FILE).write_bytes(save({}))
    export.export(tmp_path, tmp_path / "lab", overwrite=False, reporter=Reporter(silent=True))
    assert not weights.load(tmp_path / "lab" / "lab.safetensors").card.without_shading  # calibrated before it was known
    assert weights.load(tmp_path / "lab" / "lab.safetensors").card.odds_outside_white_matter == 1
    named = "- out-of-distribution check: T1w Mahalanobis distance of the encoder's features, T2w none, FLAIR HAND"
    assert named in (tmp_path / "lab" / "lab.md").read_text().splitlines()
