"""One scan on the model's grid: a change of it reaches all of its intensities."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from uadcli.config import DetectConfig
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
    x, z = np.clip(linear, 0, 1), 5 * linear - 2
    change = rng.choice((-0.02, 0.02), MASK.shape).astype(np.float32)
    moved = Subject(cast("Model", Copies()), x, x, MASK, DetectConfig(), "FLAIR", z=z).changed(change)
    assert moved.z == pytest.approx(z + 5 * change, abs=1e-4)
    assert moved.x == pytest.approx(np.clip(x + change, 0, 1))
    assert moved.recon is moved.x
