"""Low-rank steps on a scan: it is reconstructed better, by changes of low rank, and the network stays as it was."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import torch

from uadcli.reconstruction import low_rank
from uadcli.reconstruction.fitting import ScanSlices, Steps, batches
from uadcli.reconstruction.low_rank import RANK, steered
from uadcli.reconstruction.model import ConditionedDiffusion

STEPS = Steps((250, 500), count=4)


def scan(count: int = 4) -> ScanSlices:
    rng = np.random.default_rng(3)
    brain = np.zeros((count, 96, 96), dtype=bool)
    brain[:, 20:76, 24:72] = True
    tones = rng.uniform(0.3, 0.9, (count, 1, 1))
    return ScanSlices(np.where(brain, tones, 0).astype(np.float32), brain, np.arange(10, 10 + count))


def error(network: ConditionedDiffusion, scan: ScanSlices) -> float:
    with torch.no_grad():
        return float(np.mean([b.error(network(b.x, b.t, b.noise)) for b in batches(network, scan, STEPS)]))


def test_the_steps_are_at_the_levels_of_the_reconstruction_in_turn(network: ConditionedDiffusion) -> None:
    assert [one.t.tolist() for one in batches(network, scan(), STEPS)] == [[249] * 4, [499] * 4] * 2


def test_the_scan_is_reconstructed_better_by_changes_of_low_rank(network: ConditionedDiffusion) -> None:
    adapted = steered(network, scan(), STEPS)
    assert error(adapted, scan()) < error(network, scan())
    before, after = network.state_dict(), adapted.state_dict()
    differing = {name for name in before if not torch.equal(before[name], after[name])}
    assert differing == set(low_rank.start(network, 0))
    assert all(name.startswith("unet.") for name in differing)
    for name in differing:
        change = (after[name] - before[name]).flatten(1).double()
        singular = torch.linalg.svdvals(change)
        assert (singular > 1e-4 * singular[0]).sum() <= RANK, name


def test_the_network_stays_as_it_was_and_no_step_changes_nothing(network: ConditionedDiffusion) -> None:
    before = copy.deepcopy(network.state_dict())
    steered(network, scan(), STEPS)
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())
    assert all(parameter.grad is None for parameter in network.parameters())
    same = steered(network, scan(), dataclasses.replace(STEPS, count=0))
    assert all(torch.equal(same.state_dict()[name], value) for name, value in before.items())


def test_it_is_determined_by_the_seed(network: ConditionedDiffusion) -> None:
    def weight(seed: int) -> torch.Tensor:
        torch.rand(3)  # the state of other generators does not matter
        return steered(network, scan(), dataclasses.replace(STEPS, seed=seed)).unet.stem.weight

    first = weight(1)
    assert torch.equal(first, weight(1))
    assert not torch.equal(first, weight(2))
