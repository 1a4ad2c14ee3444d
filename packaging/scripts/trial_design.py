"""Width, training noise, synthetic anomalies, 2.5-D input: short trainings from nothing, the same for each design.

    python packaging/scripts/trial_design.py DATA --steps 250 --cases 7
    python packaging/scripts/trial_design.py DATA --steps 4 --cases 1 --designs small,neighbours         # a try

Each design is trained for the same number of steps of 16 slices on the same data; checkpoints are kept in --run, and
more steps go on from them. Then the AUPRC of the residual (absolute for T1w, bright-weighted for FLAIR and T2w), on
each scan's own grid (synthetic lesions: the model's), mean over scans; seconds of a training step, validation and
all, and of a reconstruction. Short trainings favour what learns fast: the last word on a design is a long one.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from development import cases
from scenes import CONFIG, RESIDUAL, SYNTHETIC, scenes
from torch import Tensor, nn

from uadcli import device
from uadcli.config import ModelConfig, ReconstructionConfig, TrainConfig, preset
from uadcli.console import Reporter
from uadcli.data.dataset import Case
from uadcli.imaging.slices import from_slices, occupied, to_slices
from uadcli.reconstruction.augment import synthetic_lesions
from uadcli.reconstruction.model import ConditionedDiffusion
from uadcli.reconstruction.noise import NoiseBank
from uadcli.reconstruction.reconstructors import CddpmReconstructor
from uadcli.reconstruction.schedule import add_noise
from uadcli.scoring.metrics import average_precision
from uadcli.scoring.scores.residual import anomaly_score
from uadcli.training import checkpoint, loop
from uadcli.training.reconstruction import Trainer
from uadcli.training.slices import SliceSet, load_slices

Map = np.ndarray
LEVELS = (250, 500, 750)


def sized(channels: int) -> ModelConfig:
    """The `small` preset with another width of the UNet."""
    model = preset("small")
    return dataclasses.replace(model, unet=dataclasses.replace(model.unet, channels=channels))


class GaussianNoise(NoiseBank):
    """White noise for training."""

    def draw(self, batch: int, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
        return torch.randn(batch, 1, *shape, generator=generator, device=generator.device)


class WithGaussian(Trainer):
    """Training with white noise. The synthetic anomalies are still bent and textured by simplex noise."""

    def __init__(self, model: ModelConfig, config: TrainConfig) -> None:
        super().__init__(model, config)
        self.white = GaussianNoise()

    def _loss(self, clean: Tensor) -> Tensor:
        return slab_loss(self, clean, self.white)


@dataclass(frozen=True)
class Slabs(SliceSet):
    """Slices that come with both neighbours, (B, 3, 96, 96); the first and last of a scan are their own."""

    around: Tensor = dataclasses.field(default_factory=lambda: torch.empty(0, 3))

    def to(self, where: torch.device) -> Slabs:
        slices, contrast, around = (part.to(where) for part in (self.slices, self.contrast, self.around))
        return Slabs(slices, contrast, self.made, around)

    def at(self, index: Tensor) -> Tensor:
        return self.slices[self.around[index]].float().div(255)


class SlabDiffusion(ConditionedDiffusion):
    """2.5-D: the noised slice with its noised neighbours (B, 3, H, W) -> the slice (B, 1, H, W)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.unet.stem = nn.Conv2d(3 * config.unet.unshuffle**2, config.unet.channels, 3, padding=1)

    def forward(self, x0: Tensor, t: Tensor, noise: Tensor, condition: Tensor | None = None) -> Tensor:
        c = self.encode(x0[:, 1:2]) if condition is None else condition
        return self.denoise(add_noise(2 * x0 - 1, t, noise, self.alpha_bar), t, c)


