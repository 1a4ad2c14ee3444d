"""Synthetic lesions and synthetic contrasts: the truth is exact, the rest is healthy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from uadcli.synthesis.brains import CORTEX, CSF, WHITE, brain_of, from_labels, tissue_intensities
from uadcli.synthesis.lesions import VISIBLE, degrade, paste_lesions, smooth_noise


def brain() -> tuple[np.ndarray, np.ndarray]:
    x, y, z = np.indices((60, 70, 50))
    distance = ((x - 30) / 26) ** 2 + ((y - 35) / 31) ** 2 + ((z - 25) / 21) ** 2
    mask = distance < 1
    return np.where(mask, np.where(distance < 0.6, 0.7, 0.5), 0).astype(np.float32), mask


@pytest.mark.parametrize("kind", ["T1w", "T2w", "FLAIR"])
def test_lesions_are_inside_the_brain_and_visible(kind: str) -> None:
    x, mask = brain()
    sizes, darkest, brightest = [], 0.0, 0.0
    for seed in range(24):
        pasted, truth = paste_lesions(x, mask, kind, np.random.default_rng(seed))
        change = pasted - x
        assert not change[~mask].any()
        assert not truth[~mask].any()
        assert not truth.any() or np.median(np.abs(change[truth])) > 0.8 * VISIBLE
        far = ndimage.distance_transform_edt(~truth) > 45 if truth.any() else np.zeros_like(mask)
        assert not (np.abs(change[far]) > 0.5).any()
        assert np.isfinite(pasted).all()
        sizes.append(int(truth.sum()))
        if truth.any():
            darkest, brightest = min(darkest, change[truth].min()), max(brightest, change[truth].max())
    assert 0 in sizes
    assert max(sizes) > 20 * np.quantile(sizes, 0.25) > 0
    assert darkest < -0.1
    assert brightest > 0.1


def test_lesions_are_the_same_for_the_same_seed_and_begin_where_they_may() -> None:
    x, mask = brain()
    allowed = np.zeros_like(mask)
    allowed[:, :, 20:24] = True
    for seed in range(12):
        one, truth = paste_lesions(x, mask, "FLAIR", np.random.default_rng(seed), allowed)
        two, _ = paste_lesions(x, mask, "FLAIR", np.random.default_rng(seed), allowed)
        assert np.array_equal(one, two)
        assert not truth.any() or truth[:, :, 15:30].any()
    nothing, truth = paste_lesions(x, mask, "FLAIR", np.random.default_rng(1), np.zeros_like(mask))
    assert nothing is x
    assert not truth.any()


def test_degrading_keeps_the_order_of_tissues_and_only_shrinks_the_mask() -> None:
    x, mask = brain()
    inner, outer = mask & (x > 0.6), mask & (x < 0.6)
    shrunk = 0
    for seed in range(12):
        worse, smaller = degrade(x, mask, np.random.default_rng(seed))
        assert not (smaller & ~mask).any()
        assert smaller.sum() > 0.6 * mask.sum()
        assert not worse[~smaller].any()
        assert np.median(worse[inner & smaller]) > np.median(worse[outer & smaller])
        shrunk += int(smaller.sum() < mask.sum())
    assert 0 < shrunk < 12


def test_noise_has_the_scale_that_was_asked_for() -> None:
    rough, smooth = (smooth_noise((40, 40, 40), cell, np.random.default_rng(0)) for cell in (2, 15))
    for field in (rough, smooth):
        assert abs(field.std() - 1) < 0.05
    assert np.abs(np.diff(rough, axis=0)).mean() > 3 * np.abs(np.diff(smooth, axis=0)).mean()


@pytest.mark.parametrize(
    ("kind", "order"),
    [("T1w", (CSF, CORTEX, WHITE)), ("T2w", (WHITE, CORTEX, CSF)), ("FLAIR", (CSF, WHITE, CORTEX))],
)
def test_tissues_have_their_physical_order(kind: str, order: tuple[int, int, int]) -> None:
    for seed in range(50):
        means = tissue_intensities(kind, np.random.default_rng(seed))
        assert means[order[0]] < means[order[1]] <= means[order[2]]


def test_a_label_map_becomes_a_brain_at_half_the_resolution() -> None:
    labels = np.zeros((60, 60, 60), dtype=np.int16)
    labels[10:50, 10:50, 10:50] = 3
    labels[18:42, 18:42, 18:42] = 2
    labels[26:34, 26:34, 26:34] = 4
    labels[:5] = 515  # outside the brain
    image = from_labels(labels, "T2w", np.random.default_rng(0))
    assert image.shape == (30, 30, 30)
    assert image[15, 15, 15] > image[7, 15, 15] > image[11, 15, 15] > 0
    assert not image[:2].any()
    assert not brain_of(labels)[:5].any()
