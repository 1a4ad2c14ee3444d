"""Synomaly: synthetic anomalies are part of the noise, and several stages of little noise remove a lesion bit by bit.

After Bi et al. 2024 (arXiv 2411.04004): the network learns to remove anomalies together with the noise; at test time
each stage adds noise to the result of the one before. Here each stage is a one-step prediction, at levels low enough to
keep detail.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from uadcli.arrays import Array
from uadcli.config import TrainConfig
from uadcli.reconstruction import restoration
from uadcli.reconstruction.augment import synthetic_lesions
from uadcli.reconstruction.model import ConditionedDiffusion
from uadcli.reconstruction.noise import NoiseBank
from uadcli.reconstruction.reconstructors.base import DIFFUSION, Method, SliceReconstructor, device_of, noisy_batch

BLOBS = 3  # anomalies in a slice at most
STAGES = (200, 150, 100)  # noise levels, one for each stage


class StagedReconstructor(SliceReconstructor):
    """One stage for each noise level, in the given order, each starting from the previous result."""

    @torch.inference_mode()
    def _slices(self, slices: Array, indices: Sequence[int], part: list[int]) -> Array:
        x = self._to_device(slices[part][:, None])
        chosen = [indices[n] for n in part]
        for level in self.config.levels:
            t = torch.full((len(part),), level - 1, device=self.device)
            with self._autocast():
                output = self.model(x, t, self._noise(chosen, level, slices.shape[1:]))
            x = output.float().clamp(0, 1)
        return x.cpu().numpy()[:, 0]


def loss(
    model: ConditionedDiffusion, clean: Tensor, bank: NoiseBank, generator: torch.Generator, config: TrainConfig
) -> Tensor:
    """L1 to the `clean` slices (B, 1, H, W) in [0, 1], from slices with noise and up to three anomalies; a scalar."""
    device = device_of(model)
    batch = noisy_batch(clean, model.config.steps, bank, generator, config)
    x, weight = batch.x, batch.weight
    for _ in range(BLOBS - 1):
        more, where = synthetic_lesions(x, bank, generator)
        carries = torch.rand(len(x), generator=generator, device=generator.device) < config.lesion_probability
        carries = carries.view(-1, 1, 1, 1)
        x, weight = torch.where(carries, more, x), torch.where(carries, torch.maximum(weight, where), weight)
    x, weight, batch = x.to(device, memory_format=torch.channels_last), weight.to(device), batch.to(device)
    predicted = model(x, batch.t, batch.noise)
    return restoration.loss(predicted, clean.to(device), x, weight, config)


METHOD = Method(
    "synomaly",
    "diffusion model with synthetic-anomaly noise (Synomaly)",
    ConditionedDiffusion,
    loss,
    StagedReconstructor,
    cites=("bi2024synomaly", *DIFFUSION),
    levels=STAGES,
    needs_anomalies=True,
)
