"""A drift of the condition vector: what has to be added to the encoding of a scanner's scans.

Latent Drifting (Yeganeh et al. 2025, CVPR, arXiv 2412.20651) moves the latent of a pretrained diffusion model by a
constant delta, so that its distribution meets that of new images, and searches for the best delta. Here the latent is
the condition vector c = F_enc(x), and the constant has its size. For one healthy scan x with slices n, at the noise
levels t of the reconstruction,

    delta = argmin_d  mean_n,t | x_n - D(x_n,t, t, F_enc(x_n) + d) |,     |d| <= s,

where s is the spread of the scan's own condition vectors, the root mean square of |c_n - mean c|: no drift is larger
than the difference between slices of a brain. It is found in a few Adam steps from 0. The drift of a scanner is the
mean over its healthy scans. Nothing in the network is trained.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from uadcli.arrays import Array
from uadcli.reconstruction.fitting import AT_ONCE, Batch, ScanSlices, Steps, batches, fit
from uadcli.reconstruction.model import ConditionedDiffusion, Network

RATE = 0.1  # of each step, in units of the spread per dimension


def estimate(network: Network, scan: ScanSlices, steps: Steps) -> Array:
    """The drift (d,) with which a network with an encoder reconstructs a healthy scan best, by a few steps from 0."""
    network.eval()
    conditions = _conditions(network, scan)
    spread = (conditions - conditions.mean(dim=0)).square().sum(dim=1).mean().sqrt()
    drift = torch.zeros_like(conditions[0], requires_grad=True)

    def reconstruct(batch: Batch) -> Tensor:
        with torch.no_grad():
            own = network.encode(batch.x)
        assert own is not None
        return network(batch.x, batch.t, batch.noise, own + drift)

    rate = RATE * float(spread) / drift.numel() ** 0.5
    for _ in fit([drift], batches(network, scan, steps), rate, reconstruct):
        with torch.no_grad():
            drift *= (spread / drift.norm().clamp(min=torch.finfo(drift.dtype).tiny)).clamp(max=1)
    return drift.detach().cpu().numpy()


def shifted(network: ConditionedDiffusion, drift: Array) -> ConditionedDiffusion:
    """A copy of a network with an encoder that adds a drift (d,) to every condition vector."""
    moved = copy.deepcopy(network)
    assert moved.encoder is not None
    with torch.no_grad():  # the vector is the output of the encoder's last layer
        moved.encoder.head.bias.add_(torch.from_numpy(drift).to(moved.encoder.head.bias))
    return moved


@torch.no_grad()
def _conditions(network: Network, scan: ScanSlices) -> Tensor:
    """The condition vectors (N, d) of the slices."""
    device, found = next(network.parameters()).device, list[Tensor]()
    for first in range(0, len(scan.slices), AT_ONCE):
        vectors = network.encode(torch.from_numpy(scan.slices[first : first + AT_ONCE, None]).to(device))
        assert vectors is not None
        found.append(vectors)
    return torch.cat(found)
