"""What the methods share: their record, the protocols, and batches for reconstruction and training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from uadcli.arrays import Array
from uadcli.config import ModelConfig, ReconstructionConfig, TrainConfig
from uadcli.errors import DeviceError
from uadcli.reconstruction.augment import synthetic_lesions
from uadcli.reconstruction.model import Network
from uadcli.reconstruction.noise import NoiseBank, slice_noise

Progress = Callable[[int, int], None]
Device = str | torch.device
Item = TypeVar("Item")


class Reconstructor(Protocol):
    """Slices (N, H, W) in [0, 1] and their indices -> pseudo-healthy slices (N, H, W)."""

    def __call__(self, slices: Array, indices: Sequence[int]) -> Array: ...


class Loss(Protocol):
    """The training loss of a network on clean slices (B, 1, H, W) in [0, 1]; the generator draws everything random.

    The slices are on the generator's device; inputs are moved to the network's.
    """

    def __call__(
        self, model: Any, clean: Tensor, bank: NoiseBank, generator: torch.Generator, config: TrainConfig
    ) -> Tensor: ...


class SliceScore(Protocol):
    """How far slices (N, H, W) and their reconstructions are apart by the network itself: one number each, (N,)."""

    def __call__(self, model: Any, slices: Array, recon: Array) -> Array: ...


@dataclass(frozen=True)
class Method:
    """One method: its network, how that is trained, and how it reconstructs slices.

    `name` is that of its file. `cites` are keys of `report.citation`. `conditioned`: the network sees the scan's
    condition vector. `levels` are the noise levels stored with its weights. `runs_on` are further methods whose weights
    it can use. `draws`: another seed gives another reconstruction. `needs_anomalies`: it cannot be trained without
    synthetic anomalies. `slice_score` is reported for each slice, if the method has one.
    """

    name: str
    title: str
    network: Callable[[ModelConfig], Network]
    loss: Loss
    reconstructor: Callable[[Any, ReconstructionConfig, Device, Progress | None], Reconstructor]
    cites: tuple[str, ...] = ()
    conditioned: bool = False
    levels: tuple[int, ...] = (250, 500, 750)
    runs_on: tuple[str, ...] = ()
    draws: bool = True
    needs_anomalies: bool = False
    slice_score: SliceScore | None = None


DIFFUSION = ("ho2020denoising", "wyatt2022anoddpm")  # the works behind every diffusion model here


class SliceReconstructor:
    """A reconstructor that processes slices in batches; slices that are 0 everywhere stay 0.

    The result for a slice must not depend on the others in its batch.
    """

    def __init__(
        self,
        model: Any,
        config: ReconstructionConfig,
        device: Device = "cpu",
        progress: Progress | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.model = model.eval().to(self.device, memory_format=torch.channels_last)
        self.config, self.progress = config, progress

    def __call__(self, slices: Array, indices: Sequence[int]) -> Array:
        """Pseudo-healthy slices (N, H, W). Raises `DeviceError` if not even one slice fits into the device's memory."""
        result = np.zeros(slices.shape, dtype=np.float32)
        work = [n for n in range(len(slices)) if slices[n].any()]
        for n, image in self._in_batches(work, lambda part: self._slices(slices, indices, part)):
            result[n] = image
        return result

    def _slices(self, slices: Array, indices: Sequence[int], part: list[int]) -> Array:
        """The reconstructions (B, H, W) of the slices `part`."""
        raise NotImplementedError

    def _in_batches(self, work: list[Item], batch: Callable[[list[Item]], Array]) -> Iterator[tuple[Item, Array]]:
        """Each item of the work with its image; batches are halved if the device's memory is too small."""
        size, done = self.config.batch_size, 0
        while done < len(work):
            part = work[done : done + size]
            try:
                output = batch(part)
            except RuntimeError as error:
                if not _lacks_memory(error):
                    raise
                if size == 1:
                    raise DeviceError("out of memory with one slice", hint="Use --device cpu.") from error
                size //= 2
                torch.cuda.empty_cache()
                continue
            yield from zip(part, output, strict=True)
            done += len(part)
            if self.progress:
                self.progress(done, len(work))

    def _noise(self, indices: Sequence[int], level: int, shape: tuple[int, ...]) -> Tensor:
        """The noise (B, 1, H, W) of slices at one level, each drawn from (seed, slice, level)."""
        kind = self.model.config.noise
        return self._to_device(slice_noise(self.config.seed, indices, level, (shape[0], shape[1]), kind))

    def _to_device(self, array: Array) -> Tensor:
        return torch.from_numpy(array).to(self.device, memory_format=torch.channels_last)

    def _autocast(self) -> AbstractContextManager[object]:
        wanted = self.config.arithmetic == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16) if wanted else nullcontext()


def _lacks_memory(error: RuntimeError) -> bool:
    """Whether a GPU has too little memory: for torch, or for cuBLAS and cuDNN, whose failures torch only passes on."""
    return isinstance(error, torch.OutOfMemoryError) or "STATUS_ALLOC_FAILED" in str(error)


class OnePassReconstructor(SliceReconstructor):
    """The output of one pass of the network, without noise."""

    @torch.inference_mode()
    def _slices(self, slices: Array, indices: Sequence[int], part: list[int]) -> Array:
        with self._autocast():
            output = self.model(self._to_device(slices[part][:, None]))
        return output.float().clamp(0, 1).cpu().numpy()[:, 0]


@dataclass(frozen=True)
class NoisyBatch:
    """A training batch of a diffusion model: slices x with synthetic anomalies, their weight, step indices, noise."""

    x: Tensor
    weight: Tensor
    t: Tensor
    noise: Tensor

    def to(self, device: torch.device) -> NoisyBatch:
        """The batch on another device, images channels last."""
        x = self.x.to(device, memory_format=torch.channels_last)
        return NoisyBatch(x, self.weight.to(device), self.t.to(device), self.noise.to(device))


def noisy_batch(
    clean: Tensor, steps: int, bank: NoiseBank, generator: torch.Generator, config: TrainConfig
) -> NoisyBatch:
    """Some of the slices (B, 1, H, W) with a synthetic anomaly, a step index and noise for each (method 2.5)."""
    batch = len(clean)
    lesioned, weight = synthetic_lesions(clean, bank, generator)
    carries = (torch.rand(batch, generator=generator) < config.lesion_probability).view(-1, 1, 1, 1)
    x, weight = torch.where(carries, lesioned, clean), weight * carries
    t = torch.randint(steps, (batch,), generator=generator)
    noise = bank.draw(batch, (clean.shape[2], clean.shape[3]), generator)
    return NoisyBatch(x, weight, t, noise)


def device_of(model: Any) -> torch.device:
    """The device that a network is on."""
    device: torch.device = next(model.parameters()).device
    return device
