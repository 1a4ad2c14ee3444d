"""`uad train`: from a folder of healthy scans to the networks of reconstruction and score, in the folder of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from uadcli import contrasts, device
from uadcli.config import CONTRASTS, SiameseConfig, TrainingConfig, preset, to_toml, training_preset
from uadcli.console import Reporter
from uadcli.data.dataset import Case, find
from uadcli.data.prepare import smoothed_as
from uadcli.data.scans import Scans, each_once
from uadcli.errors import UsageError
from uadcli.files import write_bytes, write_text
from uadcli.settings.training import Machine, Taught
from uadcli.training.run import Run, networks, sides
from uadcli.training.run_folder import (
    CACHE,
    START,
    TABLE,
    Beginning,
    change,
    healthy_of,
    held,
    in_split,
    prepare_usable,
    read_run,
    refuse_changed,
    refuse_taken,
    rows_of,
    write_rows,
)

if TYPE_CHECKING:
    from uadcli.weights.weights import Weights


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
    run exists, its folder holds other files or another process trains in it; `InputError` for missing or unusable
    scans, shapes or label maps;
    `UsageError` for contrasts that the scans cannot provide, or contradictory settings; and `WeightsError`.
    """
    from uadcli.training import supervised

    run, taught, machine = Path(out), taught or Taught(), machine or Machine()
    config, reporter = config or training_preset("small"), reporter or Reporter(silent=True)
    refuse_taken(run)
    device.bound_threads(machine.threads)
    if taught.labels is None:
        beginning = _beginning(Path(data), config, taught.weights, reporter)
        with held(run):
            _begin(beginning, run, machine, reporter)
    else:
        beginning = supervised.beginning(Path(data), config, taught, reporter)
        with held(run):
            supervised.begin(beginning, run, taught.labels, machine, reporter)
    return run


def resume(
    run: Path | str,
    config: TrainingConfig | None = None,
    *,
    machine: Machine | None = None,
    reporter: Reporter | None = None,
) -> Path:
    """Resume a run from its checkpoints; `config` may change only the settings in `run_folder.FREE`.

    Raises `InputError` if there is no run, or one of its scans or masks has changed, `UsageError` for a setting that
    cannot be changed, and `OutputError` as `train`.
    """
    from uadcli.training import supervised

    run, machine, reporter = Path(run), machine or Machine(), reporter or Reporter(silent=True)
    known = read_run(run)  # before it is locked, as that writes a file
    config = config or known
    device.bound_threads(machine.threads)
    with held(run):
        refuse_changed(rows_of(run / TABLE), reporter)
        if supervised.is_supervised(run):
            change(run, config)
            supervised.go_on(run, config, machine, reporter)
        else:
            config = _with_folders(config)
            change(run, config)
            Run.of(run, config, reporter).train(machine)
    return run


def _beginning(data: Path, config: TrainingConfig, start: str | None, reporter: Reporter) -> Beginning:
    """What a run on the scans of a folder begins with, split by subject. Writes nothing.

    With the name or path of weights in `start`, it starts from their networks, and uses their sizes, method, curvature
    flow and, unless another one is set, scaling. Raises `InputError` if there are too few scans (`refuse_few`), or no
    lesion shapes or label maps; `UsageError` for contrasts that the scans cannot provide, and for a method that needs
    synthetic anomalies without them; and `WeightsError`.
    """
    from uadcli.weights import weights

    base = None if start is None else weights.load(*weights.find(start, reporter=reporter))
    networks(config, base.card if base else None)  # fail early if there would be no reconstruction
    _check_anomalies(config)
    config = _with_folders(config)
    cases = in_split(find(data, config.validation_share, reporter.info), reporter)
    refuse_few(cases, config, data)
    if base is None:
        own = config.preprocess.scaling or "tissue"
        config = dataclasses.replace(config, preprocess=dataclasses.replace(config.preprocess, scaling=own))
    else:
        config = _sizes_of(base, config, reporter)
        _check_anomalies(config)
    return Beginning(data, cases, config, base)


