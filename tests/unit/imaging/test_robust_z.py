"""The robust z: the scan in units of its own normal tissue, with nothing cut off."""

from __future__ import annotations

import numpy as np
import pytest

from uadcli.errors import InputError
from uadcli.imaging.intensity import robust_z

SHAPE = (24, 24, 24)
MASK = np.zeros(SHAPE, dtype=bool)
MASK[2:22, 2:22, 2:22] = True


def brain() -> np.ndarray:
    return np.random.default_rng(2).normal(300, 20, SHAPE).astype(np.float32)


def test_in_normal_tissue_it_is_a_standard_score() -> None:
    z = robust_z(brain(), MASK)
    assert abs(float(np.median(z[MASK]))) < 1e-5
    assert float(z[MASK].std()) == pytest.approx(1, abs=0.05)
    assert not z[~MASK].any()
    assert z.dtype == np.float32


@pytest.mark.parametrize(("gain", "offset"), [(3.0, 0.0), (0.01, 0.0), (1.0, 500.0)])
def test_gain_and_offset_of_the_scanner_do_not_change_it(gain: float, offset: float) -> None:
    np.testing.assert_allclose(robust_z(brain() * gain + offset, MASK), robust_z(brain(), MASK), atol=1e-3)


def test_the_brightest_voxels_stay_in_order() -> None:
    data = brain()
    data[5, 5, 5:15] = 400 + 50 * np.arange(10)
    assert (np.diff(robust_z(data, MASK)[5, 5, 5:15]) > 2).all()


def test_a_tenth_of_the_brain_in_lesions_hardly_moves_normal_tissue() -> None:
    data = brain()
    data[2:4, 2:22, 2:22] = 500
    normal = MASK & (data < 450)
    moved = robust_z(data, MASK)[normal] - robust_z(brain(), MASK)[normal]
    assert float(np.abs(moved).max()) < 0.6
    assert float(robust_z(data, MASK)[3, 5, 5]) > 8


@pytest.mark.parametrize("mask", [MASK, np.zeros(SHAPE, dtype=bool)])
def test_without_contrast_or_brain_there_is_none(mask: np.ndarray) -> None:
    with pytest.raises(InputError):
        robust_z(np.full(SHAPE, 7, np.float32), mask)
