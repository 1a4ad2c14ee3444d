"""`--adapt-by`: each way of adapting changes the map, is recorded, and leaves weights and out-of-distribution check."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cohort
import numpy as np
import phantoms
import pytest
import torch

from uadcli.batches import batch
from uadcli.batches.options import BatchOptions, Request
from uadcli.config import DetectConfig, PreprocessConfig, ReconstructionConfig, to_dict
from uadcli.console import Reporter
from uadcli.data import artefacts
from uadcli.data.artefacts import Artefacts
from uadcli.detection.detect import detect
from uadcli.detection.options import DetectOptions
from uadcli.errors import UsageError
from uadcli.imaging.slices import GRID_AFFINE
from uadcli.model import adapt, ways
from uadcli.model.adapt import ScannerAdapter
from uadcli.model.model import Model, load
from uadcli.report.citation import bibtex
from uadcli.settings import adaptations
from uadcli.weights import weights

CONFIG = DetectConfig(preprocess=PreprocessConfig(strip="none", bias_field=False))
SILENT = Reporter(silent=True)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, no_picture: None) -> None:
    cohort.as_they_are(monkeypatch)
    monkeypatch.setattr(artefacts, "measure", lambda *_: Artefacts())  # a few slices do not cover a brain


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights of random numbers, of the last layers as well, which otherwise begin at 0."""
    sizes = dataclasses.replace(cohort.TINY, noise="gaussian")
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.init, "zeros_", lambda tensor: torch.nn.init.normal_(tensor, std=0.1))
        return cohort.base(tmp_path / "model", sizes, None, preprocess=to_dict(CONFIG.preprocess))


@pytest.fixture
def loaded(model: Path) -> Model:
    return load(*weights.find(str(model)))


@pytest.fixture
def scanner(tmp_path: Path) -> Path:
    """Two healthy T1w scans of a scanner; a few slices of each."""
    for number in range(2):
        save(tmp_path / "healthy" / f"p{number}_T1w.nii.gz", number)
    return tmp_path / "healthy"


def save(path: Path, seed: int) -> Path:
    data = np.zeros((96, 96, 80), np.float32)
    data[..., 36:44] = cohort.head(seed)[..., 36:44]
    path.parent.mkdir(exist_ok=True)
    phantoms.save(path, data, GRID_AFFINE)
    return path


def test_every_way_has_a_record_and_a_work_that_is_known() -> None:
    assert tuple(ways.BY_HEALTHY_SCANS) == adaptations.BY_HEALTHY_SCANS
    assert tuple(ways.BY_SCAN) == adaptations.BY_SCAN
    for name in adaptations.NAMES:
        way = ways.find(name)
        assert way.name == name
        assert bibtex(way.cites).count("@") == len(way.cites) > 0
    with pytest.raises(UsageError, match="unknown way to adapt"):
        ways.find("drift")


def test_a_way_by_healthy_scans_needs_them(scanner: Path) -> None:
    assert DetectOptions().way is None
    assert DetectOptions(adapt=scanner).way == "residual"  # as before there were others
    assert DetectOptions(adapt=scanner, adapt_by="condition").way == "condition"
    for name in adaptations.BY_HEALTHY_SCANS:
        with pytest.raises(UsageError, match=f"--adapt-by {name} needs healthy scans"):
            DetectOptions(adapt_by=name)
    with pytest.raises(UsageError, match="adapt_by cannot be 'conditon'"):
        DetectOptions(adapt=scanner, adapt_by="conditon")


def test_the_sidecar_says_the_way_and_the_check_of_the_scan_is_not_adapted(
    scanner: Path, model: Path, tmp_path: Path
) -> None:
    scan = save(tmp_path / "patient_T1w.nii.gz", 5)
    options = DetectOptions(weights=str(model), threads=1, html=True)

    def found(name: str, **more: object) -> tuple[np.ndarray, dict]:  # type: ignore[type-arg]
        result = detect(scan, tmp_path / name, config=CONFIG, options=dataclasses.replace(options, **more))
        return result.image.get_fdata(), result.sidecar

    plain, before = found("plain.nii.gz")
    residual, _ = found("residual.nii.gz", adapt=scanner)
    adapted, said = found("condition.nii.gz", adapt=scanner, adapt_by="condition")
    assert not np.array_equal(adapted, plain)
    assert not np.array_equal(adapted, residual)
    assert said["weights"]["adapted"] == {"by": "condition", "healthy_scans": 2, "sha256": said_digest(scanner)}
    assert said["requested"]["adapt_by"] == "condition"
    assert "may not hold" in said["threshold"]["rule"]
    assert said["anomaly"]["healthy_scans"] is None
    assert said["gate"] == before["gate"]
    assert said["weights"]["sha256"] == before["weights"]["sha256"]
    assert "a drift of the condition vector, from 2 healthy scans" in (tmp_path / "condition.html").read_text()


def said_digest(scanner: Path) -> str:
    from uadcli.model.healthy_folder import digest_of

    return digest_of(adapt.find(scanner).files)


