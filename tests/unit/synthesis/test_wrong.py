"""Wrong inputs: each way spoils a brain, and stays in its mask."""

from __future__ import annotations

import numpy as np
import pytest

from uadcli.synthesis import wrong as ways


@pytest.mark.parametrize("way", ways.WAYS, ids=lambda way: way.__name__)
def test_each_way_changes_much_of_the_brain(way: object, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (48, 56, 40)), indexing="ij")
    mask = x**2 + y**2 + z**2 < 0.8
    brain = np.where(mask, 0.5 + 0.3 * np.sin(9 * x) * np.cos(7 * y), 0).astype(np.float32)
    monkeypatch.setattr(ways, "WAYS", (way,))
    spoilt = ways.wrong(brain, mask, np.random.default_rng(1))
    assert spoilt.shape == brain.shape
    assert spoilt.dtype == np.float32
    assert spoilt.min() >= 0
    assert not spoilt[~mask].any()
    assert (np.abs(spoilt - brain)[mask] > 0.05).mean() > 0.2
    assert np.array_equal(spoilt, ways.wrong(brain, mask, np.random.default_rng(1)))
