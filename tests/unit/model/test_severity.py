"""The severity axis grows with lesions pasted into brains that it was not fitted to, and ignores how brains differ."""

from __future__ import annotations

import numpy as np
import pytest
import severity_lesions
from severity import Axis, Change, fit, leave_one_out
from severity_lesions import STEPS, changes_of

from uadcli.config import DetectConfig
from uadcli.imaging import template
from uadcli.scoring.out_of_distribution import Gate
from uadcli.training.examples.synthetic import Healthy

D, SLICES = 6, 20
GATE = Gate(np.zeros((SLICES, D), np.float32), np.eye(D, dtype=np.float32), 1.0)
LESION = np.array([0, 0, 1.0, 0, 0, 0])


def changes(brains: int = 4) -> list[Change]:
    """Lesions of three loads in each brain move its slices along one direction, with noise."""
    rng = np.random.default_rng(0)
    found = []
    for brain in range(brains):
        for step in STEPS:
            load = step * rng.uniform(0, 2, SLICES)
            found.append(Change(brain, load[:, None] * LESION + rng.normal(0, 0.05, (SLICES, D)), load))
    return found


def test_the_axis_is_the_direction_of_the_lesions_and_estimates_their_load() -> None:
    axis = fit(changes(), GATE)
    assert axis.direction @ LESION / np.linalg.norm(axis.direction) > 0.99
    index = np.arange(SLICES)
    assert axis.of_scan((np.tile(LESION, (SLICES, 1)), index)) == pytest.approx(1, abs=0.15)
    assert axis.of_scan((np.zeros((SLICES, D)), index)) == 0


def test_the_severity_of_a_brain_left_out_grows_with_its_lesions() -> None:
    every = changes()
    for brain, axis in leave_one_out(every, GATE).items():
        own = [axis.of_change(one) for one in every if one.brain == brain]
        assert 0 < own[0] < own[1] < own[2]


def test_a_brain_has_no_part_in_its_own_axis() -> None:
    every = changes()
    other = [Change(0, -one.difference, one.load) if one.brain == 0 else one for one in every]
    known, changed = leave_one_out(every, GATE), leave_one_out(other, GATE)
    assert np.array_equal(known[0].direction, changed[0].direction)
    assert not np.array_equal(known[1].direction, changed[1].direction)


def test_a_direction_in_which_healthy_brains_differ_has_less_weight() -> None:
    both = LESION + np.eye(D)[0]
    moved = [Change(one.brain, one.load[:, None] * both, one.load) for one in changes()]
    wide = Gate(
        GATE.mean, np.diag([0.1, 1, 1, 1, 1, 1]), 1.0
    )  # healthy slices differ ten times as much along the first
    assert fit(moved, GATE).direction[0] == pytest.approx(fit(moved, GATE).direction[2])
    assert fit(moved, wide).direction[0] < 0.1 * fit(moved, wide).direction[2]


def test_slices_without_healthy_mean_are_unknown() -> None:
    mean = GATE.mean.copy()
    mean[:8] = np.nan
    vectors = np.tile(LESION, (SLICES, 1))
    axis = Axis(mean, LESION)
    assert axis.of_scan((vectors, np.arange(SLICES))) == 1
    assert axis.of_scan((vectors[:10], np.arange(10))) is None
    assert axis.of_scan((vectors[:0], np.arange(0))) is None


def test_nothing_pasted_is_no_axis() -> None:
    with pytest.raises(ValueError, match="no change"):
        fit([], GATE)


def test_lesions_are_pasted_with_growing_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder is replaced by the mean of each slice: enough to see which scan it was given."""
    monkeypatch.setattr(severity_lesions, "vectors", lambda _, x, slices: x[:, :, slices].mean(axis=(0, 1))[:, None])
    monkeypatch.setattr(severity_lesions, "LESIONS", 2)
    mask = template.on_grid("mni_brain_mask") > 0
    head = template.on_grid("mni_head_T1w", 1)
    data = np.where(mask, head / head[mask].max(), 0).astype(np.float32)
    healthy = [Healthy(data, mask, np.arange(20, 60), "T1w") for _ in range(2)]
    found = changes_of(None, healthy, DetectConfig().preprocess)  # type: ignore[arg-type]
    assert [one.brain for one in found] == [0] * 3 + [1] * 3
    for first in (0, 3):
        loads = [one.load.sum() for one in found[first : first + 3]]
        assert loads == pytest.approx([step * loads[-1] for step in STEPS], rel=1e-3)
        assert loads[0] > 0
        assert {len(one.load) for one in found} == {40}
    assert not np.array_equal(found[2].load, found[5].load)
