"""The power of the learned score in the fusion follows what that score is worth on synthetic lesions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from uadcli.calibration import fit_fusion
from uadcli.calibration.fit_fusion import (
    POWERS,
    Part,
    PastedScan,
    best_shares,
    paste_all,
    precision_by_power,
    precision_by_shares,
    with_best_power,
)
from uadcli.config import DetectConfig
from uadcli.imaging import template
from uadcli.imaging.slices import GRID_AFFINE, GRID_SHAPE
from uadcli.model.model import Model
from uadcli.model.subject import Subject
from uadcli.scoring import healthy_reference
from uadcli.scoring.calibration import healthy_tail, rarity, tails_of_the_others
from uadcli.training.examples import pasted_lesions
from uadcli.training.examples.synthetic import Healthy
from uadcli.weights.card import ModelCard
from uadcli.weights.weights import Weights

SHAPE = (16, 16, 12)


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

    def reconstruct(model: Model, x: np.ndarray, *_: Any) -> np.ndarray:
        state.asked += 1
        return np.where(healthy[0].mask, clean + noise, 0).astype(np.float32)

    def probability(subject: Subject) -> np.ndarray:
        x, mask = subject.x, subject.mask
        right = np.where(state.truth, 0.9, 0.01)
        if state.outside:
            right[:, :, :15] = 1
        kinds = {"right": right, "blind": np.full_like(x, 0.5), "wrong": 1 - right}
        return np.where(mask, kinds[state.learned], 0).astype(np.float32)

    def paste(*arguments: Any) -> Any:
        found = pasted_lesions.paste(*arguments)
        state.truth = found.truth if found else None
        return found

    monkeypatch.setattr(fit_fusion, "paste", paste)
    monkeypatch.setattr(Model, "reconstruct", reconstruct)
    monkeypatch.setattr(Subject, "raw_probability", property(probability))
    return state


def loaded() -> Model:
    card = ModelCard("m", "1", ("T1w",), {"T1w": "siamese"}, {}, "", (500,), "", "", "", fusion_power=0.3)
    return Model(Weights(None, card, Path("m"), ""))  # type: ignore[arg-type]


def by_power(healthy: list[Healthy], shapes: Sequence[Path] = ()) -> dict[float, float]:
    return precision_by_power(paste_all(loaded(), healthy, DetectConfig(), shapes))


@pytest.mark.parametrize("learned", ["right", "blind", "wrong"])
def test_the_fitted_weight_reflects_the_value_of_a_score(
    learned: str, healthy: list[Healthy], world: SimpleNamespace
) -> None:
    world.learned = learned
    found = by_power(healthy)
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


def test_without_pasted_lesions_the_power_is_unchanged(healthy: list[Healthy], world: SimpleNamespace) -> None:
    none = [dataclasses.replace(one, usable=np.array([0])) for one in healthy]
    assert by_power(none) == {}
    assert world.asked == 0
    assert with_best_power(loaded(), {}).card.fusion_power == 0.3


def test_what_the_lesion_could_not_reach_does_not_count(healthy: list[Healthy], world: SimpleNamespace) -> None:
    """Of patients, the slices near the tumour are no healthy ground."""
    pasted = pasted_lesions.paste(healthy[0], np.random.default_rng(3), DetectConfig().preprocess, ())
    assert pasted is not None
    assert pasted.truth.any()
    assert not (pasted.truth & ~pasted.allowed).any()
    assert not pasted.allowed[:, :, :20].any()
    assert not pasted.allowed[:, :, 60:].any()
    plain = by_power(healthy)
    world.outside = True  # where no lesion could lie, the learned score is sure of one
    assert by_power(healthy) == plain


def test_every_second_scan_has_white_matter_disease_where_lesions_are_bright(
    healthy: list[Healthy], world: SimpleNamespace
) -> None:
    asked = []

    def paste_kind(kind: str, brain: Any, *_: Any) -> tuple[np.ndarray, np.ndarray]:
        asked.append(kind)
        world.truth = healthy[0].mask & (np.arange(GRID_SHAPE[2]) == 40)
        return np.where(world.truth, 2, brain.x).astype(np.float32), world.truth

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_fusion, "paste_kind", paste_kind)
        known: Any = "an anatomy"
        for contrast, anatomy, expected in (("FLAIR", known, 2), ("FLAIR", None, 0), ("T1w", known, 0)):
            scans = [dataclasses.replace(one, kind=contrast) for one in healthy]
            patch.setattr(pasted_lesions, "paste_lesions", lambda x, *_: (x + 1, healthy[0].mask))
            asked.clear()
            ill = [dataclasses.replace(one, anatomy=anatomy) for one in scans]
            found = paste_all(loaded(), ill, DetectConfig())
            assert len(asked) == expected
            assert set(asked) <= {"dots", "sheet"}
            assert [float(one.subject.robust_z.max()) > 3 for one in found].count(True) >= expected


def test_given_shapes_are_where_the_lesions_lie(healthy: list[Healthy], world: SimpleNamespace, tmp_path: Path) -> None:
    ball = np.zeros(GRID_SHAPE, dtype=np.uint8)
    ball[40:52, 44:56, 34:46] = 1
    nib.Nifti1Image(ball, GRID_AFFINE).to_filename(tmp_path / "one.nii.gz")
    found = by_power(healthy, [tmp_path / "one.nii.gz"])
    assert tuple(found) == POWERS
    assert world.truth.any()
    assert not (world.truth & (ball == 0)).any()


def pasted(number: int, useful: str, rng: np.random.Generator) -> PastedScan:
    """A scan of noise with a lesion that one of two scores shows, or both."""
    x, learned = (rng.gamma(2, 0.05, SHAPE).astype(np.float32) for _ in range(2))
    mask, truth = np.ones(SHAPE, dtype=bool), np.zeros(SHAPE, dtype=bool)
    truth[4:8, 4:8, 4:8] = True
    x[truth] += 0.15 * (useful in ("intensity", "both"))
    learned[truth] += 0.15 * (useful in ("siamese", "both"))
    subject = Subject(loaded(), x, x, mask, DetectConfig(), "T1w", {"probability": learned})
    return PastedScan(number, subject, truth, mask)


@pytest.mark.parametrize(
    ("useful", "low", "high"), [("siamese", 0.6, 1.0), ("intensity", 0.0, 0.4), ("both", 0.5, 0.5)]
)
def test_shares_of_fisher_reflect_the_value_of_each_part(useful: str, low: float, high: float) -> None:
    rng = np.random.default_rng(5)
    health = [[(rng.gamma(2, 0.05, SHAPE).astype(np.float32), np.ones(SHAPE, dtype=bool)) for _ in "abc"] for _ in "ab"]
    parts = {kind: Part(tails_of_the_others(of)) for kind, of in zip(("siamese", "intensity"), health, strict=True)}
    scans = [pasted(number, useful, rng) for number in (0, 2)]
    found = precision_by_shares(scans, parts)
    assert len(found) == 11
    assert all(sum(shares) == pytest.approx(1) for shares in found)
    best = best_shares(found, (0.5, 0.5))
    assert best is not None
    assert low <= best[0] <= high
    assert found[best] >= 0.9 * max(found.values())
    more_even = [shares for shares in found if abs(shares[0] - 0.5) < abs(best[0] - 0.5)]
    assert all(found[shares] < 0.9 * max(found.values()) for shares in more_even)
    one = scans[1]
    of = one.subject
    values = zip(parts.values(), (of.probability, of.x), strict=True)
    rare = [part.rarity(2, one_map, of.mask) for part, one_map in values]
    alone = precision_by_shares([one], parts)
    assert alone[0.3, 0.7] == pytest.approx(one.precision(0.3 * rare[0] ** 2 + 0.7 * rare[1] ** 2), abs=1e-3)


def test_a_scan_with_a_lesion_is_not_compared_with_itself() -> None:
    rng, mask = np.random.default_rng(6), np.ones(SHAPE, dtype=bool)
    maps = [(scale * rng.gamma(2, 0.05, SHAPE).astype(np.float32), mask) for scale in (1, 1, 9)]
    part = Part(tails_of_the_others(maps), healthy_reference.of_the_others(maps))
    loud = maps[2][0]
    expected = rarity(healthy_reference.z_score(loud, healthy_reference.fit(maps[:2]), mask), healthy_tail(maps[:2]))
    np.testing.assert_allclose(part.rarity(2, loud, mask), expected, atol=1e-4)
    assert part.rarity(2, loud, mask).mean() > part.rarity(0, loud, mask).mean()


def test_a_pasted_scan_has_the_number_of_its_healthy_scan(healthy: list[Healthy], world: SimpleNamespace) -> None:
    full = dataclasses.replace(healthy[0], usable=np.array([0]))  # no room for a lesion
    found = paste_all(loaded(), [full, healthy[0], full, healthy[1]], DetectConfig())
    assert sorted({one.number for one in found}) == [1, 3]
    many = paste_all(loaded(), [*[full] * 30, healthy[0]], DetectConfig())
    assert {one.number for one in many} == {30}
    assert len(many) == 2
    assert len(paste_all(loaded(), healthy[:1] * 5, DetectConfig())) == 35


def test_without_a_pasted_lesion_there_is_nothing_to_fit() -> None:
    assert precision_by_shares([], {"siamese": Part([])}) == {}
    assert best_shares({}, (0.5, 0.5)) is None


def test_the_usual_shares_stay_unless_synthetic_lesions_are_clearly_against_them() -> None:
    found = {(0.2, 0.8): 0.37, (0.5, 0.5): 0.4, (0.8, 0.2): 0.38, (1.0, 0.0): 0.1}
    assert best_shares(found, (0.2, 0.8)) == (0.2, 0.8)
    assert best_shares(found, (0.1, 0.9)) == (0.2, 0.8)
    assert best_shares(found, (1.0, 0.0)) == (0.8, 0.2)
