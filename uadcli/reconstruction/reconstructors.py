"""From slices to pseudo-healthy slices: one protocol, one class for each way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from uadcli.config import ReconstructionConfig
from uadcli.errors import DeviceError
from uadcli.reconstruction.model import ConditionedDiffusion
from uadcli.reconstruction.noise import slice_noise

Array = NDArray[np.float32]
Progress = Callable[[int, int], None]


class Reconstructor(Protocol):
    """Slices (N, H, W) in [0, 1] and their indices -> pseudo-healthy slices (N, H, W)."""

    def __call__(self, slices: Array, indices: Sequence[int]) -> Array: ...


class CddpmReconstructor:
    """One-step reconstructions from several noise levels, averaged (Behrendt et al. 2023, sec. 3; method 2.6)."""

    def __init__(
        self,
        model: ConditionedDiffusion,
        config: ReconstructionConfig,
        device: str | torch.device = "cpu",
        progress: Progress | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.model = model.eval().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.config, self.progress = config, progress
        self._conditions: dict[int, torch.Tensor] = {}  # by slice, of the volume at hand

    def __call__(self, slices: Array, indices: Sequence[int]) -> Array:
        """The mean over the noise levels; slices that are 0 everywhere stay so."""
        return self.per_level(slices, indices).mean(axis=0)

    def per_level(self, slices: Array, indices: Sequence[int]) -> Array:
        """Reconstructions (levels, N, H, W), one for each noise level.

        Raises `DeviceError` if not even one slice fits into the device's memory.
        """
        levels = self.config.levels
        result = np.zeros((len(levels), *slices.shape), dtype=np.float32)
        work = [(k, n) for n in range(len(slices)) if slices[n].any() for k in range(len(levels))]
        self._conditions = {}
        size, done = self.config.batch_size, 0
        while done < len(work):
            part = work[done : done + size]
            try:
                output = self._batch(slices, indices, part)
            except torch.OutOfMemoryError as error:
                if size == 1:
                    raise DeviceError("out of memory with one slice", hint="Use --device cpu.") from error
                size //= 2
                torch.cuda.empty_cache()
                continue
            for (k, n), image in zip(part, output, strict=True):
                result[k, n] = image
            done += len(part)
            if self.progress:
                self.progress(done, len(work))
        return result

    @torch.inference_mode()
    def _batch(self, slices: Array, indices: Sequence[int], part: list[tuple[int, int]]) -> Array:
        shape = slices.shape[1:]
        seed, kind = self.config.seed, self.model.config.noise
        noise = np.concatenate(
            [slice_noise(seed, [indices[n]], self.config.levels[k], (shape[0], shape[1]), kind) for k, n in part]
        )
        t = torch.tensor([self.config.levels[k] - 1 for k, _ in part], device=self.device)
        x0 = self._to_device(slices[[n for _, n in part]][:, None])
        with self._autocast():
            output = self.model(x0, t, self._to_device(noise), self._condition(slices, part))
        return output.float().clamp(0, 1).cpu().numpy()[:, 0]

    def _condition(self, slices: Array, part: list[tuple[int, int]]) -> torch.Tensor | None:
        """Condition vectors of a batch; the encoder sees each slice once, whatever the number of levels."""
        if self.model.encoder is None:
            return None
        new = [n for n in dict.fromkeys(n for _, n in part) if n not in self._conditions]
        if new:
            vectors = self.model.encoder(self._to_device(slices[new][:, None]))
            self._conditions |= dict(zip(new, vectors, strict=True))
        return torch.stack([self._conditions[n] for _, n in part])

    def _to_device(self, array: Array) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device, memory_format=torch.channels_last)

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast("cuda", torch.bfloat16) if self.device.type == "cuda" else nullcontext()
