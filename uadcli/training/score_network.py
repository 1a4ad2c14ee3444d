"""Training of the score network on synthetic cases and, if the user has any, labelled ones."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from uadcli.config import SiameseConfig, from_dict
from uadcli.console import Reporter
from uadcli.running.stage import Part
from uadcli.scoring.metrics import average_precision
from uadcli.scoring.siamese import Runs, SiameseUNet, places, siamese_score, with_neighbours
from uadcli.training import checkpoint, loop
from uadcli.training.examples.pool import Example, ExampleMaker, ExamplePool
from uadcli.training.learner import Learner
from uadcli.weights.checks import ADDED_TO_SCORE

if TYPE_CHECKING:
    from lightning_fabric import Fabric

GAIN, GAMMA = (0.8, 1.2), (0.85, 1.18)  # wider than the variation of normal tissue between scanners after scaling
# synthetic examples for choosing the best checkpoint; with 6 their AUPRC moves by .1 from one checkpoint to the next
HELD_OUT = 16


class SiameseTrainer(Learner):
    """A training: network, moving average and optimiser. Its examples follow from seed and step (`ExamplePool`)."""

    config: SiameseConfig
    model: SiameseUNet
    average: SiameseUNet

    def __init__(self, config: SiameseConfig) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.model = SiameseUNet(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=config.learning_rate, weight_decay=0.01)

    def batch(self, pool: list[Example], rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Image, residual, place, truth and brain of random slices of the pool, with varied contrast; in half of the
        batches all of them are mirrored.

        Each is (B, C, H, W): C neighbouring slices or coordinates, one channel of truth and brain.
        """
        images, recons, spots, truths, brains = [], [], [], [], []
        for _ in range(self.config.batch_size):
            one = pool[rng.integers(len(pool))]
            index = np.array([one.usable[rng.integers(len(one.usable))]])
            images.append(with_neighbours(one.image, index))
            recons.append(with_neighbours(one.recon, index))
            spots.append(places(index, one.image.shape))  # type: ignore[arg-type]
            truths.append(one.truth[index][:, None].astype(np.float32))
            brains.append(one.brain[index][:, None].astype(np.float32))
        parts = (np.concatenate(p) for p in (images, recons, spots, truths, brains))
        image, recon, place, truth, brain = (torch.from_numpy(p) for p in parts)
        gain, power = (
            torch.from_numpy(rng.uniform(*r, (len(image), 1, 1, 1)).astype(np.float32)) for r in (GAIN, GAMMA)
        )
        image, recon = (gain * (part / 255) ** power for part in (image, recon))
        grain = torch.from_numpy(rng.uniform(0.0, 0.02, (len(image), 1, 1, 1)).astype(np.float32))
        image = image + grain * torch.from_numpy(rng.standard_normal(image.shape, dtype=np.float32)) * (image > 0)
        if rng.random() < 0.5:
            image, recon, truth, brain = image.flip(3), recon.flip(3), truth.flip(3), brain.flip(3)
        return image, image - recon, place, truth, brain

    def step(self, pool: list[Example], rng: np.random.Generator) -> float:
        """One update; returns the `loss`."""
        config = self.config
        image, residual, place, truth, brain = (part.to(self.device) for part in self.batch(pool, rng))
        self.model.train()
        parts = [p.contiguous(memory_format=torch.channels_last) for p in (image, residual, place)]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.bf16):
            logits = self.model(*parts)
        logits = logits.float()
        return self.descend(loss(logits, truth, brain, config))

    def auprc(self, examples: Sequence[Example]) -> float | None:
        """Mean over the examples with a lesion of the average precision of the averaged network in the brain; None
        without any. So a large lesion counts no more than a small one."""
        found = []
        for one in examples:
            brain = one.brain.copy()
            brain[np.setdiff1d(np.arange(len(brain)), one.usable)] = False
            if not one.truth[brain].any():
                continue
            image, recon = ((part / 255).astype(np.float32) for part in (one.image, one.recon))
            score = siamese_score(self.average, image, recon, one.usable, Runs(str(self.device)))
            found.append(average_precision(score[brain], one.truth[brain]))
        return float(np.mean(found)) if found else None

    def start_from(self, network: SiameseUNet) -> None:
        """Copy the parameters of another network of the same sizes; optimiser and step count start from zero.

        If that network has no mirror inputs, their weights start at 0."""
        state = network.state_dict()
        if self.config.mirror and not network.config.mirror:
            state |= {name: _with_mirror(state[name]) for name in ("down.0.conv1.weight", "down.0.around.weight")}
        self.model.load_state_dict(state)
        self.average.load_state_dict(state)

    @classmethod
    def load(cls, path: Path, fabric: Fabric | None = None, **changes: Any) -> SiameseTrainer:
        """Load a checkpoint; `changes` override settings."""
        state = checkpoint.read(path)
        with checkpoint.understood(path):
            settings = ADDED_TO_SCORE | state["train_config"]
            trainer = cls(replace(from_dict(SiameseConfig, settings), **changes))
        return trainer.goes_on(state, fabric, path)


