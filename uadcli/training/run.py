"""A training run in its folder: first the reconstruction, then the score network is trained or kept."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from uadcli.config import TrainingConfig
from uadcli.console import Reporter
from uadcli.data.dataset import Case
from uadcli.data.scans import Scans
from uadcli.errors import InputError, UsageError
from uadcli.files import write_text
from uadcli.running.stage import Part
from uadcli.settings.training import Machine
from uadcli.training.run_folder import START, usable_cases

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from uadcli.training.examples.pool import Example, ExampleMaker
    from uadcli.training.examples.slices import Split
    from uadcli.training.examples.synthetic import SceneMaker
    from uadcli.training.reconstruction import Trainer
    from uadcli.training.score_network import SiameseTrainer
    from uadcli.weights.card import ModelCard
    from uadcli.weights.weights import Weights

RECONSTRUCTION = "reconstruction.txt"  # in the folder of the score: the state of the one it is trained on
Fate = Literal["trained", "kept", "none"]


@dataclass(frozen=True)
class Networks:
    """Which of the two networks a run trains, keeps or lacks; one without steps is kept if the weights have it."""

    reconstruction: Fate
    score: Fate


def networks(config: TrainingConfig, start: ModelCard | None, begun: bool = False) -> Networks:
    """Which networks a run trains, keeps or lacks, by its settings and the card of its start weights.

    A run that has `begun` has a reconstruction already. Raises `UsageError` if there would be no reconstruction.
    """
    steps = config.train.steps > 0 or config.train.epochs > 0
    if not (steps or begun or start):
        raise UsageError("train.steps must be at least 1", hint="Only siamese.steps and pretrain.steps can be 0.")
    known = start is not None and start.siamese is not None
    return Networks(
        "trained" if steps else "kept", "trained" if config.siamese.steps > 0 else "kept" if known else "none"
    )


@dataclass(frozen=True)
class Run:
    """A run that can be resumed: folder, settings, training and held-out scans, start weights, if any, and which
    networks it trains."""

    folder: Path
    config: TrainingConfig
    parts: dict[str, list[Case]]
    start: Weights | None
    networks: Networks
    scans: Scans
    reporter: Reporter

    @classmethod
    def of(cls, folder: Path, config: TrainingConfig, reporter: Reporter, scans: Scans | None = None) -> Run:
        """The run in a folder. Raises `InputError` if there is none or it has too few scans, and `UsageError`."""
        from uadcli.training import checkpoint
        from uadcli.weights import weights

        parts = parts_of(folder, config)
        start = weights.load(folder / START) if (folder / START).exists() else None
        begun = checkpoint.find(folder) is not None
        scans = scans or Scans(folder / "cache", config.preprocess)
        return cls(
            folder, config, parts, start, networks(config, start.card if start else None, begun), scans, reporter
        )

    def train(self, machine: Machine) -> None:
        """Train from the checkpoints or from the start, and write the page of the run.

        The reconstruction is trained on all GPUs or CPU processes of `machine`, the score in one process.
        """
        from uadcli.training import devices, log

        folder, reporter = self.folder, self.reporter
        where = devices.fabric(machine.gpus, machine.cpu_processes, machine.precision)
        reporter.info(f"{where.world_size} x {where.device.type}, {where.strategy.precision.precision}")
        trainer = self._reconstruction(where)
        if self.networks.score != "none":
            self._score(trainer, where if where.world_size == 1 else devices.one_process(machine), machine.workers)
        log.write_page(folder, {"encoder": folder / "encoder", "reconstruction": folder, "score": folder / "siamese"})
        reporter.info(f"trained; next: uad calibrate {folder} HEALTHY")

    def _reconstruction(self, where: Fabric) -> Trainer:
        """Finish training the reconstruction and return its best checkpoint."""
        from uadcli.training import checkpoint, devices, reconstruction

        slices, start = self._slices(), self.start
        config = bounded(self.config, len(slices.train.slices))
        job = reconstruction.Job(
            config.model,
            config.train,
            slices,
            self.folder,
            self.reporter.verbosity,
            config.pretrain,
            None if start is None else start.model.state_dict(),
            () if start is None else start.card.levels,
            self.reporter.silent,
        )
        with self.reporter.stage("reconstruction"):
            devices.launch(where, reconstruction.work, job, *([self.reporter] if where.world_size == 1 else []))
        return reconstruction.Trainer.load(checkpoint.find(self.folder, checkpoint.BEST) or self.folder)

    def _slices(self) -> Split:
        """The slices to train and validate the reconstruction on, and the lesions to validate it with."""
        from uadcli.training.examples.pasted_lesions import lesion_set, shape_files
        from uadcli.training.examples.slices import Split, load_slices
        from uadcli.training.examples.synthetic import load_healthy

        config, scans, reporter = self.config, self.scans, self.reporter
        with reporter.stage("slices"):
            train = load_slices(self.parts["train"], scans, config.contrasts, reporter.progress).only(config.contrasts)
            held_out = load_slices(self.parts["val"], scans, ())
            reporter.note("pasting lesions to validate with")
            healthy = load_healthy(self.parts["val"], scans)
            lesions = lesion_set(healthy, config.preprocess, shape_files(config.lesion_shapes))
        reporter.info(f"{len(train.slices)} slices to train on, {len(held_out.slices)} for validation")
        if lesions is None:
            reporter.warn(
                "no validation scan has room for a synthetic lesion: the last checkpoint is used, not the best"
            )
        return Split(train, held_out, lesions)

    def _score(self, trainer: Trainer, where: Fabric, workers: int) -> None:
        """Finish training the score network, on reconstructions of synthetic lesions by the trained network."""
        from uadcli.model.model import Model
        from uadcli.training import score_network
        from uadcli.training.card import weights_of
        from uadcli.training.examples.pool import ExampleMaker

        folder, reporter = self.folder / "siamese", self.reporter
        scorer = self._scorer(where)
        another = _look_at(trainer, scorer, folder, reporter)
        with reporter.stage("score"):
            model = Model(weights_of(self.folder, trainer, scorer), str(where.device))
            headroom = scorer.config.headroom
            training, held_out = (self._scenes(part, model.card.levels) for part in ("train", "val"))
            left = score_network.is_left(scorer, to_beat=self._starts_from_score)
            examples = self._held_out(ExampleMaker(held_out, model, headroom, workers)) if left else []
            if another:
                score_network.judge_again(scorer, examples, folder)
            _note_reconstruction(trainer, scorer, folder)
            maker = ExampleMaker(training, model, headroom, workers)
            score_network.fit(scorer, maker, folder, reporter, examples, to_beat=self._starts_from_score)

    def _scenes(self, part: str, levels: Sequence[int]) -> SceneMaker:
        """What makes the scenes of a part of the split; those to validate with have all levels and no label maps."""
        from uadcli.training.examples.synthetic import SceneMaker, Sources, label_files, load_healthy, load_labels

        config, settings = self.config, self.config.siamese
        reading = Part(self.reporter.note, f"reading scan for {part}:")
        healthy = load_healthy(self.parts[part], self.scans, reading)
        if part == "val":
            sources = Sources(healthy, contrasts=config.contrasts)
            return SceneMaker(sources, config.preprocess, settings.seed + 1)
        labels = load_labels(label_files(config.label_maps), self.folder / "cache")
        sources = Sources(healthy, labels, config.contrasts)
        return SceneMaker(sources, config.preprocess, settings.seed, levels, settings.one_level)

    def _held_out(self, unseen: ExampleMaker) -> list[Example]:
        """The examples to choose the best checkpoint by."""
        from uadcli.training import score_network

        examples: list[Example] = []
        count = min(score_network.HELD_OUT, self.config.siamese.pool)
        making = Part(self.reporter.note, "making validation example")
        making(0, count)
        with closing(unseen.several(range(count))) as coming:
            for one in coming:
                examples.append(one)
                making(len(examples), count)
        return examples

    @property
    def _starts_from_score(self) -> bool:
        return self.start is not None and self.start.card.siamese is not None

    def _scorer(self, where: Fabric) -> SiameseTrainer:
        """The score network at the last checkpoint of the run, or that of its start weights, if any."""
        from uadcli.model.model import Model
        from uadcli.training import checkpoint, score_network

        settings, start = bounded(self.config).siamese, self.start
        if found := checkpoint.find(self.folder / "siamese"):
            return score_network.SiameseTrainer.load(
                found, where, steps=settings.steps, learning_rate=settings.learning_rate
            )
        scorer = score_network.SiameseTrainer(settings)
        if start is not None and self._starts_from_score:
            scorer.start_from(Model(start).score_network)
        elif start is not None:
            self.reporter.warn(f"{start.card.name} has no score network: it is trained from scratch")
        scorer.place(where)
        return scorer


def parts_of(folder: Path, config: TrainingConfig) -> dict[str, list[Case]]:
    """The usable training scans of a run, and the validation scans of the model's contrasts. Raises `InputError`."""
    return sides(usable_cases(folder), config.contrasts, folder / "data.tsv")


