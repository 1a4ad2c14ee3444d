"""Every option of every command, declared once, and the checks of their values."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from uadcli import streams
from uadcli.cli.command_line import command_line
from uadcli.config import (
    CONTRASTS,
    COSTLY,
    GEOMETRIES,
    SAVES,
    SPACES,
    STRIPS,
    DetectConfig,
    read_toml,
)
from uadcli.console import Reporter
from uadcli.errors import UsageError
from uadcli.scoring import scores
from uadcli.settings import methods
from uadcli.settings.bounds import nearest
from uadcli.settings.threshold import ThresholdRule

T = TypeVar("T")


@dataclass
class Invocation:
    """The arguments of the command as typed, and the options given before its name."""

    arguments: Sequence[str] = ()
    verbose: bool = False
    quiet: bool = False
    debug: bool = False
    log_file: Path | None = None

    def command(self, keep_paths: bool) -> str:
        """The command for the sidecar, see `command_line`."""
        return command_line(self.arguments, keep_paths)


def one_of(option: str, known: Sequence[str]) -> Callable[[str | None], str | None]:
    """A Typer callback that lets only members of `known` pass."""

    def check(value: str | None) -> str | None:
        return None if value is None else nearest(value, known, option)

    return check


def score_name(value: str | None) -> str | None:
    """A Typer callback for the name of a score, or an alias of one. Raises `UsageError` for another."""
    return None if value is None else nearest(scores.aliases().get(value.lower(), value), scores.names(), "--score")


def saved(value: str) -> tuple[str, ...]:
    """The files named by `--save`: a comma list, `all` spelt out. Raises `UsageError` for an unknown one."""
    known = (*SAVES, *COSTLY, "all")
    names = [nearest(name.strip(), known, "--save") for name in value.split(",") if name.strip()]
    names += SAVES if "all" in names else ()
    return tuple(name for name in (*SAVES, *COSTLY) if name in names)


def check_saved(value: str) -> str:
    """A Typer callback for `--save`."""
    saved(value)
    return value


def cubic_millimetres(text: str) -> float:
    """A volume in mm3 from `64`, `64mm3` or `0.5ml`. Raises `UsageError` for anything else."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(mm3|mm³|ml)?\s*", text, re.IGNORECASE)
    if not found:
        raise UsageError(f"--min-volume cannot be {text!r}", hint="Give mm3, for example 64 or 64mm3.")
    return float(found[1]) * (1000.0 if (found[2] or "").lower() == "ml" else 1.0)


def exclusive(given: Mapping[str, Any]) -> None:
    """Raises `UsageError` for options that contradict one another."""
    if given.get("brain_mask") and given.get("strip") not in (None, "auto", "none"):
        raise UsageError("--brain-mask and --strip cannot be combined", hint="The brain mask replaces stripping.")
    if "labels" in given:
        given["threshold"].check_labels(given["labels"] is not None)
    if given.get("only_map") and given.get("save"):
        raise UsageError("--only-map and --save cannot be combined", hint="Leave one of them out.")
    if given.get("only_map") and given.get("html"):
        raise UsageError("--only-map and --html cannot be combined", hint="Leave one of them out.")


def detect_config(given: Mapping[str, Any]) -> DetectConfig:
    """The settings of `--config`, with the options of the command line laid over them. Raises `UsageError`."""
    config = DetectConfig() if given["config"] is None else read_config(given["config"], DetectConfig)
    return dataclasses.replace(
        config,
        preprocess=_over(config.preprocess, strip=given["strip"]),
        reconstruction=_over(
            config.reconstruction, batch_size=given["batch_size"], seed=given["seed"], method=given["method"]
        ),
        scoring=_over(config.scoring, min_volume_mm3=given["min_volume"]),
    )


def _over(part: T, **values: Any) -> T:
    chosen = {name: value for name, value in values.items() if value is not None}
    return dataclasses.replace(part, **chosen)  # type: ignore[type-var]


def read_config(path: Path, kind: type[T]) -> T:
    """The settings `kind` of a TOML file. Raises `UsageError` with the path."""
    try:
        config: T = read_toml(kind, path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", path=path, hint="`uad config` prints one.") from error
    except UnicodeDecodeError as error:
        raise UsageError("is not text in UTF-8", path=path, hint="`uad config` prints one.") from error
    except UsageError as error:
        raise UsageError(error.what, path=path, hint=error.hint) from error
    return config


def pick(kind: Callable[..., T], given: Mapping[str, Any], **more: Any) -> T:
    """Build the dataclass `kind` from the options whose names are its fields."""
    names = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in given.items() if name in names and name not in more}, **more)


