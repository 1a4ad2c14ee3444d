"""Scaling by normal tissue: order is kept, increasing lines change nothing, lesions hardly move what is normal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uadcli.config import PreprocessConfig
from uadcli.errors import InputError, UsageError
from uadcli.imaging import template
from uadcli.imaging.intensity import HALFWAY, KNEE, MIDDLE, compressed, headroom, linear, scale, tissue_levels

TISSUE, PERCENTILE = PreprocessConfig(scaling="tissue"), PreprocessConfig(scaling="percentile")
LEVELS = {"T1w": (30.0, 110.0, 160.0), "T2w": (400.0, 130.0, 80.0), "FLAIR": (25.0, 130.0, 110.0)}  # CSF, GM, WM
LESION_ML, MOST_MOVED = 150, 0.03


def brain(contrast: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The template's tissues with the intensities of a contrast, and the brain mask."""
    tissue = template.on_grid("mni_tissue_dseg").astype(int)
    noise = np.random.default_rng(seed).normal(0, 6, tissue.shape)
    values = np.array([0.0, *LEVELS[contrast]])[tissue] + noise
    return values.astype(np.float32), tissue > 0


def white_matter(data: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return mask & (template.on_grid("mni_tissue_dseg") == 3)


def with_lesion(data: np.ndarray, mask: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """150 ml of white matter, the most frontal, times a factor; the lesion as well."""
    places = np.argwhere(white_matter(data, mask))
    chosen = places[np.argsort(-places[:, 1], kind="stable")[: int(LESION_ML / 8e-3)]]
    lesion = np.zeros_like(mask)
    lesion[tuple(chosen.T)] = True
    return np.where(lesion, data * factor, data).astype(np.float32), lesion


@pytest.mark.parametrize("contrast", LEVELS)
def test_normal_tissue_lies_about_the_middle_in_every_contrast(contrast: str) -> None:
    data, mask = brain(contrast)
    x, tissue = scale(data, mask, TISSUE), template.on_grid("mni_tissue_dseg")
    grey, white = (float(np.median(x[tissue == label])) for label in (2, 3))
    assert (grey + white) / 2 == pytest.approx(MIDDLE, abs=0.03)
    assert not x[~mask].any()
    assert 0 <= x.min() <= x.max() < 1


@pytest.mark.parametrize("contrast", LEVELS)
def test_order_is_kept_above_the_darkest_percentile(contrast: str) -> None:
    data, mask = brain(contrast)
    data = np.where(np.random.default_rng(1).random(data.shape) < 0.02, 5 * data, data).astype(np.float32)
    x = scale(data, mask, TISSUE)
    inside = np.unique(data[mask])
    inside = inside[inside > np.percentile(data[mask], 1)]
    order = np.argsort(data[mask])
    assert (np.diff(x[mask][order]) >= 0).all()
    assert len(np.unique(x[mask & (data > np.percentile(data[mask], 1))])) > 0.98 * len(inside)  # float32 joins few


@settings(max_examples=20, deadline=None)
@given(gain=st.floats(1e-3, 1e4), offset=st.floats(-500, 500))
def test_an_increasing_line_changes_nothing(gain: float, offset: float) -> None:
    data, mask = brain("FLAIR")
    line = (gain * (data.astype(np.float64) + offset)).astype(np.float32)
    assert np.abs(scale(line, mask, TISSUE) - scale(data, mask, TISSUE)).max() < 2e-3


@pytest.mark.parametrize(("contrast", "factor"), [("FLAIR", 1.8), ("T2w", 2.5), ("T1w", 0.5)])
def test_a_large_lesion_hardly_moves_normal_tissue(contrast: str, factor: float) -> None:
    data, mask = brain(contrast)
    ill, lesion = with_lesion(data, mask, factor)
    assert lesion.sum() * 8e-3 == pytest.approx(LESION_ML, rel=0.01)
    moved = {
        s.scaling: np.abs(scale(ill, mask, s) - scale(data, mask, s))[mask & ~lesion] for s in (TISSUE, PERCENTILE)
    }
    assert np.median(moved["tissue"]) < MOST_MOVED
    if contrast == "FLAIR":
        assert np.median(moved["percentile"]) > 3 * MOST_MOVED


def test_what_is_brighter_than_tissue_stays_apart() -> None:
    x = np.array([0.0, KNEE, 1.0, 1.5, 2.0, 3.0], dtype=np.float32)
    y = compressed(x)
    assert (np.diff(y) > 0.01).all()
    assert y[1] == pytest.approx(KNEE)
    assert y[-1] < 1
    slope = (compressed(np.array([KNEE + 1e-3], dtype=np.float32)) - KNEE) / 1e-3
    assert slope == pytest.approx(1, abs=0.02)


def test_the_headroom_continues_what_percentiles_clip() -> None:
    """The brightest percentile of the brain is all 1; with its headroom it has the order of the unclipped scan."""
    data, mask = brain("FLAIR")
    unclipped, scaled, above = (
        linear(data, mask, PERCENTILE),
        scale(data, mask, PERCENTILE),
        headroom(data, mask, PERCENTILE),
    )
    assert not above[unclipped <= 1].any()
    assert not above[~mask].any()
    assert above.max() < 1
    clipped = mask & (unclipped > 1)
    assert clipped.sum() == pytest.approx(0.01 * mask.sum(), rel=0.05)
    assert set(scaled[clipped]) == {1.0}
    np.testing.assert_array_equal(np.argsort(unclipped[clipped]), np.argsort((scaled + above)[clipped]))


def test_half_the_headroom_is_taken_halfway_and_none_where_nothing_is_clipped() -> None:
    data, mask = brain("T1w")
    low, high = np.percentile(data[mask], (1, 99))
    data[tuple(np.argwhere(mask)[0])] = high + HALFWAY * (high - low)
    assert headroom(data, mask, PERCENTILE).max() == pytest.approx(0.5, abs=0.02)
    assert not headroom(data, mask, TISSUE).any()


def test_a_field_of_view_without_tissue_and_an_unknown_scaling_are_refused() -> None:
    data, mask = brain("T1w")
    empty = mask & (template.on_grid("mni_tissue_dseg") == 1)
    with pytest.raises(InputError, match="too little"):
        tissue_levels(data, empty)
    with pytest.raises(InputError, match="same intensity"):
        scale(np.ones_like(data), mask, TISSUE)
    with pytest.raises(UsageError, match="scaling"):
        replace(TISSUE, scaling="histogram")
