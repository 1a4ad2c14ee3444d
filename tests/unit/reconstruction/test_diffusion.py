"""Schedule, noise and networks against the method's figures."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from uadcli.config import UNetConfig, preset
from uadcli.reconstruction.encoder import Encoder
from uadcli.reconstruction.model import ConditionedDiffusion
from uadcli.reconstruction.noise import (
    GRADIENTS,
    NORM,
    SQUISH,
    Lattice,
    NoiseBank,
    _slice_map,
    simplex_noise,
    slice_noise,
)
from uadcli.reconstruction.schedule import add_noise, alpha_bar
from uadcli.reconstruction.unet import UNet

MILLION = 1e6


def _count(module: torch.nn.Module) -> float:
    return sum(p.numel() for p in module.parameters()) / MILLION


@pytest.mark.parametrize(
    ("t", "expected"),
    [(100, 0.972), (200, 0.899), (250, 0.847), (400, 0.648), (500, 0.494), (600, 0.341), (750, 0.144), (900, 0.024)],
)
def test_alpha_bar_is_the_published_cosine_schedule(t: int, expected: float) -> None:
    assert float(alpha_bar()[t - 1]) == pytest.approx(expected, abs=0.001)


def test_noising_keeps_the_signal_at_the_start_and_loses_it_at_the_end() -> None:
    x, n = torch.ones(2, 1, 4, 4), torch.full((2, 1, 4, 4), -1.0)
    xt = add_noise(x, torch.tensor([0, 999]), n, alpha_bar())
    assert xt[0].mean() > 0.95
    assert xt[1].mean() < -0.95


def test_published_parameter_counts() -> None:
    with torch.device("meta"):
        model = ConditionedDiffusion(preset("reference"))
        plain = UNet(UNetConfig(), 0)
    assert isinstance(model.encoder, Encoder)
    assert _count(model.unet) == pytest.approx(44.07, rel=0.01)
    assert _count(model.encoder) == pytest.approx(24.55, rel=0.01)
    assert _count(plain) == pytest.approx(37.51, rel=0.01)


def test_small_preset_stays_small() -> None:
    assert _count(ConditionedDiffusion(preset("small"))) <= 10


def test_untrained_network_predicts_mid_grey() -> None:
    """The last convolution starts at zero, so the first prediction is 0 in [-1, 1]."""
    model = ConditionedDiffusion(preset("small"))
    x = torch.rand(2, 1, 96, 96)
    out = model(x, torch.tensor([10, 900]), torch.randn_like(x))
    assert out.shape == x.shape
    assert torch.allclose(out, torch.full_like(out, 0.5))


def test_simplex_noise_has_the_reference_rms_and_is_smooth() -> None:
    maps = np.stack([simplex_noise((96, 96), seed) for seed in range(40)])
    assert np.sqrt((maps**2).mean()) == pytest.approx(0.567, rel=0.1)
    assert np.abs(maps).max() < 2.6
    neighbours = np.corrcoef(maps[:, :, 1:].ravel(), maps[:, :, :-1].ravel())[0, 1]
    assert neighbours > 0.6


def test_simplex_noise_is_continuous() -> None:
    """The first octave alone has a period of 64 pixels: no jump between lattice cells."""
    x = np.linspace(-3, 3, 20001)
    line = Lattice.of([(1.0, x, 0.37 * x)]).noise(np.random.default_rng(1).permutation(256))
    assert np.abs(np.diff(line)).max() < 0.002
    assert line.std() > 0.1


def test_noise_is_the_sum_over_the_lattice_points_in_reach() -> None:
    """The definition, point by point: (2 - d^2)^4 <g, d> of every lattice point, g by the permutation."""
    permutation = np.random.default_rng(5).permutation(256)
    u, v = np.mgrid[-100:400, -100:400]
    gradients = GRADIENTS[permutation[(permutation[u & 255] + v) & 255] & 7]
    x, y = np.random.default_rng(6).uniform(-4, 200, (2, 30))
    found = Lattice.of([(0.8, x, y)]).noise(permutation)
    for px, py, value in zip(x, y, found, strict=True):
        dx, dy = px - (u + (u + v) * SQUISH), py - (v + (u + v) * SQUISH)
        weight = np.maximum(2 - dx * dx - dy * dy, 0) ** 4
        wanted = 0.8 / NORM * (weight * (gradients[..., 0] * dx + gradients[..., 1] * dy)).sum()
        assert value == pytest.approx(wanted, abs=1e-5)


def test_noise_depends_on_seed_slice_and_level_alone() -> None:
    together = slice_noise(3, [4, 9], 500, (96, 96))
    _slice_map.cache_clear()  # or the same map would be held against itself
    alone = slice_noise(3, [9], 500, (96, 96))
    assert np.array_equal(together[1], alone[0])
    places = [alone[0, 0, y, x] for y, x in ((0, 0), (17, 60), (95, 3))]
    # what the models that come along were made with
    assert places == pytest.approx([0, 0.3332485, 0.9312629], abs=1e-6)
    for other in (slice_noise(4, [9], 500, (96, 96)), slice_noise(3, [9], 250, (96, 96))):
        assert not np.allclose(other[0], alone[0])
    assert not np.allclose(together[0], together[1])


def test_noise_bank_draws_by_its_generator() -> None:
    bank = NoiseBank(count=6, size=110, seed=1)
    a = bank.draw(5, (96, 96), torch.Generator().manual_seed(2))
    b = bank.draw(5, (96, 96), torch.Generator().manual_seed(2))
    assert a.shape == (5, 1, 96, 96)
    assert torch.equal(a, b)
    assert float(a.pow(2).mean().sqrt()) == pytest.approx(0.567, rel=0.25)


OUTLINE = """
import sys, torch
from uadcli.config import ModelConfig
from uadcli.reconstruction.reconstructors import build
with torch.device("meta"):
    build(ModelConfig())
assert "sympy" not in sys.modules
"""


def test_outlining_a_network_does_not_import_the_compiler() -> None:
    subprocess.run([sys.executable, "-c", OUTLINE], check=True)
