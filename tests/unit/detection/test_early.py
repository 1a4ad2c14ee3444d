"""Before a scan is prepared its model is checked, and none is downloaded that may be the wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hub import Hub
from models import export

from uadcli.config import DetectConfig, ModelConfig
from uadcli.console import Reporter
from uadcli.data.contrast import FoundContrast
from uadcli.detection.examined import check_early
from uadcli.detection.options import DetectOptions
from uadcli.detection.session import Session
from uadcli.errors import WeightsError
from uadcli.weights import hub as hubs
from uadcli.weights import manage, registry, weights


@pytest.fixture
def slim(hub: Hub, tmp_path: Path, tiny: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> list[registry.Entry]:
    """A weights folder that only says where two models are on the Hub, the one for FLAIR first."""
    entries = []
    for seed, contrast in enumerate(("FLAIR", "T1w")):
        folder = export(tmp_path / f"tiny-{contrast}", tiny, seed=seed, contrast=contrast)
        found = hubs.parse(manage.push(folder, f"lab/{contrast}", False, None, Reporter(silent=True)))
        (entry,) = registry.read(folder)
        entries.append(registry.Entry(**vars(entry) | {"repo": found.repo, "commit": found.commit}))
    registry.write(tmp_path, *entries)
    monkeypatch.setenv("UAD_WEIGHTS_DIR", str(tmp_path))
    hub.requests.clear()
    return entries


SESSION = Session(DetectConfig(), DetectOptions(), "cpu")


def test_nothing_is_downloaded_before_the_contrast_is_known(slim: list[registry.Entry], hub: Hub) -> None:
    assert check_early(None, SESSION) is None
    assert hub.requests == []
    card = check_early(FoundContrast("T1w", "image"), SESSION)
    assert card is not None
    assert card.contrasts == ("T1w",)
    assert [hub.fetched(f"tiny-{name}.safetensors") for name in ("FLAIR", "T1w")] == [0, 1]


def test_meanwhile_the_card_is_that_of_a_model_that_is_here(slim: list[registry.Entry], hub: Hub) -> None:
    weights.find(None, "T1w")
    hub.requests.clear()
    card = check_early(None, SESSION)
    assert card is not None
    assert card.contrasts == ("T1w",)
    assert hub.requests == []


def test_without_network_and_models_it_fails_at_once(
    slim: list[registry.Entry], hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError, match="uad weights download hf://lab/FLAIR@"):
        check_early(None, SESSION)
    assert hub.requests == []


def test_a_missing_bundled_model_is_reported_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.write(tmp_path, registry.Entry("gone", "gone.safetensors", "0" * 64, ("FLAIR",)))
    monkeypatch.setenv("UAD_WEIGHTS_DIR", str(tmp_path))
    with pytest.raises(WeightsError, match=r"gone\.safetensors"):
        check_early(None, SESSION)
