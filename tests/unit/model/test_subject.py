"""One scan on the model's grid: a change of it reaches all of its intensities."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from uadcli.config import DetectConfig, ReconstructionConfig
from uadcli.errors import UsageError
from uadcli.imaging import intensity
from uadcli.imaging.slices import GRID_SHAPE
from uadcli.model.model import Model
from uadcli.model.subject import Subject

MASK = np.ones((6, 6, 4), bool)


class Copies:
    """A model that reconstructs every scan as it is."""

    def reconstruct(self, x: np.ndarray, *_: Any) -> np.ndarray:
        return x


def test_a_change_moves_unclipped_intensities_as_far_as_scaled_ones() -> None:
    rng = np.random.default_rng(0)
    linear = rng.uniform(-0.3, 1.4, MASK.shape).astype(np.float32)  # a third of it clipped
    x, before = np.clip(linear, 0, 1), 5 * linear - 2
    change = rng.choice((-0.02, 0.02), MASK.shape).astype(np.float32)
    moved = Subject(cast("Model", Copies()), x, x, MASK, DetectConfig(), "FLAIR", unclipped=before).changed(change)
    assert moved.unclipped == pytest.approx(before + 5 * change, abs=1e-4)
    assert moved.x == pytest.approx(np.clip(x + change, 0, 1))
    assert moved.recon is moved.x


class Seeing(Copies):
    """A model whose score network notes the brightest voxel it is shown."""

    device = "cpu"
    card = SimpleNamespace(along_slices=0.0, guide_radius=0)

    def __init__(self, headroom: bool) -> None:
        self.score_network = SimpleNamespace(config=SimpleNamespace(headroom=headroom))


@pytest.mark.parametrize(("headroom", "brightest"), [(True, 1.8), (False, 1.0)])
def test_a_score_network_with_headroom_sees_what_is_clipped(
    monkeypatch: pytest.MonkeyPatch, headroom: bool, brightest: float
) -> None:
    """A lesion twice as far above the upper percentile as tissue is wide lies at 1.8, and without headroom at 1."""
    shown = list[np.ndarray]()
    monkeypatch.setattr("uadcli.scoring.siamese.siamese_score", lambda _, x, *__: shown.append(x) or np.zeros_like(x))
    unclipped = np.random.default_rng(0).uniform(0, 1, GRID_SHAPE).astype(np.float32)
    unclipped[40, 40, 40] = 3.0
    mask, config = np.ones(GRID_SHAPE, bool), DetectConfig()
    x = intensity.scale(unclipped, mask, config.preprocess)
    subject = Subject(cast("Model", Seeing(headroom)), x, x, mask, config, "FLAIR", unclipped=unclipped)
    assert subject.raw_probability.shape == GRID_SHAPE
    (seen,) = shown
    assert float(seen.max()) == pytest.approx(brightest, abs=0.01)
    assert np.sort(seen.ravel())[-2] < 1.03
    if headroom:
        with pytest.raises(UsageError, match="unclipped"):
            _ = dataclasses.replace(subject, unclipped=None).raw_probability


def test_the_learned_score_follows_the_scan_if_the_card_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    ball = np.linalg.norm(np.indices(GRID_SHAPE) - np.array([[[[48]]], [[[48]]], [[[40]]]]), axis=0)
    blurred = np.clip(1 - ball / 16, 0, 1).astype(np.float32)
    unclipped = (np.where(ball < 8, 4, 0) + np.random.default_rng(0).normal(0, 1, GRID_SHAPE)).astype(np.float32)
    monkeypatch.setattr(Subject, "raw_probability", property(lambda _: blurred))
    mask, model = np.ones(GRID_SHAPE, bool), Seeing(headroom=False)
    plain = Subject(cast("Model", model), blurred, blurred, mask, DetectConfig(), "FLAIR", unclipped=unclipped)
    assert np.array_equal(plain.probability, blurred)
    model.card = SimpleNamespace(along_slices=0.0, guide_radius=4)
    guided = dataclasses.replace(plain, kept={})
    step = [
        float(one[(ball > 7) & (ball < 8)].mean() - one[(ball > 8) & (ball < 9)].mean())
        for one in (blurred, guided.probability)
    ]
    assert step[1] > 2 * step[0]
    with pytest.raises(UsageError, match="unclipped"):
        _ = dataclasses.replace(plain, kept={}, unclipped=None).probability


def test_draws_differ_by_ten_seeds_at_one_level(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[tuple[int, tuple[int, ...]]]()

    def reconstruct(_: Model, x: np.ndarray, __: np.ndarray, config: ReconstructionConfig) -> np.ndarray:
        asked.append((config.seed, config.levels))
        return x + config.seed

    monkeypatch.setattr(Model, "method", lambda *_: SimpleNamespace(draws=True))
    monkeypatch.setattr(Model, "reconstruct", reconstruct)
    found = Model(cast("Any", None)).draws(np.zeros(MASK.shape, np.float32), MASK, ReconstructionConfig(seed=7))
    assert asked == [(seed, (500,)) for seed in range(7, 17)]
    assert found[:, 0, 0, 0].tolist() == list(range(7, 17))
