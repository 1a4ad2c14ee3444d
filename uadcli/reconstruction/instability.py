"""The worst small perturbation of a scan: which change within its noise moves the residual most.

After Han et al. 2024 ("On Instabilities of Unsupervised Denoising Diffusion Models in MRI Reconstruction", MICCAI,
arXiv 2406.16983), who find it for reconstructions from k-space by projected gradient ascent (Madry et al. 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from uadcli.arrays import SD_PER_MAD, Array
from uadcli.reconstruction.model import Network
from uadcli.reconstruction.noise import slice_noise

STEPS = 4  # of the gradient ascent
STRIDE = 0.5  # of each step, in units of the bound
AT_ONCE = 8  # slices; their gradients need more memory than a reconstruction
# Second differences in both directions cancel smooth images (Immerkaer 1996, Comput. Vis. Image Underst. 64).
KERNEL = ((1.0, -2.0, 1.0), (-2.0, 4.0, -2.0), (1.0, -2.0, 1.0))


@dataclass(frozen=True)
class Ascent:
    """The search: largest change of a pixel, noise level (step index + 1) and seed of noise and start."""

    bound: float
    level: int
    seed: int = 0


def noise_of(slices: Array, brain: NDArray[np.bool_]) -> float:
    """The standard deviation of white noise in slices (N, H, W), from pixels whose neighbours all lie in the brain.

    Robust (by the median), so that edges count little. NaN if there is no such pixel.
    """
    kernel = torch.tensor(KERNEL)[None, None]
    inner = F.conv2d(torch.from_numpy(brain[:, None]).float(), torch.ones(1, 1, 3, 3), padding=1)[:, 0].numpy() > 8.5
    if not inner.any():
        return float("nan")
    differences = F.conv2d(torch.from_numpy(slices[:, None]), kernel, padding=1)[:, 0].numpy()
    return float(SD_PER_MAD * np.median(np.abs(differences[inner])) / kernel.square().sum().sqrt())


def worst_perturbation(
    network: Network, slices: Array, indices: Sequence[int], brain: NDArray[np.bool_], ascent: Ascent
) -> Array:
    """The perturbation (N, H, W) within the bound that moved the residual most in a few steps; 0 outside the brain.

    `slices` are (N, H, W) in [0, 1], as they are with the perturbation; `indices` number them, and determine the noise
    as in a reconstruction. Starts from random signs. Runs on the device of the network.
    """
    found = np.zeros_like(slices)
    device = next(network.parameters()).device
    network.eval()
    for first in range(0, len(slices), AT_ONCE):
        part = slice(first, first + AT_ONCE)
        chosen = [int(i) for i in indices[part]]
        x, mask = (torch.from_numpy(v[part][:, None]).to(device) for v in (slices, brain))
        kind, shape = network.config.noise, (slices.shape[1], slices.shape[2])
        noise = torch.from_numpy(slice_noise(ascent.seed, chosen, ascent.level, shape, kind)).to(device)
        t = torch.full((len(x),), ascent.level - 1, device=device)

        def residual(image: Tensor, t: Tensor = t, noise: Tensor = noise) -> Tensor:
            return image - network(image, t, noise)

        signs = [np.random.default_rng([ascent.seed, i]).choice((-1.0, 1.0), shape) for i in chosen]
        start = torch.from_numpy(np.stack(signs)[:, None]).to(x)
        found[part] = ascend(residual, x, mask, start, ascent.bound).cpu().numpy()[:, 0]
    return found


def ascend(residual: Callable[[Tensor], Tensor], x: Tensor, mask: Tensor, start: Tensor, bound: float) -> Tensor:
    """Projected gradient ascent on the squared change of the residual of slices x (B, 1, H, W) inside a mask.

    `start` are signs. Returns for each slice the perturbation (B, 1, H, W) with the largest change of all steps.
    """

    def projected(change: Tensor) -> Tensor:
        return ((x + change.clamp(-bound, bound) * mask).clamp(0, 1) - x) * mask

    with torch.no_grad():
        before = residual(x)
    change = best = projected(bound * start)
    most = x.new_full((len(x),), -1.0)
    for step in range(STEPS + 1):
        change = change.detach().requires_grad_()
        with torch.enable_grad():
            moved = ((residual(x + change) - before) * mask).square().flatten(1).sum(dim=1)
            gradient = torch.autograd.grad(moved.sum(), change)[0] if step < STEPS else torch.zeros_like(change)
        moved, change = moved.detach(), change.detach()
        better = moved > most
        best, most = torch.where(better.view(-1, 1, 1, 1), change, best), torch.where(better, moved, most)
        change = projected(change + STRIDE * bound * gradient.sign())
    return best
