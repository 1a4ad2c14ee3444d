"""`uad train`: from a folder of healthy scans to the networks of reconstruction and score, in a run's folder."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from uadcli import __version__
from uadcli.config import CONTRASTS, SiameseConfig, TrainingConfig, from_dict, to_dict, to_toml
from uadcli.console import Reporter
from uadcli.errors import InputError
from uadcli.files import write_bytes, write_text
from uadcli.run.dataset import Case, find
from uadcli.run.prepare import smoothed_as
from uadcli.run.run_folder import prepare_usable, read_run, refuse_begun, rows_of, usable_cases, write_rows

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from uadcli.reconstruction.weights import Weights
    from uadcli.run.siamese import SiameseTrainer
    from uadcli.run.train import Trainer


START = "start.safetensors"  # in the run's folder: the weights whose networks the training begins with


def train(
    data: Path,
    out: Path,
    config: TrainingConfig,
    *,
    workers: int,
    reporter: Reporter,
    gpus: int | None = None,
    start: str | None = None,
) -> None:
    """Begin a run: prepare the scans of a folder, split them by subject, train reconstruction and score.

    With the name or path of weights to `start` from, it begins with their networks, and takes over their sizes, method
    and curvature flow. Raises `OutputError` if the run exists, `InputError` if no scan is left on a side of the split,
    or the folder of lesion shapes or of label maps holds none, and `WeightsError`.
    """
    refuse_begun(out)
    from uadcli.run.examples import label_files
    from uadcli.run.lesion_set import shape_files

    shape_files(config.lesion_shapes)  # a wrong folder is better known before the scans are prepared
    label_files(config.label_maps)
    shapes, maps = (one and str(Path(one).resolve()) for one in (config.lesion_shapes, config.label_maps))
    config = dataclasses.replace(config, lesion_shapes=shapes, label_maps=maps)
    cases = find(data, config.validation_share)
    out.mkdir(parents=True, exist_ok=True)
    if start is not None:
        config = _begun_with(start, out, config, reporter)
    usable = prepare_usable(cases, out, config.preprocess, workers, reporter)
    write_rows(out / "data.tsv", cases, usable)
    write_text(out / "config.toml", to_toml(config))  # last: from here on the run can be resumed
    resume(out, config, reporter=reporter, gpus=gpus)


def resume(
    out: Path, config: TrainingConfig, *, reporter: Reporter, gpus: int | None = None, cpu_processes: int = 1
) -> None:
    """Go on with a run from its checkpoints; of the settings, only those of `run_folder.FREE` may have changed.

    The reconstruction is trained on `gpus` GPUs or in `cpu_processes`, the score in one process, see `processes`.
    Raises `InputError` if there is no run, or it has too few scans, and `UsageError` if these cannot give a contrast
    that the model is to be for."""
    from uadcli.reconstruction import weights
    from uadcli.run import processes, progress

    parts = _parts(out, config)
    start = weights.load(out / START) if (out / START).exists() else None
    where = processes.fabric(gpus, cpu_processes)
    reporter.info(f"{where.world_size} x {where.device.type}, {where.strategy.precision.precision}")
    trainer = _reconstruction(out, config, parts, start, where, reporter)
    one = where if where.world_size == 1 else processes.fabric(min(gpus, 1) if gpus else gpus)
    _score(out, config, parts, start, trainer, one, reporter)
    progress.write_page(out, {"encoder": out / "encoder", "reconstruction": out, "score": out / "siamese"})
    reporter.info(f"trained; next: uad calibrate {out} HEALTHY")


def contrasts_of(config: TrainingConfig, training: Sequence[Case]) -> tuple[str, ...]:
    """What the model is for: as the settings say, else the contrasts of the scans that it is trained on."""
    return tuple(one for one in CONTRASTS if one in (config.contrasts or {case.contrast for case in training}))


def _parts(out: Path, config: TrainingConfig) -> dict[str, list[Case]]:
    """The usable scans to train on, and those of the model's contrasts that are held out. Raises `InputError`."""
    cases = usable_cases(out)
    training = [case for case in cases if case.part == "train"]
    contrasts = contrasts_of(config, training)
    held_out = [case for case in cases if case.part == "val" and case.contrast in contrasts]
    for part, chosen, kind in (("train", training, ""), ("val", held_out, f"{' or '.join(contrasts)} ")):
        if not chosen:
            what = f"no usable {kind}scan in {part}"
            raise InputError(what, path=out / "data.tsv", hint="Give more healthy scans.")
    return {"train": training, "val": held_out}


