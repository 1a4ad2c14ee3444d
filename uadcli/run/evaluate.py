"""`uad evaluate`: anomaly maps against lesion masks. Read `evaluate` for the way of the data."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadcli import __version__
from uadcli.console import Reporter
from uadcli.errors import InputError, OutputError, UsageError
from uadcli.imaging import geometry
from uadcli.imaging.volume import Scan, Volume, read_scan, stem, with_temporary
from uadcli.report import evaluation as report
from uadcli.report import sidecar
from uadcli.run.matching import UNLABELLED, Case, from_folders, from_table
from uadcli.scoring import evaluation, statistics
from uadcli.scoring.evaluation import Figures, Result
from uadcli.scoring.lesionwise import BIN_NAMES

Mask = NDArray[np.bool_]
FILES = ("scans.tsv", "summary.tsv", "comparisons.tsv", "evaluation.json", "evaluation.html")
SCHEMA_VERSION = 1
TOLD = ("auprc", "dice", "best_dice_oracle", "sensitivity_all", "healthy_fp_ml", "scan_auroc")
NOT_IN_TABLE = ("bins", "bins_found", "precision_at")


@dataclass(frozen=True)
class EvaluateOptions:
    """What decides the figures beside the files; None: as the sidecar of each map says."""

    threshold: float | None = None
    min_volume_mm3: float | None = None
    masks: Path | None = None
    unlabelled: str = "refuse"
    resample_truth: bool = False
    resamples: int = statistics.RESAMPLES
    seed: int = 0
    overwrite: bool = False
    command: str = ""


@dataclass(frozen=True)
class EvaluateResult:
    """The folder that was written (None if none was asked for) and the content of `evaluation.json`."""

    folder: Path | None
    content: dict[str, Any]


def evaluate(
    maps: Path | str | Sequence[Path | str],
    truth: Path | str | None = None,
    output: Path | str | None = None,
    *,
    options: EvaluateOptions | None = None,
    reporter: Reporter | None = None,
) -> EvaluateResult:
    """Compare anomaly maps with lesion masks on the maps' own grids; with `output`, write tables and a page there.

    `maps` is a folder or a file, several of them (one for each method), or a TSV table, which names the truth itself
    (`matching.from_table`). Without `truth`, the second of two is the truth. Errors are `UadError`s.
    """
    options, reporter = options or EvaluateOptions(), reporter or Reporter(silent=True)
    _check_options(options)
    given = [Path(maps)] if isinstance(maps, str | Path) else [Path(path) for path in maps]
    cases, notes = _cases(given, None if truth is None else Path(truth), options)
    folder = None if output is None else _claim(Path(output), options.overwrite)
    for text in notes:
        reporter.warn(text)
    reporter.info(sidecar.RESEARCH_USE)
    with reporter.stage("compare"):
        results, settings = _compare(cases, options, reporter, notes)
    with reporter.stage("statistics"):
        content = _content(cases, results, settings, notes, options)
    for row in content["summary"]:
        if row["metric"] in TOLD:
            value, low, high = (report.short(row[key]) for key in ("value", "ci_low", "ci_high"))
            reporter.info(f"{row['method']}: {row['text']} {value} [{low}, {high}], {row['scans']} scans")
    if folder is not None:
        _write(folder, content)
    return EvaluateResult(folder, content)


def _check_options(options: EvaluateOptions) -> None:
    if options.threshold is not None and not math.isfinite(options.threshold):
        raise UsageError(f"--threshold cannot be {options.threshold}", hint="Give a number.")
    if options.min_volume_mm3 is not None and not options.min_volume_mm3 >= 0:
        raise UsageError(f"--min-volume cannot be {options.min_volume_mm3}", hint="Give mm3, for example 64.")
    if options.resamples < 1:
        raise UsageError("--resamples must be at least 1")
    if options.unlabelled not in UNLABELLED:
        known = ", ".join(UNLABELLED)
        raise UsageError(f"--unlabelled cannot be {options.unlabelled!r}", hint=f"Choose from {known}.")


def _cases(paths: list[Path], truth: Path | None, options: EvaluateOptions) -> tuple[list[Case], list[str]]:
    """What the paths mean: a table, or maps and truth."""
    if not paths:
        raise UsageError("there are no maps", hint="Give a folder of maps and a folder of truths.")
    if len(paths) == 1 and paths[0].suffix.lower() == ".tsv":
        if truth is not None or options.masks is not None:
            raise UsageError("the table names the truth and the masks", path=paths[0], hint="Leave the options out.")
        return from_table(paths[0])
    if truth is None:
        if len(paths) == 1:
            raise UsageError("the truth is missing", path=paths[0], hint="Give maps and truth, or a .tsv table.")
        if len(paths) > 2:
            raise UsageError("of several folders none is marked as the truth", hint="Name it with --truth.")
        *paths, truth = paths
    return from_folders(paths, truth, masks=options.masks, unlabelled=options.unlabelled)


def _compare(
    cases: list[Case], options: EvaluateOptions, reporter: Reporter, notes: list[str]
) -> tuple[list[Result], list[float]]:
    """The figures of every case in order, and the smallest volume used for each."""
    found: dict[int, tuple[Result, float]] = {}
    told: dict[str, None] = dict.fromkeys(notes)  # each note once, in order
    truths = lru_cache(maxsize=2)(read_scan)  # methods share a truth, and cases are taken scan by scan

    def read(path: Path) -> Scan:
        return truths(path, allow_empty=True)

    for done, i in enumerate(sorted(range(len(cases)), key=lambda i: (str(cases[i].truth), i)), start=1):
        case = cases[i]
        threshold, smallest = _settings(case.map, options)
        scan = read_scan(case.map, allow_empty=True)
        told |= dict.fromkeys(f"{case.map.name}: {text}" for text in scan.warnings)
        truth = _truth(case, scan, read, options, told)
        mask = None if case.mask is None else _on_grid(read(case.mask), scan, options, told)
        figures = evaluation.scan_figures(scan.volume.data, truth, scan.volume.affine, threshold, smallest, mask)
        if truth.any() and figures.healthy:
            raise InputError(f"no lesion voxel is inside {case.mask}", path=case.truth, hint="Check the mask.")
        if figures.truth_outside_mask_ml:
            told[f"{case.scan}: {figures.truth_outside_mask_ml:.2f} ml of lesion outside the mask do not count"] = None
        found[i] = Result(case.method, case.scan, case.subject, figures), smallest
        reporter.progress(done, len(cases))
    without = sum(result.figures.threshold is None for result, _ in found.values())
    if without:
        some = "1 map has" if without == 1 else f"{without} maps have"
        told[f"{some} no threshold: what needs one is not computed (--threshold)"] = None
    for text in [text for text in told if text not in notes]:
        reporter.warn(text)
        notes.append(text)
    return [found[i][0] for i in range(len(cases))], [found[i][1] for i in range(len(cases))]


def _settings(path: Path, options: EvaluateOptions) -> tuple[float | None, float]:
    """Threshold and smallest component in mm3 for a map: as asked for, else those of its sidecar, else none and 0."""
    place = path.with_name(f"{stem(path)}.json")
    threshold, smallest = None, 0.0
    if place.exists():
        try:
            content = json.loads(place.read_text(encoding="utf-8"))
            if "threshold" in content:  # else it is the JSON of something else
                value = content["threshold"]["value"]
                threshold = None if value is None else float(value)
                smallest = float(content.get("settings", {}).get("scoring", {}).get("min_volume_mm3", 0.0))
            elif not isinstance(content, dict):
                raise TypeError("not an object")
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError("is not the sidecar of a map", path=place, hint="Write it again, or remove it.") from error
    return (
        threshold if options.threshold is None else options.threshold,
        smallest if options.min_volume_mm3 is None else options.min_volume_mm3,
    )


def _truth(case: Case, scan: Scan, read: Any, options: EvaluateOptions, told: dict[str, None]) -> Mask:
    """The lesions of a case on its map's grid; none for a scan that is healthy by the user's word."""
    if case.truth is None:
        return np.zeros(scan.volume.shape, dtype=bool)
    truth = _on_grid(read(case.truth), scan, options, told)
    if case.healthy and truth.any():
        raise InputError("holds lesions, and the scan is said to be healthy", path=case.truth, hint="Mend the table.")
    return truth


def _on_grid(source: Scan, scan: Scan, options: EvaluateOptions, told: dict[str, None]) -> Mask:
    """A mask as voxels of the map's grid: labels from 1, or soft ones from one half. Raises `InputError`."""
    data, own, grid = source.volume.data >= 0.5, source.volume, scan.volume
    if not data.any() and source.volume.data.max() > 0:
        raise InputError("holds only values between 0 and 0.5", path=source.path, hint="Give a mask of 0 and 1.")
    if geometry.same_grid(grid.shape, grid.affine, own.shape, own.affine):
        return data
    if not options.resample_truth:
        raise InputError(
            f"is on another grid ({_grid(own)}) than {scan.path.name} ({_grid(grid)})",
            path=source.path,
            hint="Bring it to the map's grid, or give --resample-truth.",
        )
    moved = geometry.resample(data.astype(np.float32), own.affine, grid.shape, grid.affine, order=0) >= 0.5
    if data.any() and not moved.any():
        raise InputError(f"no lesion voxel is left on the grid of {scan.path.name}", path=source.path)
    told[f"{source.path.name}: brought to the grid of {scan.path.name} by nearest neighbour"] = None
    return moved


