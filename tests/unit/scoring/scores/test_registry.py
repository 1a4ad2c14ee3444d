"""A score is one record in one place: what is registered is listed, computed, calibrated, cited and documented."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

from uadcli.calibration import health
from uadcli.config import DetectConfig
from uadcli.errors import UsageError
from uadcli.model.model import Model
from uadcli.model.subject import Subject
from uadcli.report.citation import BIBTEX
from uadcli.scoring import scores
from uadcli.scoring.scores import Evidence, Score


@pytest.fixture
def made_up() -> Iterator[Score]:
    """A score that squares the intensities, registered for the time of a test."""

    def compute(evidence: Evidence) -> np.ndarray:
        return np.where(evidence.mask, evidence.x**2, 0).astype(np.float32)

    before = dict(scores.BY_NAME)
    score = Score("made-up", "brightness squared", compute, ("wang2004image",), aliases=("invented",))
    scores.register(score)
    yield score
    scores.BY_NAME.clear()
    scores.BY_NAME.update(before)


def test_a_registered_score_is_listed_computed_and_calibrated(made_up: Score) -> None:
    assert "made-up" in scores.plain()
    assert {"made-up", "z-made-up"} <= set(scores.names()) & set(health.calibrated())
    assert scores.aliases()["invented"] == "made-up"
    x = np.linspace(0, 1, 27, dtype=np.float32).reshape(3, 3, 3)
    card = SimpleNamespace(reference_erosion=3, without_shading=False)
    model = Model(SimpleNamespace(card=card))  # type: ignore[arg-type]
    subject = Subject(model, x, x, x > 0.5, DetectConfig(), "T1w")
    np.testing.assert_allclose(subject.score("made-up"), np.where(x > 0.5, x**2, 0))
    np.testing.assert_allclose(subject.raw("z-made-up"), subject.score("made-up"))


def test_every_score_names_works_that_are_known() -> None:
    for score in scores.BY_NAME.values():
        assert all(f"{{{key}," in BIBTEX for key in score.cites)
        assert score.title


def test_every_plain_score_has_a_version_normalised_to_healthy_scans() -> None:
    for name in scores.plain():
        plain, deviation = scores.find(name), scores.find(scores.Z + name)
        assert deviation.normalised
        assert (deviation.cites, deviation.own_scale, deviation.spread) == (plain.cites, plain.own_scale, plain.spread)
        assert scores.base_of(deviation.name) == name
    assert scores.joined() == ("fisher",)


def test_an_unknown_score_is_named() -> None:
    with pytest.raises(UsageError, match=r"unknown score 'fischer'.*fisher"):
        scores.find("fischer")
