"""How much maps move: figures with known answers, and none where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from uadcli.errors import InputError
from uadcli.scoring.stability import compare, uncertainty

BRAIN = np.ones((4, 4, 4), bool)


def draw(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((4, 4, 4)).astype(np.float32)


def test_uncertainty_is_the_standard_deviation_of_a_sample() -> None:
    maps = [draw(i) for i in range(5)]
    spread = uncertainty(maps)
    assert spread.dtype == np.float32
    assert spread[1, 2, 3] == pytest.approx(np.std([m[1, 2, 3] for m in maps], ddof=1), rel=1e-5)
    assert not uncertainty([maps[0], maps[0]]).any()
    with pytest.raises(InputError):
        uncertainty(maps[:1])


def test_equal_maps_do_not_move() -> None:
    one = draw(0)
    found = compare([one] * 3, [one > 0.5] * 3, BRAIN, [2.0] * 3, [4] * 3)
    assert (found.draws, found.dice_mean, found.dice_min) == (3, 1.0, 1.0)
    assert found.correlation_min == pytest.approx(1)
    assert (found.volume_ml, found.components) == ((2.0, 2.0), (4, 4))


def test_figures_by_hand() -> None:
    a, b = np.zeros((4, 4, 4), bool), np.zeros((4, 4, 4), bool)
    a[0], b[0, :2] = True, True  # 16 and 8 voxels, 8 in common
    empty = np.zeros_like(a)
    maps = [draw(0), draw(0) * 2 + 1, -draw(0)]
    found = compare(maps, [a, b, empty], BRAIN, [1.0, 0.5, 0.0], [1, 1, 0])
    assert found.dice_mean == pytest.approx(np.mean([16 / 24, 0, 0]))
    assert found.dice_min == 0
    assert found.correlation_mean == pytest.approx(np.mean([1, -1, -1]), abs=1e-5)
    assert (found.volume_ml, found.components) == ((0.0, 1.0), (0, 1))


def test_nothing_found_twice_has_no_dice_and_a_flat_map_no_correlation() -> None:
    flat, empty = np.zeros((4, 4, 4), np.float32), np.zeros((4, 4, 4), bool)
    found = compare([flat, flat], [empty, empty], BRAIN, [0.0, 0.0], [0, 0])
    assert (found.dice_mean, found.dice_min) == (None, None)
    assert (found.correlation_mean, found.correlation_min) == (None, None)
    with pytest.raises(InputError):
        compare([flat], [empty], BRAIN, [0.0], [0])