def _with_folders(config: TrainingConfig) -> TrainingConfig:
    """The settings with their folders as absolute paths, for a run that is resumed elsewhere.

    Raises `InputError` for a folder without lesion shapes or label maps.
    """
    from uadcli.training.examples.pasted_lesions import shape_files
    from uadcli.training.examples.synthetic import label_files

    shape_files(config.lesion_shapes)
    label_files(config.label_maps)
    shapes, labels = (one and str(Path(one).resolve()) for one in (config.lesion_shapes, config.label_maps))
    return dataclasses.replace(config, lesion_shapes=shapes, label_maps=labels)


def refuse_few(cases: Sequence[Case], config: TrainingConfig, data: Path) -> None:
    """Raises what `_begin` would raise after the preparation of the scans in `data`, as far as their names tell.

    That is `InputError` if a side of the split has no scan, and `UsageError` for contrasts that they cannot provide.
    """
    real = {case.contrast for case in cases if case.part == "train"}
    known = config.contrasts or CONTRASTS if "" in real else _contrasts(config, cases)
    sides(cases, (*known, ""), data)


def _begin(beginning: Beginning, out: Path, machine: Machine, reporter: Reporter) -> None:
    """Begin a run: prepare its scans, then train reconstruction and score.

    If anything fails before the training there is no run, but prepared scans stay cached. Raises as `_beginning`, for
    scans that turn out not to be usable.
    """
    from uadcli.training.examples.synthetic import label_files, load_labels

    data, config, base = beginning.data, beginning.config, beginning.base
    cases = each_once(beginning.cases, reporter)
    scans = Scans(out / CACHE, config.preprocess)
    usable = healthy_of(prepare_usable(cases, scans, machine.workers, reporter), scans, reporter)
    config = dataclasses.replace(config, contrasts=_contrasts(config, list(usable.values())))
    sides(list(usable.values()), config.contrasts, data)
    if maps := label_files(config.label_maps):
        with reporter.stage("label maps"):
            load_labels(maps, out / CACHE, reporter.progress)
    reporter.info(f"a model for {' and '.join(config.contrasts)}")
    (out / START).unlink(missing_ok=True)  # left by a run that did not begin
    write_rows(out / TABLE, cases, usable)
    if base is not None:
        write_bytes(out / START, base.path.read_bytes())
    write_text(out / "config.toml", to_toml(config))  # last: now the run can be resumed
    Run.of(out, config, reporter, scans).train(machine)


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


def _sizes_of(base: Weights, config: TrainingConfig, reporter: Reporter) -> TrainingConfig:
    """The settings with network sizes, smoothing and scaling of the weights; reports settings that these override."""
    score, known = config.siamese, base.card.score_network
    if known is not None:
        sizes = known.channels, known.mirror
        if (score.channels, score.mirror) not in (sizes, (SiameseConfig.channels, SiameseConfig.mirror)):
            reporter.warn(f"siamese.channels and siamese.mirror are ignored: {base.card.name} has its own")
        score = dataclasses.replace(score, channels=known.channels, mirror=known.mirror)
        if not score.steps:  # it is kept, and must see what it learned from
            score = dataclasses.replace(score, headroom=known.headroom)
    if config.model not in (preset("small"), base.model.config):
        reporter.warn(f"the settings [model] are ignored: {base.card.name} has its own")
    if config.pretrain.steps:
        reporter.warn(f"pretrain.steps is ignored: the encoder of {base.card.name} is already trained")
    smoothed = smoothed_as(config.preprocess, base.card.curvature_flow, reporter)
    return dataclasses.replace(
        config,
        preprocess=dataclasses.replace(smoothed, scaling=smoothed.scaling or base.card.scaling),
        model=base.model.config,
        pretrain=dataclasses.replace(config.pretrain, steps=0),
        siamese=score,
    )
