"""An evaluation in words: TSV tables and one HTML page that needs nothing from outside.

All take the content of `evaluation.json`; a number that is None or NaN is shown as `n/a`.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

Content = Mapping[str, Any]
MISSING = "n/a"
SUMMARY = ("method", "metric", "value", "ci_low", "ci_high", "median", "sd", "unit", "scans", "subjects", "oracle")
COMPARISON = (
    "a", "b", "metric", "difference", "ci_low", "ci_high", "p_wilcoxon", "p_holm", "p_permutation", "unit", "scans",
    "subjects", "oracle",
)  # fmt: skip
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito
DASHES = ("none", "7 3", "2 3", "9 3 2 3")
PLOT, LEFT, TOP = 360, 48, 12  # side of the plot and its margins, in px
RULES = (
    "A voxel is marked if its score is above the threshold and its 26-connected component is not too small.",
    "Threshold and smallest volume are those of each map's sidecar, unless given. Without a sidecar, or if its "
    "threshold was chosen with lesion labels, metrics that need a threshold are not computed.",
    "Maps are thresholded on their own grid; masks of `uad detect`, made on the model's grid, differ at the edge.",
    "With a brain mask only the voxels inside count, otherwise all voxels of the map; the background raises the AUROC.",
    "AUPRC is the average precision. AUPRC, AUROC, Dice and volume error are means over scans with a lesion.",
    "best Dice uses for each scan the threshold that suits its labels best: an oracle, not a result.",
    "A lesion is a 26-connected component of the ground truth; it is detected if one of its voxels is marked. A "
    "finding is false if it contains no lesion voxel. Sizes are in ml; a bin includes its lower end.",
    "A scan is healthy if its ground truth is empty or it is listed as healthy.",
    "Scan-level AUROC: scans with a lesion against healthy ones, by the sum of the map (score x ml) or the volume.",
    "Curves are the mean of the scans' precision at each recall.",
    "Intervals are 95 % percentile intervals of a bootstrap over subjects; all scans of a subject are drawn together. "
    "With fewer than about ten subjects they are too narrow.",
    "Methods are compared on the scans they share: Wilcoxon's signed-rank test of the subjects' differences, corrected "
    "after Holm over the pairs of methods in each metric (not over metrics), and a permutation test; two-sided.",
)
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid #ddd; padding: .25rem .7rem; text-align: left; overflow-wrap: break-word; }
td { white-space: nowrap; } .wide { overflow-x: auto; } .use { background: #fff3cd; padding: .5rem .8rem; }
.oracle { color: #8a5300; font-style: italic; } small { color: #666; } code { overflow-wrap: anywhere; }
svg text { font: 12px system-ui, sans-serif; fill: #333; }
""".strip()


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
    """A number with the digits that a reader can use."""
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
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>Evaluation of anomaly maps</title><style>{STYLE}</style></head><body>",
        "<h1>Evaluation of anomaly maps</h1>",
        f'<p class="use"><strong>{escape(content["research_use_only"])}</strong></p>',
        f"<p>{len(content['scans'])} maps, {_methods(content)}.</p>",
        *(
            ["<h2>Notes</h2><ul>", *(f"<li>{escape(n)}</li>" for n in content["notes"]), "</ul>"]
            * bool(content["notes"])
        ),
        "<h2>Figures</h2>",
        "<p>Mean over scans, or pooled where stated; in brackets the 95 % bootstrap interval over subjects; n counts "
        f"scans. {MISSING}: not computed.</p>",
        _summary(content),
        "<h2>Precision and recall</h2>",
        _plot(content),
        *(["<h2>Methods compared</h2>", _comparisons(content)] if content["comparisons"] else []),
        "<h2>How the metrics are computed</h2><ul>",
        *(f"<li>{escape(rule)}</li>" for rule in content["rules"]),
        "</ul>",
        "<h2>Scans</h2>",
        _scans(content),
        f"<p><small>{escape(content['tool']['name'])} {escape(content['tool']['version'])}. "
        f"<code>{escape(content['command'] or '')}</code></small></p>",
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _methods(content: Content) -> str:
    names = ", ".join(escape(name) for name in content["methods"])
    return f"method {names}" if len(content["methods"]) == 1 else f"methods {names}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are text: escaped here, the first of each row its header."""
    lines = ['<div class="wide"><table>', "<tr>" + "".join(f"<th>{escape(name)}</th>" for name in head) + "</tr>"]
    for first, *cells in rows:
        oracle = ' class="oracle"' if "oracle" in first else ""
        body = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        lines.append(f"<tr><th{oracle}>{escape(first)}</th>{body}</tr>")
    return "\n".join([*lines, "</table></div>"])


