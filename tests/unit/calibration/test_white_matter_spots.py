"""Synthetic white-matter disease: small, many, bright, in white matter and nowhere else."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from uadcli.calibration.white_matter_spots import COUNT, paste_spots
from uadcli.imaging import template
from uadcli.imaging.slices import GRID_SHAPE

MASK = template.on_grid("mni_brain_mask") > 0
WHITE = template.on_grid("mni_tissue_dseg") == 3


def brain() -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, 0.03, GRID_SHAPE)
    return np.where(MASK, 0.5 + 0.1 * ~WHITE + noise, 0).astype(np.float32)


def test_they_are_brighter_than_white_matter_and_change_nothing_else() -> None:
    x = brain()
    for seed in range(5):
        made, truth = paste_spots(x, MASK, MASK, np.random.default_rng(seed))
        assert truth.any()
        assert (made[truth & WHITE] > x[truth & WHITE]).mean() > 0.8
        assert not truth[~MASK].any()
        far = ndimage.binary_dilation(truth, iterations=2)
        np.testing.assert_array_equal(made[~far], x[~far])


def test_they_are_many_small_and_in_white_matter() -> None:
    sizes, counts, inside = list[int](), list[int](), list[float]()
    for seed in range(8):
        _, truth = paste_spots(brain(), MASK, MASK, np.random.default_rng(seed))
        labels, count = ndimage.label(truth)
        counts.append(count)
        sizes += np.bincount(labels.ravel())[1:].tolist()
        inside.append(float(WHITE[ndimage.binary_dilation(truth) & MASK].mean()))
    assert max(counts) <= COUNT[1]
    assert np.mean(counts) > 5
    assert np.median(sizes) < 40
    assert np.mean(inside) > 0.5


def test_without_room_there_are_none() -> None:
    x = brain()
    made, truth = paste_spots(x, MASK, np.zeros_like(MASK), np.random.default_rng(0))
    assert made is x
    assert not truth.any()
