"""`uad train`: from a folder of healthy scans to the networks of reconstruction and score, in a run's folder."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from uadcli import __version__
from uadcli.config import CONTRASTS, TrainingConfig, to_dict, to_toml
from uadcli.console import Reporter
from uadcli.errors import InputError
from uadcli.files import write_text
from uadcli.run.dataset import find
from uadcli.run.run_folder import prepare_usable, read_run, refuse_begun, rows_of, usable_cases, write_rows

if TYPE_CHECKING:
    from uadcli.reconstruction.weights import Weights
    from uadcli.run.siamese import SiameseTrainer
    from uadcli.run.train import Trainer


def train(
    data: Path, out: Path, config: TrainingConfig, *, workers: int, reporter: Reporter, gpus: int | None = None
) -> None:
    """Begin a run: prepare the scans of a folder, split them by subject, train reconstruction and score.

    Raises `OutputError` if the run exists, `InputError` if no scan is left on a side of the split, or the folder of
    lesion shapes holds none.
    """
    refuse_begun(out)
    from uadcli.run.lesion_set import shape_files

    if config.lesion_shapes:  # a wrong folder is better known before the scans are prepared
        shape_files(config.lesion_shapes)
        config = dataclasses.replace(config, lesion_shapes=str(Path(config.lesion_shapes).resolve()))
    cases = find(data, config.validation_share)
    out.mkdir(parents=True, exist_ok=True)
    usable = prepare_usable(cases, out, config.preprocess, workers, reporter)
    write_rows(out / "data.tsv", cases, usable)
    write_text(out / "config.toml", to_toml(config))  # last: from here on the run can be resumed
    resume(out, config, reporter=reporter, gpus=gpus)


def resume(
    out: Path, config: TrainingConfig, *, reporter: Reporter, gpus: int | None = None, cpu_processes: int = 1
) -> None:
    """Go on with a run from its checkpoints; of the settings, only the numbers of steps may have changed.

    The reconstruction is trained on `gpus` GPUs or in `cpu_processes`, the score in one process, see `processes`.
    Raises `InputError` if there is no run, or it has too few scans."""
    from uadcli.run import checkpoint, examples, processes, progress, siamese
    from uadcli.run import train as reconstruction
    from uadcli.run.lesion_set import lesion_set, shape_files
    from uadcli.run.training_data import load_slices

    cases = usable_cases(out)
    parts = {part: [c for c in cases if c.part == part] for part in ("train", "val")}
    for part, chosen in parts.items():
        if not chosen:
            raise InputError(f"no usable scan in {part}", path=out / "data.tsv", hint="Give more healthy scans.")
    slices = {part: load_slices(chosen, out / "cache", config.preprocess) for part, chosen in parts.items()}
    reporter.info(f"{len(slices['train'].slices)} slices to train on, {len(slices['val'].slices)} for validation")
    held_out = examples.load_healthy(parts["val"], out / "cache", config.preprocess)
    lesions = lesion_set(held_out, config.preprocess, shape_files(config.lesion_shapes))
    if lesions is None:
        reporter.warn("no validation scan has room for a synthetic lesion: the last checkpoint is taken, not the best")
    config = bounded(config, len(slices["train"].slices))
    where = processes.fabric(gpus, cpu_processes)
    reporter.info(f"{where.world_size} x {where.device.type}, {where.strategy.precision.precision}")
    job = reconstruction.Job(
        config.model, config.train, slices["train"], slices["val"], out, reporter.verbosity, lesions, config.pretrain
    )
    with reporter.stage("reconstruction"):
        processes.launch(where, reconstruction.work, job, *([reporter] if where.world_size == 1 else []))
    trainer = reconstruction.Trainer.load(checkpoint.find(out, checkpoint.BEST) or out)
    one = where if where.world_size == 1 else processes.fabric(min(gpus, 1) if gpus else gpus)
    found = checkpoint.find(out / "siamese")
    if found:
        scorer = siamese.SiameseTrainer.load(found, one, steps=config.siamese.steps)
    else:
        scorer = siamese.SiameseTrainer(config.siamese)
        scorer.place(one)
    healthy = examples.load_healthy(parts["train"], out / "cache", config.preprocess)
    with reporter.stage("score"):
        weights = weights_of(out, trainer, scorer)
        maker = examples.ExampleMaker(healthy, [], weights, config.siamese.seed, str(one.device))
        judge = examples.ExampleMaker(held_out, [], weights, config.siamese.seed + 1, str(one.device))
        judged_on = [judge.draw(number) for number in range(min(siamese.HELD_OUT, config.siamese.pool))]
        siamese.fit(scorer, maker, out / "siamese", reporter, judged_on)
    progress.write_page(out, {"encoder": out / "encoder", "reconstruction": out, "score": out / "siamese"})
    reporter.info(f"trained; next: uad calibrate {out} HEALTHY")


def bounded(config: TrainingConfig, slices: int) -> TrainingConfig:
    """The settings with the numbers of steps that `train.epochs` over so many slices, and `max_steps`, come to."""
    train = config.train
    if train.epochs > 0:
        train = dataclasses.replace(train, steps=max(1, math.ceil(train.epochs * slices / train.batch_size)))
    most = config.max_steps or max(config.pretrain.steps, train.steps, config.siamese.steps)
    return dataclasses.replace(
        config,
        pretrain=dataclasses.replace(config.pretrain, steps=min(config.pretrain.steps, most)),
        train=dataclasses.replace(train, steps=min(train.steps, most)),
        siamese=dataclasses.replace(config.siamese, steps=min(config.siamese.steps, most)),
    )


def weights_of(run: Path, trainer: Trainer, scorer: SiameseTrainer) -> Weights:
    """The averaged networks of a run as weights, with what is known of them so far."""
    from uadcli.reconstruction.weights import ModelCard, Weights
    from uadcli.scoring.fusion import POWER
    from uadcli.scoring.reference import EROSION
    from uadcli.scoring.siamese import ALONG

    method = trainer.method
    rows = [row for row in rows_of(run / "data.tsv") if row["part"] == "train" and not row["fault"]]
    counts = Counter(row["contrast"] for row in rows)
    card = ModelCard(
        name=run.name,
        version=__version__,
        contrasts=CONTRASTS,
        scores=dict.fromkeys(CONTRASTS, "siamese"),
        thresholds={},
        threshold_rule="",
        levels=method.levels,
        along_slices=ALONG,
        fusion_power=POWER,
        reference_erosion=EROSION,
        curvature_flow=read_run(run).preprocess.curvature_flow,
        intensity_range="[0, 1]: percentiles 1 and 99 inside the brain mask",
        training_data=", ".join(f"{n} {c} scans of the user" for c, n in sorted(counts.items())),
        licence="that of the training scans",
        steps=trainer.done,
        siamese=to_dict(scorer.config) | {"steps": scorer.done},
    )
    return Weights(trainer.average, card, run, "", scorer.average.state_dict())
