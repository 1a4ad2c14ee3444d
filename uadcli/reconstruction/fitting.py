"""Fitting a few parameters to the slices of one scan at test time, in a bounded number of gradient steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uadcli.arrays import Array
from uadcli.reconstruction.model import Network
from uadcli.reconstruction.noise import slice_noise

AT_ONCE = 16  # slices in a step: their gradients need about 1 GB with the bundled models


@dataclass(frozen=True)
class ScanSlices:
    """The slices (N, H, W) of a scan that have brain, in [0, 1], with their brain masks and indices."""

    slices: Array
    brain: NDArray[np.bool_]
    indices: NDArray[np.integer]


@dataclass(frozen=True)
class Steps:
    """The noise levels (step index + 1) in turn, the seed of noise and choice of slices, and the number of steps."""

    levels: tuple[int, ...]
    seed: int = 0
    count: int = 24


@dataclass(frozen=True)
class Batch:
    """Slices x (B, 1, H, W) of a scan with brain masks, step indices t (B,), and noise."""

    x: Tensor
    brain: Tensor
    t: Tensor
    noise: Tensor

    def error(self, reconstruction: Tensor) -> Tensor:
        """The mean absolute residual in the brain, a scalar."""
        return ((reconstruction - self.x).abs() * self.brain).sum() / self.brain.sum().clamp(min=1)


def batches(network: Network, scan: ScanSlices, steps: Steps) -> Iterator[Batch]:
    """One batch for each step, with the noise of the reconstruction, on the device of the network.

    All steps pass through the slices in an order that the seed determines, so each slice is seen about as often.
    """
    device, kind = next(network.parameters()).device, network.config.noise
    rng, order = np.random.default_rng([steps.seed, 4127]), list[int]()
    for step in range(steps.count if len(scan.indices) else 0):
        while len(order) < min(AT_ONCE, len(scan.indices)):
            order += rng.permutation(len(scan.indices)).tolist()
        part, order = order[:AT_ONCE], order[AT_ONCE:]
        level, shape = steps.levels[step % len(steps.levels)], (scan.slices.shape[1], scan.slices.shape[2])
        noise = slice_noise(steps.seed, scan.indices[part].tolist(), level, shape, kind)
        x, brain = (torch.from_numpy(one[part][:, None]).to(device) for one in (scan.slices, scan.brain))
        yield Batch(x, brain, torch.full((len(x),), level - 1, device=device), torch.from_numpy(noise).to(device))


def fit(
    parameters: Sequence[Tensor], scan: Iterator[Batch], rate: float, reconstruct: Callable[[Batch], Tensor]
) -> Iterator[None]:
    """Change the parameters by one Adam step for each batch; stops after each, so that they can be bounded."""
    optimiser = torch.optim.Adam(parameters, lr=rate)
    for batch in scan:
        with torch.enable_grad():
            gradients = torch.autograd.grad(batch.error(reconstruct(batch)), list(parameters))
        for one, gradient in zip(parameters, gradients, strict=True):
            one.grad = gradient
        optimiser.step()
        yield
