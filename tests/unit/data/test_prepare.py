"""Prepared scans: what is kept of them, and brains that are cut off."""

from __future__ import annotations

from pathlib import Path

import cohort
import numpy as np

from uadcli.data.artefacts import Artefacts
from uadcli.data.prepare import Prepared, border_fraction, read_packed, save_prepared, unpacked
from uadcli.detection.verdict import measures
from uadcli.imaging.slices import GRID_SHAPE
from uadcli.scoring import quality


def test_border_fraction() -> None:
    mask = np.zeros((20, 20, 20), dtype=bool)
    mask[5:15, 5:15, 5:15] = True
    assert border_fraction(mask) == 0
    mask[5:15, 5:15, :] = True
    assert 0.1 < border_fraction(mask) < 0.5


def test_prepared_scans_are_kept(tmp_path: Path) -> None:
    data = np.random.default_rng(0).random(GRID_SHAPE, dtype=np.float32) * 900
    one = Prepared(data, data > 400, np.eye(4), "hd-bet", 1400.0, 0.0, 0.95, 0.3)
    save_prepared(tmp_path / "a.npz", one)
    two = unpacked(read_packed(tmp_path / "a.npz"))
    assert np.abs(two.data - one.data).max() < 1.0
    assert np.array_equal(two.mask, one.mask)
    assert (two.strip, two.brain_volume_ml, two.mask_overlap) == ("hd-bet", 1400.0, 0.95)


def test_a_similarity_that_was_not_computed_stays_so_and_is_not_judged(tmp_path: Path) -> None:
    data = np.zeros(GRID_SHAPE, dtype=np.float32)
    save_prepared(tmp_path / "a.npz", Prepared(data, data > 0, np.eye(4), "none", 1400.0, 0.0, 0.95, None))
    kept = unpacked(read_packed(tmp_path / "a.npz"))
    assert kept.similarity is None
    found = quality.assess(measures(kept, "T1w", Artefacts()))
    assert {one.name: one.verdict for one in found.checks}["similarity"] == quality.NOT_COMPUTED
    assert found.verdict == "pass"


def test_prepared_scans_are_small(tmp_path: Path) -> None:
    """150 of them in 60 MB; real ones of the development data take up to a sixth more than this phantom."""
    data = cohort.head(0).astype(np.float32)
    save_prepared(tmp_path / "a.npz", Prepared(data, data > 0, np.eye(4), "none", 1400.0, 0.0, 0.95, 0.5))
    assert 7 / 6 * (tmp_path / "a.npz").stat().st_size < 60e6 / 150
