"""Training of a method's network on healthy slices, with checkpoints from which it resumes exactly."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uadcli.config import ModelConfig, PretrainConfig, ReconstructionConfig, TrainConfig, from_dict, to_dict
from uadcli.console import Reporter
from uadcli.reconstruction.augment import augment, augment_as_published
from uadcli.reconstruction.model import ConditionedDiffusion, Network
from uadcli.reconstruction.noise import NoiseBank, SharedNoise
from uadcli.reconstruction.reconstructors import BY_NAME, build
from uadcli.scoring.metrics import average_precision
from uadcli.training import checkpoint, log, loop
from uadcli.training.encoder import pretrain
from uadcli.training.examples.pasted_lesions import LesionSet
from uadcli.training.examples.slices import SliceSet, Split
from uadcli.training.learner import DrawingLearner, constant_rate

if TYPE_CHECKING:
    from lightning_fabric import Fabric

VALIDATED_AT_ONCE = 48  # slices, or patches


class Trainer(DrawingLearner):
    """A training: model, its moving average, optimiser and random state; `step` continues from any checkpoint."""

    config: TrainConfig
    model: Network
    average: Network

    def __init__(self, model: ModelConfig, config: TrainConfig) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.method = BY_NAME[model.method]
        self.levels = self.method.levels  # used for validation
        self.model = build(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=config.learning_rate, fused=True)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.bank = SharedNoise() if config.shared_noise else NoiseBank(seed=config.seed)
        self.clip = config.clip

    def step(self, data: SliceSet) -> float:
        """One update on a random batch of slices (N, 96, 96), shared by the processes; returns the loss.

        A loss that is not finite changes nothing. `data` is on the trainer's device, where batches and noise are made.
        """
        with self.here():
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
        """The factor of the learning rate for the coming step: cosine, or constant after the warm-up."""
        if self.config.schedule == "constant":
            return constant_rate(self.done, self.config.warmup)
        return super().rate()

    def _loss(self, clean: Tensor) -> Tensor:
        """The loss of the method on clean slices (B, 1, H, W)."""
        self.model.train()
        return self.method.loss(self.model, clean, self.bank, self.generator, self.config)

    def reconstructed(self, clean: Tensor) -> Tensor:
        """Reconstruct slices (B, 1, H, W) in [0, 1] with the averaged model, by its method; on the CPU.

        The noise is always the same. Slices that are 0 everywhere stay 0.
        """
        settings = ReconstructionConfig(self.levels, VALIDATED_AT_ONCE)
        make = self.method.reconstructor(self.average, settings, self.device, None)
        return torch.from_numpy(make(clean[:, 0].float().cpu().numpy(), range(len(clean))))[:, None]

    def error(self, data: SliceSet, count: int = 48) -> float:
        """Mean L1 error of the averaged model on fixed slices of `data` (N, 96, 96), without augmentation."""
        clean = data.at(data.spread(count))
        return float((self.reconstructed(clean) - clean.cpu()).abs().mean())

    def auprc(self, lesions: LesionSet) -> float:
        """Average precision of the absolute residual in the brain, all slices pooled.

        Without median filter, since these are single slices.
        """
        x = torch.from_numpy(lesions.slices).float().div(255)[:, None]
        residual = (x - self.reconstructed(x)).abs()[:, 0]
        return average_precision(residual.numpy()[lesions.brain], lesions.truth[lesions.brain])

    def validate(self, validation: SliceSet, lesions: LesionSet | None) -> loop.Validation:
        """Validate the averaged model on the slices (N, 96, 96) of held-out scans, with `lesions` if there are any."""
        return loop.Validation(self.error(validation), None if lesions is None else self.auprc(lesions))

    def sheet(self, data: SliceSet) -> NDArray[np.uint8]:
        """A picture (rows, columns) of six fixed slices with fixed noise: input, reconstruction and residual."""
        clean = data.at(data.spread(8)[1:-1]).cpu()
        recon = self.reconstructed(clean)
        rows = [part[:, 0].float().numpy() for part in (clean, recon, 0.5 + clean - recon)]
        return log.contact_sheet(rows)

    def start_encoder(self, body: dict[str, Tensor]) -> None:
        """Copy the body of a pretrained encoder, if the network has one; the linear layer keeps its initial values."""
        for model in (self.model, self.average):
            if isinstance(model, ConditionedDiffusion) and model.encoder is not None:
                model.encoder.body.load_state_dict(body)

    def start_from(self, state: Mapping[str, Tensor]) -> None:
        """Copy the parameters of another model of the same sizes; optimiser and step count start from zero."""
        self.model.load_state_dict(state)
        self.average.load_state_dict(state)

    def state(self) -> dict[str, Any]:
        """The content of a checkpoint apart from the networks."""
        return {**super().state(), "model_config": to_dict(self.model.config)}

    @classmethod
    def load(cls, path: Path, fabric: Fabric | None = None, **changes: Any) -> Trainer:
        """Load a checkpoint; `changes` override settings, for example a higher `steps`."""
        state = checkpoint.read(path)
        with checkpoint.understood(path):
            config = dataclasses.replace(from_dict(TrainConfig, state["train_config"]), **changes)
            trainer = cls(from_dict(ModelConfig, state["model_config"]), config)
        return trainer.goes_on(state, fabric, path)


def fit(trainer: Trainer, slices: Split, folder: Path, reporter: Reporter, *, to_beat: bool = False) -> None:
    """Train up to `steps` with checkpoints and a log in the run's folder; see `loop.run`, also for `to_beat`.

    With lesions, the checkpoint that detected them best is kept as well as the last one.
    """
    placed = slices.to(trainer.device)
    stage = loop.Stage(
        "reconstruction",
        trainer,
        folder,
        lambda _: trainer.step(placed.train),
        lambda: trainer.validate(placed.validation, placed.lesions),
        lambda: trainer.sheet(placed.validation),
    )
    loop.run(stage, reporter, to_beat=to_beat)


@dataclasses.dataclass(frozen=True)
class Job:
    """A training that several processes share: its settings, slices and folder, and the parameters to `start` from.

    `levels` are the noise levels for validation: those of the weights it starts from, or empty for the method's.
    `verbosity` and `silent` are those of the reporter, which other processes make anew.
    """

    model: ModelConfig
    config: TrainConfig
    slices: Split
    folder: Path
    verbosity: int = 0
    pretrain: PretrainConfig = dataclasses.field(default_factory=PretrainConfig)
    start: dict[str, Tensor] | None = None
    levels: tuple[int, ...] = ()
    silent: bool = False


def work(fabric: Fabric, job: Job, reporter: Reporter | None = None) -> None:
    """Start or resume a training on a fabric; called by each of its processes."""
    if reporter is None:
        reporter = Reporter(silent=job.silent or fabric.global_rank > 0, verbosity=job.verbosity)
    found = checkpoint.find(job.folder)
    if found:
        trainer = Trainer.load(found, fabric, steps=job.config.steps, learning_rate=job.config.learning_rate)
    else:
        trainer = Trainer(job.model, job.config)
        if job.start is not None:
            trainer.start_from(job.start)
        elif job.pretrain.steps and job.model.conditioned:
            where = job.folder / "encoder"
            body = pretrain(job.model.encoder, job.pretrain, job.slices, where, reporter, fabric)
            trainer.start_encoder(body)
        trainer.place(fabric)
    trainer.levels = job.levels or trainer.levels
    fit(trainer, job.slices, job.folder, reporter, to_beat=job.start is not None)
