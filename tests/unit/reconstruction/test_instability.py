"""The worst small perturbation: within its bound, worse than chance, and the worst there is where that is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from uadcli.config import ModelConfig
from uadcli.reconstruction import instability
from uadcli.reconstruction.instability import Ascent, ascend, noise_of, worst_perturbation
from uadcli.reconstruction.reconstructors import build

BOUND = 0.02


def brain(side: int = 96) -> np.ndarray:
    mask = np.zeros((2, side, side), dtype=bool)
    mask[:, 20:76, 24:72] = True
    return mask


@pytest.mark.parametrize("sigma", [0.01, 0.04])
def test_the_noise_of_a_scan_is_measured_despite_its_anatomy(sigma: float) -> None:
    rng, mask = np.random.default_rng(0), brain()
    y, x = np.mgrid[:96, :96]
    anatomy = 0.5 + 0.2 * np.sin(y / 9) * np.cos(x / 11) + 0.15 * (x > 48)  # smooth, with an edge
    scan = (anatomy + rng.normal(0, sigma, mask.shape)).astype(np.float32)
    found = noise_of(scan, mask)
    assert found == pytest.approx(sigma, rel=0.15)
    assert noise_of(np.where(mask, scan, 0), mask) == found  # what surrounds the brain does not count
    assert np.isnan(noise_of(np.zeros((1, 8, 8), np.float32), np.zeros((1, 8, 8), bool)))


def test_it_is_the_worst_where_the_worst_is_known() -> None:
    """A reconstruction by a gain for each pixel: any change of full size at every pixel moves the residual most."""
    torch.manual_seed(0)
    x, mask = 0.2 + 0.6 * torch.rand(2, 1, 8, 8), torch.ones(2, 1, 8, 8, dtype=torch.bool)
    gain = torch.rand(1, 1, 8, 8)
    mixed = 0.01 * torch.sign(torch.randn(2, 1, 8, 8))
    mixed[:, :, ::2] = 0  # half of the pixels start unchanged
    found = ascend(lambda image: image - gain * image, x, mask, mixed / BOUND, BOUND)
    started = mixed != 0
    assert torch.allclose(found[started].abs(), torch.tensor(BOUND), atol=1e-6)


def test_coupled_pixels_are_pushed_together() -> None:
    """The residual sees the sum of the pixels alone: the worst change has one sign, which random signs have not."""
    x, mask = torch.full((1, 1, 8, 8), 0.5), torch.ones(1, 1, 8, 8, dtype=torch.bool)
    start = torch.where(torch.arange(64).view(1, 1, 8, 8) % 3 == 0, -1.0, 1.0)
    found = ascend(lambda image: image.sum(dim=(2, 3), keepdim=True).expand(image.shape), x, mask, start, BOUND)
    assert torch.allclose(found, torch.tensor(BOUND))


def network(tiny: ModelConfig) -> torch.nn.Module:
    """An untrained cDDPM whose last layers, which begin at 0, are random."""
    torch.manual_seed(0)
    made = build(tiny)
    for parameter in made.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return made.eval()


def moved(made: torch.nn.Module, x: np.ndarray, change: np.ndarray, ascent: Ascent) -> float:
    """How far the residual of slices moves inside the brain."""
    noise = torch.from_numpy(instability.slice_noise(ascent.seed, [3, 4], ascent.level, (96, 96)))
    t = torch.full((2,), ascent.level - 1)
    with torch.no_grad():
        a, b = (torch.from_numpy(v[:, None]) for v in (x, x + change))
        apart = (b - made(b, t, noise)) - (a - made(a, t, noise))
    return float((apart[:, 0].numpy()[brain()] ** 2).sum())


def test_a_network_is_moved_further_than_by_noise_of_the_same_size(tiny: ModelConfig) -> None:
    made, mask, ascent = network(tiny), brain(), Ascent(BOUND, 250, 5)
    x = np.where(mask, np.random.default_rng(1).uniform(0, 1, mask.shape), 0).astype(np.float32)
    steps = set[int]()
    made.register_forward_pre_hook(lambda _, given: steps.update(given[1].tolist()))
    found = worst_perturbation(made, x, [3, 4], mask, ascent)  # type: ignore[arg-type]
    assert steps == {249}  # the index of level 250
    assert np.abs(found).max() <= BOUND + 1e-7
    assert not found[~mask].any()
    assert ((x + found >= 0) & (x + found <= 1)).all()
    assert np.array_equal(found, worst_perturbation(made, x, [3, 4], mask, ascent))  # type: ignore[arg-type]
    for seed in range(3):
        chance = BOUND * np.random.default_rng(seed).choice((-1, 1), mask.shape)
        noise = (np.clip(x + chance, 0, 1) - x) * mask
        assert moved(made, x, found, ascent) > 1.05 * moved(made, x, noise.astype(np.float32), ascent)
