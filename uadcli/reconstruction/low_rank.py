"""A few low-rank steps of a diffusion model on the scan that it is about to reconstruct.

Steerable conditional diffusion (Barbano et al. 2025, arXiv 2308.14409) adapts a diffusion model to the one measurement
y = A x that it reconstructs: to each weight W of the network a product of two thin matrices is added, as in LoRA (Hu et
al. 2022), and only these are changed during sampling, so that A x0_hat agrees with y. Here the measurement is the scan
itself, in its brain, and the reconstruction is one step from the noise levels t:

    W' = W + B A,   B = 0 and A random at the start,   B, A = argmin  mean_n,t | x_n - D_W'(x_n,t, t, F_enc(x_n)) |,

in a few Adam steps before the reconstruction, with one B and A for all slices n. A convolution's W is read as a matrix
of outputs by (inputs x kernel). Lesions are part of the scan: the rank and the few steps are what keeps them from being
learnt.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor
from torch.func import functional_call

from uadcli.reconstruction.fitting import Batch, ScanSlices, Steps, batches, fit
from uadcli.reconstruction.model import ConditionedDiffusion

RANK = 4
STEPS = 10
RATE = 1e-3  # of each step
Factors = dict[str, tuple[Tensor, Tensor]]  # B (outputs, rank) and A (rank, inputs) by the name of the weight


def steered(network: ConditionedDiffusion, scan: ScanSlices, steps: Steps) -> ConditionedDiffusion:
    """A copy of a network whose UNet was adapted to a scan in a few steps; the network stays as it is.

    Determined by the seed of the steps.
    """
    network.eval()
    factors = start(network, steps.seed)

    def reconstruct(batch: Batch) -> Tensor:
        with torch.no_grad():
            condition = network.encode(batch.x)
        return functional_call(network, changed(network, factors), (batch.x, batch.t, batch.noise, condition))

    thin = [one for pair in factors.values() for one in pair]
    for _ in fit(thin, batches(network, scan, steps), RATE, reconstruct):
        pass
    adapted = copy.deepcopy(network)
    with torch.no_grad():
        adapted.load_state_dict(changed(network, factors), strict=False)
    return adapted


def start(network: ConditionedDiffusion, seed: int) -> Factors:
    """The factors of every matrix and convolution of the UNet; their products are 0."""
    generator, found = torch.Generator().manual_seed(seed), Factors()
    for name, weight in network.named_parameters():
        if name.startswith("unet.") and weight.dim() > 1:
            outputs, inputs = len(weight), weight[0].numel()
            thin = torch.randn(RANK, inputs, generator=generator) / math.sqrt(inputs)
            b = torch.zeros(outputs, RANK, device=weight.device, requires_grad=True)
            found[name] = b, thin.to(weight.device).requires_grad_()
    return found


def changed(network: ConditionedDiffusion, factors: Factors) -> dict[str, Tensor]:
    """The weights W + B A by name."""
    weights = dict(network.named_parameters())
    return {name: weights[name].detach() + (b @ a).view_as(weights[name]) for name, (b, a) in factors.items()}
