"""Dif-fuse: DDPM inside a suspect region, DDIM outside, fused at each step (after Fontanella et al. 2024; method 10).

The suspect region comes from a first pass, the one-step reconstruction of the same network; the paper uses the saliency
map of a classifier trained on lesions. The paper inverts the whole image by DDIM; here the noise is known, so outside
the region the DDIM path follows the known slice and ends exactly on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from uadcli.arrays import Array
from uadcli.config import ReconstructionConfig
from uadcli.reconstruction.model import ConditionedDiffusion
from uadcli.reconstruction.reconstructors import cddpm
from uadcli.reconstruction.reconstructors.base import DIFFUSION, Device, Method, Progress, SliceReconstructor
from uadcli.reconstruction.schedule import add_noise, reverse_step

PATH = (500, 400, 300, 200, 100, 0)  # noise levels of the second pass; 0 is the slice itself
SMOOTH, GROW = 5, 5  # pixels; windows of the mean and the maximum filter that turn a residual into a region


class FusedReconstructor(SliceReconstructor):
    """A first pass that finds suspect regions, and a second one that reconstructs only these."""

    def __init__(
        self,
        model: ConditionedDiffusion,
        config: ReconstructionConfig,
        device: Device = "cpu",
        progress: Progress | None = None,
    ) -> None:
        levels, steps = len(config.levels), len(PATH) - 1  # passes per slice: first and second pass

        def first(done: int, total: int) -> None:
            if progress:
                progress(done, total + total // levels * steps)

        def second(done: int, total: int) -> None:
            if progress:
                progress(total * levels + done * steps, total * (levels + steps))

        super().__init__(model, config, device, second)
        self.first = cddpm.CddpmReconstructor(model, config, device, first)
        self._regions: Array = np.zeros((0, 0, 0), dtype=np.float32)

    def __call__(self, slices: Array, indices: Sequence[int]) -> Array:
        """Pseudo-healthy slices (N, H, W); unchanged where nothing is suspect. Raises as the parent."""
        self._regions = suspect_region(slices, self.first(slices, indices))
        return super().__call__(slices, indices)

    @torch.inference_mode()
    def _slices(self, slices: Array, indices: Sequence[int], part: list[int]) -> Array:
        x0, region = self._to_device(slices[part][:, None]), self._to_device(self._regions[part][:, None])
        return self.fuse(x0, region, [indices[n] for n in part]).clamp(0, 1).cpu().numpy()[:, 0]

    def fuse(self, x0: Tensor, region: Tensor, indices: Sequence[int]) -> Tensor:
        """The second pass over slices (B, 1, H, W) in [0, 1]; `region`, 0 to 1, is the share that is reconstructed."""
        known, shape = 2 * x0 - 1, tuple(x0.shape[2:])
        t = torch.full((len(x0),), PATH[0] - 1, device=x0.device)
        noise = self._noise(indices, PATH[0], shape)
        xt = add_noise(known, t, noise, self.model.alpha_bar)
        with self._autocast():
            condition = self.model.encode(x0)
        for level, following in pairwise(PATH):
            with self._autocast():
                healthy = self.model.denoise(xt, torch.full_like(t, level - 1), condition)
            healthy = 2 * healthy.float().clamp(0, 1) - 1
            power, after = self._power(level), self._power(following)
            fresh = self._noise(indices, following, shape) if following else noise
            inside = reverse_step(xt, healthy, fresh, power, after, eta=1.0)
            outside = reverse_step(xt, known, noise, power, after, eta=0.0)
            xt = region * inside + (1 - region) * outside
        return (xt + 1) / 2

    def _power(self, level: int) -> float:
        """alpha_bar at a level; 1 at level 0."""
        return float(self.model.alpha_bar[level - 1]) if level else 1.0


def suspect_region(slices: Array, recon: Array) -> Array:
    """How suspect each pixel is, (N, H, W) from 0 to 1, from the residual of the first pass.

    A ramp of the smoothed residual, from 0 at its mean in the slice's brain to 1 at one standard deviation above, then
    a maximum filter. A ramp rather than a step, so that rounding of the residual cannot flip a pixel.
    """
    x, brain = torch.from_numpy(slices)[:, None], torch.from_numpy(slices > 0)[:, None].float()
    residual = (x - torch.from_numpy(recon)[:, None]).abs() * brain
    smooth = F.avg_pool2d(residual, SMOOTH, 1, SMOOTH // 2) * brain
    count = brain.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    mean = smooth.sum(dim=(2, 3), keepdim=True) / count
    deviation = (((smooth - mean) ** 2 * brain).sum(dim=(2, 3), keepdim=True) / count).sqrt()
    ramp = ((smooth - mean) / deviation.clamp(min=1e-3)).clamp(0, 1) * brain
    region: Array = F.max_pool2d(ramp, GROW, 1, GROW // 2)[:, 0].numpy()
    return region


METHOD = Method(
    "diffuse",
    "DDPM and DDIM fused (Dif-fuse)",
    ConditionedDiffusion,
    cddpm.loss,
    FusedReconstructor,
    cites=("fontanella2024diffusion", "song2021denoising", "behrendt2025guided", *DIFFUSION),
    conditioned=True,
    runs_on=("cddpm", "ddpm"),
)