def sides(cases: Sequence[Case], contrasts: Sequence[str], place: Path) -> dict[str, list[Case]]:
    """The training scans, and the validation scans of some contrasts (empty: unknown ones).

    Raises `InputError`, about the file or folder `place`, if a side has none.
    """
    training = [case for case in cases if case.part == "train"]
    held_out = [case for case in cases if case.part == "val" and case.contrast in contrasts]
    named = " or ".join(filter(None, contrasts))
    for part, chosen, kind in (("train", training, ""), ("val", held_out, f"{named} ")):
        if not chosen:
            hint = "Give healthy scans of more subjects, or see participants.tsv."
            raise InputError(f"no usable {kind}scan in {part}", path=place, hint=hint)
    return {"train": training, "val": held_out}


def _look_at(trainer: Trainer, scorer: SiameseTrainer, folder: Path, reporter: Reporter) -> bool:
    """Discard examples that were made with an earlier state of the reconstruction, and report it.

    Whether the score goes on with another reconstruction than before.
    """
    kept = folder / RECONSTRUCTION
    if not kept.exists() or kept.read_text() == _state(trainer):
        return False
    shutil.rmtree(folder / "pool", ignore_errors=True)
    ended = scorer.done >= scorer.config.steps
    more = "continue it too, with --set siamese.steps=N" if ended else "it continues with this one"
    reporter.warn(f"the score was trained on an earlier reconstruction: {more}")
    return not ended


def _note_reconstruction(trainer: Trainer, scorer: SiameseTrainer, folder: Path) -> None:
    """Write which reconstruction the score is trained on from here."""
    kept = folder / RECONSTRUCTION
    if not kept.exists() or scorer.done < scorer.config.steps:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(kept, _state(trainer))


def _state(trainer: Trainer) -> str:
    return f"step {trainer.done}\n"


def bounded(config: TrainingConfig, slices: int | None = None) -> TrainingConfig:
    """The settings with the numbers of steps that follow from `train.epochs` over so many slices, and `max_steps`."""
    train = config.train
    if train.epochs > 0 and slices is not None:
        train = dataclasses.replace(train, steps=max(1, math.ceil(train.epochs * slices / train.batch_size)))
    most = config.max_steps or max(config.pretrain.steps, train.steps, config.siamese.steps)
    return dataclasses.replace(
        config,
        pretrain=dataclasses.replace(config.pretrain, steps=min(config.pretrain.steps, most)),
        train=dataclasses.replace(train, steps=min(train.steps, most)),
        siamese=dataclasses.replace(config.siamese, steps=min(config.siamese.steps, most)),
    )
