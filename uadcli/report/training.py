"""The page of a training: curves of the loss as inline SVG, and a sheet of the same slices over time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from uadcli.errors import RESEARCH_USE
from uadcli.report.markup import NOT_COMPUTED, data_uri, document, fill, text

Row = Mapping[str, float | None]
WIDTH, HEIGHT, LEFT, TOP = 640, 260, 64, 14  # px of a plot, and of its margins
COLOURS = ("#38d9ff", "#ffc34a", "#59c27a")
DRAWN = ("loss", "validation", "auprc")


def training_page(
    name: str, logs: Mapping[str, Sequence[Row]], sheets: Sequence[tuple[int, bytes]], version: str
) -> str:
    """The page as HTML; it needs nothing from outside.

    `logs` are the rows of each training by its name, numbers by column, None where one is not known; `sheets` are PNG
    pictures by step, in order.
    """
    chips = [_chip(title, rows) for title, rows in logs.items()]
    curves = [f"<h2>{text(title)}</h2>{''.join(_plots(rows))}" for title, rows in logs.items()]
    pictures = [
        f'<figure><figcaption>step {step}</figcaption><img class="check" alt="slices after step {step}" '
        f'src="{data_uri(png)}"></figure>'
        for step, png in sheets
    ]
    body = fill(
        "training.html",
        name=text(name),
        research=text(RESEARCH_USE),
        chips="".join(chips),
        curves="".join(curves) or "<p>No step is logged yet.</p>",
        sheets="".join(pictures) or "<p>No picture yet.</p>",
        footer=text(f"uad {version}"),
    )
    return document(f"{name}: training", body, None)


def _chip(title: str, rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    last = rows[-1]
    parts = [f"{title}: step {last['step']:.0f}"]
    parts += [f"{column} {_short(last.get(column))}" for column in DRAWN if _known(rows, column)]
    if last.get("skipped"):
        parts.append(f"{last['skipped']:.0f} steps skipped")
    return f'<span class="chip">{text(", ".join(parts))}</span>'


def _plots(rows: Sequence[Row]) -> list[str]:
    """Loss and validation in a plot each, since a validation without augmentation is far below the loss."""
    plots = [plot(rows, column, COLOURS[i]) for i, column in enumerate(DRAWN) if _known(rows, column)]
    return plots or ["<p>No step is logged yet.</p>"]


def _known(rows: Sequence[Row], column: str) -> bool:
    return any(row.get(column) is not None for row in rows)


def plot(rows: Sequence[Row], column: str, colour: str) -> str:
    """One column against the step as SVG; a value that is not known leaves a gap."""
    values = [(float(row["step"] or 0), row.get(column)) for row in rows]
    known = [v for _, v in values if v is not None and math.isfinite(v)]
    low, high = min(known), max(known)
    if high == low:
        low, high = low - max(abs(low), 1e-3) / 2, high + max(abs(high), 1e-3) / 2
    first, last = values[0][0], max(values[-1][0], values[0][0] + 1)

    def place(step: float, value: float) -> tuple[float, float]:
        x = LEFT + WIDTH * (step - first) / (last - first)
        return round(x, 1), round(TOP + HEIGHT * (high - value) / (high - low), 1)

    lines = [
        f'<svg width="{LEFT + WIDTH + 20}" height="{TOP + HEIGHT + 40}" role="img" '
        f'aria-label="{text(column)} against the step" fill="currentColor" font-size="12">'
    ]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        value, step = low + share * (high - low), first + share * (last - first)
        x, y = place(step, value)
        lines += [
            f'<line x1="{LEFT}" y1="{y}" x2="{LEFT + WIDTH}" y2="{y}" stroke="#343a41"/>',
            f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{_short(value)}</text>',
            f'<text x="{x}" y="{TOP + HEIGHT + 16}" text-anchor="middle">{step:.0f}</text>',
        ]
    lines.append(f'<text x="{LEFT + WIDTH / 2:g}" y="{TOP + HEIGHT + 34}" text-anchor="middle">step: {column}</text>')
    for run in _runs(values):
        points = [place(step, value) for step, value in run]
        if len(points) == 1:
            lines.append(f'<circle cx="{points[0][0]}" cy="{points[0][1]}" r="2.5" fill="{colour}"/>')
        path = " ".join(f"{x},{y}" for x, y in points)
        lines.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{path}"/>')
    return "\n".join([*lines, "</svg>"])


def _runs(values: Sequence[tuple[float, float | None]]) -> list[list[tuple[float, float]]]:
    """The stretches of values that follow one another without a gap."""
    runs: list[list[tuple[float, float]]] = [[]]
    for step, value in values:
        if value is None or not math.isfinite(value):
            runs.append([])
        else:
            runs[-1].append((step, value))
    return [run for run in runs if run]


def _short(value: float | None) -> str:
    return NOT_COMPUTED if value is None else f"{value:.4g}"
