"""The out-of-distribution gate: what is like the training scans passes, also with a lesion; what is not lies beyond."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import scenes
import torch

from uadcli.batches.one_scan import EVERY_FILE
from uadcli.config import DetectConfig, ModelConfig
from uadcli.console import Reporter
from uadcli.data import names
from uadcli.data.contrast import FoundContrast
from uadcli.data.dataset import Case
from uadcli.data.healthy import brain_slices
from uadcli.data.prepare import Prepared
from uadcli.detection import detect, repeat
from uadcli.detection.findings import ReadyScan
from uadcli.detection.options import DetectOptions
from uadcli.detection.session import Session
from uadcli.errors import RESEARCH_USE, InputError, QualityError, UsageError
from uadcli.imaging import template
from uadcli.imaging.slices import GRID_AFFINE, GRID_SHAPE
from uadcli.imaging.volume import read_scan
from uadcli.model import out_of_distribution
from uadcli.model.model import Model, load
from uadcli.reconstruction.model import ConditionedDiffusion
from uadcli.reconstruction.reconstructors import BY_NAME
from uadcli.report import sidecar
from uadcli.report.phrases import check_sentence
from uadcli.scoring import out_of_distribution as cloud
from uadcli.weights import weights
from uadcli.weights.card import ModelCard

pytestmark = [
    pytest.mark.xdist_group("gate"),  # one process for what its tests share
    pytest.mark.usefixtures("no_picture"),
]

CARD = ModelCard(
    "m", "1", ("T1w", "FLAIR"), {"T1w": "absolute", "FLAIR": "absolute"}, {"absolute": {"T1w": 0.2, "FLAIR": 0.2}},
    "rule", (500,), "[0, 1]", "none", "CC0", 3,
)  # fmt: skip
SLAB = slice(32, 48)  # of the 80 axial slices: a whole brain shows the same and takes several times as long
MASK = np.zeros(GRID_SHAPE, bool)
MASK[..., SLAB] = template.on_grid("mni_brain_mask")[..., SLAB] > 0
HEAD = np.where(MASK, template.on_grid("mni_head_T1w", 1) / 255, 0).astype(np.float32)


def healthy(seed: int) -> np.ndarray:
    """A brain (96, 96, 80) in [0, 1] with a contrast, bias and noise of its own."""
    rng = np.random.default_rng(seed)
    x, y, z = (np.linspace(-1, 1, n) for n in GRID_SHAPE)
    bias = 1 + rng.normal(0, 0.04) * x[:, None, None] + rng.normal(0, 0.04) * y[:, None] + rng.normal(0, 0.04) * z
    image = np.clip(HEAD, 0, 1) ** rng.uniform(0.85, 1.15) * bias + rng.normal(0, 0.02, GRID_SHAPE)
    whole = np.where(MASK, np.clip(image, 0.01, 1), 0).astype(np.float32)
    return prepared(whole).scaled(DetectConfig().preprocess)  # scaling once more changes nothing


def prepared(x: np.ndarray) -> Prepared:
    return Prepared((x * 900).astype(np.float32), MASK, np.eye(4), "none", 1400.0, 0.0, 0.95, 0.5)


def wrong(x: np.ndarray) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    shuffled = x.copy()
    shuffled[MASK] = rng.permutation(x[MASK])
    return {
        "noise": np.where(MASK, rng.random(GRID_SHAPE), 0).astype(np.float32),
        "shuffled": shuffled,
        "inverted": np.where(MASK, 1 - x, 0).astype(np.float32),
    }


@pytest.fixture(scope="module")
def model() -> ConditionedDiffusion:
    from uadcli.config import EncoderConfig, UNetConfig

    torch.manual_seed(3)
    encoder = EncoderConfig(blocks=(1, 1), width=8, condition=16, norm="group", unshuffle=2)
    unet = UNetConfig(channels=8, multipliers=(1, 2), blocks=1, unshuffle=2, head_channels=8, embedding=16)
    model = ConditionedDiffusion(ModelConfig(unet=unet, encoder=encoder)).eval()
    with torch.no_grad():  # a new UNet ends in zeros, and would not notice its noise
        for parameter in model.unet.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def fitted(model: ConditionedDiffusion) -> cloud.Gate:
    slices = brain_slices(MASK)
    parts = [(out_of_distribution.vectors(model, healthy(seed), slices), slices) for seed in range(16)]
    return cloud.fit(parts[:10], parts[10:], GRID_SHAPE[2])


@pytest.fixture
def loaded(model: ConditionedDiffusion, fitted: cloud.Gate, tmp_path: Path) -> Model:
    weights.save(tmp_path / "m.safetensors", model, CARD, None, out_of_distribution.state_of({"T1w": fitted}))
    return load(tmp_path / "m.safetensors")


def test_healthy_scans_pass_and_so_do_those_with_a_lesion(loaded: Model) -> None:
    for seed in range(30, 34):
        x = healthy(seed)
        assert out_of_distribution.measure(loaded, x, MASK, "T1w").beyond is False
        lesion = (np.linalg.norm(scenes.world() - (-30.0, -10.0, 28.0), axis=-1) < 20) & MASK
        sick = out_of_distribution.measure(loaded, np.where(lesion, 0.1, x).astype(np.float32), MASK, "T1w")
        assert sick.beyond is False


@pytest.mark.parametrize("kind", ["noise", "shuffled", "inverted"])
def test_wrong_inputs_lie_beyond(kind: str, loaded: Model) -> None:
    found = out_of_distribution.measure(loaded, wrong(healthy(40))[kind], MASK, "T1w")
    assert found.beyond is True
    assert found.note == ""


def test_the_check_is_kept_in_the_weight_file_and_old_weights_have_none(
    loaded: Model, fitted: cloud.Gate, model: ConditionedDiffusion, tmp_path: Path
) -> None:
    again = out_of_distribution.gate_of(loaded.weights.gate_state, "T1w")
    assert again is not None
    assert np.array_equal(again.mean, fitted.mean, equal_nan=True)
    assert np.array_equal(again.whitening, fitted.whitening)
    assert again.limit == pytest.approx(fitted.limit)
    weights.save(tmp_path / "old.safetensors", model, CARD)
    old = load(tmp_path / "old.safetensors")
    assert old.weights.gate_state == {}
    for found in (
        out_of_distribution.measure(old, healthy(0), MASK, "T1w"),
        out_of_distribution.measure(loaded, healthy(0), MASK, "FLAIR"),
    ):
        assert (found.value, found.limit, found.beyond) == (None, None, None)
        assert "no distribution" in found.note


def test_a_model_without_encoder_has_no_out_of_distribution_check(model: ConditionedDiffusion) -> None:
    plain = ConditionedDiffusion(dataclasses.replace(model.config, conditioned=False))
    one = Model(weights.Weights(plain, CARD, Path("x"), ""))
    assert out_of_distribution.measure(one, healthy(0), MASK, "T1w").note == out_of_distribution.NO_ENCODER
    assert out_of_distribution.fit_gates(plain, [], [], Path("x"), DetectConfig().preprocess) == {}


def test_too_little_brain_is_not_measured(loaded: Model) -> None:
    found = out_of_distribution.measure(loaded, healthy(0), np.zeros_like(MASK), "T1w")
    assert (found.value, found.beyond, found.note) == (None, True, out_of_distribution.FEW)  # nothing is further away
    assert found.limit is not None


def test_the_whitening_is_the_inverse_of_the_shrunk_covariance() -> None:
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(4, 4))
    parts = [(rng.normal(size=(30, 4)) @ mix, np.full(30, 5)) for _ in range(8)]
    mean, whitening = cloud.fit_cloud(parts, 20)
    rest = np.concatenate([v for v, _ in parts]) - mean[5]
    covariance = rest.T @ rest / len(rest)
    shrunk = 0.9 * covariance + 0.1 * np.trace(covariance) / 4 * np.eye(4)
    assert whitening @ whitening.T @ shrunk == pytest.approx(np.eye(4), abs=0.02)
    assert mean[5] == pytest.approx(np.concatenate([v for v, _ in parts]).mean(axis=0), abs=2e-3)
    assert np.isnan(mean[15]).all()  # nothing was there to learn from
    vectors = rng.normal(size=(3, 4))
    dense = [np.sqrt((v - mean[5]) @ np.linalg.inv(shrunk) @ (v - mean[5]) / 4) for v in vectors]
    assert cloud.slice_distances(mean, whitening, (vectors, np.full(3, 5))) == pytest.approx(dense, rel=0.02)


def test_a_cloud_needs_scans() -> None:
    part = (np.random.default_rng(0).normal(size=(5, 3)), np.arange(5))
    with pytest.raises(InputError, match="two training"):
        cloud.fit([part], [part], 10)
    with pytest.raises(InputError, match="held-out"):
        cloud.fit([part, part], [], 10)
    with pytest.raises(InputError, match="do not differ"):
        cloud.fit_cloud([(np.ones((5, 3)), np.arange(5))] * 2, 10)


def test_out_of_distribution_checks_need_enough_scans(
    model: ConditionedDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        out_of_distribution, "prepare_cached", lambda scan, config, cache: prepared(healthy(int(scan.name)))
    )
    monkeypatch.setattr(out_of_distribution, "healthy_slices", lambda case, prepared: np.arange(30, 40))
    training = [Case(str(i), "s", "train", "T1w", Path(str(i))) for i in range(10)]
    held = [Case(str(i), "s", "val", "T1w", Path(str(i))) for i in range(10, 15)]
    held += [Case("f", "s", "val", "FLAIR", Path("99"))]
    assert set(out_of_distribution.fit_gates(model, training, held, Path("x"), DetectConfig().preprocess)) == {"T1w"}
    assert out_of_distribution.fit_gates(model, training[:9], held, Path("x"), DetectConfig().preprocess) == {}


# whole second halves of a detection, on scans that lie on the template already


def ready(x: np.ndarray, folder: Path) -> ReadyScan:
    image = nib.Nifti1Image((x * 900).astype(np.int16), GRID_AFFINE)
    image.set_sform(GRID_AFFINE, 1)
    image.to_filename(folder / "scan.nii.gz")
    scan = read_scan(folder / "scan.nii.gz")
    return ReadyScan(scan, prepared(x), MASK, FoundContrast("T1w", "option"), scan.volume)


def finish(loaded: Model, x: np.ndarray, folder: Path, **more: object) -> dict:
    options = DetectOptions(**{"weights": str(loaded.path), "threshold": "0.2", "device": "cpu", **more})
    files = names.plan(folder / "scan.nii.gz", folder / "map.nii.gz", dataclasses.replace(options, overwrite=True))
    reporter = Reporter(silent=True)
    return detect.finish(ready(x, folder), files, Session(DetectConfig(), options, "cpu", reporter)).sidecar


def test_the_sidecar_says_so_and_strict_refuses(loaded: Model, tmp_path: Path) -> None:
    good = finish(loaded, healthy(30), tmp_path)
    assert good["gate"]["beyond"] is False
    assert good["gate"]["check"] == "mahalanobis"
    assert 0 < good["gate"]["value"] <= good["gate"]["limit"]
    assert not [w for w in good["warnings"] if "distance" in w]
    sidecar.refuse_failed(tmp_path / "scan.nii.gz", good)
    bad = finish(loaded, wrong(healthy(30))["inverted"], tmp_path)
    assert bad["gate"]["beyond"] is True
    assert bad["qc"]["verdict"] == "warn"
    assert [w for w in bad["warnings"] if "distance" in w and "training scans" in w]
    assert sidecar.is_complete(json.loads((tmp_path / "map.json").read_text()))
    with pytest.raises(QualityError, match="unlike the training scans") as caught:
        sidecar.refuse_failed(tmp_path / "scan.nii.gz", bad)
    assert caught.value.exit_code == 7


def test_brain_outside_all_training_brains_is_out_of_distribution(
    loaded: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(out_of_distribution, "brain_slices", lambda mask: np.arange(3))
    found = finish(loaded, healthy(30), tmp_path)
    assert found["gate"]["value"] is None
    assert found["qc"]["verdict"] == "warn"
    check = next(check for check in found["qc"]["checks"] if check["name"] == "distance")
    assert (check["value"], check["verdict"]) == (None, "warn")
    assert "unlike the training scans" in check_sentence(check)
    assert [w for w in found["warnings"] if "distance" in w and out_of_distribution.FEW in w]
    with pytest.raises(QualityError, match=out_of_distribution.FEW):
        sidecar.refuse_failed(tmp_path / "scan.nii.gz", found)


def test_strict_says_that_there_is_no_out_of_distribution_check(
    loaded: Model, model: ConditionedDiffusion, tmp_path: Path
) -> None:
    assert not [w for w in finish(loaded, healthy(30), tmp_path, strict=True)["warnings"] if "--strict" in w]
    weights.save(tmp_path / "m.safetensors", model, CARD)
    assert not [w for w in finish(loaded, healthy(30), tmp_path)["warnings"] if "--strict" in w]
    said = [w for w in finish(loaded, healthy(30), tmp_path, strict=True)["warnings"] if "--strict" in w]
    assert len(said) == 1
    assert out_of_distribution.ABSENT in said[0]


def test_old_weights_say_null_and_why(loaded: Model, model: ConditionedDiffusion, tmp_path: Path) -> None:
    weights.save(tmp_path / "m.safetensors", model, CARD)
    found = finish(loaded, healthy(30), tmp_path)
    absent = {"value": None, "limit": None, "note": out_of_distribution.ABSENT, "check": None, "beyond": None}
    assert found["gate"] == absent
    assert found["stability"] is None
    assert "distance" not in {check["name"] for check in found["qc"]["checks"]}
    sidecar.refuse_failed(tmp_path / "scan.nii.gz", found)


def test_uncertainty_and_stability_of_a_detection(loaded: Model, tmp_path: Path) -> None:
    plain = finish(loaded, healthy(31), tmp_path)
    before = (tmp_path / "map.nii.gz").read_bytes()
    assert not (tmp_path / "map_uncertainty.nii.gz").exists()
    found = finish(loaded, healthy(31), tmp_path, save=("uncertainty",), stability=2)
    assert (tmp_path / "map.nii.gz").read_bytes() == before  # repeats do not change the map
    assert found["anomaly"] == plain["anomaly"]
    image = nib.load(tmp_path / "map_uncertainty.nii.gz")
    assert image.shape == GRID_SHAPE
    assert image.get_data_dtype() == np.float32
    spread = np.asarray(image.dataobj)
    assert spread.min() >= 0
    assert spread[MASK].max() > 0
    assert spread[~MASK].max() == 0
    assert found["stability"]["draws"] == 3
    assert found["stability"]["seeds"] == [0, 1000, 2000]
    assert 0 < found["stability"]["correlation_min"] <= found["stability"]["correlation_mean"] <= 1
    low, high = found["stability"]["volume_ml"]
    assert low <= plain["anomaly"]["volume_ml"] <= high
    worst = found["stability"]["worst_perturbation"]
    assert worst["volume_ml"][0] == plain["anomaly"]["volume_ml"]
    assert worst["components"][0] == len(plain["anomaly"]["components"])
    assert 0 < worst["noise"] < 0.5
    assert 0 < worst["mean_change"] < worst["largest_change"]
    assert -1 <= worst["correlation"] < 1
    assert found["requested"]["stability"] == 2
    again = finish(loaded, healthy(31), tmp_path, save=("uncertainty",), stability=2)
    assert again["stability"] == found["stability"]


def test_the_worst_perturbation_is_never_searched_for_unless_asked(
    loaded: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(Model, "worst_perturbation", lambda self, x, *_: (asked.append(1), (0 * x, 0.1))[1])
    finish(loaded, healthy(31), tmp_path)
    finish(loaded, healthy(31), tmp_path, save=("uncertainty",))
    assert not asked
    finish(loaded, healthy(31), tmp_path, stability=1)
    assert asked == [1]


def test_uncertainty_uses_at_least_five_draws_and_stability_those_requested(loaded: Model, tmp_path: Path) -> None:
    alone = finish(loaded, healthy(31), tmp_path, save=("uncertainty",))
    five = np.asarray(nib.load(tmp_path / "map_uncertainty.nii.gz").dataobj)
    both = finish(loaded, healthy(31), tmp_path, save=("uncertainty",), stability=1)
    assert np.array_equal(np.asarray(nib.load(tmp_path / "map_uncertainty.nii.gz").dataobj), five)
    assert alone["stability"] is None
    assert both["stability"]["draws"] == 2
    assert both["stability"]["seeds"] == [0, 1000]
    assert both["stability"] == finish(loaded, healthy(31), tmp_path, stability=1)["stability"]


@pytest.mark.parametrize("asked", [{"stability": 2}, {"save": ("uncertainty",)}])
def test_uncertainty_and_stability_need_a_method_with_noise(asked: dict, loaded: Model, tmp_path: Path) -> None:
    for kind in ("intensity", "z-intensity"):
        with pytest.raises(UsageError, match="depend on noise"):
            repeat.check(BY_NAME["cddpm"], kind)
    for method in BY_NAME.values():
        if method.draws:
            repeat.check(method, "absolute")
        else:
            with pytest.raises(UsageError, match=f"{method.name} do not depend on noise"):
                repeat.check(method, "absolute")
    with pytest.raises(UsageError, match="depend on noise"):
        finish(loaded, healthy(31), tmp_path, score="intensity", **asked)


def test_thresholds_may_not_hold_with_a_given_brain_mask(model: ConditionedDiffusion, tmp_path: Path) -> None:
    known = {"thresholds": {"absolute": {"T1w": 0.2}}, "strengths": {"absolute": {"T1w": [0.1] * 20}}}
    weights.save(tmp_path / "m.safetensors", model, dataclasses.replace(CARD, **known))
    one = weights.load(tmp_path / "m.safetensors")
    asked = {"score": "absolute", "threshold": "calibrated"}
    for more, vouched in (({}, True), ({"brain_mask": Path("mask.nii.gz")}, False)):
        found = finish(one, healthy(31), tmp_path, **asked, **more)
        assert ("may not hold" not in found["threshold"]["rule"]) == vouched
        assert (found["anomaly"]["healthy_scans"] is not None) == vouched


def test_the_transform_says_research_use(loaded: Model, tmp_path: Path) -> None:
    finish(loaded, healthy(31), tmp_path, save=("transform",))
    assert RESEARCH_USE in (tmp_path / "map_transform.json").read_text()


def test_old_files_of_every_kind_are_cleared_by_a_batch() -> None:
    every = names.name(Path("a.nii.gz"), None, EVERY_FILE).paths
    assert {"recon", "brain", "transform", "uncertainty", "page"} <= set(every)
    assert "uncertainty" not in names.name(Path("a.nii.gz"), None, DetectOptions(space="both", save=("all",))).paths
