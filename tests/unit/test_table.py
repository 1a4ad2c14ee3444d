"""The table of `make table`: what it says of pairs, sets and missing figures."""

from __future__ import annotations

from pathlib import Path

from development_scripts import run, said

CODE = """
from table import Row, table

def row(method, score, set, auprc, seconds=1.0):
    return Row(method, score, set, "s", auprc, 0.0, seconds)

rows = [row("cddpm", "absolute", "a", 0.2), row("cddpm", "absolute", "a", 0.4), row("cddpm", "absolute", "b", 0.1)]
rows += [row("dae", "absolute", "a", 0.5, 3.0), row("dae", "absolute", "b", 0.3, 5.0)]
rows += [row("bundled", "fisher", "a", 0.9), row("plain", "intensity", "a", 0, float("nan"))]
rows += [row("plain", "intensity", "b", 0, float("nan"))]
print(table(rows))
"""


def test_sets_have_equal_weight_best_rows_come_first_and_missing_values_are_na() -> None:
    assert said(CODE) == [
        "| method | score | a | b | mean | gain | seconds |",
        "|---|---|---|---|---|---|---|",
        "| dae | absolute | 0.500 | 0.300 | 0.400 | +100 % | 4.0 |",
        "| cddpm | absolute | 0.300 | 0.100 | 0.200 | +0 % | 1.0 |",
        "| plain | intensity | 0.000 | 0.000 | 0.000 | -100 % | n/a |",
        "| bundled | fisher | 0.900 | n/a | n/a | n/a | 1.0 |",
    ]


def test_a_network_of_more_steps_is_not_shown_as_one_of_fewer(tmp_path: Path) -> None:
    code = f"""
import argparse, types
from pathlib import Path
import table
table.cases = lambda data: []
table.load_slices = lambda *given: None
table.checkpoint.find = lambda folder: folder
table.Trainer = types.SimpleNamespace(load=lambda kept, steps: types.SimpleNamespace(done=1000))
arguments = argparse.Namespace(data=None, cache=None, run=Path({str(tmp_path)!r}), steps=200)
table.trained(arguments, ["dae"], None)
"""
    found = run(code)
    assert found.returncode
    assert "has 1000 steps already" in found.stderr


def test_arsdm_is_the_published_method_with_adaptive_weights_and_the_refinement(tmp_path: Path) -> None:
    code = f"""
import argparse
from pathlib import Path
import table
from scenes import models
table.cases = lambda data: []
table.load_slices = lambda *given: None
table.fit = lambda trainer, *given: print(trainer.config.adaptive_weight, trainer.config.refinement)
arguments = argparse.Namespace(data=None, cache=None, run=Path({str(tmp_path)!r}), steps=200)
made = table.trained(arguments, ["cddpm", "arsdm"], models(None)["T1w"].card)
assert made["arsdm"].trained_method == made["cddpm"].trained_method == "cddpm"
"""
    assert said(code)[-2:] == ["False 0.0", "True 0.1"]


def test_arsdm_is_used_as_the_method_that_it_trains() -> None:
    code = """
import types
import table
used = []

def of(model, x, mask, config, *rest):
    used.append((model, config.reconstruction.method))
    return types.SimpleNamespace(score=lambda kind: None)

table.Subject = types.SimpleNamespace(of=of)
table.figures = lambda scene, values: (0.5, 0.5)
table.baseline_map = lambda *given: None
prepared = types.SimpleNamespace(mask=None)
scene = types.SimpleNamespace(set="a", subject="s", contrast="T1w", x=None, unclipped=None, prepared=prepared)
rows = table.compare(scene, {"arsdm": "its network"}, None, ["arsdm"], ["absolute", "mahalanobis"])
print(used, [(r.method, r.score) for r in rows])
"""
    used, rows = "[('its network', 'cddpm')]", "[('arsdm', 'absolute'), ('plain', 'intensity')]"
    assert said(code) == [f"{used} {rows}"]
