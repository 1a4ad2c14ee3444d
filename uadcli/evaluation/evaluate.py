"""`uad evaluate`: anomaly maps against lesion masks. Read `evaluate` to follow the data."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from uadcli import __version__
from uadcli.console import Reporter
from uadcli.data.matching import some
from uadcli.errors import RESEARCH_USE, OutputError, UsageError
from uadcli.evaluation import figures, statistics
from uadcli.evaluation.cases import Case, from_folders
from uadcli.evaluation.figures import Figures, Result
from uadcli.evaluation.lesionwise import BIN_NAMES
from uadcli.evaluation.marking import Marking, sidecar_marking
from uadcli.evaluation.options import EvaluateOptions
from uadcli.evaluation.read import Reader
from uadcli.evaluation.table import from_table
from uadcli.files import finite, make_folder, refuse_closed, write_json, write_text
from uadcli.report import evaluation as report
from uadcli.running.stage import Part

FILES = ("scans.tsv", "summary.tsv", "comparisons.tsv", "evaluation.json", "evaluation.html")
SCHEMA_VERSION = 1
REPORTED = (
    *("auprc", "dice", "best_dice_oracle", "sensitivity_all", "healthy_fp_ml", "scan_auroc"),
    *("scan_auroc_strength", "scan_sensitivity_90_strength", "scan_sensitivity_95_strength"),
)
NOT_IN_TABLE = ("bins", "bins_found", "precision_at")


@dataclass(frozen=True)
class EvaluateResult:
    """The output folder (None if none was requested) and the content of `evaluation.json`."""

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

    `maps` is a folder or a file, several of them (one per method), or a TSV table that also names the truth
    (`table.from_table`). Without `truth`, the last of several is the truth if there are two. Messages go to
    `reporter`, or to the logger `uadcli`. Raises a `UadError`.
    """
    options, reporter = options or EvaluateOptions(), reporter or Reporter(silent=True)
    _check_options(options)
    given = [Path(maps)] if isinstance(maps, str | Path) else [Path(path) for path in maps]
    cases, notes = _cases(given, None if truth is None else Path(truth), options)
    folder = None if output is None else _claim(Path(output), options.overwrite)
    reporter.info(RESEARCH_USE)
    with reporter.stage("compare"):
        results, smallest, more = _compare(cases, options, reporter)
    notes += more
    for text in notes:
        reporter.warn(text)
    with reporter.stage("statistics"):
        content = _content(cases, results, smallest, notes, options, reporter)
    for row in content["summary"]:
        if row["metric"] in REPORTED:
            value, low, high = (report.short(row[key]) for key in ("value", "ci_low", "ci_high"))
            reporter.info(f"{row['method']}: {row['text']} {value} [{low}, {high}], n={row['scans']}")
    if folder is not None:
        _write(folder, content)
    return EvaluateResult(folder, content)


def _check_options(options: EvaluateOptions) -> None:
    if options.threshold is not None and not math.isfinite(options.threshold):
        raise UsageError(f"--threshold cannot be {options.threshold}", hint="Give a number.")
    if options.min_volume_mm3 is not None and not options.min_volume_mm3 >= 0:
        raise UsageError(f"--min-volume cannot be {options.min_volume_mm3}", hint="Give mm3, for example 64.")


def _cases(paths: list[Path], truth: Path | None, options: EvaluateOptions) -> tuple[list[Case], list[str]]:
    """The cases of a table, or of maps and truth."""
    if not paths:
        raise UsageError("there are no maps", hint="Give a folder of maps and a folder of ground truth.")
    if len(paths) == 1 and paths[0].suffix.lower() == ".tsv":
        if truth is not None or options.masks is not None:
            raise UsageError(
                "the table already names ground truth and masks", path=paths[0], hint="Leave the options out."
            )
        return from_table(paths[0])
    if truth is None:
        if len(paths) == 1:
            raise UsageError("the ground truth is missing", path=paths[0], hint="Give maps and truth, or a .tsv table.")
        if len(paths) > 2:
            raise UsageError("none of the folders is named as the ground truth", hint="Name it with --truth.")
        *paths, truth = paths
    return from_folders(paths, truth, masks=options.masks, unlabelled=options.unlabelled)


