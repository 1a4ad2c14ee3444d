"""The drift of the condition vector: it reconstructs a scan better, within its bound, and changes nothing else."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from uadcli.config import ModelConfig
from uadcli.reconstruction import condition_drift
from uadcli.reconstruction.condition_drift import estimate, shifted
from uadcli.reconstruction.fitting import AT_ONCE, ScanSlices, Steps, batches
from uadcli.reconstruction.model import ConditionedDiffusion, Network


def scan(count: int = 20) -> ScanSlices:
    rng = np.random.default_rng(3)
    brain = np.zeros((count, 96, 96), dtype=bool)
    brain[:, 20:76, 24:72] = True
    y = np.arange(96)[:, None] / 96
    tones = rng.uniform(0.3, 0.9, (count, 1, 1))
    return ScanSlices(np.where(brain, tones * (1 - y / 2), 0).astype(np.float32), brain, np.arange(10, 10 + count))


def spread(network: Network, scan: ScanSlices) -> float:
    with torch.no_grad():
        vectors = network.encode(torch.from_numpy(scan.slices[:, None]))
    assert vectors is not None
    return float((vectors - vectors.mean(0)).square().sum(1).mean().sqrt())


def error(network: ConditionedDiffusion, scan: ScanSlices, steps: Steps) -> float:
    with torch.no_grad():
        return float(np.mean([b.error(network(b.x, b.t, b.noise)) for b in batches(network, scan, steps)]))


def test_the_scan_is_reconstructed_better_and_the_drift_is_bounded(network: ConditionedDiffusion) -> None:
    one, steps = scan(), Steps((250, 500), count=6)
    drift = estimate(network, one, steps)
    assert drift.shape == (network.config.encoder.condition,)
    assert 0 < np.linalg.norm(drift) <= spread(network, one) * 1.0001
    assert error(shifted(network, drift), one, steps) < error(network, one, steps)


class Lifted(Network):
    """Reconstructs a slice too dark by `dark`, but brighter by what is added to its first condition, its mean."""

    def __init__(self, config: ModelConfig, dark: float) -> None:
        super().__init__()
        self.config, self.dark, self.unused = config, dark, torch.nn.Parameter(torch.zeros(1))

    def encode(self, x0: Tensor) -> Tensor:
        return torch.stack([x0.mean(dim=(1, 2, 3)), torch.zeros(len(x0))], dim=1)

    def forward(self, x0: Tensor, t: Tensor, noise: Tensor, condition: Tensor | None = None) -> Tensor:
        assert condition is not None
        return x0 - self.dark + (condition - self.encode(x0))[:, 0].view(-1, 1, 1, 1)


@pytest.mark.parametrize(("dark", "found"), [(0.01, 0.01), (0.5, None)])
def test_a_known_drift_is_found_up_to_the_bound(dark: float, found: float | None, tiny: ModelConfig) -> None:
    one = scan()
    network = Lifted(dataclasses.replace(tiny, noise="gaussian"), dark)
    drift = estimate(network, one, Steps((250,), count=60))
    assert drift[0] == pytest.approx(spread(network, one) if found is None else found, abs=0.004)
    assert drift[1] == 0


def test_it_is_determined_by_the_seed(network: ConditionedDiffusion) -> None:
    one = scan()
    first = estimate(network, one, Steps((250,), seed=1, count=4))
    torch.rand(5)  # the state of other generators does not matter
    assert np.array_equal(first, estimate(network, one, Steps((250,), seed=1, count=4)))
    assert not np.array_equal(first, estimate(network, one, Steps((250,), seed=2, count=4)))


def test_the_network_stays_as_it_was(network: ConditionedDiffusion) -> None:
    before = copy.deepcopy(network.state_dict())
    drift = estimate(network, scan(), Steps((250,), count=3))
    moved = shifted(network, drift)
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())
    assert all(parameter.grad is None for parameter in network.parameters())
    x = torch.from_numpy(scan().slices[:2, None])
    with torch.no_grad():
        own, other = network.encode(x), moved.encode(x)
    assert own is not None
    assert other is not None
    assert torch.allclose(other - own, torch.from_numpy(drift).expand_as(own), atol=1e-6)
    assert [n for n in before if not torch.equal(moved.state_dict()[n], before[n])] == ["encoder.head.bias"]


def test_every_slice_is_seen_about_as_often_and_few_are_enough(network: ConditionedDiffusion) -> None:
    seen = np.zeros(20, int)
    one = scan()
    for batch in batches(network, one, Steps((250,), count=5)):
        assert len(batch.x) == AT_ONCE
        for x in batch.x[:, 0].numpy():
            seen[np.flatnonzero((one.slices == x).all(axis=(1, 2)))] += 1
    assert seen.min() == seen.max() == 4
    assert np.isfinite(condition_drift.estimate(network, scan(2), Steps((250,), count=2))).all()
    assert not list(batches(network, scan(0), Steps((250,))))
