"""The one drawing of curves: its axes, its gaps, and pens that differ."""

from __future__ import annotations

import math

import pytest

from uadcli.report.plot import COLOURS, DASHES, Curve, plot, runs

SIZE = (200, 100)


def test_the_axes_span_the_values() -> None:
    drawn = plot([Curve("a", [(10, 1.0), (20, 3.0)])], ("step", "loss"), SIZE)
    (line,) = drawn.lines
    assert line.runs == [[(drawn.left, drawn.bottom), (drawn.right, drawn.top)]]
    assert [tick.text for tick in drawn.x_ticks] == ["10", "12", "15", "18", "20"]
    assert [tick.text for tick in drawn.y_ticks] == ["1", "1.5", "2", "2.5", "3"]
    assert not drawn.legend


def test_one_value_lies_in_the_middle() -> None:
    drawn = plot([Curve("a", [(5, 2.0)])], ("step", "loss"), SIZE)
    ((((x, y),),),) = (line.runs for line in drawn.lines)
    assert (x, y) == (drawn.left, (drawn.top + drawn.bottom) / 2)


def test_a_value_that_is_not_known_or_not_finite_leaves_a_gap() -> None:
    points = [(0, 1.0), (1, None), (2, 2.0), (3, 3.0), (4, math.nan), (5, math.inf)]
    assert runs(Curve("a", points)) == [[(0, 1.0)], [(2, 2.0), (3, 3.0)]]
    assert len(plot([Curve("a", points)], ("x", "y"), SIZE).lines[0].runs) == 2


def test_shares_have_axes_from_0_to_1_and_a_legend() -> None:
    drawn = plot([Curve("a", [(0.5, 0.5)]), Curve("b", [(0.2, None)])], ("recall", "precision"), SIZE, unit=True)
    assert [tick.text for tick in drawn.x_ticks] == ["0", "0.25", "0.5", "0.75", "1"]
    assert drawn.lines[0].runs == [[(drawn.left + 100, drawn.top + 50)]]
    assert drawn.lines[1].runs == []
    assert drawn.legend


def test_as_many_curves_as_there_are_pens_look_different() -> None:
    many = [Curve(str(i), [(0.5, 0.5)]) for i in range(COLOURS * DASHES)]
    drawn = plot(many, ("recall", "precision"), SIZE, unit=True)
    assert len({line.pen for line in drawn.lines}) == len(many)


def test_values_are_needed() -> None:
    with pytest.raises(ValueError, match="empty"):
        plot([Curve("a", [(0, None)])], ("step", "loss"), SIZE)
