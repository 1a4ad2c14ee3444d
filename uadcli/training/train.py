"""`uad train`: from a folder of healthy scans to the networks of reconstruction and score, in the folder of a run."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from uadcli import __version__, contrasts, device
from uadcli.config import CONTRASTS, TrainingConfig, preset, to_dict, to_toml, training_preset
from uadcli.console import Reporter
from uadcli.data.dataset import Case, find
from uadcli.data.prepare import smoothed_as
from uadcli.errors import InputError, UsageError
from uadcli.files import file_sha256, write_bytes, write_text
from uadcli.settings.training import Machine, Taught
from uadcli.training.run_folder import (
    change,
    healthy_of,
    held,
    prepare_usable,
    read_run,
    refuse_begun,
    usable_cases,
    write_rows,
)

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from uadcli.training.reconstruction import Trainer
    from uadcli.training.score_network import SiameseTrainer
    from uadcli.weights.weights import ModelCard, Weights


PLAIN_DEFAULT = "absolute"  # the score of a model without a network for one
START = "start.safetensors"  # in the run's folder: the weights that the training starts from


def train(
    data: Path | str,
    out: Path | str,
    config: TrainingConfig | None = None,
    *,
    taught: Taught | None = None,
    machine: Machine | None = None,
    reporter: Reporter | None = None,
) -> Path:
    """Train a model on the healthy scans in `data`, or its score network on labelled scans; returns the run's folder.

    The folder is locked meanwhile. Messages go to `reporter`, or to the logger `uadcli`. Raises `OutputError` if the
    run exists or another process trains in it; `InputError` for missing or unusable scans, shapes or label maps;
    `UsageError` for contrasts that the scans cannot provide, or contradictory settings; and `WeightsError`.
    """
    from uadcli.training import supervised

    run, taught, machine = Path(out), taught or Taught(), machine or Machine()
    config, reporter = config or training_preset("small"), reporter or Reporter(silent=True)
    refuse_begun(run)
    device.bound_threads(machine.threads)
    with held(run):
        if taught.labels is None:
            _begin(Path(data), run, config, taught.weights, machine, reporter)
        else:
            supervised.begin(Path(data), run, config, taught, machine, reporter)
    return run


def resume(
    run: Path | str,
    config: TrainingConfig | None = None,
    *,
    machine: Machine | None = None,
    reporter: Reporter | None = None,
) -> Path:
    """Resume a run from its checkpoints; `config` may change only the settings in `run_folder.FREE`.

    Raises `InputError` if there is no run, `UsageError` for a setting that cannot be changed, and `OutputError` as
    `train`.
    """
    from uadcli.training import supervised

    run, machine, reporter = Path(run), machine or Machine(), reporter or Reporter(silent=True)
    config = config or read_run(run)
    device.bound_threads(machine.threads)
    with held(run):
        change(run, config)
        go_on = supervised.go_on if supervised.is_supervised(run) else _go_on
        go_on(run, config, machine, reporter)
    return run


def _begin(
    data: Path, out: Path, config: TrainingConfig, start: str | None, machine: Machine, reporter: Reporter
) -> None:
    """Start a run: prepare the scans of a folder, split them by subject, train reconstruction and score.

    With the name or path of weights in `start`, it starts from their networks, and uses their sizes, method, curvature
    flow and, unless another one is set, scaling. If anything fails before the training there is no run, but prepared
    scans stay cached. Raises `InputError` if no scan is left on a side of the split, or there are no lesion shapes or
    label maps; `UsageError` for contrasts that the scans cannot provide, and for a method that needs synthetic
    anomalies without them; and `WeightsError`.
    """
    if start is None:
        _check_steps(config)
    _check_anomalies(config)
    from uadcli.training.judged_lesions import shape_files
    from uadcli.training.synthetic import label_files, load_labels
    from uadcli.weights import weights

    shape_files(config.lesion_shapes)  # fail early if a folder is wrong
    label_files(config.label_maps)
    shapes, maps = (one and str(Path(one).resolve()) for one in (config.lesion_shapes, config.label_maps))
    config = dataclasses.replace(config, lesion_shapes=shapes, label_maps=maps)
    cases = find(data, config.validation_share)
    if others := [case for case in cases if case.part not in ("train", "val")]:
        reporter.info(f"{len(others)} scans are in neither part of the split and are not used")
        cases = [case for case in cases if case not in others]
    base = None if start is None else weights.load(*weights.find(start, tell=reporter.info))
    if base is None:
        own = config.preprocess.scaling or "tissue"
        config = dataclasses.replace(config, preprocess=dataclasses.replace(config.preprocess, scaling=own))
    else:
        config = _sizes_of(base, config, reporter)
        _check_anomalies(config)
    out.mkdir(parents=True, exist_ok=True)
    usable = prepare_usable(cases, out, config.preprocess, machine.workers, reporter)
    usable = healthy_of(usable, out, config.preprocess, reporter)
    write_rows(out / "data.tsv", cases, usable)
    config = dataclasses.replace(config, contrasts=_contrasts(config, list(usable.values())))
    _parts(out, config)
    load_labels(label_files(config.label_maps), out / "cache")
    reporter.info(f"a model for {' and '.join(config.contrasts)}")
    (out / START).unlink(missing_ok=True)  # left by a run that did not begin
    if base is not None:
        write_bytes(out / START, base.path.read_bytes())
    write_text(out / "config.toml", to_toml(config))  # last: now the run can be resumed
    _go_on(out, config, machine, reporter)


def _go_on(out: Path, config: TrainingConfig, machine: Machine, reporter: Reporter) -> None:
    """Continue a run from its checkpoints.

    The reconstruction is trained on all GPUs or CPU processes of `machine`, the score in one process. Raises
    `InputError` if there is no run, or it has too few scans.
    """
    from uadcli.training import devices, log
    from uadcli.weights import weights

    parts = _parts(out, config)
    start = weights.load(out / START) if (out / START).exists() else None
    where = devices.fabric(machine.gpus, machine.cpu_processes)
    reporter.info(f"{where.world_size} x {where.device.type}, {where.strategy.precision.precision}")
    trainer = _reconstruction(out, config, parts, start, where, reporter)
    one = where if where.world_size == 1 else devices.one_process(machine)
    if bounded(config).siamese.steps or (start is not None and start.card.siamese is not None):  # or keep it as it is
        _score(out, config, parts, start, trainer, one, reporter)
    log.write_page(out, {"encoder": out / "encoder", "reconstruction": out, "score": out / "siamese"})
    reporter.info(f"trained; next: uad calibrate {out} HEALTHY")


def _check_steps(config: TrainingConfig) -> None:
    """Raises `UsageError` if the reconstruction would not be trained."""
    if config.train.steps < 1 and config.train.epochs <= 0:
        raise UsageError("train.steps must be at least 1", hint="Only siamese.steps and pretrain.steps can be 0.")


def _check_anomalies(config: TrainingConfig) -> None:
    """Raises `UsageError` for a method that learns from synthetic anomalies if the settings switch these off."""
    from uadcli.reconstruction.reconstructors import find

    method = find(config.model.method)
    if method.needs_anomalies and not config.train.lesion_probability:
        what = f"{method.name} is trained with synthetic anomalies, and train.lesion_probability is 0"
        raise UsageError(what, hint="Give --set train.lesion_probability=0.5.")


def _contrasts(config: TrainingConfig, usable: Sequence[Case]) -> tuple[str, ...]:
    """The contrasts of the model: those of the settings, otherwise those of the training scans.

    Raises `UsageError` for a contrast that the scans cannot provide.
    """
    real = {case.contrast for case in usable if case.part == "train"}
    given = real | (contrasts.FROM_T1W.keys() if contrasts.T1W.name in real else set())
    if missing := [one for one in config.contrasts if one not in given]:
        what = (
            f"the training scans cannot provide {' or '.join(missing)}: they are {' and '.join(sorted(real)) or 'none'}"
        )
        raise UsageError(what, hint="Change the setting contrasts, or give more scans.")
    return tuple(one for one in CONTRASTS if one in (config.contrasts or real))


def _parts(out: Path, config: TrainingConfig) -> dict[str, list[Case]]:
    """The usable training scans, and the validation scans of the model's contrasts. Raises `InputError`."""
    cases = usable_cases(out)
    training = [case for case in cases if case.part == "train"]
    held_out = [case for case in cases if case.part == "val" and case.contrast in config.contrasts]
    for part, chosen, kind in (("train", training, ""), ("val", held_out, f"{' or '.join(config.contrasts)} ")):
        if not chosen:
            what = f"no usable {kind}scan in {part}"
            raise InputError(what, path=out / "data.tsv", hint="Give more healthy scans, or see participants.tsv.")
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
    from uadcli.training import checkpoint, devices, reconstruction
    from uadcli.training.judged_lesions import lesion_set, shape_files
    from uadcli.training.slices import load_slices
    from uadcli.training.synthetic import load_healthy

    turned = {"train": config.contrasts, "val": ()}
    slices = {
        part: load_slices(chosen, out / "cache", config.preprocess, turned[part]) for part, chosen in parts.items()
    }
    slices["train"] = slices["train"].only(config.contrasts)
    reporter.info(f"{len(slices['train'].slices)} slices to train on, {len(slices['val'].slices)} for validation")
    held_out = load_healthy(parts["val"], out / "cache", config.preprocess)
    lesions = lesion_set(held_out, config.preprocess, shape_files(config.lesion_shapes))
    if lesions is None:
        reporter.warn("no validation scan has room for a synthetic lesion: the last checkpoint is used, not the best")
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
        () if start is None else start.card.levels,
    )
    with reporter.stage("reconstruction"):
        devices.launch(where, reconstruction.work, job, *([reporter] if where.world_size == 1 else []))
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
    """Train the score network to its end, on reconstructions of synthetic lesions."""
    from uadcli.model.model import Model
    from uadcli.training import checkpoint, score_network
    from uadcli.training.synthetic import ExampleMaker, label_files, load_healthy, load_labels

    settings = bounded(config).siamese
    if found := checkpoint.find(out / "siamese"):
        scorer = score_network.SiameseTrainer.load(
            found, where, steps=settings.steps, learning_rate=settings.learning_rate
        )
    else:
        scorer = score_network.SiameseTrainer(settings)
        if start is not None and start.card.siamese is not None:
            scorer.start_from(Model(start).score_network)
        elif start is not None:
            reporter.warn(f"{start.card.name} has no score network: it is trained from scratch")
        scorer.place(where)
    _look_at(trainer, scorer, out / "siamese", reporter)
    contrasts, cache = config.contrasts, out / "cache"
    training, held_out = (load_healthy(parts[part], cache, config.preprocess) for part in ("train", "val"))
    labels = load_labels(label_files(config.label_maps), cache)
    with reporter.stage("score"):
        model = Model(weights_of(out, trainer, scorer), str(where.device))
        maker = ExampleMaker(training, labels, model, config.preprocess, settings.seed, contrasts, settings.one_level)
        judge = ExampleMaker(held_out, [], model, config.preprocess, settings.seed + 1, contrasts)
        judged_on = [judge.draw(number) for number in range(min(score_network.HELD_OUT, settings.pool))]
        known = start is not None and start.card.siamese is not None
        score_network.fit(scorer, maker, out / "siamese", reporter, judged_on, to_beat=known)


