"""Thresholds from healthy scans."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from uadcli.errors import InputError
from uadcli.scoring import calibration
from uadcli.scoring.calibration import false_positive_volumes, healthy_quantile


def scans(count=3):
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield rng.gamma(2, 0.05, (12, 13, 14)).astype(np.float32), rng.random((12, 13, 14)) < 0.4


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.995])
def test_the_share_above_the_threshold_is_what_was_asked_for(quantile):
    threshold = healthy_quantile(scans(), quantile)
    pooled = np.concatenate([score[mask] for score, mask in scans()])
    assert (pooled > threshold).mean() == pytest.approx(1 - quantile, abs=2 / pooled.size)


def test_voxels_outside_the_mask_have_no_say():
    changed = [(np.where(mask, score, 99).astype(np.float32), mask) for score, mask in scans()]
    assert healthy_quantile(changed) == healthy_quantile(scans())


def test_scans_are_pooled_and_their_order_is_free():
    pairs = list(scans())
    assert healthy_quantile(pairs[::-1]) == pytest.approx(healthy_quantile(pairs))


def test_no_voxel_is_an_input_error():
    empty = (np.zeros((3, 3, 3), np.float32), np.zeros((3, 3, 3), bool))
    for maps in ([], [empty]):
        with pytest.raises(InputError, match="no healthy voxel"):
            healthy_quantile(maps)


def test_no_function_takes_labels():
    for name in ("healthy_quantile", "false_positive_volumes"):
        parameters = inspect.signature(getattr(calibration, name)).parameters
        assert not {"labels", "truth", "lesions"} & set(parameters)


def test_false_positive_volumes_are_one_number_per_scan():
    clean = np.zeros((20, 20, 20), dtype=np.float32)
    marked = clean.copy()
    marked[2:7, 2:7, 2:7] = 1  # 125 voxels of 8 mm3
    marked[15, 15, 15] = 1  # too small
    affine = np.diag([2.0, 2, 2, 1])
    assert false_positive_volumes(iter([clean, marked]), 0.5, 64, affine) == [0, pytest.approx(1.0)]