def loss(logits: Tensor, truth: Tensor, brain: Tensor, config: SiameseConfig) -> Tensor:
    """Cross-entropy inside the brain and soft Dice over a batch of slices, all (B, 1, H, W); a scalar.

    With `variance_weight`, also the variance of the slices' mean cross-entropies: with few patients a network fits some
    of them at the expense of others. After VAT (Shubin et al. 2021, arXiv 2105.14117), which adds the variance error to
    the loss; this form of it is ours.
    """
    each = F.binary_cross_entropy_with_logits(logits, truth, weight=brain, reduction="none")
    p = logits.sigmoid() * brain
    dice = 1 - (2 * (p * truth).sum() + 1) / (p.sum() + truth.sum() + 1)
    total = each.sum() / brain.sum() + config.dice_weight * dice
    if config.variance_weight:
        by_slice = each.sum(dim=(1, 2, 3)) / brain.sum(dim=(1, 2, 3)).clamp(min=1)
        total = total + config.variance_weight * by_slice.var(correction=0)
    return total


def _with_mirror(weight: Tensor) -> Tensor:
    """The first layer's kernels (O, C + 3, k, k) with C more input channels, of zeros, before the coordinates."""
    own, place = weight[:, :-3], weight[:, -3:]
    return torch.cat([own, torch.zeros_like(own), place], dim=1)


def is_left(trainer: SiameseTrainer, to_beat: bool) -> bool:
    """Whether `fit` would take a step, or validate the initial network: only then does it need held-out examples."""
    return trainer.done < trainer.config.steps or (to_beat and not trainer.done and trainer.best is None)


def judge_again(trainer: SiameseTrainer, examples: Sequence[Example], folder: Path) -> None:
    """Measure the best network so far on `examples` that another reconstruction made, as later ones will be.

    Its AUPRC on those of the earlier reconstruction says nothing about these.
    """
    found = checkpoint.find(folder, checkpoint.BEST)
    if trainer.best is not None and found:
        trainer.best = SiameseTrainer.load(found, trainer.fabric).auprc(examples)
        trainer.save(folder / checkpoint.LAST)


def fit(
    trainer: SiameseTrainer,
    maker: ExampleMaker,
    folder: Path,
    reporter: Reporter,
    held_out: Sequence[Example] = (),
    to_beat: bool = False,
) -> None:
    """Train up to `steps` with checkpoints, a log and the pool of examples in the run's folder; see `loop.run`, also
    for `to_beat`.

    The checkpoint with the highest mean AUPRC on `held_out`, examples from scans that are not trained on, is kept in
    addition to the last one; without lesions there, only the last one.
    """
    config = trainer.config
    pool = ExamplePool(maker, config, folder / "pool")
    made = Part(reporter.note, "making synthetic example")

    def step(stop: loop.Interruption) -> float | None:
        examples = pool.at(trainer.done, stop, made)
        if examples is None:
            return None
        return trainer.step(examples, np.random.default_rng([config.seed, trainer.done]))

    def validate() -> loop.Validation:
        return loop.Validation(auprc=trainer.auprc(held_out))

    with closing(pool):
        loop.run(loop.Stage("score", trainer, folder, step, validate), reporter, to_beat=to_beat)
    shutil.rmtree(pool.folder)