def _reconstruction(
    out: Path,
    config: TrainingConfig,
    parts: dict[str, list[Case]],
    start: Weights | None,
    where: Fabric,
    reporter: Reporter,
) -> Trainer:
    """Train the reconstruction to its end and return its best checkpoint."""
    from uadcli.run import checkpoint, processes
    from uadcli.run import train as reconstruction
    from uadcli.run.examples import load_healthy
    from uadcli.run.lesion_set import lesion_set, shape_files
    from uadcli.run.training_data import load_slices

    slices = {part: load_slices(chosen, out / "cache", config.preprocess) for part, chosen in parts.items()}
    slices["train"] = slices["train"].only(contrasts_of(config, parts["train"]))
    reporter.info(f"{len(slices['train'].slices)} slices to train on, {len(slices['val'].slices)} for validation")
    held_out = load_healthy(parts["val"], out / "cache", config.preprocess)
    lesions = lesion_set(held_out, config.preprocess, shape_files(config.lesion_shapes))
    if lesions is None:
        reporter.warn("no validation scan has room for a synthetic lesion: the last checkpoint is taken, not the best")
    config = bounded(config, len(slices["train"].slices))
    job = reconstruction.Job(
        config.model,
        config.train,
        slices["train"],
        slices["val"],
        out,
        reporter.verbosity,
        lesions,
        config.pretrain,
        None if start is None else start.model.state_dict(),
    )
    with reporter.stage("reconstruction"):
        processes.launch(where, reconstruction.work, job, *([reporter] if where.world_size == 1 else []))
    return reconstruction.Trainer.load(checkpoint.find(out, checkpoint.BEST) or out)


def _score(
    out: Path,
    config: TrainingConfig,
    parts: dict[str, list[Case]],
    start: Weights | None,
    trainer: Trainer,
    where: Fabric,
    reporter: Reporter,
) -> None:
    """Train the score network to its end, on what the trained reconstruction makes of synthetic lesions."""
    from uadcli.run import checkpoint, siamese
    from uadcli.run.examples import ExampleMaker, label_files, load_healthy, load_labels
    from uadcli.run.score import siamese_network

    settings = bounded(config, 1).siamese
    if found := checkpoint.find(out / "siamese"):
        scorer = siamese.SiameseTrainer.load(found, where, steps=settings.steps, learning_rate=settings.learning_rate)
        best = checkpoint.find(out, checkpoint.BEST)
        if scorer.done >= settings.steps and best and best.stat().st_mtime > found.stat().st_mtime:
            reporter.warn("the reconstruction is newer than the score: let that go on too, with --set siamese.steps=N")
    else:
        scorer = siamese.SiameseTrainer(settings)
        if start is not None and start.card.siamese is not None:
            scorer.start_from(siamese_network(start))
        scorer.place(where)
    contrasts, cache = contrasts_of(config, parts["train"]), out / "cache"
    training, held_out = (load_healthy(parts[part], cache, config.preprocess) for part in ("train", "val"))
    labels = load_labels(label_files(config.label_maps), cache)
    with reporter.stage("score"):
        model, device = weights_of(out, trainer, scorer), str(where.device)
        maker = ExampleMaker(training, labels, model, settings.seed, device, contrasts)
        judge = ExampleMaker(held_out, [], model, settings.seed + 1, device, contrasts)
        judged_on = [judge.draw(number) for number in range(min(siamese.HELD_OUT, settings.pool))]
        siamese.fit(scorer, maker, out / "siamese", reporter, judged_on)


def _begun_with(name: str, out: Path, config: TrainingConfig, reporter: Reporter) -> TrainingConfig:
    """Put the weights called `name` into the run's folder; the settings with the sizes of their networks."""
    from uadcli.reconstruction import weights

    base = weights.load(*weights.find(name, tell=reporter.info))
    sizes = {k: v for k, v in (base.card.siamese or {}).items() if k in ("channels", "mirror")}
    score = from_dict(SiameseConfig, to_dict(config.siamese) | ({"mirror": False} | sizes if sizes else {}))
    write_bytes(out / START, base.path.read_bytes())
    return dataclasses.replace(
        config,
        preprocess=smoothed_as(config.preprocess, base.card.curvature_flow, reporter),
        model=base.model.config,
        pretrain=dataclasses.replace(config.pretrain, steps=0),  # its encoder is trained already
        siamese=score,
    )


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
    from uadcli.reconstruction import weights
    from uadcli.reconstruction.weights import ModelCard, Weights
    from uadcli.scoring.fusion import POWER
    from uadcli.scoring.reference import EROSION
    from uadcli.scoring.siamese import ALONG

    method = trainer.method
    rows = [row for row in rows_of(run / "data.tsv") if row["part"] == "train" and not row["fault"]]
    counts = Counter(row["contrast"] for row in rows)
    config, own = read_run(run), ", ".join(f"{n} {c} scans of the user" for c, n in sorted(counts.items()))
    contrasts = contrasts_of(config, [case for case in usable_cases(run) if case.part == "train"])
    before = weights.load(run / START) if (run / START).exists() else None
    card = ModelCard(
        name=run.name,
        version=__version__,
        contrasts=contrasts,
        scores=dict.fromkeys(contrasts, "siamese"),
        thresholds={},
        threshold_rule="",
        levels=method.levels,
        along_slices=ALONG,
        fusion_power=POWER,
        reference_erosion=EROSION,
        curvature_flow=config.preprocess.curvature_flow,
        intensity_range="[0, 1]: percentiles 1 and 99 inside the brain mask",
        training_data=own
        if before is None
        else f"{own}, after {before.card.name}, sha256 {before.sha256[:12]} ({before.card.training_data})",
        licence=f"{f'{before.card.licence}; also ' if before else ''}that of the training scans",
        steps=trainer.done + (before.card.steps if before else 0),
        siamese=to_dict(scorer.config) | {"steps": scorer.done},
        labelled_cases=before.card.labelled_cases if before else 0,
    )
    return Weights(trainer.average, card, run, "", scorer.average.state_dict())
