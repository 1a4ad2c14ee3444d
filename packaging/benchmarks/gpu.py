"""All measurements of a GPU in one call, in under ten minutes: inference, training, too little memory, whole commands.

    python packaging/benchmarks/gpu.py [--device auto] [--json gpu.json]

For the networks `small` and `reference`: slices per second, share of the device's own rate of matrix products (bf16 on
a GPU), and seconds for a volume of 75 slices at 3 levels; steps of training, the share of the time in which the device
computes, and what the steps consist of. Then one inference with less memory than a batch needs, `uad detect` on the
example, `uad train --smoke`, and the published inference next to ours. It runs on a CPU as well, for its own test.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import reference
import torch
from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from uadcli import device as devices
from uadcli.config import ModelConfig, ReconstructionConfig, TrainConfig, preset
from uadcli.reconstruction.model import ConditionedDiffusion
from uadcli.reconstruction.reconstructors.cddpm import CddpmReconstructor
from uadcli.training import devices as fabrics
from uadcli.training.examples.slices import SliceSet
from uadcli.training.reconstruction import Trainer

EXAMPLE = Path(__file__).parents[1] / "example" / "sub-FG6692_FLAIR.nii.gz"
AIMS = {"small": 0.1, "reference": 0.5}  # seconds for 75 slices at 3 levels on a GPU
BUSY = 0.8  # aim for the share of the time in which the GPU computes while training


@dataclass(frozen=True)
class Size:
    """How much is measured: slices of a volume, repeats, steps of training, side of the matrices."""

    slices: int = 75
    repeats: int = 5
    steps: int = 30
    matrix: int = 8192


def finished(device: str) -> None:
    """Wait until the device has computed everything."""
    if device != "cpu":
        torch.cuda.synchronize(device)


def seconds(call: Callable[[], object], device: str, repeats: int) -> float:
    """The median time of a call, after one that is not counted."""
    times = []
    for _ in range(repeats + 1):
        finished(device)
        start = time.perf_counter()
        call()
        finished(device)
        times.append(time.perf_counter() - start)
    return float(np.median(times[1:]))


def matrix_rate(device: str, side: int) -> float:
    """Floating-point operations per second of a matrix product: bf16 on a GPU, float32 on a CPU."""
    kind = torch.float32 if device == "cpu" else torch.bfloat16
    a = torch.randn(side, side, device=device, dtype=kind)
    return 2 * side**3 / seconds(lambda: a @ a, device, 10)


def inference(config: ModelConfig, device: str, rate: float, size: Size) -> dict[str, float]:
    """Whole volumes at three levels, noise already drawn: as for every scan of a batch but the first."""
    model, given = ConditionedDiffusion(config).eval(), reference.volume(size.slices)
    settings = ReconstructionConfig(
        levels=reference.LEVELS,
        batch_size=size.slices * len(reference.LEVELS),
        arithmetic="float32" if device == "cpu" else "bf16",  # as the rate is measured
    )
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats(device)  # of what was measured before
    run = CddpmReconstructor(model, settings, device)
    with FlopCounterMode(display=False) as counter:
        run(given.slices, range(size.slices))
    took = seconds(lambda: run(given.slices, range(size.slices)), device, size.repeats)
    done = size.slices * len(reference.LEVELS)
    return {
        "seconds a volume": took,
        "slices a second": done / took,
        "share of the matrix rate": counter.get_total_flops() / took / rate,
        "peak MB": torch.cuda.max_memory_allocated(device) / 2**20 if device != "cpu" else reference.resident_mb(),
    }


def training(config: ModelConfig, device: str, rate: float, size: Size) -> dict[str, float]:
    """Steps as in `uad train`, with noise, augmentation, synthetic anomalies, optimiser and averaging."""
    given = reference.volume(min(size.slices, 75))
    stack = torch.from_numpy((255 * given.slices).astype(np.uint8))
    trainer = Trainer(config, TrainConfig())
    trainer.place(fabrics.fabric(0 if device == "cpu" else 1))
    data = SliceSet(stack, torch.zeros(len(stack), dtype=torch.long)).to(trainer.device)
    with FlopCounterMode(display=False) as counter:
        trainer.step(data)
    step = seconds(lambda: trainer.step(data), device, size.steps)

    def batch() -> Tensor:
        with trainer.here():
            index = data.draw(trainer.config.batch_size, trainer.generator)
            return trainer._augmented(data.batch(index, trainer.generator))

    return {
        "seconds a step": step,
        "slices a second": trainer.config.batch_size / step,
        "share of the matrix rate": counter.get_total_flops() / step / rate,
        "making the batch": seconds(batch, device, size.repeats) / step,
        "device busy": busy(lambda: trainer.step(data), device, size.repeats),
    }


def busy(call: Callable[[], object], device: str, repeats: int) -> float:
    """The share of the time in which the device computes, from the profiler: kernels on a GPU, operators on a CPU."""
    on_gpu = device != "cpu"
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=kinds) as profiled:
        finished(device)
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        finished(device)
        whole = time.perf_counter() - start
    events: Any = profiled.key_averages()
    return (kernel_seconds(events) if on_gpu else sum(one.self_cpu_time_total for one in events) / 1e6) / whole


def kernel_seconds(events: Iterable[Any]) -> float:
    """The seconds of the kernels of a GPU among averaged events of the profiler.

    Operators on the CPU repeat the time of the kernels that they start, and annotations that of what they surround.
    """
    kernels = (one for one in events if one.device_type == DeviceType.CUDA and not one.is_user_annotation)
    return sum(one.self_device_time_total for one in kernels) / 1e6


def halved(config: ModelConfig, device: str, count: int = 64) -> dict[str, float]:
    """One inference with memory for a part of its batch: the sizes tried, and whether the result is the same.

    On a GPU the memory of this process is bounded; on a CPU the network refuses large batches as a GPU does.
    """
    model = ConditionedDiffusion(config).eval()
    given, sizes = reference.volume(min(count, 75)), list[int]()
    settings = ReconstructionConfig(levels=reference.LEVELS, batch_size=len(given.slices) * len(reference.LEVELS))
    run = CddpmReconstructor(model, settings, device)
    expected = CddpmReconstructor(model, ReconstructionConfig(levels=reference.LEVELS, batch_size=4), device)(
        given.slices, range(len(given.slices))
    )

    def seen(_: Any, inputs: tuple[Tensor, ...]) -> None:
        sizes.append(len(inputs[0]))
        if device == "cpu" and len(inputs[0]) > 16:
            raise torch.OutOfMemoryError("as a GPU")

    bound_memory(device, model, given)  # runs the whole batch itself, which is no batch tried
    hook = model.register_forward_pre_hook(seen)
    try:
        found = run(given.slices, range(len(given.slices)))
    finally:
        hook.remove()
        if device != "cpu":
            torch.cuda.set_per_process_memory_fraction(1.0, device)
    return {
        "first batch": float(sizes[0]),
        "batch that fitted": float(sizes[-2] if len(sizes) > 1 else sizes[-1]),
        "batches tried": float(len(sizes)),
        "largest difference": float(np.abs(found - expected).max()),
    }


def bound_memory(device: str, model: ConditionedDiffusion, given: reference.Volume) -> None:
    """Leave a GPU half of what the whole batch needs."""
    if device == "cpu":
        return
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    settings = ReconstructionConfig(levels=reference.LEVELS, batch_size=len(given.slices) * len(reference.LEVELS))
    CddpmReconstructor(model, settings, device)(given.slices, range(len(given.slices)))
    needed, total = torch.cuda.max_memory_allocated(device), torch.cuda.get_device_properties(device).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(needed / 2 / total, 1.0), device)


def commands(device: str) -> dict[str, Any]:
    """`uad detect` on the example, with its stages, and `uad train --smoke`."""
    uad, result = [sys.executable, "-m", "uadcli"], dict[str, Any]()
    with tempfile.TemporaryDirectory() as folder:
        detect = ["detect", EXAMPLE, "-o", Path(folder) / "m.nii.gz", "--device", device, "--json", "-q"]
        start = time.perf_counter()
        done = subprocess.run([*uad, *map(str, detect)], capture_output=True, text=True, check=True)
        result["uad detect"] = {"seconds": time.perf_counter() - start, **json.loads(done.stdout)["seconds"]}
        start = time.perf_counter()
        subprocess.run([*uad, "train", "--smoke", "-q"], capture_output=True, check=True)
        result["uad train --smoke"] = {"seconds": time.perf_counter() - start}
    return result


def everything(device: str, networks: dict[str, ModelConfig], size: Size) -> dict[str, Any]:
    """All measurements but the whole commands, by name."""
    rate = matrix_rate(device, size.matrix)
    found: dict[str, Any] = {"device": {"name": devices.describe(device), "matrix TFLOP/s": rate / 1e12}}
    for name, config in networks.items():
        found[f"inference, {name}"] = inference(config, device, rate, size)
        found[f"training, {name}"] = training(config, device, rate, size)
    found["too little memory"] = halved(next(iter(networks.values())), device, size.slices)
    largest = list(networks.values())[-1]
    compared, apart = reference.compare(device, size.slices, size.repeats, largest)
    found["published next to ours"] = {name: sum(steps.values()) for name, steps in compared.items()}
    found["published next to ours"] |= {f"largest difference in {kind}": value for kind, value in apart.items()}
    return found


def in_words(found: dict[str, Any]) -> str:
    """The measurements as a table; next to those with an aim, whether it is met."""
    lines = ["| measurement | value |", "|---|---|"]
    for name, values in found.items():
        for key, value in values.items():
            text = f"{value:.4g}" if isinstance(value, float) else str(value)
            kind = name.rsplit(" ", 1)[-1]
            if key == "seconds a volume" and kind in AIMS:
                text += f" (aim {AIMS[kind]:g}: {'met' if value <= AIMS[kind] else 'MISSED'})"
            if key == "device busy":
                text += f" (aim {BUSY:g}: {'met' if value >= BUSY else 'MISSED'})"
            lines.append(f"| {name}: {key} | {text} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers here")
    arguments = parser.parse_args()
    device, start = devices.choose(arguments.device)[0], time.perf_counter()
    size = Size() if device != "cpu" else Size(slices=8, repeats=1, steps=2, matrix=2048)
    found = everything(device, {name: preset(name) for name in AIMS}, size) | commands(device)
    print(in_words(found))
    print(f"\n{time.perf_counter() - start:.0f} s in all; torch {torch.__version__}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
