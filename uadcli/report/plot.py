"""Curves for a page: where lines, ticks and names go in the drawing that the macro `plot` of `macros.html` makes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Point = tuple[float, float | None]
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of an axis, where its ticks are
COLOURS, DASHES = 7, 4  # different pens in the style sheet: pen0 to pen6, dash0 to dash3
LEFT, RIGHT, TOP, BOTTOM, LINE = 76, 20, 14, 44, 18  # margins and the height of a line of the legend, px


@dataclass(frozen=True)
class Curve:
    """A named line through points (x, y) in order of x; it breaks where y is None or not finite."""

    name: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Tick:
    """A mark of an axis: its place in the drawing (px), and its text."""

    place: float
    text: str


@dataclass(frozen=True)
class Line:
    """A drawn curve: its runs between gaps, as points in px, and its classes in the style sheet."""

    name: str
    pen: str
    runs: list[list[tuple[float, float]]]


@dataclass(frozen=True)
class Plot:
    """A drawing in px; (0, 0) is its top left corner."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    x_label: str
    y_label: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    lines: list[Line]
    legend: bool


def plot(
    curves: Sequence[Curve],
    labels: tuple[str, str],
    size: tuple[int, int],
    unit: bool = False,
    first_pen: int = 0,
) -> Plot:
    """The drawing of curves on an x and a y axis, named by `labels`, in an area of `size` (width, height) px.

    With `unit` both axes run from 0 to 1 and a legend names the curves; otherwise they span the values. `first_pen` is
    the pen of the first curve. At least one y is finite.
    """
    points = [(x, y) for curve in curves for x, y in curve.points]
    x_span = (0.0, 1.0) if unit else _span([x for x, _ in points], at_least=1.0)
    y_span = (0.0, 1.0) if unit else _span(_finite(y for _, y in points))
    right, bottom = LEFT + size[0], TOP + size[1]

    def x_place(x: float) -> float:
        return round(LEFT + size[0] * (x - x_span[0]) / (x_span[1] - x_span[0]), 1)

    def y_place(y: float) -> float:
        return round(bottom - size[1] * (y - y_span[0]) / (y_span[1] - y_span[0]), 1)

    x_ticks = [Tick(x_place(v), f"{v:g}" if unit else f"{v:.0f}") for v in _shares(x_span)]
    y_ticks = [Tick(y_place(v), f"{v:.4g}") for v in _shares(y_span)]
    lines = [
        Line(curve.name, _pen(first_pen + i), [[(x_place(x), y_place(y)) for x, y in run] for run in runs(curve)])
        for i, curve in enumerate(curves)
    ]
    height = bottom + BOTTOM + LINE * len(curves) * unit
    return Plot(right + RIGHT, height, LEFT, right, TOP, bottom, *labels, x_ticks, y_ticks, lines, legend=unit)


def runs(curve: Curve) -> list[list[tuple[float, float]]]:
    """The stretches of a curve that follow one another without a gap."""
    found: list[list[tuple[float, float]]] = [[]]
    for x, y in curve.points:
        if y is None or not math.isfinite(y):
            found.append([])
        else:
            found[-1].append((x, y))
    return [run for run in found if run]


def _pen(number: int) -> str:
    return f"pen{number % COLOURS} dash{number // COLOURS % DASHES}"


def _finite(values: Iterable[float | None]) -> list[float]:
    return [v for v in values if v is not None and math.isfinite(v)]


def _span(values: Sequence[float], at_least: float = 0.0) -> tuple[float, float]:
    """The lowest and the highest value, or more than that where they are one."""
    low, high = min(values), max(values)
    if at_least:
        return low, max(high, low + at_least)
    half = max(abs(low), 1e-3) / 2
    return (low - half, high + half) if high == low else (low, high)


def _shares(span: tuple[float, float]) -> list[float]:
    return [span[0] + share * (span[1] - span[0]) for share in SHARES]
