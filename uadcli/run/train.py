"""Training of a conditioned diffusion model on healthy slices; it saves often and continues where it stopped."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from uadcli.config import ModelConfig, TrainConfig, from_dict, to_dict
from uadcli.console import Reporter
from uadcli.reconstruction.augment import augment, synthetic_lesions
from uadcli.reconstruction.model import ConditionedDiffusion
from uadcli.reconstruction.noise import NoiseBank
from uadcli.run import checkpoint, loop
from uadcli.run.learner import Learner
from uadcli.run.training_data import SliceSet

VALIDATION_LEVELS = (250, 500, 750)


class Trainer(Learner):
    """One run: model, its moving average, optimiser and random state; `step` goes on from any of its checkpoints."""

    config: TrainConfig
    model: ConditionedDiffusion
    average: ConditionedDiffusion

    def __init__(self, model: ModelConfig, config: TrainConfig) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.model = ConditionedDiffusion(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=config.learning_rate, fused=True)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.bank = NoiseBank(seed=config.seed)
        self.clip = config.clip

    def step(self, data: SliceSet) -> float:
        """One update on a random batch; returns the loss. A loss that is not finite changes nothing."""
        index = data.draw(self.config.batch_size, self.generator)
        clean = data.batch(index, self.generator)
        if self.config.augment:
            clean = augment(clean, self.generator)
        return self.descend(self._loss(clean))

    def _loss(self, clean: Tensor) -> Tensor:
        """L1 between the one-step prediction and the clean slice (method 2.5), heavier inside synthetic anomalies."""
        config, batch = self.config, len(clean)
        lesioned, weight = synthetic_lesions(clean, self.bank, self.generator)
        carries = (torch.rand(batch, generator=self.generator) < config.lesion_probability).view(-1, 1, 1, 1)
        x, weight = torch.where(carries, lesioned, clean), weight * carries
        t = torch.randint(self.model.config.steps, (batch,), generator=self.generator)
        noise = self.bank.draw(batch, (clean.shape[2], clean.shape[3]), self.generator)
        x = x.contiguous(memory_format=torch.channels_last)
        self.model.train()
        predicted = self.model(x, t, noise)
        return ((predicted - clean).abs() * (1 + config.lesion_weight * weight)).mean()

    @torch.inference_mode()
    def validate(self, data: SliceSet, count: int = 48) -> float:
        """Mean L1 of the averaged model on fixed slices, levels and noise, without augmentation or anomalies."""
        generator = torch.Generator().manual_seed(1)
        index = torch.linspace(0, len(data.slices) - 1, count).long()
        clean = data.slices[index].float().div(255)[:, None].contiguous(memory_format=torch.channels_last)
        total = 0.0
        for level in VALIDATION_LEVELS:
            noise = self.bank.draw(count, (clean.shape[2], clean.shape[3]), generator)
            t = torch.full((count,), level - 1)
            total += float((self.average(clean, t, noise) - clean).abs().mean())
        return total / len(VALIDATION_LEVELS)

    def start_from(self, model: ConditionedDiffusion) -> None:
        """Take over the parameters of another model of the same sizes; optimiser and step count begin anew."""
        self.model.load_state_dict(model.state_dict())
        self.average.load_state_dict(model.state_dict())

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds beside the networks: sizes, the random state that draws batches, and the rest."""
        return {
            **super().state(),
            "model_config": to_dict(self.model.config),
            "generator": self.generator.get_state(),
        }

    @classmethod
    def load(cls, path: Path, **changes: Any) -> Trainer:
        """Continue from a checkpoint; `changes` override settings, for example a higher `steps`."""
        state = checkpoint.read(path)
        config = dataclasses.replace(from_dict(TrainConfig, state["train_config"]), **changes)
        trainer = cls(from_dict(ModelConfig, state["model_config"]), config)
        trainer.restore(state)
        trainer.generator.set_state(state["generator"])
        return trainer


def fit(trainer: Trainer, data: SliceSet, validation: SliceSet, folder: Path, reporter: Reporter) -> None:
    """Train up to `steps` with checkpoints and a log in the run's folder; see `loop.run`."""
    loop.run(trainer, lambda _: trainer.step(data), lambda: trainer.validate(validation), folder, reporter)
