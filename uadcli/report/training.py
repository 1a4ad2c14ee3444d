"""The page of a training: curves of the loss, and a sheet of the same slices over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from uadcli.errors import RESEARCH_USE
from uadcli.report.markup import NOT_COMPUTED, render
from uadcli.report.plot import Curve, Plot, plot

Row = Mapping[str, float | None]
SIZE = (640, 260)  # of a plot's area, px
DRAWN = ("loss", "validation", "auprc")


def training_page(
    name: str, logs: Mapping[str, Sequence[Row]], sheets: Sequence[tuple[int, bytes]], version: str
) -> str:
    """The page as HTML; it needs nothing from outside.

    `logs` are the rows of each training by its name, numbers by column, None where one is not known; `sheets` are PNG
    pictures by step, in order.
    """
    return render(
        "training.html",
        name=name,
        research_use=RESEARCH_USE,
        summaries=[_summary(title, rows) for title, rows in logs.items() if rows],
        trainings=[(title, plots(rows)) for title, rows in logs.items()],
        sheets=sheets,
        version=version,
    )


def _summary(title: str, rows: Sequence[Row]) -> str:
    last = rows[-1]
    parts = [f"{title}: step {last['step']:.0f}"]
    parts += [f"{column} {_short(last.get(column))}" for column in DRAWN if _known(rows, column)]
    if last.get("skipped"):
        parts.append(f"{last['skipped']:.0f} steps skipped")
    return ", ".join(parts)


def plots(rows: Sequence[Row]) -> list[Plot]:
    """A plot against the step for each of `DRAWN` that is known; a value that is not known leaves a gap.

    Loss and validation have a plot each, since a validation without augmentation is far below the loss.
    """
    return [
        plot([Curve(column, [(float(row["step"] or 0), row.get(column)) for row in rows])], ("step", column), SIZE,
             first_pen=DRAWN.index(column))
        for column in DRAWN
        if _known(rows, column)
    ]  # fmt: skip


def _known(rows: Sequence[Row], column: str) -> bool:
    return any(row.get(column) is not None for row in rows)


def _short(value: float | None) -> str:
    return NOT_COMPUTED if value is None else f"{value:.4g}"
