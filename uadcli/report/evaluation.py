"""The tables (TSV) and the self-contained HTML page of an evaluation.

All functions take the content of `evaluation.json`; None and NaN are shown as `n/a`.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from uadcli.report.markup import render
from uadcli.report.plot import Curve, Plot, plot

Content = Mapping[str, Any]
MISSING = "n/a"
SUMMARY = ("method", "metric", "value", "ci_low", "ci_high", "median", "sd", "unit", "scans", "subjects", "oracle")
COMPARISON = (
    "a", "b", "metric", "difference", "ci_low", "ci_high", "p_wilcoxon", "p_holm", "p_permutation", "unit", "scans",
    "subjects", "oracle",
)  # fmt: skip
SIZE = (360, 360)  # of the plot's area, px
RULES = (
    "The marked voxels are those of the mask that `uad detect` wrote with a map. Without it, or with a threshold or "
    "smallest volume of your own, a voxel is marked if its score is above the threshold and its 26-connected component "
    "is not too small, or if it is above the extent and connected with such a component.",
    "Threshold, extent and smallest volume are those of each map's sidecar, unless given. Without a sidecar, or if its "
    "threshold was chosen with lesion labels, metrics that need a threshold are not computed.",
    "Such maps are thresholded on their own grid; masks of `uad detect`, made on the model's grid, differ from that, "
    "most of all between thick slices, where peaks of the map are lower.",
    "With a brain mask only the voxels inside count, otherwise all voxels of the map; the background raises the AUROC.",
    "AUPRC is the average precision. AUPRC, AUROC, Dice and volume error are means over scans with a lesion.",
    "best Dice uses for each scan the threshold that suits its labels best: an oracle, not a result.",
    "A lesion is a 26-connected component of the ground truth; it is detected if one of its voxels is marked. A "
    "finding is false if it contains no lesion voxel. Sizes are in ml; a bin includes its lower end.",
    "A scan is healthy if its ground truth is empty or it is listed as healthy.",
    "Scan-level AUROC: scans with a lesion against healthy ones, by the sum of the map (score x ml), the marked "
    "volume, or the strength in the sidecar: the lowest threshold at which the map has no finding.",
    "Scan-level sensitivity at 90 or 95 % specificity: the share of scans with a lesion above the lowest value that 90 "
    "or 95 % of healthy scans lie up to. It needs 10 or 20 healthy scans; with fewer it is not computed.",
    "Curves are the mean of the scans' precision at each recall.",
    "Intervals are 95 % percentile intervals of a bootstrap over subjects; all scans of a subject are drawn together. "
    "With fewer than about ten subjects they are too narrow.",
    "Methods are compared on the scans they share: Wilcoxon's signed-rank test of the subjects' differences, corrected "
    "after Holm over the pairs of methods in each metric (not over metrics), and a permutation test; two-sided.",
)


def scans_tsv(content: Content) -> str:
    """One row for each map."""
    rows = content["scans"]
    return _tsv(list(rows[0]) if rows else ["method", "scan"], rows)


def summary_tsv(content: Content) -> str:
    """One row for each method and metric."""
    return _tsv(SUMMARY, content["summary"])


def comparisons_tsv(content: Content) -> str:
    """One row for each pair of methods and metric; the header alone for one method."""
    return _tsv(COMPARISON, content["comparisons"])


def _tsv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
    writer.writerow([*columns, "research_use_only"])
    writer.writerows([*(_cell(row.get(name)) for name in columns), "yes"] for row in rows)
    return stream.getvalue()


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def short(value: Any) -> str:
    """A number with a useful number of digits."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _p(value: Any) -> str:
    if value is None or not math.isfinite(value):
        return MISSING
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _interval(row: Mapping[str, Any], value: str) -> str:
    if row[value] is None or not math.isfinite(row[value]):
        return MISSING
    return f"{short(row[value])} [{short(row['ci_low'])}, {short(row['ci_high'])}]"


def page(content: Content) -> str:
    """The whole page as HTML; every name in it is escaped."""
    return render(
        "evaluation.html",
        content=content,
        missing=MISSING,
        summary=_summary(content),
        curves=_plot(content),
        comparisons=_comparisons(content) if content["comparisons"] else None,
        scans=_scans(content),
    )


@dataclass(frozen=True)
class Table:
    """Cells of text; the first of each row is its heading."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def _label(row: Mapping[str, Any]) -> str:
    unit = f" ({row['unit']})" if row["unit"] else ""
    mark = " (oracle)" if row["oracle"] and "oracle" not in row["text"] else ""
    return f"{row['text']}{unit}{mark}"


def _summary(content: Content) -> Table:
    by_place = {(row["metric"], row["method"]): row for row in content["summary"]}
    rows = []
    for metric in dict.fromkeys(row["metric"] for row in content["summary"]):
        own = [by_place[metric, name] for name in content["methods"]]
        cells = [f"{_interval(row, 'value')}  n={row['scans']}" for row in own]
        rows.append([_label(own[0]), *cells])
    return Table(["", *content["methods"]], rows)


def _comparisons(content: Content) -> Table:
    head = ["metric", "first", "second", "difference", "Wilcoxon p", "Holm", "permutation p", "n"]
    rows = [
        [_label(row), row["a"], row["b"], _interval(row, "difference"), _p(row["p_wilcoxon"]), _p(row["p_holm"]),
         _p(row["p_permutation"]), str(row["scans"])]
        for row in content["comparisons"]
    ]  # fmt: skip
    return Table(head, rows)


def _scans(content: Content) -> Table:
    shown = ("method", "group", "auprc", "auroc", "dice", "best_dice_oracle", "truth_ml", "found_ml", "lesions",
             "lesions_found", "false_positives", "threshold")  # fmt: skip
    rows = []
    for row in content["scans"]:
        cells = [row.get(name) for name in shown]
        rows.append([row["scan"], *(short(c) if isinstance(c, float) else _cell(c) for c in cells)])
    return Table(["scan", *(name.replace("_", " ") for name in shown)], rows)


def _plot(content: Content) -> Plot | None:
    """Precision against recall, averaged over the scans with lesions; None if no scan has one."""
    recall = content["curves"]["recall"]
    curves = [
        Curve(name, list(zip(recall, precision, strict=True)))
        for name, precision in content["curves"]["precision"].items()
        if precision is not None
    ]
    return plot(curves, ("recall", "precision"), SIZE, unit=True) if curves else None
