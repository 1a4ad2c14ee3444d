"""`uad evaluate` on the command line: options, exit codes, what goes to stdout."""

from __future__ import annotations

import inspect
import json

import numpy as np
import phantoms
import pytest

from uadcli.cli import evaluate as command
from uadcli.cli.app import main
from uadcli.evaluation import evaluate as run
from uadcli.evaluation.statistics import RESAMPLES


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Two methods and their truth in the current folder."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("sub-1", "sub-2", "sub-3"):
        truth = np.zeros((16, 17, 18), bool)
        truth[4:8, 4:8, 4:8] = name != "sub-3"
        for folder, gain in (("a", 0.3), ("b", 0.5)):
            (tmp_path / folder).mkdir(exist_ok=True)
            scores = rng.random(truth.shape) * 0.7 + gain * truth
            phantoms.save(tmp_path / folder / f"{name}_T1w_desc-anomaly_map.nii.gz", scores, np.eye(4), np.float32)
        (tmp_path / "t").mkdir(exist_ok=True)
        phantoms.save(tmp_path / "t" / f"{name}_mask.nii.gz", truth, np.eye(4), np.uint8)
    return tmp_path


def fails(capsys, code, line):
    assert main(line.split()) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    return err


def test_maps_and_truth(study, capsys):
    assert main(["evaluate", "a", "t", "--threshold", "0.6", "--resamples", "20"]) == 0
    out, err = capsys.readouterr()
    assert out == "evaluation\n"
    assert "esearch use only" in err
    assert "a: Dice at the threshold 0." in err
    assert sorted(p.name for p in (study / "evaluation").iterdir()) == sorted(run.FILES)


def test_two_methods_as_json(study, capsys):
    line = "evaluate a b --truth t --threshold 0.6 --min-volume 2mm3 --resamples 20 --seed 5 -o out -q --json"
    assert main(line.split()) == 0
    out, err = capsys.readouterr()
    content = json.loads(out)
    assert err == ""
    assert content["methods"] == ["a", "b"]
    assert content["bootstrap"] == {"resamples": 20, "seed": 5, "level": 0.95}
    assert content["command"] == f"uad {line}"
    assert {(s["threshold"], s["min_volume_mm3"]) for s in content["scans"]} == {(0.6, 2.0)}
    assert content == json.loads((study / "out" / "evaluation.json").read_text())


def test_every_option_of_the_function_is_on_the_command_line():
    """With its default, as `test_options` shows of every command; these are the figures of the library."""
    shown = inspect.signature(command.evaluate).parameters
    assert shown["resamples"].default == RESAMPLES
    assert {"unlabelled", "resample_truth", "seed", "masks", "overwrite"} <= set(shown)


@pytest.mark.parametrize(
    ("line", "code", "part"),
    [
        ("evaluate", 2, "Missing argument"),
        ("evaluate a", 2, "the ground truth is missing"),
        ("evaluate a b t", 2, "--truth"),
        ("evaluate a a --truth t", 2, "twice"),
        ("evaluate a t --threshold high", 2, "--threshold"),
        ("evaluate a t --threshold nan", 2, "--threshold cannot be nan"),
        ("evaluate a t --min-volume 3cm", 2, "--min-volume"),
        ("evaluate a t --unlabelled heathy", 2, "Did you mean healthy?"),
        ("evaluate a t --resamples 0", 2, "--resamples"),
        ("evaluate a t -q -v", 2, "--verbose and --quiet"),
        ("evaluate a nowhere", 3, "no such file or folder"),
        ("evaluate nowhere.tsv", 3, "cannot be read as a table"),
        ("evaluate a t --masks nowhere", 3, "no such file or folder"),
        ("evaluate a t -o a/sub-1_T1w_desc-anomaly_map.nii.gz", 6, "cannot be created"),
    ],
)
def test_faults_are_one_line_and_a_code(study, capsys, line, code, part):
    assert part in fails(capsys, code, line)
    assert not (study / "evaluation").exists()


def test_results_are_not_replaced(study, capsys):
    assert main(["evaluate", "a", "t", "-q", "--threshold", "0.6", "--resamples", "5"]) == 0
    capsys.readouterr()
    assert "--overwrite" in fails(capsys, 6, "evaluate a t")
    assert main(["evaluate", "a", "t", "-q", "--threshold", "0.6", "--resamples", "5", "--overwrite"]) == 0


def test_a_missing_threshold_is_a_warning(study, capsys):
    assert main(["evaluate", "a", "t", "-q"]) == 0
    assert "no threshold (give --threshold)" in capsys.readouterr().err


def test_another_grid_is_an_error_that_says_so(study, capsys):
    phantoms.save(study / "t" / "sub-1_mask.nii.gz", np.zeros((18, 18, 18)), np.eye(4), np.uint8)
    line = fails(capsys, 3, "evaluate a t -q --threshold 1")
    assert "sub-1_mask.nii.gz: is on another grid (18x18x18 voxels of 1x1x1 mm around (8.5, 8.5, 8.5))" in line