class WithNeighbours(Trainer):
    """Training of the 2.5-D network."""

    def __init__(self, model: ModelConfig, config: TrainConfig) -> None:
        super().__init__(model, config)
        torch.manual_seed(config.seed)
        self.model = SlabDiffusion(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=config.learning_rate, fused=True)

    def _loss(self, clean: Tensor) -> Tensor:
        return slab_loss(self, clean, self.bank)

    def validate(self, data: SliceSet, count: int = 48) -> float:
        generator, slabs = torch.Generator().manual_seed(1), data.at(data.spread(count))
        errors = []
        for level in LEVELS:
            noise = self.bank.draw(len(slabs), (slabs.shape[2], slabs.shape[3]), generator)
            with torch.inference_mode():
                made = self.average(slabs, torch.full((len(slabs),), level - 1), noise)
            errors.append(float((made - slabs[:, 1:2]).abs().mean()))
        return sum(errors) / len(errors)


def slab_loss(trainer: Trainer, clean: Tensor, noise: NoiseBank) -> Tensor:
    """The loss of the cDDPM on slices alone (B, 1, H, W) or with neighbours (B, 3, H, W), with a noise of choice.

    Where there are neighbours, the change that an anomaly makes to the middle slice is made to them as well.
    """
    trainer.model.train()
    config, generator, (batch, channels, height, width) = trainer.config, trainer.generator, clean.shape
    middle = clean[:, channels // 2 : channels // 2 + 1]
    lesioned, weight = synthetic_lesions(middle, trainer.bank, generator)
    carries = (torch.rand(batch, generator=generator) < config.lesion_probability).view(-1, 1, 1, 1)
    x = (clean + carries * (lesioned - middle) * (clean > 0)).clamp(0, 1)
    t = torch.randint(trainer.model.config.steps, (batch,), generator=generator)
    drawn = noise.draw(batch * channels, (height, width), generator).view(batch, channels, height, width)
    predicted = trainer.model(x, t, drawn)
    return ((predicted - middle).abs() * (1 + config.lesion_weight * weight * carries)).mean()


@dataclass(frozen=True)
class Design:
    """What differs from the first one."""

    model: ModelConfig
    config: Callable[[int], TrainConfig] = lambda steps: TrainConfig(steps=steps)
    trainer: type[Trainer] = Trainer


DESIGNS = {
    "small": Design(preset("small")),
    "narrow": Design(sized(24)),
    "wide": Design(sized(48)),
    "gaussian": Design(dataclasses.replace(preset("small"), noise="gaussian"), trainer=WithGaussian),
    "no anomalies": Design(preset("small"), lambda steps: TrainConfig(steps=steps, lesion_probability=0.0)),
    "neighbours": Design(preset("small"), trainer=WithNeighbours),
}


def load(chosen: list[Case], cache: Path) -> Slabs:
    """All healthy slices of the cases, each with its neighbours in the same scan."""
    parts, around, count = [load_slices([case], cache, CONFIG.preprocess) for case in chosen], [], 0
    for part in parts:
        index = torch.arange(len(part.slices))
        near = torch.stack([index - 1, index, index + 1], 1).clamp(0, len(index) - 1)
        around.append(near + count)
        count += len(index)
    slices, contrast = torch.cat([p.slices for p in parts]), torch.cat([p.contrast for p in parts])
    return Slabs(slices, contrast, around=torch.cat(around))


class SlabReconstructor(CddpmReconstructor):
    """As for single slices, with both neighbours and their own noise; the first and last slice are their own."""

    def _noisy(self, slices: Map, indices: Sequence[int], part: list[tuple[int, int]]) -> tuple[Tensor, Tensor, Tensor]:
        last = len(slices) - 1
        shifted = [[(k, min(max(n + by, 0), last)) for k, n in part] for by in (-1, 0, 1)]
        x0, t, noise = zip(*(CddpmReconstructor._noisy(self, slices, indices, one) for one in shifted), strict=True)
        return torch.cat(x0, 1), t[1], torch.cat(noise, 1)


def rebuilt(model: ConditionedDiffusion, x: Map, mask: Map) -> Map:
    """The pseudo-healthy volume (96, 96, 80), with neighbours where they are taken."""
    slices, indices = to_slices(x), occupied(mask)
    kind = SlabReconstructor if isinstance(model, SlabDiffusion) else CddpmReconstructor
    result = np.zeros_like(slices)
    result[indices] = kind(model, ReconstructionConfig(levels=LEVELS))(slices[indices], indices.tolist())
    return np.where(mask, from_slices(result), 0).astype(np.float32)


def trained(arguments: argparse.Namespace, name: str, train: Slabs, validation: Slabs) -> tuple[Trainer, float]:
    """A design trained for the steps asked for or taken from its checkpoint, and the seconds of a step."""
    design, folder = DESIGNS[name], arguments.run / name.replace(" ", "-")
    if kept := checkpoint.find(folder):
        trainer = design.trainer.load(kept, steps=arguments.steps)
    else:
        trainer = design.trainer(design.model, design.config(arguments.steps))
    before, start = trainer.done, time.perf_counter()
    slab = design.trainer is WithNeighbours
    data, held_out = (part if slab else SliceSet(part.slices, part.contrast) for part in (train, validation))

    def judge() -> loop.Judgement:
        return loop.Judgement(trainer.validate(held_out))

    loop.run(trainer, lambda _: trainer.step(data), judge, folder, Reporter(), name="reconstruction")
    steps = trainer.done - before
    return trainer, (time.perf_counter() - start) / steps if steps else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--designs", default=",".join(DESIGNS))
    parser.add_argument("--cases", type=int, default=7, help="scans of each set at most")
    parser.add_argument("--run", type=Path, default=Path("runs/design"))
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    arguments = parser.parse_args()
    threads, found = device.bound_threads(None), cases(arguments.data)
    train = load([c for c in found if c.part == "train"], arguments.cache)
    validation = load([c for c in found if c.part == "val"][:8], arguments.cache)
    names = [name.strip() for name in arguments.designs.split(",")]
    networks = {name: trained(arguments, name, train, validation) for name in names}
    values, seconds = dict[tuple[str, str], list[float]](), dict[str, list[float]]()
    for scene in scenes(arguments.data, arguments.cache, arguments.cases):
        if scene.contrast == "T1w" or scene.set == SYNTHETIC or "glioma" in scene.set:
            for name, (trainer, _) in networks.items():
                start = time.perf_counter()
                recon = rebuilt(trainer.average, scene.x, scene.prepared.mask)  # type: ignore[arg-type]
                seconds.setdefault(name, []).append(time.perf_counter() - start)
                score = anomaly_score(scene.x, recon, scene.prepared.mask, RESIDUAL[scene.contrast], CONFIG.scoring)
                values.setdefault((name, scene.set), []).append(average_precision(scene.on_grid(score), scene.truth))
        print(f"{scene.set}\t{scene.subject}", file=sys.stderr, flush=True)
    sets = list(dict.fromkeys(key for _, key in values))
    print(f"| design | M parameters | {' | '.join(sets)} | s a step | s a scan |\n" + "|---" * (len(sets) + 4) + "|")
    for name, (trainer, pace) in networks.items():
        size = sum(p.numel() for p in trainer.average.parameters()) / 1e6
        cells = " | ".join(f"{np.mean(values[name, one]):.3f}" for one in sets)
        cost = f"{pace:.2f}" if np.isfinite(pace) else "n/a"
        print(f"| {name} | {size:.2f} | {cells} | {cost} | {np.mean(seconds[name]):.1f} |")
    counts = ", ".join(f"{len(values[names[0], one])} {one}" for one in sets)
    print(f"\n{arguments.steps} steps of {TrainConfig().batch_size} slices each, {threads} threads; scans: {counts}")


if __name__ == "__main__":
    main()
