"""The power of the learned score in the fusion follows what that score is worth on synthetic lesions."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from uadcli.config import DetectConfig
from uadcli.imaging import template
from uadcli.imaging.slices import GRID_AFFINE, GRID_SHAPE
from uadcli.reconstruction.weights import ModelCard
from uadcli.run import fit_fusion, lesion_set
from uadcli.run.examples import Healthy
from uadcli.run.fit_fusion import POWERS, precision_by_power, with_best_power


@pytest.fixture
def healthy() -> list[Healthy]:
    mask = template.on_grid("mni_brain_mask") > 0
    head = template.on_grid("mni_head_T1w", 1)
    data = np.where(mask, head / head[mask].max(), 0).astype(np.float32)
    return [Healthy(data, mask, np.arange(20, 60), "T1w") for _ in range(2)]


@pytest.fixture
def world(healthy: list[Healthy], monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A reconstruction that errs everywhere, and a learned score that is right, blind or wrong."""
    state = SimpleNamespace(learned="right", asked=0, outside=False)
    clean, noise = healthy[0].data, np.random.default_rng(1).normal(0, 0.15, GRID_SHAPE)

    def reconstruct(loaded: Any, x: np.ndarray, *_: Any) -> np.ndarray:
        state.asked += 1
        return np.where(healthy[0].mask, clean + noise, 0).astype(np.float32)

    def learned_score(loaded: Any, x: np.ndarray, recon: np.ndarray, mask: np.ndarray, config: Any) -> np.ndarray:
        right = np.where(state.truth, 0.9, 0.01)
        if state.outside:
            right[:, :, :15] = 1
        kinds = {"right": right, "blind": np.full_like(x, 0.5), "wrong": 1 - right}
        return np.where(mask, kinds[state.learned], 0).astype(np.float32)

    def paste(*arguments: Any) -> Any:
        found = lesion_set.paste(*arguments)
        state.truth = found.truth if found else None
        return found

    monkeypatch.setattr(fit_fusion, "paste", paste)
    monkeypatch.setattr(fit_fusion, "reconstruct", reconstruct)
    monkeypatch.setattr(fit_fusion, "learned_score", learned_score)
    return state


def loaded() -> Any:
    card = ModelCard("m", "1", ("T1w",), {"T1w": "siamese"}, {}, "", (500,), "", "", "", fusion_power=0.3)
    return dataclasses.make_dataclass("Loaded", [("card", ModelCard)], frozen=True)(card)


@pytest.mark.parametrize("learned", ["right", "blind", "wrong"])
def test_a_score_weighs_what_it_is_worth(learned: str, healthy: list[Healthy], world: SimpleNamespace) -> None:
    world.learned = learned
    found = precision_by_power(loaded(), healthy, DetectConfig())
    assert tuple(found) == POWERS
    assert world.asked == 4  # two lesions for each scan, reconstructed once for all powers
    power = with_best_power(loaded(), found).card.fusion_power
    if learned == "right":
        assert found[power] > found[0.0] + 0.1
        assert found[power] >= 0.98 * max(found.values())
        assert all(value < 0.98 * max(found.values()) for a, value in found.items() if a < power)
    elif learned == "wrong":
        assert power == 0.0
    else:
        assert max(found.values()) - min(found.values()) < 1e-3
        assert power == 0.0  # of like ones the smallest


def test_without_room_for_a_lesion_the_power_stays(healthy: list[Healthy], world: SimpleNamespace) -> None:
    none = [dataclasses.replace(one, usable=np.array([0])) for one in healthy]
    assert precision_by_power(loaded(), none, DetectConfig()) == {}
    assert world.asked == 0
    assert with_best_power(loaded(), {}).card.fusion_power == 0.3


def test_what_the_lesion_could_not_reach_does_not_count(healthy: list[Healthy], world: SimpleNamespace) -> None:
    """Of patients, the slices near the tumour are no healthy ground."""
    pasted = lesion_set.paste(healthy[0], np.random.default_rng(3), DetectConfig().preprocess, ())
    assert pasted is not None
    assert pasted.truth.any()
    assert not (pasted.truth & ~pasted.allowed).any()
    assert not pasted.allowed[:, :, :20].any()
    assert not pasted.allowed[:, :, 60:].any()
    plain = precision_by_power(loaded(), healthy, DetectConfig())
    world.outside = True  # where no lesion could lie, the learned score is sure of one
    assert precision_by_power(loaded(), healthy, DetectConfig()) == plain


def test_given_shapes_are_where_the_lesions_lie(healthy: list[Healthy], world: SimpleNamespace, tmp_path: Path) -> None:
    ball = np.zeros(GRID_SHAPE, dtype=np.uint8)
    ball[40:52, 44:56, 34:46] = 1
    nib.Nifti1Image(ball, GRID_AFFINE).to_filename(tmp_path / "one.nii.gz")
    found = precision_by_power(loaded(), healthy, DetectConfig(), [tmp_path / "one.nii.gz"])
    assert tuple(found) == POWERS
    assert world.truth.any()
    assert not (world.truth & (ball == 0)).any()
