"""What `--threshold` means."""

from __future__ import annotations

import pytest

from uadcli.errors import UsageError
from uadcli.settings.threshold import ThresholdRule


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("auto", ThresholdRule("auto")),
        ("rate", ThresholdRule("rate", 0.0015)),
        ("rate:0.01", ThresholdRule("rate", 0.01)),
        ("calibrated", ThresholdRule("calibrated")),
        ("Conformal", ThresholdRule("conformal", 0.05)),
        ("conformal:0.2", ThresholdRule("conformal", 0.2)),
        ("fdr", ThresholdRule("fdr", 0.05)),
        ("fdr:0.2", ThresholdRule("fdr", 0.2)),
        ("best-dice", ThresholdRule("best-dice")),
        ("0.5", ThresholdRule("value", 0.5)),
    ],
)
def test_rules_that_parse(text: str, rule: ThresholdRule) -> None:
    assert ThresholdRule.parse(text) == rule
    assert ThresholdRule.parse(rule) is rule
    assert ThresholdRule.parse(str(rule)) == rule


@pytest.mark.parametrize(
    "text",
    ["", "0", "-1", "nan", "inf", "conformal:", "conformal:0", "conformal:1", "best", "rate:", "rate:1", "fdr:0"],
)
def test_texts_that_are_no_rule(text: str) -> None:
    with pytest.raises(UsageError, match="--threshold"):
        ThresholdRule.parse(text)


@pytest.mark.parametrize(
    ("text", "shortest"), [("Conformal:0.05", "conformal"), ("fdr:0.10", "fdr:0.1"), ("0.50", "0.5"), ("2", "2")]
)
def test_a_rule_is_written_in_one_way(text: str, shortest: str) -> None:
    assert str(ThresholdRule.parse(text)) == shortest


@pytest.mark.parametrize(("text", "labelled"), [("best-dice", False), ("auto", True), ("0.3", True)])
def test_labels_and_the_threshold_that_takes_them_go_together(text: str, labelled: bool) -> None:
    ThresholdRule.parse(text).check_labels(not labelled)
    with pytest.raises(UsageError, match="need each other"):
        ThresholdRule.parse(text).check_labels(labelled)
