"""An option is one field of a dataclass: `--help`, the reference, its value, and what a batch resumes by."""

from __future__ import annotations

import dataclasses
import inspect
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from typer.cli import get_docs_for_click
from typer.testing import CliRunner

from uadcli.batches.options import BatchOptions, ClusterOptions, Request
from uadcli.cli import batch, detect, evaluate, options, synth, train
from uadcli.cli.grouped import grouped
from uadcli.config import UNLABELLED, DetectConfig, to_dict
from uadcli.detection import record
from uadcli.detection.options import DetectOptions
from uadcli.evaluation.options import EvaluateOptions
from uadcli.settings.option import METHOD, Option, deciding, deciding_settings, option
from uadcli.settings.training import Helpers, Machine, Taught
from uadcli.synthesis.options import SynthOptions

BRIGHTNESS = option(7, Option("How bright the scan may be.", METHOD, metavar="N"), low=0, decides=True)
MadeUp = dataclasses.make_dataclass("MadeUp", [("brightness", int, BRIGHTNESS)], bases=(DetectOptions,), frozen=True)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    """`uad detect` with one field more in its options."""
    monkeypatch.setattr(detect, "DetectOptions", MadeUp)
    made = typer.Typer()
    made.command()(grouped(options.Network)(inspect.unwrap(detect.detect)))
    return made


def test_a_new_field_is_in_the_help_and_in_the_reference(app: typer.Typer) -> None:
    command = typer.main.get_command(app)
    reference = get_docs_for_click(obj=command, ctx=typer.Context(command), name="uad")
    for text in (CliRunner().invoke(app, ["--help"]).output, reference):
        assert "--brightness" in text
        assert "How bright the scan may be." in text
        assert "[default: 7" in text


def test_a_new_option_is_passed_on_checked_and_part_of_resume(
    app: typer.Typer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from uadcli.detection import detect as library

    calls: list[Any] = []

    def stand_in(*_: Any, **given: Any) -> SimpleNamespace:
        calls.append(given["options"])
        return SimpleNamespace(map_path=Path("map.nii.gz"))

    monkeypatch.setattr(library, "detect", stand_in)
    run = CliRunner()
    for line in (["a.nii", "--brightness", "9"], ["a.nii"]):
        assert run.invoke(app, line, obj=options.Invocation()).exit_code == 0
    assert [one.brightness for one in calls] == [9, 7]
    assert run.invoke(app, ["a.nii", "--brightness", "-1"]).exit_code == 2
    given, usual = (record.requested(one) for one in calls)
    assert (given["brightness"], usual["brightness"]) == (9, 7)
    assert given | {"brightness": 7} == usual


def test_an_option_must_say_whether_it_determines_the_result() -> None:
    forgotten = option(7, Option("How bright."))
    kind = dataclasses.make_dataclass(
        "Forgotten", [("brightness", int, forgotten)], bases=(DetectOptions,), frozen=True
    )
    with pytest.raises(KeyError, match="decides"):
        deciding(kind())


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (detect.detect, DetectOptions),
        (batch.batch, BatchOptions),
        (batch.batch, ClusterOptions),
        (batch.batch, Request),
        (evaluate.evaluate, EvaluateOptions),
        (synth.synth, SynthOptions),
        (train.train, Taught),
        (train.train, Machine),
        (train.calibrate, Helpers),
    ],
)
def test_every_option_of_the_library_is_on_the_command_line_with_its_default(command: Any, kind: type) -> None:
    shown = inspect.signature(command).parameters
    of_code = {
        "command",
        "listed",
        "patients",
        "cpu_processes",
        "batch",
        "options",
        "config",
        "columns",
    }  # not typed, or in fields of theirs
    for one in (one for one in dataclasses.fields(kind) if one.name not in of_code):
        default = shown[one.name].default
        if one.default is dataclasses.MISSING:
            assert default in (inspect.Parameter.empty, None)
        else:
            assert default == one.default or (default, one.default) == (None, ()), one.name
    if kind in (DetectOptions, BatchOptions):
        assert set(shown) >= {"strip", "method", "seed", "batch_size", "min_volume_mm3", "config"}


def test_a_batch_has_the_options_of_a_detection_but_those_of_one_scan() -> None:
    of_batch, of_detect = (inspect.signature(one).parameters for one in (batch.batch, detect.detect))
    missing = {one.name for one in dataclasses.fields(DetectOptions)} - set(of_batch) - {"command", "columns"}
    assert missing == {"further", "brain_mask", "labels", "only_map"}
    assert missing <= set(of_detect)


def test_words_match_the_library() -> None:
    fields = {one.name: one for one in dataclasses.fields(EvaluateOptions)}
    assert fields["unlabelled"].metadata["words"] == UNLABELLED


def test_of_the_settings_only_the_batch_size_does_not_decide() -> None:
    settings = to_dict(DetectConfig())
    bare = json.loads(json.dumps(deciding_settings(settings, DetectConfig)))
    assert settings["reconstruction"].pop("batch_size") == 32
    assert bare == json.loads(json.dumps(settings))
