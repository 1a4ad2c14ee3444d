"""The brightness of a scan: what is brighter than in health on one side, larger than a vessel."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from uadcli.config import ScoringConfig
from uadcli.scoring import healthy_reference, scores

SHAPE = (40, 40, 16)
AXES = np.meshgrid(*((np.arange(n) - (n - 1) / 2) / (n / 2) for n in SHAPE), indexing="ij")
MASK = np.asarray(sum(one**2 for one in AXES)) < 0.9
BOX = (slice(8, 14), slice(16, 22), slice(5, 11))  # off the middle


def scan(seed: int) -> np.ndarray:
    x = 0.5 + 0.02 * np.random.default_rng(seed).standard_normal(SHAPE)
    return np.where(MASK, x, 0).astype(np.float32)


def map_of(x: np.ndarray) -> np.ndarray:
    score = scores.find("brightness")
    assert score.behind is not None
    return score.behind(SimpleNamespace(x=x, mask=MASK, reference_scoring=ScoringConfig(erosion=1, median=5)))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def known() -> healthy_reference.Reference:
    score = scores.find("z-brightness")
    return healthy_reference.fit([(map_of(scan(i)), MASK) for i in range(8)], score.own_scale, width=score.spread)


def z_of(x: np.ndarray, known: healthy_reference.Reference) -> np.ndarray:
    return healthy_reference.z_score(map_of(x), known, MASK)


def test_what_is_bright_counts_and_what_is_dark_does_not(known: healthy_reference.Reference) -> None:
    healthy, bright, dark = z_of(scan(9), known), scan(9), scan(9)
    bright[BOX], dark[BOX] = 0.8, 0.2
    inner = tuple(slice(part.start + 1, part.stop - 1) for part in BOX)
    assert z_of(bright, known)[inner].min() > 3 * healthy.max()
    assert z_of(dark, known)[inner].max() == 0


def test_a_vessel_does_not_count(known: healthy_reference.Reference) -> None:
    healthy, vessel = z_of(scan(9), known), scan(9)
    vessel[10:12, 10:30, 8] = 1.0
    assert z_of(vessel, known).max() < 1.5 * healthy.max()


def test_what_is_bright_on_both_sides_counts_less(known: healthy_reference.Reference) -> None:
    one, both = scan(9), scan(9)
    one[BOX] = both[BOX] = 0.8
    both[::-1][BOX] = 0.8
    assert z_of(both, known).max() < 0.6 * z_of(one, known).max()
