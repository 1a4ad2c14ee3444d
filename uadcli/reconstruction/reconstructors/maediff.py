"""MAEDiff: overlapping noised patches, parts of which are hidden entirely (after Xu et al. 2024; method 10).

Half of the 36 sub-patches (8 x 8 pixels) of a noised patch keep no signal, so that the network has to fill them from
their surroundings; patches overlap every 24 pixels and are averaged. The UNet replaces the paper's masked autoencoder.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from uadcli.config import TrainConfig
from uadcli.reconstruction import restoration
from uadcli.reconstruction.noise import NoiseBank
from uadcli.reconstruction.reconstructors.base import DIFFUSION, Method, device_of, noisy_batch
from uadcli.reconstruction.reconstructors.pddpm import (
    HALF,
    PATCH,
    Box,
    PatchedDiffusion,
    PatchedReconstructor,
    draw_boxes,
    inside,
    regions,
)

SUB = 8  # pixels; side of a sub-patch
SIDE = PATCH // SUB
HIDDEN = SIDE * SIDE // 2  # sub-patches of a patch without signal


class MaskedReconstructor(PatchedReconstructor):
    """The patched reconstructor with overlapping patches, parts of each hidden by (seed, slice, level, patch)."""

    stride = HALF

    def _hidden(self, part: list[tuple[int, int, Box]], like: Tensor) -> Tensor:
        ranks = []
        for level, index, box in part:
            sequence = np.random.SeedSequence([self.config.seed, int(index), level, *box])
            ranks.append(np.random.default_rng(sequence).permutation(SIDE * SIDE))
        return hidden_parts(torch.from_numpy(np.stack(ranks)), [box for _, _, box in part], like)


def hidden_parts(ranks: Tensor, chosen: list[Box], like: Tensor) -> Tensor:
    """Masks (B, 1, H, W) of the sub-patches of each patch with the lowest `ranks` (B, 36), in reading order."""
    coarse = (ranks < HIDDEN).view(-1, SIDE, SIDE)
    fine = coarse.repeat_interleave(SUB, 1).repeat_interleave(SUB, 2)
    result = torch.zeros(like.shape, dtype=torch.bool)
    for i, box in enumerate(chosen):
        result[i, 0][inside(box)] = fine[i]
    return result.to(like.device)


def loss(
    model: PatchedDiffusion, clean: Tensor, bank: NoiseBank, generator: torch.Generator, config: TrainConfig
) -> Tensor:
    """The loss of pDDPM on `clean` slices (B, 1, H, W), with parts of the patch hidden; a scalar."""
    device = device_of(model)
    batch = noisy_batch(clean, model.config.steps, bank, generator, config).to(device)
    chosen = draw_boxes(len(clean), (clean.shape[2], clean.shape[3]), generator)
    ranks = torch.rand(len(clean), SIDE * SIDE, generator=generator).argsort(1).cpu()
    region, hidden = regions(chosen, batch.x), hidden_parts(ranks, chosen, batch.x)
    predicted = model(batch.x, batch.t, batch.noise, None, region, hidden)
    return restoration.loss(predicted, clean.to(device), batch.x, batch.weight, config, region)


METHOD = Method(
    "maediff",
    "masked patched diffusion model (MAEDiff)",
    PatchedDiffusion,
    loss,
    MaskedReconstructor,
    cites=("xu2024maediff", *DIFFUSION),
)