def _look_at(trainer: Trainer, scorer: SiameseTrainer, folder: Path, reporter: Reporter) -> None:
    """Discard examples that were made with an earlier state of the reconstruction, and report it."""
    kept, now = folder / "reconstruction.txt", f"step {trainer.done}\n"
    if kept.exists() and kept.read_text() != now:
        shutil.rmtree(folder / "pool", ignore_errors=True)
        ended = scorer.done >= scorer.config.steps
        more = "continue it too, with --set siamese.steps=N" if ended else "it continues with this one"
        reporter.warn(f"the score was trained on an earlier reconstruction: {more}")
    if not kept.exists() or scorer.done < scorer.config.steps:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(kept, now)


def _sizes_of(base: Weights, config: TrainingConfig, reporter: Reporter) -> TrainingConfig:
    """The settings with network sizes, smoothing and scaling of the weights; reports settings that these override."""
    score, known = config.siamese, base.card.score_network
    if known is not None:
        score = dataclasses.replace(score, channels=known.channels, mirror=known.mirror)
    if config.model not in (preset("small"), base.model.config):
        reporter.warn(f"the settings model are those of {base.card.name}")
    smoothed = smoothed_as(config.preprocess, base.card.curvature_flow, reporter)
    return dataclasses.replace(
        config,
        preprocess=dataclasses.replace(smoothed, scaling=smoothed.scaling or base.card.scaling),
        model=base.model.config,
        pretrain=dataclasses.replace(config.pretrain, steps=0),  # the encoder is already trained
        siamese=score,
    )


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