def test_the_drift_is_the_mean_of_those_of_the_scans_and_the_cache_keeps_nothing_else(
    scanner: Path, loaded: Model, cache: Path
) -> None:
    adapter = ScannerAdapter.of(loaded, adapt.find(scanner), "T1w", CONFIG, SILENT).by("condition")
    before = {name: value.clone() for name, value in loaded.network.state_dict().items()}
    adapted = adapter.adapted()
    files = sorted((cache / adapt.FOLDER).glob("*.npz"))
    assert len(files) == 2
    shifts = []
    for file in files:
        with np.load(file) as values:
            assert set(values) == {"key", "contrast", "shift"}
            shifts.append(values["shift"])
    moved = adapted.network.state_dict()["encoder.head.bias"] - before["encoder.head.bias"]
    assert np.allclose(moved.numpy(), np.mean(shifts, axis=0), atol=1e-6)
    assert np.abs(shifts).max() > 0
    assert adapted.weights is loaded.weights
    assert all(torch.equal(loaded.network.state_dict()[name], value) for name, value in before.items())
    again = adapter.adapted()
    assert torch.equal(
        again.network.state_dict()["encoder.head.bias"], adapted.network.state_dict()["encoder.head.bias"]
    )
    adapter.by("residual").adapted()
    assert len(list((cache / adapt.FOLDER).glob("*.npz"))) == 4  # each way its own


def test_low_rank_steps_adapt_to_the_scan_alone(model: Path, scanner: Path, tmp_path: Path) -> None:
    scan = save(tmp_path / "patient_T1w.nii.gz", 5)
    options = DetectOptions(weights=str(model), threads=1, adapt_by="low-rank", html=True)
    with pytest.raises(UsageError, match="cannot be combined: it adapts to the scan itself"):
        dataclasses.replace(options, adapt=scanner)
    with pytest.raises(UsageError, match="--adapt-by and several contrasts cannot be combined"):
        dataclasses.replace(options, further=(scan,)).check_further()
    plain = detect(scan, tmp_path / "plain.nii.gz", config=CONFIG, options=dataclasses.replace(options, adapt_by=None))
    adapted, again = (detect(scan, tmp_path / f"{i}.nii.gz", config=CONFIG, options=options) for i in range(2))
    said = adapted.sidecar
    assert said["weights"]["adapted"] == {"by": "low-rank", "healthy_scans": None, "sha256": None}
    assert said["requested"]["adapt_by"] == "low-rank"
    assert said["requested"]["adapt"] is None
    assert "may not hold" in said["threshold"]["rule"]
    assert said["anomaly"]["healthy_scans"] is None
    assert said["gate"] == plain.sidecar["gate"]
    assert "a few low-rank steps on this scan" in (tmp_path / "0.html").read_text()
    assert np.array_equal(adapted.image.get_fdata(), again.image.get_fdata())
    assert (
        np.abs(adapted.image.get_fdata()).sum() < np.abs(plain.image.get_fdata()).sum()
    )  # the scan is explained better


@pytest.mark.parametrize("method", ["", "diffuse"])  # which runs with and without a condition
def test_a_network_without_condition_has_no_drift_of_it(scanner: Path, tmp_path: Path, method: str) -> None:
    sizes = dataclasses.replace(cohort.TINY, method="ddpm", conditioned=False)
    model = cohort.base(tmp_path / "ddpm", sizes, None, preprocess=to_dict(CONFIG.preprocess))
    options = DetectOptions(weights=str(model), threads=1, threshold="0.1", adapt=scanner, adapt_by="condition")
    config = dataclasses.replace(CONFIG, reconstruction=ReconstructionConfig(method=method))
    with pytest.raises(UsageError, match="--adapt-by condition cannot adapt ddpm"):
        detect(save(tmp_path / "patient_T1w.nii.gz", 5), tmp_path / "map.nii.gz", config=config, options=options)


def test_a_batch_resumes_by_the_way(scanner: Path, model: Path, tmp_path: Path) -> None:
    save(tmp_path / "in" / "a_T1w.nii.gz", 5)
    options = DetectOptions(weights=str(model), threads=1, device="cpu", adapt=scanner, adapt_by="condition")

    def plan(options: DetectOptions) -> tuple[Request, batch.Plan]:
        request = Request(
            paths=[tmp_path / "in"],
            output=tmp_path / "out",
            config=CONFIG,
            options=options,
            batch=BatchOptions(workers=0),
        )
        return request, batch.make_plan(request, SILENT)

    result = batch.batch(*plan(options), SILENT)
    assert (result.done, result.failed) == (1, 0)
    assert [step.action for step in plan(options)[1].steps] == ["skip"]
    assert [step.action for step in plan(dataclasses.replace(options, adapt_by=None))[1].steps] == ["run"]


def test_low_rank_steps_need_the_denoising_network_that_they_change() -> None:
    from uadcli.reconstruction.reconstructors import BY_NAME

    assert {name for name, one in BY_NAME.items() if ways.find("low-rank").serves(one)} == {
        "cddpm",
        "ddpm",
        "diffuse",
        "synomaly",
    }
    assert {name for name, one in BY_NAME.items() if ways.find("condition").serves(one)} == {"cddpm", "diffuse"}
    with pytest.raises(UsageError, match="--adapt-by low-rank cannot adapt vae"):
        adapt.check("", "low-rank", BY_NAME["vae"])
