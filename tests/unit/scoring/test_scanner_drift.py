"""The drift of a scanner: what healthy scans have in common, and nothing that is one scan's own."""

from __future__ import annotations

import numpy as np
import pytest

from uadcli.scoring import coarse_grid, scanner_drift

SHAPE = (32, 32, 24)


def brain() -> np.ndarray:
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij"))
    return (grid**2).sum(axis=0) < 0.8


def healthy(rng: np.random.Generator, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    recon = rng.uniform(0.3, 0.6, SHAPE)
    return np.where(brain(), recon + shift + rng.normal(0, 0.02, SHAPE), 0), np.where(brain(), recon, 0)


def test_a_shift_shared_by_all_healthy_scans_is_found() -> None:
    rng = np.random.default_rng(0)
    shift = np.zeros(SHAPE)
    shift[:, :12] = -0.2  # as a cerebellum that this scanner shows darker
    pairs = [healthy(rng, shift) for _ in range(4)]
    found = scanner_drift.drift([scanner_drift.residual(x, recon, brain()) for x, recon in pairs], SHAPE)
    assert found.shape == SHAPE
    assert found.dtype == np.float32
    inside = brain()
    assert found[:, :6][inside[:, :6]].mean() == pytest.approx(-0.2, abs=0.02)
    assert abs(found[:, 20:][inside[:, 20:]].mean()) < 0.02


def test_a_finding_in_one_healthy_scan_is_smoothed_and_averaged() -> None:
    recon = np.where(brain(), 0.5, 0)
    own = recon.copy()
    own[15:18, 15:18, 11:14] += 0.4  # a finding of 6 mm
    alone, same = scanner_drift.residual(own, recon, brain()), scanner_drift.residual(recon, recon, brain())
    highest = scanner_drift.drift([alone], SHAPE).max()
    assert 0 < highest < 0.05  # spread
    assert scanner_drift.drift([alone, same, same, same], SHAPE).max() == pytest.approx(highest / 4, rel=0.01)


def test_drift_is_zero_outside_all_brains_and_averages_only_scans_with_brain_there() -> None:
    part, ones = np.zeros(SHAPE, bool), np.ones(SHAPE)
    part[8:24, 8:24, 8:16] = True
    known = scanner_drift.residual(0.5 * ones, 0.4 * ones, part)
    nothing = scanner_drift.residual(ones, 0 * ones, np.zeros(SHAPE, bool))
    found = scanner_drift.drift([known, nothing], SHAPE)
    assert found[16, 16, 12] == pytest.approx(0.1, abs=0.005)  # not halved by the scan that has no brain here
    assert abs(found[0, 0, 0]) < 0.01


def test_blocks_and_back() -> None:
    volume = np.random.default_rng(2).random(SHAPE).astype(np.float32)
    coarse = coarse_grid.means(volume)
    assert coarse[3, 4, 5] == pytest.approx(volume[6:8, 8:10, 10:12].mean())
    ramp = np.broadcast_to(np.arange(SHAPE[0], dtype=float)[:, None, None], SHAPE)
    again = coarse_grid.enlarged(coarse_grid.means(ramp), SHAPE)
    assert np.allclose(again[2:-2], ramp[2:-2])  # no shift by half a voxel