def weights_of(run: Path, trainer: Trainer, scorer: SiameseTrainer | None) -> Weights:
    """The averaged networks of a run as weights, not calibrated yet; a run may have no score network."""
    from uadcli.scoring.fusion import POWER
    from uadcli.scoring.healthy_reference import EROSION
    from uadcli.scoring.siamese import ALONG
    from uadcli.weights import weights
    from uadcli.weights.weights import ModelCard, Weights

    method = trainer.method
    config = read_run(run)
    seen = {*config.contrasts, *([contrasts.T1W.name] if contrasts.FROM_T1W.keys() & {*config.contrasts} else [])}
    training = [c for c in usable_cases(run) if c.part == "train" and c.contrast in seen]
    counts = Counter((c.contrast, c.lesions is not None) for c in training)
    own = ", ".join(
        f"{n} {contrast} scans of the user{', patients by their slices without lesion' if ill else ''}"
        for (contrast, ill), n in sorted(counts.items())
    )
    before = weights.read_card(run / START) if (run / START).exists() else None
    learned = trainer.done or (scorer.done if scorer else 0)
    card = ModelCard(
        name=run.name,
        version=__version__,
        contrasts=config.contrasts,
        scores=dict.fromkeys(config.contrasts, "siamese" if scorer else PLAIN_DEFAULT),
        thresholds={},
        threshold_rule="",
        levels=before.levels if before else method.levels,
        along_slices=ALONG,
        fusion_power=POWER,
        reference_erosion=EROSION,
        curvature_flow=config.preprocess.curvature_flow,
        scaling=config.preprocess.scaling or "percentile",
        intensity_range="[0, 1], inside the brain mask",
        training_data=own if before is None else _after(before, run, own, learned),
        licence=f"{f'{before.licence}; also ' if before else ''}that of the training scans",
        steps=trainer.done + (before.steps if before else 0),
        siamese=None
        if scorer is None
        else to_dict(scorer.config) | {"steps": scorer.done + int(((before and before.siamese) or {}).get("steps", 0))},
        labelled_cases=before.labelled_cases if before else 0,
    )
    return Weights(trainer.average, card, run, "", scorer.average.state_dict() if scorer else {})


def _after(before: ModelCard, run: Path, own: str, learned: int) -> str:
    """The description of the training data of networks that started from `before` and learned for so many steps."""
    known = f"{before.name}, sha256 {file_sha256(run / START)[:12]} ({before.training_data})"
    return f"{own}, after {known}" if learned else f"that of {known}: no better networks were found on {own}"
