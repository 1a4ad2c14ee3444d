"""Weight files: verified, self-describing, and refused where they are not what they should be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from uadcli.config import ModelConfig
from uadcli.errors import WeightsError
from uadcli.reconstruction import weights
from uadcli.reconstruction.model import ConditionedDiffusion
from uadcli.reconstruction.weights import ModelCard

CARD = ModelCard("m", "1", ("FLAIR",), {"FLAIR": "bright"}, {"FLAIR": 0.2}, "rule", (500,), "[0, 1]", "none", "CC0", 3)


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
        assert set(card.thresholds) == set(card.scores) == set(entry.contrasts)
        assert all(0 < value < 1 for value in card.thresholds.values())
        assert card.licence
        assert card.training_data
        assert (weights.folder() / f"{entry.name}.md").exists()
