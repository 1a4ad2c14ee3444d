"""`uad train`, `uad calibrate` and `uad export`: your own model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from uadcli.cli import options as o
from uadcli.config import CONTRASTS, TrainingConfig, to_toml, training_preset, with_settings
from uadcli.console import Reporter, print_result
from uadcli.errors import UsageError
from uadcli.settings import methods
from uadcli.settings.training import Machine, Taught

Data = Annotated[
    Path | None,
    typer.Argument(metavar="DATA", help="Folder or BIDS dataset of healthy scans; with --labels of patients."),
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of the run.")]
Healthy = Annotated[Path, typer.Argument(metavar="HEALTHY", help="Folder of healthy scans not used in training.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the run.")]
Resume = Annotated[Path | None, typer.Option("--resume", metavar="RUN", help="Resume a run.")]
Check = Annotated[bool, typer.Option("--check", help="Only read every file once and report problems.")]
Smoke = Annotated[bool, typer.Option("--smoke", help="Try every step once on made-up scans, in under 2 minutes.")]
PrintConfig = Annotated[bool, typer.Option("--print-config", help="Print the settings as TOML.")]
Profile = Annotated[
    str, typer.Option("--profile", metavar="small|reference", help="Model sizes; reference: as published.")
]
Method = Annotated[
    str | None,
    typer.Option(
        "--method",
        metavar="|".join(methods.NAMES),
        callback=o.one_of("--method", methods.NAMES),
        help="Reconstruction method to train.",
        show_default="cddpm",
    ),
]
Score = Annotated[
    str | None,
    typer.Option(
        "--score",
        metavar="siamese",
        callback=o.one_of("--score", ("siamese",)),
        help="With --labels: train only this score, on labelled scans.",
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        metavar="FOLDER",
        help="Lesion masks on the scans' grids, matched by name; empty for a healthy scan.",
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="NAME|PATH|HF",
        help="Start from these networks; with --labels: keep their reconstruction.",
        show_default="new ones; with --labels the bundled model",
    ),
]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change a setting (repeatable).")]
Workers = Annotated[int, typer.Option("--workers", min=1, help="Scans prepared in parallel.")]
MaxSteps = Annotated[
    int | None, typer.Option("--max-steps", min=1, metavar="N", help="Maximum number of steps of each training.")
]
Gpus = Annotated[
    int | None,
    typer.Option(
        "--gpus", min=0, metavar="N", help="Number of GPUs to train on; 0 for the CPU.", show_default="1 or 0"
    ),
]
Folder = Annotated[Path, typer.Option("--output", "-o", help="Folder for the weights; its name becomes the model's.")]


Borrow = Annotated[
    list[str] | None,
    typer.Option(
        "--borrow",
        metavar="T2w=FLAIR",
        help="A contrast without healthy scans borrows the thresholds of another (repeatable).",
    ),
]


def train(
    ctx: typer.Context,
    data: Data = None,
    out: Out = None,
    resume: Resume = None,
    check: Check = False,
    smoke: Smoke = False,
    print_config: PrintConfig = False,
    profile: Profile = "small",
    method: Method = None,
    score: Score = None,
    labels: Labels = None,
    weights: Weights = None,
    config: o.ConfigFile = None,
    assignments: Set = None,
    max_steps: MaxSteps = None,
    workers: Workers = 2,
    gpus: Gpus = None,
    threads: o.Threads = None,
    verbose: o.Verbose = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    log_file: o.LogFile = None,
) -> None:
    """Train a model on healthy scans, or its score on labelled ones, or resume a run."""
    given = locals()
    taught = _taught(given)
    capped = [f"max_steps={max_steps}"] if max_steps else []
    settings = _settings(profile, method, config, resume, [*(assignments or []), *capped])
    if print_config:
        return print_result(to_toml(settings), end="")
    with o.reporter(given) as reporter:
        machine = Machine(workers, gpus, threads)
        print_result(str(_work(given, taught, settings, machine, reporter)))


def _taught(given: Mapping[str, Any]) -> Taught:
    """What `--score`, `--labels` and `--weights` ask for. Raises `UsageError` where they do not go together."""
    labels, weights = given["labels"], given["weights"]
    if labels is None and given["score"] is not None:
        raise UsageError(
            "--score siamese needs --labels", hint="Without labels, `uad train` trains it on synthetic lesions."
        )
    if labels is not None:
        _check_labels(given)
    elif weights is not None:
        _check_weights(given)
    return Taught(labels, weights)


def _check_weights(given: Mapping[str, Any]) -> None:
    others = {f"--{name}": bool(given[name]) for name in ("resume", "smoke", "method")}
    others |= {"--profile": given["profile"] != "small"}
    hint = "Sizes and method are those of the weights, and a run keeps what it started from."
    _refuse_beside("--weights", others, hint)


def _check_labels(given: Mapping[str, Any]) -> None:
    if given["score"] is None:
        raise UsageError("--labels needs --score siamese", hint="Add it, or leave --labels out.")
    others = {"--resume": given["resume"] is not None, "--smoke": given["smoke"]}
    others |= {"--method": given["method"] is not None, "--profile": given["profile"] != "small"}
    _refuse_beside("--labels", others, "A run keeps its labels, and its reconstruction is that of --weights.")


def _refuse_beside(option: str, others: Mapping[str, bool], hint: str) -> None:
    """Raises `UsageError` for the first of the other options that is there."""
    for name in (name for name, there in others.items() if there):
        raise UsageError(f"{option} and {name} cannot be combined", hint=hint)


def _work(
    given: Mapping[str, Any], taught: Taught, settings: TrainingConfig, machine: Machine, reporter: Reporter
) -> object:
    """What `uad train` prints, after the one of its kinds of work that was asked for."""
    from uadcli.training import train as training

    data, out, resume = (given[name] for name in ("data", "out", "resume"))
    if given["smoke"]:
        return _tried(given, machine, reporter)
    if data is not None and given["check"]:
        return _checked(data, taught, settings, reporter)
    if data is not None and out is not None and resume is None:
        return training.train(data, out, settings, taught=taught, machine=machine, reporter=reporter)
    if resume is not None and data is None and out is None:
        return training.resume(resume, settings, machine=machine, reporter=reporter)
    raise UsageError("give DATA --out RUN, --resume RUN, --check DATA or --smoke", hint="See `uad train --help`.")


def _settings(
    profile: str, method: str | None, config: Path | None, resume: Path | None, assignments: list[str]
) -> TrainingConfig:
    """The settings of the run to resume, of a file, or of a profile, with `--method` and `--set` laid over them."""
    if resume is not None:
        return with_settings(_settings_of(resume, profile, method, config), assignments)
    base = training_preset(profile)
    chosen = o.read_config(config, type(base)) if config else base
    if method is not None:
        from uadcli.reconstruction.reconstructors import for_method

        chosen = replace(chosen, model=for_method(chosen.model, method))
    return with_settings(chosen, assignments)


def _settings_of(run: Path, profile: str, method: str | None, config: Path | None) -> TrainingConfig:
    from uadcli.training.run_folder import read_run

    if method is not None:
        raise UsageError("--method and --resume cannot be combined", hint="A run keeps its method.")
    if config is not None or profile != "small":
        raise UsageError("--resume cannot be combined with --config or --profile", hint="A run keeps its settings.")
    return read_run(run)


def _checked(data: Path, taught: Taught, settings: TrainingConfig, reporter: Reporter) -> str:
    from uadcli.data import dataset, lesion_labels

    if taught.labels is None:
        cases = dataset.find(data, settings.validation_share)
    else:
        cases = lesion_labels.find(data, taught.labels, settings.validation_share, reporter)
        lesion_labels.check(cases, taught.labels)
    return dataset.in_words(dataset.check(cases))


def _tried(given: Mapping[str, Any], machine: Machine, reporter: Reporter) -> str:
    from uadcli import device
    from uadcli.running.temporary import temporary_folder
    from uadcli.smoke import smoke

    if given["data"] is not None or given["resume"] is not None or given["check"]:
        raise UsageError("--smoke makes its own scans", hint="Use it without DATA, --resume and --check.")
    out: Path | None = given["out"]
    device.bound_threads(machine.threads)
    if out is not None and out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty", hint="Give an empty folder, or none.")
    with temporary_folder() as temporary:
        return smoke(out or temporary, workers=machine.workers, reporter=reporter)


def calibrate(
    ctx: typer.Context,
    run: Run,
    healthy: Healthy,
    borrow: Borrow = None,
    workers: Workers = 2,
    threads: o.Threads = None,
    verbose: o.Verbose = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    log_file: o.LogFile = None,
) -> None:
    """Calibrate a trained model on healthy scans."""
    given = locals()
    with o.reporter(given) as reporter:
        from uadcli import device
        from uadcli.calibration.calibrate import calibrate as calibrate_run

        device.bound_threads(threads)
        print_result(calibrate_run(run, healthy, workers=workers, reporter=reporter, borrow=_borrowed(borrow)))


def _borrowed(pairs: list[str] | None) -> dict[str, str]:
    """Who takes the thresholds of whom. Raises `UsageError` for what is no pair of contrasts."""
    result = {}
    for text in pairs or []:
        taker, _, giver = text.partition("=")
        if taker not in CONTRASTS or giver not in CONTRASTS or taker == giver:
            raise UsageError(f"--borrow cannot be {text!r}", hint="Write it as T2w=FLAIR.")
        result[taker] = giver
    return result


def export(
    ctx: typer.Context,
    run: Run,
    output: Folder,
    overwrite: o.Overwrite = False,
    verbose: o.Verbose = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    log_file: o.LogFile = None,
) -> None:
    """Export a calibrated run as weights for `uad detect --weights`."""
    given = locals()
    with o.reporter(given) as reporter:
        from uadcli.calibration.export import export as export_run

        print_result(export_run(run, output, overwrite=overwrite, reporter=reporter))
