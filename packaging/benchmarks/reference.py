"""The published inference next to ours on the same slices: seconds, peak memory, and the share of each step.

    python packaging/benchmarks/reference.py [--device auto] [--slices 6] [--repeats 5]

From slices on the model's grid to the filtered residual: (1) the published inference (`published.py`, 68.6 M
parameters, float32), (2) ours with the same network and weights, (3) ours with the bundled models and their levels.
(2) runs in the faster arithmetic of the device (`--precision`) and in float32, (3) as `uad detect` does by default.
They take turns; seconds are medians. On a CPU a whole volume of 75 slices takes the published inference minutes, so
that few slices are timed and the seconds multiplied; the peak memory is that of whole volumes at one level, each in a
process of its own. Exits with 1 if the outputs at equal weights and noise differ by more than their bound.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import published
import torch
from numpy.typing import NDArray

from uadcli import device as devices
from uadcli.config import CONTRASTS, ModelConfig, ReconstructionConfig, ScoringConfig, preset
from uadcli.imaging import template
from uadcli.imaging.slices import from_slices, to_slices
from uadcli.model import model as models
from uadcli.reconstruction import noise
from uadcli.reconstruction.model import ConditionedDiffusion
from uadcli.reconstruction.reconstructors.cddpm import CddpmReconstructor
from uadcli.scoring.residual import anomaly_score
from uadcli.weights import weights

Array = NDArray[np.float32]
LEVELS, VOLUME = (250, 500, 750), 75
BOUNDS = {"float32": 1e-4, "bf16": 0.03}  # largest difference of the maps at equal weights and noise
IN_FLOAT32 = "equal weights, float32"
AIMS = {"equal weights": {"cpu": 1.5, "cuda": 5.0}, "T1w": {"cpu": 100.0}, "FLAIR": {"cpu": 50.0}}
Run = Callable[[], tuple[Array, dict[str, float]]]


@dataclass(frozen=True)
class Volume:
    """Slices (N, H, W) of a brain in [0, 1], and its mask."""

    slices: Array
    brain: NDArray[np.bool_]


def volume(count: int) -> Volume:
    """Neighbouring slices through the middle of the template's brain: at most 75."""
    mask = to_slices(template.on_grid("mni_brain_mask") > 0)
    head = to_slices(template.on_grid("mni_head_T1w", 1)) / 255
    middle = len(mask) // 2
    part = slice(middle - count // 2, middle - count // 2 + count)
    return Volume(np.where(mask, head.clip(0, 1), 0).astype(np.float32)[part], mask[part])


def arithmetic_of(device: str) -> str:
    """The fastest arithmetic of a device: bf16 on a GPU, and on a CPU with instructions for it."""
    return "bf16" if device != "cpu" or devices.bf16("auto", device) else "float32"


def ours(
    model: ConditionedDiffusion, given: Volume, levels: Sequence[int], device: str, arithmetic: str = ""
) -> tuple[Array, dict[str, float]]:
    """The map (N, H, W) by our code, and the seconds of its steps. Noise is drawn anew, as for a first scan."""
    settings = ReconstructionConfig(levels=tuple(levels), arithmetic=arithmetic)
    noise._slice_map.cache_clear()
    times = [time.perf_counter()]
    for level in levels:
        noise.slice_noise(settings.seed, range(len(given.slices)), level, given.slices.shape[1:])  # type: ignore[arg-type]
    times.append(time.perf_counter())
    found = CddpmReconstructor(model, settings, device)(given.slices, range(len(given.slices)))
    times.append(time.perf_counter())
    x, healthy, brain = (from_slices(one) for one in (given.slices, found, given.brain))
    made = to_slices(anomaly_score(x, np.where(brain, healthy, 0), brain, "absolute", ScoringConfig()))
    times.append(time.perf_counter())
    steps = ("noise", "network", "post-processing")
    return made, {name: after - before for name, before, after in zip(steps, times, times[1:], strict=False)}


def networks(config: ModelConfig, device: str) -> tuple[published.Published, ConditionedDiffusion]:
    """The plain network and ours with the same random weights; also those that start as zero, or nothing would show."""
    torch.manual_seed(0)
    plain, own = published.Published(config).eval(), ConditionedDiffusion(config).eval()
    for value in plain.parameters():
        if not value.any():
            torch.nn.init.normal_(value, std=0.02)
    own.load_state_dict(plain.state_dict())
    return plain.to(device), own.to(device)


def difference(
    pair: tuple[published.Published, ConditionedDiffusion], given: Volume, device: str, arithmetic: str
) -> float:
    """The largest difference of the two maps at one level, with the noise of ours in both."""
    seed = ReconstructionConfig().seed

    def same(level: int, count: int) -> Array:
        return noise.slice_noise(seed, range(count), level, given.slices.shape[1:])  # type: ignore[arg-type]

    plain, own = pair
    first = published.infer(plain, given.slices, given.brain, LEVELS[:1], same)[0]
    return float(np.abs(first - ours(own, given, LEVELS[:1], device, arithmetic)[0]).max())


def bundled(device: str) -> dict[str, models.Model]:
    """The bundled models of the contrasts that they were trained on."""
    names = [one for one in CONTRASTS if one in AIMS]
    return {one: models.load(*weights.find(None, one), device) for one in names}


def measured(runs: dict[str, Run], repeats: int) -> dict[str, dict[str, float]]:
    """The median seconds of each run's steps; the runs take turns, after one round that is not counted."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            steps = run()[1]
            found[name] += [steps] if turn else []
    return {name: {step: median(one[step] for one in all_) for step in all_[0]} for name, all_ in found.items()}


def peak_mb(which: str, count: int, device: str) -> float:
    """The peak memory of one inference at one level in this process, in MB: of the GPU, or of the process."""
    given, config = volume(count), preset("reference")
    if which == "published":
        published.infer(published.Published(config).eval().to(device), given.slices, given.brain, LEVELS[:1])
    elif which not in CONTRASTS:
        arithmetic = "float32" if which == IN_FLOAT32 else arithmetic_of(device)
        ours(ConditionedDiffusion(config).eval(), given, LEVELS[:1], device, arithmetic)
    else:
        ours(models.load(*weights.find(None, which), device).network, given, LEVELS[:1], device)  # type: ignore[arg-type]
    if device != "cpu":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resident_mb()


def resident_mb() -> float:
    """The peak memory of this process in MB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def peaks(names: Sequence[str], count: int, device: str) -> dict[str, float]:
    """The peak memory of each, in processes of their own."""
    command = [sys.executable, __file__, "--device", device, "--slices", str(count), "--peak"]
    return {n: float(subprocess.run([*command, n], check=True, capture_output=True, text=True).stdout) for n in names}


def table(seconds: dict[str, dict[str, float]], memory: dict[str, float], scale: float, device: str) -> str:
    """The rows in Markdown: seconds of a volume, memory, ratio to the published inference, and shares."""
    kind, whole = device.split(":")[0], sum(seconds["published"].values())
    lines = ["| inference | s a volume | peak MB | times as fast | aim | noise | network | post-processing |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for name, steps in seconds.items():
        total, aim = sum(steps.values()), AIMS.get(name, {}).get(kind)
        ratio = whole / total
        wanted = "-" if aim is None else f"{aim:g}: {'met' if ratio >= aim else 'MISSED'}"
        shares = " | ".join(f"{value / total:.0%}" for value in steps.values())
        head = f"bundled, {name}" if name in CONTRASTS else name
        lines.append(f"| {head} | {scale * total:.3g} | {memory[name]:.0f} | {ratio:.2f} | {wanted} | {shares} |")
    return "\n".join(lines)


def compare(
    device: str, count: int, repeats: int, config: ModelConfig
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """The seconds of all, and the largest difference at equal weights by arithmetic."""
    pair, given, known = networks(config, device), volume(count), bundled(device)
    plain, own = pair
    if count <= published.MEDIAN:
        raise SystemExit(f"the median needs more than {published.MEDIAN} slices, or all maps are 0")
    runs: dict[str, Run] = {
        "published": lambda: published.infer(plain, given.slices, given.brain, LEVELS),
        "equal weights": lambda: ours(own, given, LEVELS, device, arithmetic_of(device)),
        IN_FLOAT32: lambda: ours(own, given, LEVELS, device, "float32"),
    }
    for name, one in known.items():
        runs[name] = lambda one=one: ours(one.network, given, one.card.levels, device)  # type: ignore[misc]
    kinds = dict.fromkeys(("float32", arithmetic_of(device)))
    apart = {kind: difference(pair, given, device, kind) for kind in kinds}
    return measured(runs, repeats), apart


def report(device: str, count: int, repeats: int, whole: int = VOLUME) -> bool:
    """Print everything; whether the outputs are equal within the bound. Memory is that of `whole` slices."""
    seconds, apart = compare(device, count, repeats, preset("reference"))
    memory = peaks(list(seconds), whole, device)
    print(f"{devices.describe(device)}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"{count} slices at levels {LEVELS}, medians of {repeats}, taking turns; seconds for {VOLUME} slices\n")
    print(table(seconds, memory, VOLUME / count, device))
    for name, one in bundled(device).items():
        print(f"\n{one.card.name} ({name}): levels {one.card.levels}", end="")
    print(f"\n\nequal weights in {arithmetic_of(device)}; largest differences of the maps at equal weights and noise:")
    for kind, value in apart.items():
        print(f"{kind}: {value:.1e} (bound {BOUNDS[kind]:g})")
    return all(value <= BOUNDS[kind] for kind, value in apart.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--slices", type=int, default=6, help="how many are timed; all 75 on a GPU")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory-slices", type=int, default=VOLUME, help="how many the peak memory is measured with")
    parser.add_argument("--peak", metavar="NAME", help="only print the peak memory of one of them")
    arguments = parser.parse_args()
    device = devices.choose(arguments.device)[0]
    if arguments.peak:
        print(peak_mb(arguments.peak, arguments.slices, device))
        return
    count = arguments.slices if device == "cpu" else VOLUME
    if not report(device, count, arguments.repeats, arguments.memory_slices):
        raise SystemExit("the outputs at equal weights differ by more than their bound")


if __name__ == "__main__":
    main()
