"""Training of a method's network on healthy slices; it saves often and continues where it stopped."""

from __future__ import annotations

import copy
import dataclasses
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from uadcli.config import ModelConfig, TrainConfig, from_dict, to_dict
from uadcli.console import Reporter
from uadcli.errors import UadError
from uadcli.reconstruction.augment import augment
from uadcli.reconstruction.model import Network
from uadcli.reconstruction.noise import NoiseBank
from uadcli.reconstruction.reconstructors import BY_NAME, build
from uadcli.run import checkpoint
from uadcli.run.training_data import SliceSet

VALIDATION_LEVELS = (250, 500, 750)
MAX_BAD_STEPS = 10


class Trainer:
    """One run: model, its moving average, optimiser and random state; `step` goes on from any of its checkpoints."""

    def __init__(self, model: ModelConfig, config: TrainConfig) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.method = BY_NAME[model.method]
        self.model = build(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=config.learning_rate, fused=True)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.bank = NoiseBank(seed=config.seed)
        self.done = 0
        self.bad_steps = 0

    def step(self, data: SliceSet) -> float:
        """One update on a random batch; returns the loss. A loss that is not finite changes nothing."""
        config = self.config
        index = data.draw(config.batch_size, self.generator)
        clean = data.batch(index, self.generator)
        if config.augment:
            clean = augment(clean, self.generator)
        loss = self._loss(clean)
        for group in self.optimiser.param_groups:
            group["lr"] = config.learning_rate * checkpoint.learning_rate(self.done, config.steps, config.warmup)
        self.optimiser.zero_grad(set_to_none=True)
        self.done += 1
        if not torch.isfinite(loss):
            self.bad_steps += 1
            if self.bad_steps >= MAX_BAD_STEPS:
                raise UadError(
                    f"the loss was not finite in {MAX_BAD_STEPS} steps in a row", hint="Lower learning_rate."
                )
            return float("nan")
        self.bad_steps = 0
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        self.optimiser.step()
        checkpoint.move_average(self.average, self.model, config.ema, self.done)
        return float(loss.detach())

    def _loss(self, clean: Tensor) -> Tensor:
        """The loss of the method at hand on clean slices (B, 1, H, W)."""
        self.model.train()
        return self.method.loss(self.model, clean, self.bank, self.generator, self.config)

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

    def start_from(self, model: Network) -> None:
        """Take over the parameters of another model of the same sizes; optimiser and step count begin anew."""
        self.model.load_state_dict(model.state_dict())
        self.average.load_state_dict(model.state_dict())

    def save(self, path: Path) -> None:
        """Write all that decides the next step, to a temporary name first."""
        state = {
            "model_config": to_dict(self.model.config),
            "train_config": to_dict(self.config),
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "done": self.done,
            "bad_steps": self.bad_steps,
        }
        checkpoint.write(path, state)

    @classmethod
    def load(cls, path: Path, **changes: Any) -> Trainer:
        """Continue from a checkpoint; `changes` override settings, for example a higher `steps`."""
        state = torch.load(path, map_location="cpu", weights_only=True)
        config = dataclasses.replace(from_dict(TrainConfig, state["train_config"]), **changes)
        trainer = cls(from_dict(ModelConfig, state["model_config"]), config)
        trainer.model.load_state_dict(state["model"])
        trainer.average.load_state_dict(state["average"])
        trainer.optimiser.load_state_dict(state["optimiser"])
        trainer.generator.set_state(state["generator"])
        trainer.done, trainer.bad_steps = state["done"], state["bad_steps"]
        return trainer


def fit(trainer: Trainer, data: SliceSet, validation: SliceSet, folder: Path, reporter: Reporter) -> None:
    """Train up to `steps`, with a checkpoint and a line in `log.csv` every `checkpoint_every` steps and at the end.

    An interruption writes a checkpoint first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log.csv"
    if not log.exists():
        log.write_text("step,loss,validation,seconds_per_step\n")
    config = trainer.config
    while trainer.done < config.steps:
        start, losses, first = time.perf_counter(), [], trainer.done
        try:
            for _ in range(min(config.checkpoint_every, config.steps - trainer.done)):
                losses.append(trainer.step(data))
        finally:
            trainer.save(folder / "checkpoint.pt")
        pace = (time.perf_counter() - start) / (trainer.done - first)
        loss, value = sum(losses) / len(losses), trainer.validate(validation)
        with log.open("a") as stream:
            stream.write(f"{trainer.done},{loss:.5f},{value:.5f},{pace:.3f}\n")
        left = (config.steps - trainer.done) * pace / 60
        reporter.info(
            f"step {trainer.done}: loss {loss:.4f}, validation {value:.4f}, {pace:.2f} s a step, {left:.0f} min left"
        )
