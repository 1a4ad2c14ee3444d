"""What the trainings share: optimiser steps that skip non-finite losses, the moving average, and checkpoints."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from uadcli.config import PretrainConfig, SiameseConfig, TrainConfig, to_dict
from uadcli.errors import UadError, UsageError
from uadcli.training import checkpoint

if TYPE_CHECKING:
    from lightning_fabric import Fabric

MAX_BAD_STEPS = 10


class NotFiniteError(UadError):
    """Too many losses in a row were not finite."""


class Learner:
    """A network in training, its moving average and its optimiser.

    `done` counts all steps, `skipped` those with a non-finite loss or gradient, `bad_steps` how many of these in a row.
    """

    config: TrainConfig | SiameseConfig | PretrainConfig
    model: nn.Module
    average: nn.Module
    optimiser: torch.optim.Optimizer
    done: int = 0
    bad_steps: int = 0
    skipped: int = 0
    best: float | None = None  # AUPRC on the lesions of held-out scans so far
    clip: float = 1.0
    fabric: Fabric | None = None

    @property
    def device(self) -> torch.device:
        """The device of the network and its batches."""
        return torch.device("cpu") if self.fabric is None else self.fabric.device

    @property
    def processes(self) -> int:
        """The number of processes that share each step."""
        return 1 if self.fabric is None else self.fabric.world_size

    @property
    def rank(self) -> int:
        """The index of this process; process 0 writes and reports."""
        return 0 if self.fabric is None else self.fabric.global_rank

    def place(self, fabric: Fabric) -> None:
        """Move to the fabric's device and share steps among its processes. Call it before `restore`.

        Raises `UsageError` if the batch size is not a multiple of the number of processes.
        """
        if self.config.batch_size % fabric.world_size:
            raise UsageError(
                f"batch_size {self.config.batch_size} is not a multiple of {fabric.world_size} processes",
                hint="Change it with --set.",
            )
        self.fabric = fabric
        self.model, self.optimiser = fabric.setup(self.model, self.optimiser)
        self.average.to(fabric.device)

    def somewhere(self, fact: bool) -> bool:
        """Whether a fact is true in any process; all processes must call this together."""
        if self.fabric is None or self.processes == 1:
            return fact
        total = self.fabric.all_reduce(torch.tensor(float(fact), device=self.device), reduce_op="sum")
        return bool(total > 0)  # type: ignore[operator]

    def over_all(self, value: float) -> float:
        """The mean of a number over the processes; all processes must call this together."""
        if self.fabric is None or self.processes == 1:
            return value
        return float(self.fabric.all_reduce(torch.tensor(value, device=self.device)))  # type: ignore[arg-type]

    def rate(self) -> float:
        """The factor of the learning rate for the next step."""
        return learning_rate(self.done, self.config.steps, self.config.warmup)

    def descend(self, loss: Tensor) -> float:
        """Take one optimiser step by a scalar loss; returns it, or NaN if the step is skipped.

        It is skipped if loss or gradient are not finite. Raises `NotFiniteError` after ten such steps in a row.
        """
        config = self.config
        for group in self.optimiser.param_groups:
            group["lr"] = config.learning_rate * self.rate()
        self.optimiser.zero_grad(set_to_none=True)
        self.done += 1
        if self.somewhere(not torch.isfinite(loss)):
            return self._skip()
        if self.fabric is None:
            loss.backward()
        else:
            self.fabric.backward(loss)  # the mean of the processes' gradients
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip or math.inf)
        if not torch.isfinite(norm):
            return self._skip()
        self.bad_steps = 0
        self.optimiser.step()
        move_average(self.average, self.model, config.ema, self.done)
        return self.over_all(float(loss.detach()))

    def _skip(self) -> float:
        # A batch norm has already included the bad batch in its statistics: restore them from the average.
        with torch.no_grad():
            for its, mine in zip(self.model.buffers(), self.average.buffers(), strict=True):
                its.copy_(mine)
        self.bad_steps += 1
        self.skipped += 1
        if self.bad_steps >= MAX_BAD_STEPS:
            raise NotFiniteError(
                f"the loss was not finite in {MAX_BAD_STEPS} steps in a row",
                hint=f"Continue with a lower rate: --resume RUN --set {self._slower()}.",
            )
        return math.nan

    def _slower(self) -> str:
        tables = {TrainConfig: "train", SiameseConfig: "siamese", PretrainConfig: "pretrain"}
        return f"{tables[type(self.config)]}.learning_rate={self.config.learning_rate / 4:g}"

    def state(self) -> dict[str, Any]:
        """The content of a checkpoint apart from the networks; subclasses add more."""
        return {
            "train_config": to_dict(self.config),
            "optimiser": self.optimiser.state_dict(),
            "done": self.done,
            "bad_steps": self.bad_steps,
            "skipped": self.skipped,
            "best": self.best,
        }

    def save(self, path: Path) -> None:
        """Write everything that determines the next step, in process 0; see `checkpoint.write`."""
        networks = {"model": self.model.state_dict(), "average": self.average.state_dict()}
        state = self.state()  # gathered from all
        if self.rank == 0:
            checkpoint.write(path, state, networks)

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the state that `save` wrote."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.done = state["done"]
        self.bad_steps, self.skipped = state["bad_steps"], state["skipped"]
        self.best = state["best"]

    def goes_on(self, state: dict[str, Any], fabric: Fabric | None, path: Path) -> Self:
        """Continue from the state of the checkpoint `path`, on the fabric's device if there is one; returns itself.

        Raises `InputError` for a state that does not fit the network.
        """
        if fabric is not None:
            self.place(fabric)
        with checkpoint.understood(path):
            self.restore(state)
        return self


class DrawingLearner(Learner):
    """A learner with its own random generator for batches, one in each process, on its device."""

    generator: torch.Generator

    def here(self) -> AbstractContextManager[object]:
        """Create new tensors on the learner's device."""
        return nullcontext() if self.device.type == "cpu" else self.device

    def place(self, fabric: Fabric) -> None:
        """As `Learner.place`; each process draws its own batches. Process 0 on a CPU keeps its generator."""
        super().place(fabric)
        if self.device.type != "cpu" or self.rank:
            self.generator = torch.Generator(device=self.device).manual_seed(self.config.seed + 7919 * self.rank)

    def state(self) -> dict[str, Any]:
        """The content of a checkpoint apart from the networks: also the random states of all processes.

        These are (bytes,) for one process, (processes, bytes) for several.
        """
        mine = self.generator.get_state()
        if self.fabric is not None and self.processes > 1:
            mine = self.fabric.all_gather(mine.to(self.device)).cpu()  # type: ignore[union-attr]
        return {**super().state(), "generator": mine}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the state that `save` wrote; with new random states on other devices or numbers of processes."""
        super().restore(state)
        kept: Tensor = state["generator"]
        states = kept.reshape(-1, kept.shape[-1])
        if len(states) == self.processes and states.shape[1] == len(self.generator.get_state()):
            self.generator.set_state(states[self.rank].clone())
        else:
            self.generator.manual_seed(self.config.seed + self.done + 7919 * (self.rank + 1))


def learning_rate(done: int, steps: int, warmup: int) -> float:
    """The factor of the learning rate: warm-up, then half a cosine down to 2 % at the last step."""
    if done < warmup:
        return (done + 1) / warmup
    part = min((done - warmup) / max(steps - warmup, 1), 1.0)
    return 0.02 + 0.98 * (1 + math.cos(math.pi * part)) / 2


def constant_rate(done: int, warmup: int) -> float:
    """The factor of the learning rate: warm-up, then 1."""
    return min((done + 1) / max(warmup, 1), 1.0)


@torch.no_grad()
def move_average(average: nn.Module, model: nn.Module, ema: float, done: int) -> None:
    """Move the parameters of `average` towards those of `model` after `done` steps, faster in the first ones.

    Buffers, such as the statistics of a batch norm, are already averages and are copied.
    """
    decay = min(ema, (1 + done) / (10 + done))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
    for mine, its in zip(average.buffers(), model.buffers(), strict=True):
        mine.copy_(its)
