"""pDDPM: one patch is noised, the rest of the slice is context (Behrendt et al. 2023, MIDL; method 3).

The patches form a 2 x 2 grid of 48 pixels, or overlap every 24 pixels and are averaged. Each takes one pass through the
network; patches of all slices and levels are batched together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from uadcli.arrays import Array
from uadcli.config import TrainConfig
from uadcli.reconstruction import restoration
from uadcli.reconstruction.model import ConditionedDiffusion
from uadcli.reconstruction.noise import NoiseBank
from uadcli.reconstruction.reconstructors.base import DIFFUSION, Method, device_of, noisy_batch
from uadcli.reconstruction.reconstructors.cddpm import CddpmReconstructor
from uadcli.reconstruction.schedule import add_noise

PATCH, HALF = 48, 24
Box = tuple[int, int]  # first row and first column of a patch


class PatchedDiffusion(ConditionedDiffusion):
    """Predicts x0 inside a noised region from the region and the clean slice around it."""

    def forward(
        self,
        x0: Tensor,
        t: Tensor,
        noise: Tensor,
        condition: Tensor | None = None,
        region: Tensor | None = None,
        hidden: Tensor | None = None,
    ) -> Tensor:
        """As in the parent, but only `region` (B, 1, H, W) is noised and predicted; outside it is x0.

        Where `hidden` is true there is only noise, no signal. Without a region, slices take the boxes of the 2 x 2 grid
        in turn.
        """
        if region is None:
            grid = boxes((x0.shape[2], x0.shape[3]), PATCH)
            region = regions([grid[i % len(grid)] for i in range(len(x0))], x0)
        c = self.encode(x0) if condition is None else condition
        noised = add_noise(2 * x0 - 1, t, noise, self.alpha_bar)
        if hidden is not None:
            noised = torch.where(hidden, add_noise(torch.zeros_like(x0), t, noise, self.alpha_bar), noised)
        xt = torch.where(region, noised, 2 * x0 - 1)
        return torch.where(region, self.denoise(xt, t, c), x0)


class PatchedReconstructor(CddpmReconstructor):
    """Noises and predicts every patch of every slice separately, joins them, and averages the levels."""

    stride: int | None = None  # None: as the settings say

    def per_level(self, slices: Array, indices: Sequence[int]) -> Array:
        """Reconstructions (levels, N, H, W); patches that are 0 everywhere stay 0. Raises as the parent."""
        levels = range(len(self.config.levels))
        grid = boxes((slices.shape[1], slices.shape[2]), self.stride or (HALF if self.config.overlap else PATCH))
        total = np.zeros((len(levels), *slices.shape), dtype=np.float32)
        count = np.zeros_like(total)
        work = [(k, n, box) for n in range(len(slices)) for k in levels for box in grid if slices[n][inside(box)].any()]
        self._conditions = {}
        for (k, n, box), image in self._in_batches(work, lambda part: self._patches(slices, indices, part)):
            total[k, n][inside(box)] += image[inside(box)]
            count[k, n][inside(box)] += 1
        return np.divide(total, count, out=total, where=count > 0)

    @torch.inference_mode()
    def _patches(self, slices: Array, indices: Sequence[int], part: list[tuple[int, int, Box]]) -> Array:
        """Whole slices (B, H, W) with the patch predicted. All patches of a slice share its noise."""
        pairs = list(dict.fromkeys((k, n) for k, n, _ in part))  # drawing noise is slow, and patches share it
        which = torch.tensor([pairs.index((k, n)) for k, n, _ in part], device=self.device)
        x0, t, noise = (values[which] for values in self._noisy(slices, indices, pairs))
        region = regions([box for _, _, box in part], x0)
        hidden = self._hidden([(self.config.levels[k], indices[n], box) for k, n, box in part], x0)
        with self._autocast():
            output = self.model(x0, t, noise, self._condition(slices, [n for _, n, _ in part]), region, hidden)
        return output.float().clamp(0, 1).cpu().numpy()[:, 0]

    def _hidden(self, part: list[tuple[int, int, Box]], like: Tensor) -> Tensor | None:
        """Where patches, given by level, slice index and box, carry no signal; None: nowhere."""
        return None


def boxes(shape: tuple[int, int], stride: int) -> list[Box]:
    """The patches of 48 pixels that cover a slice (H, W), one every `stride` pixels and one at each far edge."""
    rows, columns = ([*range(0, n - PATCH, stride), n - PATCH] for n in shape)
    return [(row, column) for row in rows for column in columns]


def inside(box: Box) -> tuple[slice, slice]:
    """The pixels of a patch, to index (H, W)."""
    return slice(box[0], box[0] + PATCH), slice(box[1], box[1] + PATCH)


def regions(chosen: Sequence[Box], like: Tensor) -> Tensor:
    """Masks (B, 1, H, W) of one patch for each slice of `like`."""
    result = torch.zeros(like.shape, dtype=torch.bool)
    for i, box in enumerate(chosen):
        result[i, 0][inside(box)] = True
    return result.to(like.device)


def draw_boxes(batch: int, shape: tuple[int, int], generator: torch.Generator) -> list[Box]:
    """A random patch for each slice, from the overlapping ones."""
    choice = boxes(shape, HALF)
    return [choice[i] for i in torch.randint(len(choice), (batch,), generator=generator).tolist()]


def loss(
    model: PatchedDiffusion, clean: Tensor, bank: NoiseBank, generator: torch.Generator, config: TrainConfig
) -> Tensor:
    """L1 inside one patch of each `clean` slice (B, 1, H, W) in [0, 1], as a mean over the whole slice; a scalar.

    Anomalies outside the patch are kept.
    """
    device = device_of(model)
    batch = noisy_batch(clean, model.config.steps, bank, generator, config)
    chosen = draw_boxes(len(clean), (clean.shape[2], clean.shape[3]), generator)
    region = regions(chosen, clean).to(device)
    batch = batch.to(device)
    predicted = model(batch.x, batch.t, batch.noise, None, region)
    return restoration.loss(predicted, clean.to(device), batch.x, batch.weight, config, region)


METHOD = Method(
    "pddpm",
    "patched diffusion model (pDDPM)",
    PatchedDiffusion,
    loss,
    PatchedReconstructor,
    cites=("behrendt2023patched", *DIFFUSION),
)
