"""Weight files: verified, self-describing, and refused where they are not what they should be."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from uadcli.config import (
    SCORES,
    DetectConfig,
    EncoderConfig,
    ModelConfig,
    ScoringConfig,
    SiameseConfig,
    UNetConfig,
    to_dict,
)
from uadcli.errors import UsageError, WeightsError
from uadcli.imaging.slices import GRID_SHAPE
from uadcli.reconstruction import weights
from uadcli.reconstruction.model import ConditionedDiffusion
from uadcli.reconstruction.weights import ModelCard
from uadcli.run import score, threshold
from uadcli.scoring.siamese import SiameseUNet

CARD = ModelCard(
    "m", "1", ("FLAIR",), {"FLAIR": "bright"}, {"bright": {"FLAIR": 0.2}}, "rule", (500,), "[0, 1]", "none", "CC0", 3
)


@pytest.fixture
def saved(tmp_path: Path, tiny: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    torch.manual_seed(1)
    digest = weights.save(tmp_path / "m.safetensors", ConditionedDiffusion(tiny), CARD)
    line = f'[[model]]\nname = "m"\nfile = "m.safetensors"\nsha256 = "{digest}"\ncontrasts = ["FLAIR"]\n'
    (tmp_path / "registry.toml").write_text(line)
    monkeypatch.setenv("UAD_WEIGHTS_DIR", str(tmp_path))
    return tmp_path / "m.safetensors", digest


def test_round_trip_keeps_model_and_card(saved: tuple[Path, str], tiny: ModelConfig) -> None:
    loaded = weights.load(*saved)
    torch.manual_seed(1)
    for ours, theirs in zip(ConditionedDiffusion(tiny).parameters(), loaded.model.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-3)
    assert loaded.card == CARD
    assert loaded.model.config == tiny
    assert loaded.sha256 == saved[1]


def test_a_changed_byte_is_refused(saved: tuple[Path, str]) -> None:
    path, digest = saved
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="sha256"):
        weights.load(path, digest)


@pytest.mark.parametrize("content", [b"", b"nonsense" * 100])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(WeightsError):
        weights.load(tmp_path / "x.safetensors")


def test_safetensors_of_others_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(3)}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="does not say"):
        weights.load(tmp_path / "x.safetensors")


def test_finding(saved: tuple[Path, str], tmp_path: Path) -> None:
    assert weights.find(None, "FLAIR") == saved
    assert weights.find("m") == saved
    assert weights.find(str(tmp_path)) == (saved[0], None)
    with pytest.raises(WeightsError, match="no model covers T2w") as caught:
        weights.find(None, "T2w")
    assert "FLAIR" in caught.value.hint
    assert caught.value.exit_code == 4
    with pytest.raises(WeightsError, match="no weights 'q'"):
        weights.find("q")


def test_what_comes_along_is_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UAD_WEIGHTS_DIR", raising=False)
    entries = weights.registry()
    assert {c for e in entries for c in e.contrasts} == {"T1w", "T2w", "FLAIR"}
    for entry in entries:
        card = weights.load(weights.folder() / entry.file, entry.sha256).card
        assert set(card.scores) == set(entry.contrasts)
        assert all(contrast in card.thresholds[kind] for contrast, kind in card.scores.items())
        assert all(0 < value < 1 for of_score in card.thresholds.values() for value in of_score.values())
        assert card.licence
        assert card.training_data
        assert (weights.folder() / f"{entry.name}.md").exists()


def test_the_score_network_travels_in_the_same_file(tmp_path: Path, tiny: ModelConfig) -> None:
    settings = SiameseConfig(channels=(8, 16))
    torch.manual_seed(2)
    network = SiameseUNet(settings)
    card = dataclasses.replace(CARD, siamese=to_dict(settings))
    weights.save(tmp_path / "m.safetensors", ConditionedDiffusion(tiny), card, network.state_dict())
    loaded = weights.load(tmp_path / "m.safetensors")
    again = score.siamese_network(loaded)
    for ours, theirs in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-3)
    without = dataclasses.replace(loaded, card=CARD)
    with pytest.raises(WeightsError, match="siamese"):
        score.siamese_network(without)


def test_the_threshold_belongs_to_score_and_contrast(saved: tuple[Path, str]) -> None:
    loaded = weights.load(*saved)
    assert threshold.resolve("calibrated", loaded.card, "bright", "FLAIR").value == 0.2
    for kind, contrast in (("bright", "T1w"), ("absolute", "FLAIR")):
        with pytest.raises(UsageError, match="threshold"):
            threshold.resolve("calibrated", loaded.card, kind, contrast)


def test_float16_keeps_counters_and_large_values(tmp_path: Path) -> None:
    config = ModelConfig(
        unet=UNetConfig(channels=8, multipliers=(1,), blocks=1, head_channels=8, embedding=16),
        encoder=EncoderConfig(blocks=(1,), width=8, condition=16, norm="batch"),
    )
    model = ConditionedDiffusion(config)
    norm = next(m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))
    norm.num_batches_tracked.fill_(100_001)
    norm.running_var.fill_(1e6)
    weights.save(tmp_path / "m.safetensors", model, CARD)
    again = next(
        m for m in weights.load(tmp_path / "m.safetensors").model.modules() if isinstance(m, torch.nn.BatchNorm2d)
    )
    assert int(again.num_batches_tracked) == 100_001
    assert torch.equal(again.running_var, norm.running_var)


@pytest.mark.parametrize("kind", SCORES)
def test_every_score_is_a_map_inside_the_brain(kind: str, tiny: ModelConfig, tmp_path: Path) -> None:
    settings = SiameseConfig(channels=(8, 16))
    card = dataclasses.replace(CARD, siamese=to_dict(settings))
    weights.save(tmp_path / "m.safetensors", ConditionedDiffusion(tiny), card, SiameseUNet(settings).state_dict())
    loaded = weights.load(tmp_path / "m.safetensors")
    mask = np.zeros(GRID_SHAPE, dtype=bool)
    mask[30:66, 30:66, 38:42] = True
    rng = np.random.default_rng(0)
    x = np.where(mask, rng.uniform(0.3, 0.9, GRID_SHAPE), 0).astype(np.float32)
    recon = np.where(mask, rng.uniform(0.3, 0.9, GRID_SHAPE), 0).astype(np.float32)
    config = DetectConfig(scoring=ScoringConfig(erosion=0, median=1))
    result = score.score(loaded, x, recon, mask, kind, config)
    assert result.dtype == np.float32
    assert result.shape == GRID_SHAPE
    assert not result[~mask].any()
    assert result[mask].any()
    assert (result >= 0).all()
    with pytest.raises(UsageError, match="no score"):
        score.score(loaded, x, recon, mask, "none", config)
