"""What `uad export` makes the default score of a model."""

from __future__ import annotations

import dataclasses

import pytest

from uadcli.calibration.export import default_score
from uadcli.scoring.fusion import ENOUGH
from uadcli.weights.card import ModelCard

CARD = ModelCard("lab", "1", ("T1w",), {"T1w": "siamese"}, {}, "", (500,), "", "", "")


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