def _label(row: Mapping[str, Any]) -> str:
    unit = f" ({row['unit']})" if row["unit"] else ""
    mark = " (oracle)" if row["oracle"] and "oracle" not in row["text"] else ""
    return f"{row['text']}{unit}{mark}"


def _summary(content: Content) -> str:
    by_place = {(row["metric"], row["method"]): row for row in content["summary"]}
    rows = []
    for metric in dict.fromkeys(row["metric"] for row in content["summary"]):
        own = [by_place[metric, name] for name in content["methods"]]
        cells = [f"{_interval(row, 'value')}  n={row['scans']}" for row in own]
        rows.append([_label(own[0]), *cells])
    return _table(["", *content["methods"]], rows)


def _comparisons(content: Content) -> str:
    head = ["metric", "first", "second", "difference", "Wilcoxon p", "Holm", "permutation p", "n"]
    rows = [
        [_label(row), row["a"], row["b"], _interval(row, "difference"), _p(row["p_wilcoxon"]), _p(row["p_holm"]),
         _p(row["p_permutation"]), str(row["scans"])]
        for row in content["comparisons"]
    ]  # fmt: skip
    return _table(head, rows)


def _scans(content: Content) -> str:
    shown = ("method", "group", "auprc", "auroc", "dice", "best_dice_oracle", "truth_ml", "found_ml", "lesions",
             "lesions_found", "false_positives", "threshold")  # fmt: skip
    rows = []
    for row in content["scans"]:
        cells = [row.get(name) for name in shown]
        rows.append([row["scan"], *(short(c) if isinstance(c, float) else _cell(c) for c in cells)])
    return _table(["scan", *(name.replace("_", " ") for name in shown)], rows)


def _plot(content: Content) -> str:
    """Precision over recall, averaged over the scans with lesions, as SVG; 0 is bottom left."""
    drawn = {name: line for name, line in content["curves"]["precision"].items() if line is not None}
    if not drawn:
        return "<p>No scan has a lesion, so there is no curve.</p>"
    bottom, right = TOP + PLOT, LEFT + PLOT
    height = bottom + 44 + 18 * len(drawn)
    lines = [
        f'<svg role="img" aria-label="precision over recall" viewBox="0 0 {right + 16} {height}" '
        f'width="{right + 16}" height="{height}">'
    ]
    for tick in (0, 0.25, 0.5, 0.75, 1):
        x, y = LEFT + PLOT * tick, bottom - PLOT * tick
        lines += [
            f'<line x1="{LEFT}" y1="{y:g}" x2="{right}" y2="{y:g}" stroke="#e2e2e2"/>',
            f'<line x1="{x:g}" y1="{TOP}" x2="{x:g}" y2="{bottom}" stroke="#e2e2e2"/>',
            f'<text x="{LEFT - 6}" y="{y + 4:g}" text-anchor="end">{tick:g}</text>',
            f'<text x="{x:g}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>',
        ]
    lines += [
        f'<text x="{LEFT + PLOT / 2:g}" y="{bottom + 32}" text-anchor="middle">recall</text>',
        f'<text x="12" y="{TOP + PLOT / 2:g}" text-anchor="middle" transform="rotate(-90 12 {TOP + PLOT / 2:g})">'
        "precision</text>",
    ]
    for i, (name, precision) in enumerate(drawn.items()):
        pairs = zip(content["curves"]["recall"], precision, strict=True)
        points = " ".join(f"{LEFT + PLOT * r:.1f},{bottom - PLOT * p:.1f}" for r, p in pairs)
        colour, dash = COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)]
        pen = f'fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"'
        y = bottom + 50 + 18 * i
        lines += [
            f'<polyline {pen} points="{points}"/>',
            f'<line {pen} x1="{LEFT}" y1="{y - 4}" x2="{LEFT + 28}" y2="{y - 4}"/>',
            f'<text x="{LEFT + 36}" y="{y}">{escape(name)}</text>',
        ]
    return "\n".join([*lines, "</svg>"])
