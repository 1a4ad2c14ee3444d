"""cDDPM: one-step reconstructions by a diffusion model conditioned on the scan's encoding (Behrendt 2025)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from uadcli.arrays import Array
from uadcli.config import ReconstructionConfig, TrainConfig
from uadcli.reconstruction import restoration
from uadcli.reconstruction.model import ConditionedDiffusion
from uadcli.reconstruction.noise import NoiseBank, slice_noise
from uadcli.reconstruction.reconstructors.base import (
    DIFFUSION,
    Device,
    Method,
    Progress,
    SliceReconstructor,
    device_of,
    noisy_batch,
)


class CddpmReconstructor(SliceReconstructor):
    """One-step reconstructions from several noise levels, averaged (Behrendt et al. 2023, sec. 3; method 2.6)."""

    def __init__(
        self,
        model: ConditionedDiffusion,
        config: ReconstructionConfig,
        device: Device = "cpu",
        progress: Progress | None = None,
    ) -> None:
        super().__init__(model, config, device, progress)
        self._conditions: dict[int, Tensor] = {}  # by slice of the current volume

    def __call__(self, slices: Array, indices: Sequence[int]) -> Array:
        """The mean over the noise levels; slices that are 0 everywhere stay 0."""
        return self.per_level(slices, indices).mean(axis=0)

    def per_level(self, slices: Array, indices: Sequence[int]) -> Array:
        """Reconstructions (levels, N, H, W), one for each noise level.

        Raises `DeviceError` if not even one slice fits into the device's memory.
        """
        levels = self.config.levels
        result = np.zeros((len(levels), *slices.shape), dtype=np.float32)
        work = [(k, n) for n in range(len(slices)) if slices[n].any() for k in range(len(levels))]
        self._conditions = {}
        for (k, n), image in self._in_batches(work, lambda part: self._batch(slices, indices, part)):
            result[k, n] = image
        return result

    @torch.inference_mode()
    def _batch(self, slices: Array, indices: Sequence[int], part: list[tuple[int, int]]) -> Array:
        x0, t, noise = self._noisy(slices, indices, part)
        with self._autocast():
            output = self.model(x0, t, noise, self._condition(slices, [n for _, n in part]))
        return output.float().clamp(0, 1).cpu().numpy()[:, 0]

    def _noisy(
        self, slices: Array, indices: Sequence[int], part: list[tuple[int, int]]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Slices, step indices and noise for pairs of level and slice; each slice has its own noise."""
        shape = slices.shape[1:]
        seed, kind = self.config.seed, self.model.config.noise
        noise = np.concatenate(
            [slice_noise(seed, [indices[n]], self.config.levels[k], (shape[0], shape[1]), kind) for k, n in part]
        )
        t = torch.tensor([self.config.levels[k] - 1 for k, _ in part], device=self.device)
        return self._to_device(slices[[n for _, n in part]][:, None]), t, self._to_device(noise)

    def _condition(self, slices: Array, numbers: list[int]) -> Tensor | None:
        """Condition vectors of a batch; the encoder sees each slice once, whatever the number of levels."""
        if self.model.encoder is None:
            return None
        new = [n for n in dict.fromkeys(numbers) if n not in self._conditions]
        if new:
            vectors = self.model.encoder(self._to_device(slices[new][:, None]))
            self._conditions |= dict(zip(new, vectors, strict=True))
        return torch.stack([self._conditions[n] for n in numbers])


def loss(
    model: ConditionedDiffusion, clean: Tensor, bank: NoiseBank, generator: torch.Generator, config: TrainConfig
) -> Tensor:
    """L1 between the one-step prediction and the `clean` slices (B, 1, H, W) in [0, 1]; a scalar (method 2.5).

    Anomalies, which are part of the noisy input, have more weight.
    """
    device = device_of(model)
    batch = noisy_batch(clean, model.config.steps, bank, generator, config).to(device)
    predicted = model(batch.x, batch.t, batch.noise)
    return restoration.loss(predicted, clean.to(device), batch.x, batch.weight, config)


METHOD = Method(
    "cddpm",
    "conditioned diffusion model (cDDPM)",
    ConditionedDiffusion,
    loss,
    CddpmReconstructor,
    cites=("behrendt2025guided", *DIFFUSION),
    conditioned=True,
)
