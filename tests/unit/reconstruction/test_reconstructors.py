"""The mean over noise levels, and batches that do not fit into memory; what all methods promise: test_methods."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import numpy as np
import pytest
import torch

from uadcli.config import ModelConfig, ReconstructionConfig
from uadcli.errors import DeviceError
from uadcli.reconstruction.model import ConditionedDiffusion
from uadcli.reconstruction.reconstructors import CddpmReconstructor


@pytest.fixture
def model(tiny: ModelConfig) -> ConditionedDiffusion:
    torch.manual_seed(0)
    model = ConditionedDiffusion(tiny)
    with torch.no_grad():  # the zero-initialised layers would hide everything
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return model


def _slices(count: int = 11) -> np.ndarray:
    return np.random.default_rng(0).random((count, 96, 96), dtype=np.float32)


def test_the_mean_is_over_levels_and_the_seed_counts(model: ConditionedDiffusion) -> None:
    slices = _slices(3)
    make = CddpmReconstructor(model, ReconstructionConfig((250, 750), 8, 1))
    levels = make.per_level(slices, [1, 2, 3])
    assert levels.shape == (2, 3, 96, 96)
    assert np.allclose(make(slices, [1, 2, 3]), levels.mean(axis=0))
    other = CddpmReconstructor(model, ReconstructionConfig((250, 750), 8, 2))(slices, [1, 2, 3])
    assert not np.allclose(other, levels.mean(axis=0))


def test_level_250_is_the_250th_step(model: ConditionedDiffusion) -> None:
    """As in the published code, whose indices are 249, 499 and 749."""
    steps = set[int]()
    model.register_forward_pre_hook(lambda _, given: steps.update(given[1].tolist()))
    CddpmReconstructor(model, ReconstructionConfig((250, 750), 8))(_slices(2), range(2))
    assert steps == {249, 749}


@pytest.mark.parametrize("arithmetic", ["", "float32", "bf16"])
def test_bf16_changes_no_more_than_rounding_and_the_others_nothing(
    model: ConditionedDiffusion, arithmetic: str
) -> None:
    slices = _slices(3)
    wanted = CddpmReconstructor(model, ReconstructionConfig((250, 750), 8))(slices, range(3))
    found = CddpmReconstructor(model, ReconstructionConfig((250, 750), 8, arithmetic=arithmetic))(slices, range(3))
    apart = np.abs(found - wanted).max()
    assert 0 < apart < 0.02 if arithmetic == "bf16" else apart == 0


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
@pytest.mark.parametrize("arithmetic", ["", "float32", "bf16"])
def test_no_device_decides_the_arithmetic(
    model: ConditionedDiffusion, monkeypatch: pytest.MonkeyPatch, arithmetic: str, device: str
) -> None:
    asked: list[tuple[str, torch.dtype]] = []

    def autocast(on: str, kind: torch.dtype) -> AbstractContextManager[None]:
        asked.append((on, kind))
        return nullcontext()

    make = CddpmReconstructor(model, ReconstructionConfig((250,), arithmetic=arithmetic))
    make.device = torch.device(device)
    monkeypatch.setattr(torch, "autocast", autocast)
    with make._autocast():
        pass
    assert asked == ([(device, torch.bfloat16)] if arithmetic == "bf16" else [])


def test_in_bf16_the_size_of_a_batch_changes_no_more_than_rounding(model: ConditionedDiffusion) -> None:
    slices = _slices(5)
    found = [
        CddpmReconstructor(model, ReconstructionConfig((250,), size, arithmetic="bf16"))(slices, range(5))
        for size in (1, 2, 8)
    ]
    assert max(np.abs(found[0] - one).max() for one in found[1:]) < 0.01


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_out_of_memory_halves_the_batch(
    model: ConditionedDiffusion, monkeypatch: pytest.MonkeyPatch, error: RuntimeError
) -> None:
    make = CddpmReconstructor(model, ReconstructionConfig((500,), 8, 1))
    expected, sizes, batch = make(_slices(6), range(6)), [], make._batch

    def tight(slices: np.ndarray, indices: object, part: list[tuple[int, int]]) -> np.ndarray:
        sizes.append(len(part))
        if len(part) > 2:
            raise error
        return batch(slices, indices, part)  # type: ignore[arg-type]

    monkeypatch.setattr(make, "_batch", tight)
    assert np.allclose(make(_slices(6), range(6)), expected, atol=1e-5)
    assert sizes == [6, 4, 2, 2, 2]

    def never(*_: object) -> np.ndarray:
        raise error

    monkeypatch.setattr(make, "_batch", never)
    with pytest.raises(DeviceError, match="memory"):
        make(_slices(2), range(2))


def test_another_error_of_a_batch_is_not_taken_for_a_lack_of_memory(
    model: ConditionedDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = CddpmReconstructor(model, ReconstructionConfig((500,), 8, 1))

    def broken(*_: object) -> np.ndarray:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(make, "_batch", broken)
    with pytest.raises(RuntimeError, match="illegal"):
        make(_slices(2), range(2))