def _compare(
    cases: list[Case], options: EvaluateOptions, reporter: Reporter
) -> tuple[list[Result], list[float], list[str]]:
    """The figures of every case in order, the smallest component used for each, and notes for the user."""
    read = Reader(options.resample_truth)
    found: dict[int, tuple[Result, float]] = {}
    moved: dict[str, None] = {}
    stored: dict[str, None] = {}
    others: dict[tuple[Path, str], None] = {}
    notes: list[str] = []
    oracles: list[str] = []
    lost: list[str] = []
    for done, i in enumerate(sorted(range(len(cases)), key=lambda i: (str(cases[i].truth), i)), start=1):
        case = cases[i]
        marking = _marking(case.map, options)
        labelled, smallest = read(case, marking.file), marking.min_volume_mm3
        measured = figures.scan_figures(labelled, marking)
        found[i] = Result(case.method, case.scan, case.subject, measured), smallest
        if marking.oracle:
            oracles.append(f"{case.method} {case.scan}")
        if marking.lost:
            lost.append(f"{case.method} {case.scan}")
        moved |= dict.fromkeys(labelled.moved)
        stored |= dict.fromkeys(labelled.stored)
        others |= dict.fromkeys(labelled.others)  # once, as methods share them
        notes += [f"{case.method}, {case.map.name}: {text}" for text in labelled.warnings]
        reporter.progress(done, len(cases))
    results, smallest_used = (list(part) for part in zip(*(found[i] for i in range(len(cases))), strict=True))
    notes += [f"{path.name}: {text}" for path, text in others]
    if stored:
        why = "as not both their header and the map's define left and right"
        notes.append(f"compared by their stored voxels, {why}: {some(list(stored))}")
    if moved:
        notes.append(f"resampled to the map's grid (nearest neighbour): {some(list(moved))}")
    cut = [r.scan for r in results if r.figures.truth_outside_mask_ml]
    if cut:
        notes.append(f"lesion voxels outside the mask do not count: {some(list(dict.fromkeys(cut)))}")
    if lost:
        notes.append(f"the mask in the sidecar is not next to the map, which is marked anew: {some(lost)}")
    if oracles:
        notes.append(f"the threshold in the sidecar was chosen with lesion labels and is not used: {some(oracles)}")
    without = [f"{r.method} {r.scan}" for r in results if r.figures.threshold is None]
    if without:
        notes.append(f"no threshold (give --threshold), so metrics that need one are not computed: {some(without)}")
    return results, smallest_used, notes


def _marking(path: Path, options: EvaluateOptions) -> Marking:
    """How a map is marked: as the options say, otherwise as its sidecar and the mask next to it do."""
    threshold, smallest = options.threshold, options.min_volume_mm3
    own = sidecar_marking(path)
    if threshold is not None:
        own = Marking(threshold, own.min_volume_mm3, strength=own.strength)
    return own if smallest is None else replace(own, min_volume_mm3=smallest, file=None, lost=False)


def _content(
    cases: list[Case],
    results: list[Result],
    smallest: list[float],
    notes: list[str],
    options: EvaluateOptions,
    reporter: Reporter,
) -> dict[str, Any]:
    """The content of `evaluation.json`."""
    drawn: dict[str, int] = {"resamples": options.resamples, "seed": options.seed}
    summing, comparing = (Part(reporter.note, what) for what in ("intervals of method", "comparing by metric"))
    methods = figures.methods(results)
    curves = {name: figures.mean_curve([r for r in results if r.method == name]) for name in methods}
    scans = [_scan_row(*row) for row in zip(cases, results, smallest, strict=True)]
    content: dict[str, Any] = finite(
        {
            "schema_version": SCHEMA_VERSION,
            "research_use_only": RESEARCH_USE,
            "tool": {"name": "uad", "version": __version__},
            "command": options.command or None,
            "bootstrap": drawn | {"level": statistics.LEVEL},
            "methods": methods,
            "notes": notes,
            "rules": list(report.RULES),
            "summary": [_row(s, s.estimate, "value") for s in figures.summarise(results, **drawn, progress=summing)],
            "comparisons": [
                _row(c, c.paired.difference, "difference")
                for c in figures.compare(results, **drawn, progress=comparing)
            ],
            "curves": {
                "recall": figures.RECALLS.tolist(),
                "precision": {name: None if line is None else line.tolist() for name, line in curves.items()},
            },
            "scans": scans,
        }
    )
    return _printable(content)  # type: ignore[no-any-return]


def _scan_row(case: Case, result: Result, smallest: float) -> dict[str, Any]:
    measured: Figures = result.figures
    row: dict[str, Any] = {"method": case.method, "scan": case.scan, "subject": case.subject}
    row |= {"group": "healthy" if measured.healthy else "lesion", "map": case.map.name}
    row |= {"truth": case.truth.name if case.truth else None, "min_volume_mm3": smallest}
    row |= {f.name: getattr(measured, f.name) for f in fields(measured) if f.name not in NOT_IN_TABLE}
    for what, counts in (("lesions", measured.bins), ("found", measured.bins_found)):
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
    """Create the folder. Raises `OutputError` if results would be overwritten without `overwrite`."""
    refuse_closed(folder / FILES[0])
    present = [name for name in FILES if (folder / name).exists()]
    if present and not overwrite:
        raise OutputError(
            "already exists", path=folder / present[0], hint="Give --overwrite or another folder with -o."
        )
    make_folder(folder)
    return folder


def _write(folder: Path, content: dict[str, Any]) -> None:
    """Write every file atomically."""
    texts = (report.scans_tsv(content), report.summary_tsv(content), report.comparisons_tsv(content))
    for name, text in zip(FILES, (*texts, None, report.page(content)), strict=True):
        if text is None:
            write_json(folder / name, content)
        else:
            write_text(folder / name, text)


def _printable(value: Any) -> Any:
    """The value with every text valid in UTF-8: other bytes of file names are shown as `\\xe9`."""
    if isinstance(value, str):
        return os.fsencode(value).decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    return [_printable(item) for item in value] if isinstance(value, list) else value