def _grid(volume: Volume) -> str:
    size = "x".join(f"{step:.3g}" for step in geometry.spacing(volume.affine))
    return f"{'x'.join(map(str, volume.shape))} voxels of {size} mm"


def _content(
    cases: list[Case], results: list[Result], smallest: list[float], notes: list[str], options: EvaluateOptions
) -> dict[str, Any]:
    """What `evaluation.json` says."""
    drawn = {"resamples": options.resamples, "seed": options.seed}
    methods = evaluation.methods(results)
    curves = {name: evaluation.mean_curve([r for r in results if r.method == name]) for name in methods}
    scans = [_scan_row(*row) for row in zip(cases, results, smallest, strict=True)]
    content: dict[str, Any] = sidecar.finite(
        {
            "schema_version": SCHEMA_VERSION,
            "research_use_only": sidecar.RESEARCH_USE,
            "tool": {"name": "uad", "version": __version__},
            "command": options.command or None,
            "bootstrap": drawn | {"level": statistics.LEVEL},
            "methods": methods,
            "notes": notes,
            "rules": list(report.RULES),
            "summary": [_row(s, s.estimate, "value") for s in evaluation.summarise(results, **drawn)],
            "comparisons": [_row(c, c.paired.difference, "difference") for c in evaluation.compare(results, **drawn)],
            "curves": {
                "recall": evaluation.RECALLS.tolist(),
                "precision": {name: None if line is None else line.tolist() for name, line in curves.items()},
            },
            "scans": scans,
        }
    )
    return _printable(content)  # type: ignore[no-any-return]