def reporter(given: Mapping[str, Any]) -> Reporter:
    """A reporter as the options before and after the command's name ask for it. Raises `UsageError`."""
    before: Invocation = given["ctx"].obj
    verbose, quiet = given["verbose"] or before.verbose, given["quiet"] or before.quiet
    if verbose and quiet:
        raise UsageError("--verbose and --quiet cannot be combined", hint="Leave one of them out.")
    return Reporter(verbosity=int(verbose) - int(quiet), log_file=given["log_file"] or before.log_file)


def _note_debug(ctx: typer.Context, value: bool) -> bool:
    invocation = ctx.find_root().ensure_object(Invocation)
    invocation.debug = invocation.debug or value
    if value:
        streams.set_library_text(shown=True)
    return value


def _note_offline(value: bool) -> bool:
    if value:
        os.environ["HF_HUB_OFFLINE"] = "1"  # worker processes inherit it, and so would any client of the Hub
    return value


def _option(*names: str, panel: str | None = None, **more: Any) -> Any:
    return typer.Option(*names, rich_help_panel=panel, **more)


INPUT, METHOD, OUTPUT, RUNNING, TALK = "Input", "Method", "Output", "Running", "Messages"
CLUSTER = "Cluster"

Scan = Annotated[
    Path, typer.Argument(metavar="SCAN", help="The scan: .nii, .nii.gz, .img/.hdr or .mgz.", show_default=False)
]
Contrast = Annotated[
    str | None,
    _option(
        "--contrast",
        panel=INPUT,
        callback=one_of("--contrast", CONTRASTS),
        metavar="|".join(CONTRASTS),
        help="Contrast of the scan; by default from its name, otherwise from its intensities.",
    ),
]
VolumeIndex = Annotated[
    int | None,
    _option("--volume", panel=INPUT, min=0, metavar="N", help="Volume of a 4-D scan, counted from 0."),
]
Geometry = Annotated[
    str,
    _option(
        "--geometry",
        panel=INPUT,
        callback=one_of("--geometry", GEOMETRIES),
        metavar="|".join(GEOMETRIES),
        help="Which of the header's two geometries to use; trust: even one that the header marks as unknown.",
    ),
]
BrainMask = Annotated[
    Path | None, _option("--brain-mask", panel=INPUT, metavar="FILE", help="Brain mask on the scan's grid.")
]

Strip = Annotated[
    str | None,
    _option(
        "--strip",
        panel=METHOD,
        callback=one_of("--strip", STRIPS),
        metavar="|".join(STRIPS),
        help="How to extract the brain: HD-BET, an atlas (fast), or none if stripped; auto decides.",
        show_default="auto",
    ),
]
Weights = Annotated[
    str | None,
    _option(
        "--weights",
        panel=METHOD,
        metavar="NAME|PATH|HF",
        help="Weights instead of the bundled ones; also hf://owner/repo@commit.",
    ),
]
Method = Annotated[
    str | None,
    _option(
        "--method",
        panel=METHOD,
        callback=one_of("--method", methods.NAMES),
        metavar="|".join(methods.NAMES),
        help="How to reconstruct the scan; by default as the weights were trained.",
    ),
]
Score = Annotated[
    str | None,
    _option(
        "--score",
        panel=METHOD,
        callback=score_name,
        metavar="|".join((*scores.joined(), *scores.plain())),
        help=f"How to compare scan and reconstruction ({scores.Z}SCORE: normalised to healthy scans; "
        f"{', '.join(f'{alias} is {name}' for alias, name in scores.aliases().items())}); "
        "by default that of the weights.",
    ),
]
Adapt = Annotated[
    Path | None,
    _option(
        "--adapt",
        panel=METHOD,
        metavar="FOLDER",
        help="Healthy scans from the same scanner; the model's average error on them is subtracted.",
    ),
]
Threshold = Annotated[
    ThresholdRule,
    _option(
        "--threshold",
        panel=METHOD,
        parser=ThresholdRule.parse,
        metavar="auto|calibrated|rate|conformal|fdr|best-dice|VALUE",
        help="Score above which voxels are marked: from healthy voxels (rate:0.001), scans (conformal:0.1), the "
        "false discovery rate (fdr:0.05) or a value.",
    ),
]
AUTO = ThresholdRule("auto")
Labels = Annotated[
    Path | None,
    _option("--labels", panel=METHOD, metavar="FILE", help="Lesion mask on the scan's grid, for best-dice."),
]
MinVolume = Annotated[
    float | None,
    _option(
        "--min-volume",
        panel=METHOD,
        parser=cubic_millimetres,
        metavar="MM3",
        help="Smallest component to keep, for example 64 or 64mm3.",
        show_default="64",
    ),
]
Seed = Annotated[
    int | None, _option("--seed", panel=METHOD, min=0, metavar="N", help="Seed of the noise.", show_default="0")
]
ConfigFile = Annotated[
    Path | None,
    _option("--config", panel=METHOD, metavar="TOML", help="All settings from a file (see `uad config`)."),
]

