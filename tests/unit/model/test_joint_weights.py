"""Weights of joined contrasts, fitted by `packaging/evaluation/fit_joint.py`."""

from __future__ import annotations

import argparse

import joint_weights
import numpy as np
import pytest
from joint_weights import Shown

from uadcli.model import joint
from uadcli.model.joint import Evidence
from uadcli.scoring.metrics import average_precision

SIZE, CONTRASTS = 4000, ("FLAIR", "T1w", "T2w")


def case(subject: str, seed: int, strong: str) -> Shown:
    """A lesion that one of three contrasts shows; the others have the rarities of healthy voxels everywhere."""
    rng = np.random.default_rng(seed)
    truth = np.arange(SIZE) < 200
    rare = {name: -np.log10(rng.uniform(size=SIZE)).astype(np.float32) for name in CONTRASTS}
    rare[strong] = rare[strong] + 2 * truth.astype(np.float32)
    return Shown(subject, "mass", rare, truth)


def test_weights_add_up_to_one_and_give_each_contrast_something() -> None:
    for size, count in ((2, 19), (3, 171)):
        tried = np.array(joint_weights.grid(size))
        assert tried.shape == (count, size) == np.unique(tried, axis=0).shape
        assert np.allclose(tried.sum(axis=1), 1)
        assert tried.min() == pytest.approx(0.05)


@pytest.mark.parametrize("shipped", sorted(map(sorted, joint.WEIGHTS)))
def test_the_shipped_weights_are_among_those_tried(shipped: list[str]) -> None:
    weights = joint.weights_of(shipped)
    assert any(np.allclose(one, list(weights.values())) for one in joint_weights.grid(len(shipped)))


def test_the_figure_of_a_case_is_that_of_the_joined_evidence() -> None:
    one, inside = case("a", 0, "FLAIR"), np.ones(SIZE, bool)
    weights = {"FLAIR": 0.7, "T1w": 0.3}
    together = joint.joined([Evidence(c, one.rare[c], inside) for c in weights], inside, {frozenset(weights): weights})
    assert one.auprc(weights) == pytest.approx(average_precision(together, one.truth))


def test_the_contrast_that_shows_the_lesions_gets_the_largest_weight() -> None:
    for strong in CONTRASTS:
        cells = joint_weights.row(CONTRASTS, [case(str(i), i, strong) for i in range(4)]).split("|")
        weights = dict(zip(CONTRASTS, map(float, cells[2].split(",")), strict=True))
        assert max(weights, key=lambda name: weights[name]) == strong
        assert weights[strong] >= 0.8


def test_cross_fitted_weights_never_come_from_the_same_brain() -> None:
    figures = np.array([[0.9, 0.8, 0.1, 0.1], [0.2, 0.2, 0.3, 0.2]])  # two weights, four cases of two brains
    fitted = joint_weights.cross_fitted(figures, ["a", "a", "b", "b"])
    assert fitted.tolist() == [0.2, 0.2, 0.1, 0.1]  # those of "a" are best for "b", and the other way round


def test_other_weights_are_given_by_contrast() -> None:
    assert joint_weights.parsed("FLAIR=0.8,T1w=0.2") == {"FLAIR": 0.8, "T1w": 0.2}
    for wrong in ("FLAIR", "FLAIR=a", "PD=1", "FLAIR=-1,T1w=2", "FLAIR=0"):
        with pytest.raises(argparse.ArgumentTypeError):
            joint_weights.parsed(wrong)
