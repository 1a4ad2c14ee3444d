"""Training of a method's network on healthy slices; it saves often and continues where it stopped."""

from __future__ import annotations

import copy
import dataclasses
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uadcli.config import ModelConfig, PretrainConfig, TrainConfig, from_dict, to_dict
from uadcli.console import Reporter
from uadcli.reconstruction.augment import augment, augment_as_published
from uadcli.reconstruction.model import ConditionedDiffusion, Network
from uadcli.reconstruction.noise import NoiseBank, SharedNoise
from uadcli.reconstruction.reconstructors import BY_NAME, build
from uadcli.run import checkpoint, loop, progress
from uadcli.run.learner import Learner
from uadcli.run.lesion_set import LesionSet
from uadcli.run.pretrain import pretrain
from uadcli.run.training_data import SliceSet
from uadcli.scoring.metrics import average_precision

if TYPE_CHECKING:
    from lightning_fabric import Fabric

VALIDATION_LEVELS = (250, 500, 750)


class Trainer(Learner):
    """One run: model, its moving average, optimiser and random state; `step` goes on from any of its checkpoints."""

    config: TrainConfig
    model: Network
    average: Network

    def __init__(self, model: ModelConfig, config: TrainConfig) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.method = BY_NAME[model.method]
        self.model = build(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=config.learning_rate, fused=True)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.bank = SharedNoise() if config.shared_noise else NoiseBank(seed=config.seed)
        self.clip = config.clip

    def place(self, fabric: Fabric) -> None:
        """As `Learner.place`; each process draws batches of its own, on its device."""
        super().place(fabric)
        self.generator = self.own_generator(self.generator)

    def step(self, data: SliceSet) -> float:
        """One update on a random batch, shared by the processes; returns the loss.

        A loss that is not finite changes nothing. `data` lies on the trainer's device, where batches and noise are
        made.
        """
        with self._here():
            index = data.draw(self.config.batch_size // self.processes, self.generator)
            clean = data.batch(index, self.generator)
            return self.descend(self._loss(self._augmented(clean)))

    def _augmented(self, clean: Tensor) -> Tensor:
        config = self.config
        if not config.augment:
            return clean
        if config.published_augmentation:
            return augment_as_published(clean, self.generator)
        return augment(clean, self.generator, config.blur, config.ghosting)

    def rate(self) -> float:
        """The factor of the learning rate for the coming step: with a cosine, or constant after the warm-up."""
        if self.config.schedule == "constant":
            return min((self.done + 1) / max(self.config.warmup, 1), 1.0)
        return super().rate()

    def _here(self) -> AbstractContextManager[object]:
        """Within it new tensors are made on the trainer's device."""
        return nullcontext() if self.device.type == "cpu" else self.device

    def _loss(self, clean: Tensor) -> Tensor:
        """The loss of the method at hand on clean slices (B, 1, H, W)."""
        self.model.train()
        return self.method.loss(self.model, clean, self.bank, self.generator, self.config)

    @torch.inference_mode()
    def validate(self, data: SliceSet, count: int = 48) -> float:
        """Mean L1 of the averaged model on fixed slices, levels and noise, without augmentation or anomalies."""
        generator = torch.Generator().manual_seed(1)  # on the CPU: the same noise everywhere
        index = torch.linspace(0, len(data.slices) - 1, count, device=self.device).long()
        clean = data.slices[index].float().div(255)[:, None].contiguous(memory_format=torch.channels_last)
        total = 0.0
        for level in VALIDATION_LEVELS:
            noise = self.bank.draw(count, (clean.shape[2], clean.shape[3]), generator).to(self.device)
            t = torch.full((count,), level - 1, device=self.device)
            total += float((self.average(clean, t, noise) - clean).abs().mean())
        return total / len(VALIDATION_LEVELS)

    @torch.inference_mode()
    def auprc(self, lesions: LesionSet) -> float:
        """Average precision of the absolute residual (mean of three levels) in the brain, all slices pooled.

        Noise is always the same; there is no median filter, since these are single slices.
        """
        generator, recon = torch.Generator().manual_seed(3), []
        for part in torch.from_numpy(lesions.slices).split(48):
            x = part.to(self.device).float().div(255)[:, None].contiguous(memory_format=torch.channels_last)
            condition, total = self.average.encode(x), torch.zeros_like(x)
            for level in VALIDATION_LEVELS:
                noise = self.bank.draw(len(x), (x.shape[2], x.shape[3]), generator).to(self.device)
                t = torch.full((len(x),), level - 1, device=self.device)
                total += self.average(x, t, noise, condition)
            recon.append((x - total / len(VALIDATION_LEVELS)).abs()[:, 0].cpu())
        return average_precision(torch.cat(recon).numpy()[lesions.brain], lesions.truth[lesions.brain])

    def judge(self, validation: SliceSet, lesions: LesionSet | None) -> loop.Judgement:
        """What the held-out scans say of the averaged model."""
        return loop.Judgement(self.validate(validation), None if lesions is None else self.auprc(lesions))

    @torch.inference_mode()
    def sheet(self, data: SliceSet, count: int = 6) -> NDArray[np.uint8]:
        """Input, reconstruction and residual of fixed slices, one below the other, with the same noise each time."""
        at = torch.linspace(0, len(data.slices) - 1, count + 2, device=self.device)[1:-1].long()
        clean = data.slices[at].float().div(255)[:, None].contiguous(memory_format=torch.channels_last)
        noise = self.bank.draw(count, (clean.shape[2], clean.shape[3]), torch.Generator().manual_seed(2))
        t = torch.full((count,), progress.SHEET_LEVEL - 1, device=self.device)
        recon = self.average(clean, t, noise.to(self.device))
        rows = [part[:, 0].float().cpu().numpy() for part in (clean, recon, 0.5 + clean - recon)]
        return progress.contact_sheet(rows)

    def start_encoder(self, body: dict[str, Tensor]) -> None:
        """Take over the body of a pretrained encoder; its linear layer stays new. The plain DDPM has no encoder."""
        for model in (self.model, self.average):
            if isinstance(model, ConditionedDiffusion) and model.encoder is not None:
                model.encoder.body.load_state_dict(body)

    def start_from(self, model: Network) -> None:
        """Take over the parameters of another model of the same sizes; optimiser and step count begin anew."""
        self.model.load_state_dict(model.state_dict())
        self.average.load_state_dict(model.state_dict())

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds beside the networks: sizes, the random state that draws batches, and the rest."""
        return {
            **super().state(),
            "model_config": to_dict(self.model.config),
            "generator": self.gathered(self.generator),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `save` wrote; on other devices or another number of processes with new random states."""
        super().restore(state)
        self.restore_generator(self.generator, state["generator"])

    @classmethod
    def load(cls, path: Path, fabric: Fabric | None = None, **changes: Any) -> Trainer:
        """Continue from a checkpoint; `changes` override settings, for example a higher `steps`."""
        state = checkpoint.read(path)
        config = dataclasses.replace(from_dict(TrainConfig, state["train_config"]), **changes)
        trainer = cls(from_dict(ModelConfig, state["model_config"]), config)
        if fabric is not None:
            trainer.place(fabric)
        trainer.restore(state)
        return trainer


def fit(
    trainer: Trainer,
    data: SliceSet,
    validation: SliceSet,
    folder: Path,
    reporter: Reporter,
    lesions: LesionSet | None = None,
) -> None:
    """Train up to `steps` with checkpoints and a log in the run's folder; see `loop.run`.

    With `lesions`, the checkpoint that found them best is kept beside the last one.
    """
    data, validation = data.to(trainer.device), validation.to(trainer.device)
    loop.run(
        trainer,
        lambda _: trainer.step(data),
        lambda: trainer.judge(validation, lesions),
        folder,
        reporter,
        name="reconstruction",
        sheet=lambda: trainer.sheet(validation),
    )


@dataclasses.dataclass(frozen=True)
class Job:
    """A training that several processes share: its settings, its slices and its folder."""

    model: ModelConfig
    config: TrainConfig
    data: SliceSet
    validation: SliceSet
    folder: Path
    verbosity: int = 0
    lesions: LesionSet | None = None
    pretrain: PretrainConfig = dataclasses.field(default_factory=PretrainConfig)


def work(fabric: Fabric, job: Job, reporter: Reporter | None = None) -> None:
    """Begin or go on with a training on a fabric; each of its processes calls this."""
    if reporter is None:
        reporter = Reporter(silent=fabric.global_rank > 0, verbosity=job.verbosity)
    found = checkpoint.find(job.folder)
    if found:
        trainer = Trainer.load(found, fabric, steps=job.config.steps)
    else:
        trainer = Trainer(job.model, job.config)
        if job.pretrain.steps and job.model.conditioned:
            where = job.folder / "encoder"
            body = pretrain(job.model.encoder, job.pretrain, job.data, job.validation, where, reporter, fabric)
            trainer.start_encoder(body)
        trainer.place(fabric)
    fit(trainer, job.data, job.validation, job.folder, reporter, job.lesions)
