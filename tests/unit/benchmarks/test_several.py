"""The seconds of joined contrasts are compared with the sum of those of each scan in the same round."""

from __future__ import annotations

import several


def test_the_ratio_is_that_of_the_medians_over_rounds() -> None:
    alone = [[10.0, 20.0], [10.0, 30.0], [40.0, 40.0]]  # sums of 30, 40 and 80
    text = several.summary(["a", "b"], alone, [90.0, 42.0, 30.0])
    assert "| a | 10.0 | |" in text
    assert "| b | 30.0 | |" in text
    assert "| sum | 40.0 | |" in text
    assert "| joined | 42.0 | 1.05 (within 1.1) |" in text


def test_more_than_the_aim_is_said() -> None:
    assert "1.50 (above 1.1)" in several.summary(["a", "b"], [[10.0, 10.0]], [30.0])
