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

from uadcli.config import EncoderConfig, ModelConfig, UNetConfig
from uadcli.training import reconstruction

TINY = ModelConfig(
    unet=UNetConfig(channels=8, multipliers=(1, 2), blocks=1, head_channels=8, embedding=16),
    encoder=EncoderConfig(blocks=(1, 1), width=4, condition=16),
)
SIZE = gpu.Size(slices=7, repeats=1, steps=1, matrix=64)


def test_everything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconstruction, "NoiseBank", functools.partial(reconstruction.NoiseBank, count=2))
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