def _scan_row(case: Case, result: Result, smallest: float) -> dict[str, Any]:
    figures: Figures = result.figures
    row: dict[str, Any] = {"method": case.method, "scan": case.scan, "subject": case.subject}
    row |= {"group": "healthy" if figures.healthy else "lesion", "map": case.map.name}
    row |= {"truth": case.truth.name if case.truth else None, "min_volume_mm3": smallest}
    row |= {f.name: getattr(figures, f.name) for f in fields(figures) if f.name not in NOT_IN_TABLE}
    for what, counts in (("lesions", figures.bins), ("found", figures.bins_found)):
        row |= {f"{what}_{name}_ml": counts[i] if counts else None for i, name in enumerate(BIN_NAMES)}
    return row


def _row(source: Any, estimate: statistics.Estimate, value: str) -> dict[str, Any]:
    """A summary or comparison as one flat row."""
    row = {f.name: getattr(source, f.name) for f in fields(source) if f.name not in ("estimate", "paired")}
    row |= {value: estimate.value, "ci_low": estimate.low, "ci_high": estimate.high}
    if value == "difference":
        row |= {"p_wilcoxon": source.paired.p_wilcoxon, "p_permutation": source.paired.p_permutation}
    return row | {"scans": estimate.scans, "subjects": estimate.subjects}


def _claim(folder: Path, overwrite: bool) -> Path:
    """Make the folder and refuse what must not be replaced. Raises `OutputError`."""
    present = [name for name in FILES if (folder / name).exists()]
    if present and not overwrite:
        raise OutputError(
            "exists already", path=folder / present[0], hint="Give --overwrite or another folder with -o."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot be made: {error.strerror}", path=folder, hint="Choose another folder.") from error
    if not os.access(folder, os.W_OK):
        raise OutputError("the folder cannot be written", path=folder, hint="Choose another folder with -o.")
    return folder


def _write(folder: Path, content: dict[str, Any]) -> None:
    """Write every file, each in one step."""
    texts = (report.scans_tsv(content), report.summary_tsv(content), report.comparisons_tsv(content))
    for name, text in zip(FILES, (*texts, None, report.page(content)), strict=True):
        if text is None:
            sidecar.write_json(folder / name, content)
        else:
            with_temporary(folder / name, partial(_put, text.encode()))


def _put(data: bytes, path: Path) -> None:
    path.write_bytes(data)


def _printable(value: Any) -> Any:
    """The value with every text as UTF-8 can hold it: a file name may have bytes that are none, shown as `\\xe9`."""
    if isinstance(value, str):
        return os.fsencode(value).decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    return [_printable(item) for item in value] if isinstance(value, list) else value
