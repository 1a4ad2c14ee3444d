"""`make bench-gpu` on a CPU: the same code path, with a tiny network."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import gpu
import numpy as np
import pytest
import reference
import torch
from torch.autograd import DeviceType

from uadcli.config import EncoderConfig, ModelConfig, ReconstructionConfig, TrainConfig, UNetConfig
from uadcli.reconstruction.model import ConditionedDiffusion
from uadcli.reconstruction.reconstructors.cddpm import CddpmReconstructor
from uadcli.training import reconstruction

TINY = ModelConfig(
    unet=UNetConfig(channels=8, multipliers=(1, 1, 2), blocks=1, head_channels=8, embedding=16),
    encoder=EncoderConfig(blocks=(1, 1), width=4, condition=16),
)
SIZE = gpu.Size(slices=7, repeats=1, steps=1, matrix=64)


def test_everything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconstruction, "NoiseBank", functools.partial(reconstruction.NoiseBank, count=2))
    monkeypatch.setattr(gpu, "TrainConfig", functools.partial(TrainConfig, batch_size=4))
    found = gpu.everything("cpu", {"small": TINY}, SIZE)
    numbers = {key: value for part in found.values() for key, value in part.items() if isinstance(value, float)}
    assert all(np.isfinite(value) for value in numbers.values())
    assert found["inference, small"]["slices a second"] > 0
    assert 0 < found["training, small"]["device busy"] <= 2.5  # several threads compute at once
    assert found["training, small"]["making the batch"] > 0
    rows = {"published", "equal weights", reference.IN_FLOAT32, "T1w", "FLAIR"}
    apart = {f"largest difference in {kind}": kind for kind in ("float32", reference.arithmetic_of("cpu"))}
    assert set(found["published next to ours"]) == rows | set(apart)
    assert all(found["published next to ours"][name] < reference.BOUNDS[kind] for name, kind in apart.items())
    text = gpu.in_words(found)
    assert "| inference, small: seconds a volume |" in text
    assert "aim 0.8" in text


def test_batches_are_halved_until_they_fit_and_the_result_stays() -> None:
    found = gpu.halved(TINY, "cpu", 12)
    assert found["first batch"] == 36
    assert found["batch that fitted"] <= 16
    assert found["largest difference"] < 1e-5


def test_what_bounds_the_memory_is_no_batch_that_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU it runs the whole batch, to find out how much memory that needs."""
    before, bounded = gpu.halved(TINY, "cpu", 4), list[int]()

    def run_it(device: str, model: ConditionedDiffusion, given: reference.Volume) -> None:
        settings = ReconstructionConfig(levels=reference.LEVELS, batch_size=12)
        CddpmReconstructor(model, settings, device)(given.slices, range(4))
        bounded.append(1)

    monkeypatch.setattr(gpu, "bound_memory", run_it)
    assert gpu.halved(TINY, "cpu", 4) == before
    assert bounded


def test_the_peak_is_that_of_one_network_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that counts, and computes on the CPU."""
    allocated = [512]  # MB at most, by what was measured before

    def run(model: ConditionedDiffusion, settings: ReconstructionConfig, _: str) -> CddpmReconstructor:
        allocated[0] = max(allocated[0], 32)
        return CddpmReconstructor(model, settings, "cpu")

    monkeypatch.setattr(gpu, "CddpmReconstructor", run)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: allocated.__setitem__(0, 0))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: allocated[0] * 2**20)
    assert gpu.inference(TINY, "cuda:0", 1.0, SIZE)["peak MB"] == 32


def test_the_time_of_a_kernel_counts_once() -> None:
    """The profiler has it in the operator that starts the kernel, in the kernel, and in annotations around both."""

    def event(kind: DeviceType, microseconds: float, *, annotation: bool = False) -> SimpleNamespace:
        return SimpleNamespace(
            device_type=kind, self_device_time_total=microseconds, is_user_annotation=annotation, is_legacy=False
        )

    operator, kernel = event(DeviceType.CPU, 3e5), event(DeviceType.CUDA, 3e5)
    around = event(DeviceType.CUDA, 5e5, annotation=True)
    assert gpu.kernel_seconds([operator, kernel, around, event(DeviceType.CUDA, 1e5)]) == pytest.approx(0.4)


def test_a_call_is_timed_after_one_that_warms_up() -> None:
    calls: list[int] = []
    assert gpu.seconds(lambda: calls.append(1), "cpu", 3) >= 0
    assert len(calls) == 4
    assert gpu.matrix_rate("cpu", 32) > 0
    assert torch.get_num_threads() >= 1
