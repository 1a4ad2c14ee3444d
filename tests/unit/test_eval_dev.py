"""The tables of `make eval-dev`: what they say of scans, and that no healthy scan sets its own threshold."""

from __future__ import annotations

import json

from development_scripts import said

START = """
import json
import types
import numpy as np
import eval_dev
from eval_dev import Evaluation, Row

def row(score, auprc, auto, best, touched=True):
    return Row("T1w glioma", "s", score, auprc, auto, 0.1, best, touched, {"rate": auto / 2})

rows = [row("fisher", 0.2, 0.0, 0.0, False), row("fisher", 0.3, 0.3, 0.5), row("fisher", 0.7, 0.4, 0.5)]
card = types.SimpleNamespace(scores={"T1w": "fisher"}, degraded=1)
loaded = {"T1w": types.SimpleNamespace(card=card)}
"""


def test_a_scan_without_a_best_dice_does_not_count_for_what_is_reached_of_it() -> None:
    table = said(START + "eval_dev.lesion_table(rows, loaded)")
    figures = "0.400 | 0.300 | 0.233 | 0.300 | 0.100 | 0.100 | 0.333 | 0.500 | 0.700 | 0.700"
    assert table[-1] == f"| T1w glioma | 3 | **fisher** | {figures} | 2 |"
    assert said(START + "eval_dev.reached(rows, loaded)")[-1].endswith("mean over 1 sets: 0.700")


def test_a_rule_without_a_threshold_and_a_gain_without_its_scores_are_not_computed() -> None:
    found = said(
        START
        + """
healthy = eval_dev.Healthy()
for rule, ml in (("auto", 0.0), ("auto", 2.0), ("calibrated", 1.0), ("calibrated", 1.0)):
    healthy.add(rule, ml)
eval_dev.rule_table(rows, {("oasis T1w", "fisher"): healthy}, loaded)
eval_dev.gain(rows, loaded)
"""
    )
    assert found[-4:-2] == [
        "| T1w glioma: Dice | 3 | 0.233 | 0.100 | 0.117 |  |  |",
        "| oasis T1w: ml, median / worst, scans with any | 2 | 1.00 / 2.00, 1 | 1.00 / 1.00, 2 |  |  |  |",
    ]
    assert all("was not computed" in line for line in found[-2:])


def test_no_healthy_scan_has_a_share_in_its_own_threshold() -> None:
    """Neither the scan nor its copy as from another scanner; each brain has a value of its own here."""
    found = said(
        START
        + """
scans = [types.SimpleNamespace(prepared=None, subject=b, part=np.ones(1, bool), brain=b) for b in (0, 1, 2, 0, 1, 2)]
eval_dev.reference_scans = lambda *given: scans
eval_dev.shares_of = lambda *given: {}
eval_dev.cross_fitted = lambda calibrating, *card: calibrating
eval_dev.strength_of = lambda values, *rest: float(values[0])
used = {}
eval_dev.conformal_threshold = lambda strengths, share: used.setdefault("strict", sorted(strengths)) and 1.0
eval_dev.healthy_quantile = lambda others: used.setdefault("own", sorted(float(v[0]) for v, _ in others)) and 1.0
eval_dev.healthy_tail = lambda others: None
eval_dev.rate_threshold = lambda *given: 1.0
eval_dev.marked_volume = lambda values, *rest: print(json.dumps([values[0], used])) or used.clear() or 0.0
one = Evaluation.__new__(Evaluation)
one.loaded, one.data, one.cache, one.only = loaded, None, None, ""
one.maps = lambda prepared, subject, raw: {k: np.full(1, subject, float) for k in ("plain", "plain, raw", *raw)}
one.kinds = lambda contrast: ["absolute"]
one.cross_fitted()
"""
    )
    lines = [json.loads(line) for line in found if '"strict"' in line]
    assert len(lines) == 9  # three scores of three scans, whose copies are not judged
    for brain, used in lines:
        others = sorted(2 * [other for other in (0.0, 1.0, 2.0) if other != brain])
        assert used == {"strict": others, "own": others}
