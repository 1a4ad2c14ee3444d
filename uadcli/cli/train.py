"""`uad train`, `uad calibrate` and `uad export`: make your own model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uadcli.cli import options as o
from uadcli.cli.grouped import grouped
from uadcli.config import CONTRASTS, TrainingConfig, to_toml, training_preset, with_settings
from uadcli.console import Reporter, print_result
from uadcli.errors import UsageError
from uadcli.settings import methods
from uadcli.settings.option import OUTPUT, OVERWRITE, Option, option
from uadcli.settings.training import CalibrationMachine, Fitted, Machine, Taught

if TYPE_CHECKING:
    from uadcli.data.dataset import Case, Checked

Data = Annotated[
    Path | None,
    typer.Argument(metavar="DATA", help="Folder or BIDS dataset of healthy scans; with --labels of patients."),
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of the run.")]
Healthy = Annotated[Path, typer.Argument(metavar="HEALTHY", help="Folder of healthy scans not used in training.")]
Folder = Annotated[Path, typer.Option("--output", "-o", help="Folder for the weights; its name becomes the model's.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", rich_help_panel=OUTPUT, help=OVERWRITE.help)]
Borrow = Annotated[
    list[str] | None,
    typer.Option(
        "--borrow",
        metavar="T2w=FLAIR",
        help="A contrast without healthy scans borrows the thresholds of another (repeatable).",
    ),
]


@dataclass(frozen=True)
class Work:
    """The work to do, and the folder of the run."""

    out: Path | None = option(None, Option("Folder for the run.", names=("--out", "-o")))
    resume: Path | None = option(None, Option("Resume a run.", metavar="RUN"))
    check: bool = option(False, Option("Only read every file once and report problems."))
    smoke: bool = option(False, Option("Try every step once on made-up scans, in under 2 minutes."))
    print_config: bool = option(False, Option("Print the settings as TOML."))
    score: str | None = option(
        None,
        Option("With --labels: train only this score, on labelled scans.", metavar="siamese"),
        words=("siamese",),
    )


@dataclass(frozen=True)
class Chosen:
    """The base of the settings of a training, and what overrides them."""

    profile: str = option("small", Option("Model sizes; reference: as published.", metavar="small|reference"))
    method: str | None = option(None, Option("Reconstruction method to train.", shown="cddpm"), words=methods.NAMES)
    config: Path | None = option(None, o.CONFIG)
    assignments: Sequence[str] = option((), Option("Change a setting (repeatable).", names=("--set",), metavar="A.B=C"))
    max_steps: int | None = option(None, Option("Maximum number of steps of each training.", metavar="N"), low=1)

    def settings(self, resume: Path | None) -> TrainingConfig:
        """The settings of the run to resume, of a file or of a profile, overridden by the other options."""
        capped = [f"max_steps={self.max_steps}"] if self.max_steps else []
        return with_settings(self._begun(resume), [*self.assignments, *capped])

    def _begun(self, resume: Path | None) -> TrainingConfig:
        if resume is not None:
            return self._settings_of(resume)
        base = training_preset(self.profile)
        chosen = o.read_config(self.config, type(base)) if self.config else base
        if self.method is not None:
            from uadcli.reconstruction.reconstructors import for_method

            chosen = replace(chosen, model=for_method(chosen.model, self.method))
        return chosen

    def _settings_of(self, run: Path) -> TrainingConfig:
        from uadcli.training.run_folder import read_run

        if self.method is not None:
            raise UsageError("--method and --resume cannot be combined", hint="A run keeps its method.")
        if self.config is not None or self.profile != "small":
            raise UsageError("--resume cannot be combined with --config or --profile", hint="A run keeps its settings.")
        return read_run(run)


@grouped()
def train(work: Work, chosen: Chosen, taught: Taught, machine: Machine, talk: o.Talk, data: Data = None) -> None:
    """Train a model on healthy scans, or its score on labelled ones, or resume a run."""
    _check_taught(taught, work, chosen)
    settings = chosen.settings(work.resume)
    if work.print_config:
        return print_result(to_toml(settings), end="")
    with talk.reporter() as reporter:
        if work.check and not work.smoke:
            return _check(data, work, taught, settings, reporter)
        print_result(str(_done(data, work, taught, settings, machine, reporter)))


def _check_taught(taught: Taught, work: Work, chosen: Chosen) -> None:
    """Raises `UsageError` if `--score`, `--labels` or `--weights` conflict with one another or with other options."""
    others = {"--resume": work.resume is not None, "--smoke": work.smoke}
    others |= {"--method": chosen.method is not None, "--profile": chosen.profile != "small"}
    if taught.labels is None and work.score is not None:
        hint = "Without labels, `uad train` trains it on synthetic lesions."
        raise UsageError("--score siamese needs --labels", hint=hint)
    if taught.labels is not None and work.score is None:
        raise UsageError("--labels needs --score siamese", hint="Add it, or leave --labels out.")
    if taught.labels is not None:
        _refuse_with("--labels", others, "A run keeps its labels, and its reconstruction is that of --weights.")
    elif taught.weights is not None:
        hint = "Sizes and method are those of the weights, and a run keeps what it started from."
        _refuse_with("--weights", others, hint)


def _refuse_with(option: str, others: Mapping[str, bool], hint: str) -> None:
    """Raises `UsageError` for the first of the other options that was given."""
    for name in (name for name, there in others.items() if there):
        raise UsageError(f"{option} and {name} cannot be combined", hint=hint)


def _done(
    data: Path | None, work: Work, taught: Taught, settings: TrainingConfig, machine: Machine, reporter: Reporter
) -> object:
    """Do the requested kind of work; returns what `uad train` prints."""
    from uadcli.training import train as training

    if work.smoke:
        return _tried(data, work, machine, reporter)
    if data is not None and work.out is not None and work.resume is None:
        return training.train(data, work.out, settings, taught=taught, machine=machine, reporter=reporter)
    if work.resume is not None and data is None and work.out is None:
        return training.resume(work.resume, settings, machine=machine, reporter=reporter)
    raise UsageError("give DATA --out RUN, --resume RUN, --check DATA or --smoke", hint="See `uad train --help`.")


def _check(data: Path | None, work: Work, taught: Taught, settings: TrainingConfig, reporter: Reporter) -> None:
    """Print what is wrong with the scans, then raise what a training on those that can be read would."""
    from uadcli.data import dataset
    from uadcli.training.run_folder import refuse_taken

    if data is None or work.resume is not None:
        raise UsageError("--check needs DATA and no --resume", hint="Resuming compares the files of a run by itself.")
    if work.out is not None:
        refuse_taken(work.out)
    cases = _cases(data, taught, settings, reporter)
    checked = _checked(cases, taught, reporter)
    print_result(dataset.in_words(checked))
    _refuse_few([one.case for one in checked if not one.problem], cases, data, taught, settings)


def _checked(cases: list[Case], taught: Taught, reporter: Reporter) -> list[Checked]:
    """The scans with their problems, after reading each file once."""
    from uadcli.data import dataset

    with reporter.stage("check"):
        checked = dataset.check(cases, reporter.progress)
        return checked if taught.labels else [one if one.problem else _with_mask(one) for one in checked]


def _with_mask(checked: Checked) -> Checked:
    """The same, with its problem if a training would leave the scan out for its lesion mask."""
    from uadcli.training.run_folder import by_its_mask

    _, fault = by_its_mask(checked.case)
    return replace(checked, problem=fault)


def _cases(data: Path, taught: Taught, settings: TrainingConfig, reporter: Reporter) -> list[Case]:
    from uadcli.data import dataset, lesion_labels

    if taught.labels is None:
        return dataset.find(data, settings.validation_share, reporter.info)
    return lesion_labels.find(data, taught.labels, settings.validation_share, reporter)


def _refuse_few(readable: list[Case], cases: list[Case], data: Path, taught: Taught, settings: TrainingConfig) -> None:
    from uadcli.data import lesion_labels
    from uadcli.training import train as training

    if taught.labels is None:
        training.refuse_few(readable, settings, data)
    else:
        lesion_labels.check(cases, taught.labels)


def _tried(data: Path | None, work: Work, machine: Machine, reporter: Reporter) -> str:
    from uadcli import device
    from uadcli.running.temporary import temporary_folder
    from uadcli.smoke import smoke

    if data is not None or work.resume is not None or work.check:
        raise UsageError("--smoke makes its own scans", hint="Use it without DATA, --resume and --check.")
    device.bound_threads(machine.threads)
    if (out := work.out) is not None and out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty", hint="Give an empty folder, or none.")
    with temporary_folder() as temporary:
        return smoke(out or temporary, workers=machine.workers, reporter=reporter)


@grouped()
def calibrate(
    run: Run, healthy: Healthy, fitted: Fitted, machine: CalibrationMachine, talk: o.Talk, borrow: Borrow = None
) -> None:
    """Calibrate a trained model on healthy scans."""
    with talk.reporter() as reporter:
        from uadcli.calibration.calibrate import calibrate as calibrate_run

        borrowed = _borrowed(borrow)
        done = calibrate_run(run, healthy, machine=machine, reporter=reporter, borrow=borrowed, fitted=fitted)
        print_result(done)


def _borrowed(pairs: list[str] | None) -> dict[str, str]:
    """The contrast that lends its thresholds, by borrower.

    Raises `UsageError` unless each text is such as `T2w=FLAIR`, with another borrower.
    """
    result: dict[str, str] = {}
    for text in pairs or []:
        taker, _, giver = text.partition("=")
        if taker not in CONTRASTS or giver not in CONTRASTS or taker == giver:
            raise UsageError(f"--borrow cannot be {text!r}", hint="Write it as T2w=FLAIR.")
        if result.get(taker, giver) != giver:
            what = f"{taker} cannot borrow from both {result[taker]} and {giver}"
            raise UsageError(what, hint="Give one --borrow for each contrast.")
        result[taker] = giver
    return result


@grouped()
def export(run: Run, output: Folder, talk: o.Talk, overwrite: Overwrite = False) -> None:
    """Export a calibrated run as weights for `uad detect --weights`."""
    with talk.reporter() as reporter:
        from uadcli.calibration.export import export as export_run

        print_result(export_run(run, output, overwrite=overwrite, reporter=reporter))