Output = Annotated[
    Path | None,
    _option(
        "--output",
        "-o",
        panel=OUTPUT,
        metavar="MAP",
        help="The map; by default SCAN_desc-anomaly_map.nii.gz next to the scan.",
    ),
]
Space = Annotated[
    str,
    _option(
        "--space",
        panel=OUTPUT,
        callback=one_of("--space", SPACES),
        metavar="|".join(SPACES),
        help="Results on the scan's own grid, in MNI space, or both.",
    ),
]
Save = Annotated[
    str,
    _option(
        "--save",
        panel=OUTPUT,
        callback=check_saved,
        metavar="LIST",
        show_default=False,
        help="More files, comma-separated: recon, brain, transform or all of these; uncertainty (slow).",
    ),
]
Stability = Annotated[
    int | None,
    _option(
        "--stability",
        panel=METHOD,
        min=1,
        metavar="N",
        help="Repeat with N other seeds and report how much the map changes (N times as slow).",
    ),
]
OnlyMap = Annotated[bool, _option("--only-map", panel=OUTPUT, help="Write only the map: no mask, picture or sidecar.")]
Html = Annotated[bool, _option("--html", panel=OUTPUT, help="Also write a page (.html) to view in a browser.")]
Overwrite = Annotated[bool, _option("--overwrite", panel=OUTPUT, help="Replace files that exist.")]
KeepPaths = Annotated[
    bool,
    _option(
        "--keep-paths",
        panel=OUTPUT,
        help="Keep full paths in the sidecar's command; by default those outside the working folder are shortened.",
    ),
]
AsJson = Annotated[bool, _option("--json", panel=OUTPUT, help="Print the sidecar as JSON instead of the map's path.")]
Strict = Annotated[
    bool,
    _option(
        "--strict", panel=OUTPUT, help="Exit with 7 if quality control fails or the scan is unlike the training scans."
    ),
]

Device = Annotated[
    str, _option("--device", panel=RUNNING, metavar="auto|cpu|cuda|cuda:N|mps", help="Device for the networks.")
]
Threads = Annotated[
    int | None,
    _option(
        "--threads", panel=RUNNING, min=1, metavar="N", help="Maximum number of threads.", show_default="all cores"
    ),
]
BatchSize = Annotated[
    int | None,
    _option(
        "--batch-size",
        panel=RUNNING,
        min=1,
        metavar="N",
        help="Slices per batch, for time and memory; scores change only by rounding, at most 1e-4 of the highest.",
        show_default="32",
    ),
]

Offline = Annotated[
    bool,
    _option(
        "--offline", panel=RUNNING, callback=_note_offline, help="Do not use the network, as with HF_HUB_OFFLINE=1."
    ),
]

Verbose = Annotated[bool, _option("--verbose", "-v", panel=TALK, help="Print more messages.")]
Quiet = Annotated[bool, _option("--quiet", "-q", panel=TALK, help="Print only warnings and errors.")]
Debug = Annotated[bool, _option("--debug", panel=TALK, callback=_note_debug, help="Show the traceback of an error.")]
LogFile = Annotated[
    Path | None, _option("--log-file", panel=TALK, metavar="FILE", help="Append all messages and tracebacks to a file.")
]
