"""`uad train`, `uad calibrate` and `uad export`: from a folder of healthy scans to weights that `uad detect` uses.

A run is a folder: `config.toml`, `data.tsv` (which scan is on which side of the split, which failed), `cache/`,
`last.pt` and `best.pt` with their tensors, `log.csv` and `report.html` of the reconstruction, `siamese/` with those of
the score, `encoder/` with those of the encoder's pretraining, `thresholds.json`.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uadcli import __version__
from uadcli.config import CONTRASTS, DetectConfig, PreprocessConfig, TrainingConfig, read_toml, to_dict, to_toml
from uadcli.console import Reporter
from uadcli.errors import InputError, OutputError
from uadcli.imaging.volume import file_sha256, with_temporary
from uadcli.report import sidecar
from uadcli.run.dataset import Case, find, prepare_all
from uadcli.run.prepare import prepare_cached

if TYPE_CHECKING:
    from uadcli.reconstruction.weights import ModelCard, Weights
    from uadcli.run.siamese import SiameseTrainer
    from uadcli.run.train import Trainer
    from uadcli.scoring.gate import Gate

GATE_FILE = "gate.safetensors"
COLUMNS = ("subject", "part", "contrast", "scan", "sha256", "fault")
RULE = "99.5th percentile of the scores inside the brain of {} healthy scans ({})"


def train(
    data: Path, out: Path, config: TrainingConfig, *, workers: int, reporter: Reporter, gpus: int | None = None
) -> None:
    """Begin a run: prepare the scans of a folder, split them by subject, train reconstruction and score.

    Raises `OutputError` if the run exists, `InputError` if no scan is left on a side of the split.
    """
    if (out / "config.toml").exists():
        raise OutputError("a run exists already", path=out, hint=f"Go on with it: uad train --resume {out}.")
    cases = find(data, config.validation_share)
    out.mkdir(parents=True, exist_ok=True)
    usable = _prepare(cases, out, config.preprocess, workers, reporter)
    _write_rows(out / "data.tsv", cases, usable)
    (out / "config.toml").write_text(to_toml(config), encoding="utf-8")  # last: from here on the run can be resumed
    resume(out, config, reporter=reporter, gpus=gpus)


def resume(
    out: Path, config: TrainingConfig, *, reporter: Reporter, gpus: int | None = None, cpu_processes: int = 1
) -> None:
    """Go on with a run from its checkpoints; of the settings, only the numbers of steps may have changed.

    The reconstruction is trained on `gpus` GPUs or in `cpu_processes`, the score in one process, see `processes`.
    Raises `InputError` if there is no run, or it has too few scans."""
    from uadcli.run import checkpoint, examples, processes, progress, siamese
    from uadcli.run import train as reconstruction
    from uadcli.run.lesion_set import lesion_set
    from uadcli.run.training_data import load_slices

    cases = _usable(out)
    parts = {part: [c for c in cases if c.part == part] for part in ("train", "val")}
    for part, chosen in parts.items():
        if not chosen:
            raise InputError(f"no usable scan in {part}", path=out / "data.tsv", hint="Give more healthy scans.")
    slices = {part: load_slices(chosen, out / "cache", config.preprocess) for part, chosen in parts.items()}
    reporter.info(f"{len(slices['train'].slices)} slices to train on, {len(slices['val'].slices)} for validation")
    held_out = examples.load_healthy(parts["val"], out / "cache", config.preprocess)
    lesions = lesion_set(held_out, config.preprocess)
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
        weights = _weights(out, trainer, scorer)
        maker = examples.ExampleMaker(healthy, [], weights, config.siamese.seed, str(one.device))
        judge = examples.ExampleMaker(held_out, [], weights, config.siamese.seed + 1, str(one.device))
        siamese.fit(scorer, maker, out / "siamese", reporter, judge)
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


def calibrate(run: Path, healthy: Path, *, workers: int, reporter: Reporter) -> Path:
    """Thresholds of a trained run from healthy scans that it was not trained on; returns `thresholds.json`.

    Raises `InputError` if a scan was trained on, or if nothing usable is left.
    """
    from uadcli.run.calibrate import CALIBRATED
    from uadcli.run.calibrate import calibrate as calibration_of
    from uadcli.run.gate import fit_gates

    config = read_run(run)
    cases = find(healthy, 0)
    trained = {row["sha256"]: row["subject"] for row in _rows(run / "data.tsv") if row["part"] == "train"}
    for case in cases:
        subject = trained.get(file_sha256(case.scan))
        if subject is not None:
            raise InputError(
                f"this scan trained the model (as {subject}); its score says nothing of others",
                path=case.scan,
                hint="Calibrate on other healthy scans.",
            )
    usable = _prepare(cases, run, config.preprocess, workers, reporter)
    if not usable:
        raise InputError("holds no usable scan", path=healthy, hint="See the warnings above.")
    loaded = _loaded(run)
    with reporter.stage("calibration"):
        detect = DetectConfig(preprocess=config.preprocess)
        found = calibration_of(loaded, list(usable.values()), run / "cache", detect, CALIBRATED)
    with reporter.stage("gate"):
        training = [c for c in _usable(run) if c.part == "train"]
        gates = fit_gates(loaded.model, training, list(usable.values()), run / "cache", config.preprocess)
        _write_gates(run / GATE_FILE, gates, reporter)
    counts = Counter(c.contrast for c in usable.values())
    content = {**dataclasses.asdict(found), "scans": dict(counts), "research_use_only": sidecar.RESEARCH_USE}
    sidecar.write_json(run / "thresholds.json", content)
    for contrast, count in counts.items():
        if count < 20:
            reporter.warn(
                f"{count} {contrast} scans: a 99.5th percentile of so few is uncertain; 20 or more are better"
            )
    return run / "thresholds.json"


def export(run: Path, out: Path, *, overwrite: bool, reporter: Reporter) -> Path:
    """Weights, registry and card of a calibrated run in a folder that `uad detect --weights` takes.

    Raises `InputError` if the run is not calibrated, `OutputError` if the folder has weights already.
    """
    from uadcli.reconstruction import registry, weights

    config, name = read_run(run), out.resolve().name
    file = out / f"{name}.safetensors"
    if out.is_dir() and any(out.glob("*.safetensors")) and not overwrite:
        raise OutputError("holds weights already", path=out, hint="Choose another folder, or give --overwrite.")
    try:
        calibrated = json.loads((run / "thresholds.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError("is not calibrated", path=run, hint=f"First: uad calibrate {run} HEALTHY.") from error
    loaded = _loaded(run)
    thresholds, scans = calibrated["thresholds"], calibrated["scans"]
    rule = RULE.format(sum(scans.values()), ", ".join(f"{n} {c}" for c, n in scans.items()))
    card = dataclasses.replace(
        loaded.card,
        name=name,
        contrasts=tuple(scans),
        scores={c: loaded.card.scores[c] for c in scans},
        thresholds=thresholds,
        threshold_rule=rule,
        strengths=calibrated["strengths"],
        tails=calibrated.get("tails", {}),  # of a run that was calibrated before there were rates
    )
    out.mkdir(parents=True, exist_ok=True)
    digest = weights.save(file, loaded.model, card, loaded.score_state, _read_gates(run / GATE_FILE))
    registry.write(out, registry.Entry(name, file.name, digest, card.contrasts))
    (out / f"{name}.md").write_text(_card_text(card, digest, config), encoding="utf-8")
    reporter.info(f"sha256 {digest}")
    return file


def _write_gates(path: Path, gates: dict[str, Gate], reporter: Reporter) -> None:
    """Keep the gates of a run, also where there is none: an old file must not outlive its calibration."""
    from safetensors.torch import save

    from uadcli.run.gate import MIN_HELD_OUT, MIN_TRAINING, state_of

    content = save(state_of(gates))
    with_temporary(path, lambda temporary: temporary.write_bytes(content))
    if not gates:
        needed = f"{MIN_TRAINING} training and {MIN_HELD_OUT} healthy scans of a contrast"
        reporter.warn(f"no out-of-distribution gate: it needs at least {needed}")


def _read_gates(path: Path) -> dict[str, Any]:
    """The gates of a run as tensors; none of a run that was calibrated before there were gates."""
    from safetensors.torch import load

    return load(path.read_bytes()) if path.exists() else {}


def read_run(run: Path) -> TrainingConfig:
    """The settings of a run. Raises `InputError` if there is none."""
    try:
        config: TrainingConfig = read_toml(TrainingConfig, (run / "config.toml").read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError("is no run of uad train", path=run, hint="Begin one: uad train DATA --out RUN.") from error
    return config


def _loaded(run: Path) -> Weights:
    """Model and score of a finished run. Raises `InputError` if one of them is not there yet."""
    from uadcli.run import checkpoint
    from uadcli.run.siamese import SiameseTrainer
    from uadcli.run.train import Trainer

    found = checkpoint.find(run, checkpoint.BEST)
    of_score = checkpoint.find(run / "siamese", checkpoint.BEST)
    if not found or not of_score:
        raise InputError("is not trained to its end", path=run, hint=f"Go on: uad train --resume {run}.")
    return _weights(run, Trainer.load(found), SiameseTrainer.load(of_score))


def _weights(run: Path, trainer: Trainer, scorer: SiameseTrainer) -> Weights:
    """The averaged networks of a run as weights, with what is known of them so far."""
    from uadcli.reconstruction.weights import ModelCard, Weights
    from uadcli.scoring.fusion import POWER
    from uadcli.scoring.siamese import ALONG

    method = trainer.method
    rows = [row for row in _rows(run / "data.tsv") if row["part"] == "train" and not row["fault"]]
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
        intensity_range="[0, 1]: percentiles 1 and 99 inside the brain mask",
        training_data=", ".join(f"{n} {c} scans of the user" for c, n in sorted(counts.items())),
        licence="that of the training scans",
        steps=trainer.done,
        siamese=to_dict(scorer.config) | {"steps": scorer.done},
    )
    return Weights(trainer.average, card, run, "", scorer.average.state_dict())


def _card_text(card: ModelCard, digest: str, config: TrainingConfig) -> str:
    """The model card: what went in, what is known, and what is not."""
    from uadcli.reconstruction.reconstructors import BY_NAME

    score_steps = (card.siamese or {}).get("steps")
    lines = [
        f"# {card.name}",
        "",
        f"**{sidecar.RESEARCH_USE}**",
        "",
        f"- contrasts: {', '.join(card.contrasts)}",
        f"- training data: {card.training_data}; validation share {config.validation_share} of the subjects",
        f"- reconstruction: {BY_NAME[config.model.method].title}, {card.steps} steps; "
        f"score: Siamese network, {score_steps} steps",
        f"- thresholds: {card.threshold_rule}",
        *(f"  - {k}: " + ", ".join(f"{c} {v:.4f}" for c, v in t.items()) for k, t in card.thresholds.items()),
        f"- sha256: {digest}",
        "",
        "Not known: how it does on lesions; nothing here was tested on any. Evaluate it before you rely on it.",
    ]
    return "\n".join(lines) + "\n"


def _prepare(
    cases: list[Case], run: Path, config: PreprocessConfig, workers: int, reporter: Reporter
) -> dict[Path, Case]:
    """Prepare cases into the run's cache; a scan that fails is reported and left out. Usable cases by path."""
    with reporter.stage("preparation"):
        failed = prepare_all(cases, run / "cache", config, workers)
    for case, fault in failed.items():
        reporter.warn(f"{case.scan}: left out: {fault}")
    usable = {}
    for case in (c for c in cases if c not in failed):
        contrast = case.contrast or prepare_cached(case.scan, config, run / "cache").contrast().contrast
        usable[case.scan] = dataclasses.replace(case, contrast=contrast)
    return usable


def _write_rows(path: Path, cases: list[Case], usable: dict[Path, Case]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter="\t")
        writer.writerow(COLUMNS)
        for case in cases:
            good = usable.get(case.scan)
            fault = "" if good else "could not be prepared"
            contrast = good.contrast if good else case.contrast
            digest = file_sha256(case.scan)
            writer.writerow([case.subject, case.part, contrast, case.scan.resolve(), digest, fault])


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream, delimiter="\t"))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path=path, hint="Begin the run anew.") from error


def _usable(run: Path) -> list[Case]:
    rows = [row for row in _rows(run / "data.tsv") if not row["fault"]]
    return [Case(r["subject"], "", r["part"], r["contrast"], Path(r["scan"])) for r in rows]
