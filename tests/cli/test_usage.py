"""What the command line lets through, and how every fault ends: one line on stderr and the documented exit code."""

import dataclasses
import inspect
import json
import os
import signal
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from uadcli import device, errors
from uadcli.cli import detect as command
from uadcli.cli.app import main
from uadcli.config import DetectConfig
from uadcli.detection.options import DetectOptions, saved
from uadcli.errors import UsageError
from uadcli.settings.option import cubic_millimetres


@dataclass(frozen=True)
class Result:
    map_path: Path
    sidecar: dict[str, Any]


@pytest.fixture
def run(monkeypatch):
    """`uadcli.detection.detect` replaced by a stand-in that notes its arguments and does what `run.act` says."""
    stand_in = types.ModuleType("uadcli.detection.detect")
    stand_in.act, stand_in.calls = lambda: None, []

    def detect(scan, output=None, *, config, options, reporter):
        stand_in.calls.append(types.SimpleNamespace(**locals()))
        stand_in.act()
        return Result(Path("map.nii.gz"), {"qc": {"verdict": "pass"}})

    stand_in.detect = detect
    monkeypatch.setitem(sys.modules, "uadcli.detection.detect", stand_in)
    monkeypatch.setattr("uadcli.detection.detect", stand_in, raising=False)
    return stand_in


def fails(capsys, code, *arguments):
    """Run, check the exit code, that stdout is empty and stderr one line; return the line."""
    assert main(arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    assert err.startswith("error: ")
    return err


def test_the_command_line_fills_every_option():
    """Nothing of DetectOptions is out of the command line's reach."""
    filled = {*inspect.signature(command.detect).parameters, "command", "columns"}  # columns: of the table of a batch
    assert {field.name for field in dataclasses.fields(DetectOptions)} <= filled


def test_defaults(run, capsys):
    assert main(["detect", "scan.nii.gz"]) == 0
    (call,) = run.calls
    assert (call.scan, call.output) == (Path("scan.nii.gz"), None)
    assert call.config == DetectConfig()
    assert call.options == DetectOptions(command="uad detect scan.nii.gz")
    assert capsys.readouterr() == ("map.nii.gz\n", "")


def test_every_option_arrives(run):
    line = (
        "detect scan.nii -o out.nii.gz --contrast flair --volume 2 --geometry qform --strip atlas --weights w "
        "--adapt healthy --adapt-by condition --score Bright --threshold 0.25 --min-volume 0.1ml --seed 7 --space both "
        "--save transform,recon --html --overwrite --strict --device cpu --threads 3 --batch-size 5"
    )
    assert main(line.split()) == 0
    (call,) = run.calls
    assert call.output == Path("out.nii.gz")
    assert call.options == DetectOptions(
        contrast="FLAIR",
        space="both",
        save=("recon", "transform"),
        html=True,
        weights="w",
        adapt=Path("healthy"),
        adapt_by="condition",
        score="bright",
        device="cpu",
        threads=3,
        threshold="0.25",
        volume=2,
        geometry="qform",
        overwrite=True,
        strict=True,
        command=f"uad {line}",
    )
    assert call.config.preprocess.strip == "atlas"
    assert (call.config.reconstruction.seed, call.config.reconstruction.batch_size) == (7, 5)
    assert call.config.scoring.min_volume_mm3 == 100.0


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("scan.nii", None),
        ("scan.nii --html", "grid"),
        ("--html scan.nii", "grid"),
        ("--html --strict scan.nii", "grid"),
        ("--html niivue scan.nii", "niivue"),
        ("scan.nii --html niivue", "niivue"),
        ("scan.nii --html NiiVue", "niivue"),
        ("scan.nii --html=niivue", "niivue"),
        ("scan.nii --html grid", "grid"),
        ("--html -- scan.nii", "grid"),
    ],
)
def test_the_kind_of_page_may_be_left_out(run, words, kind):
    assert main(["detect", *words.split()]) == 0
    (call,) = run.calls
    assert (call.scan, call.options.html) == (Path("scan.nii"), kind)
    assert call.options.command == f"uad detect {words}"


def test_a_scan_without_a_suffix_is_not_taken_for_a_kind_of_page(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scan").mkdir()
    assert main(["detect", "--html", "scan"]) == 0
    assert (run.calls[0].scan, run.calls[0].options.html) == (Path("scan"), "grid")
    assert main(["detect", "--", "--html"]) == 0  # a scan of this name
    assert (run.calls[1].scan, run.calls[1].options.html) == (Path("--html"), None)


def test_pages_can_also_be_asked_for_in_python():
    assert [DetectOptions(html=one).html for one in (None, False, True, "niivue")] == [None, None, "grid", "niivue"]
    with pytest.raises(errors.UsageError, match="--html cannot be 'pdf'"):
        DetectOptions(html="pdf")


def test_the_command_is_kept_as_it_can_be_typed_again(run):
    main(["detect", "my scan.nii", "--only-map"])
    assert run.calls[0].options.command == "uad detect 'my scan.nii' --only-map"
    assert run.calls[0].options.only_map


def test_json_is_the_sidecar_alone(run, capsys):
    assert main(["detect", "scan.nii", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"qc": {"verdict": "pass"}}


def test_options_win_over_the_config_file(run, tmp_path):
    file = tmp_path / "uad.toml"
    file.write_text('[reconstruction]\nseed = 3\nbatch_size = 4\n[preprocess]\nstrip = "none"\n')
    assert main(["detect", "scan.nii", "--config", str(file), "--seed", "9"]) == 0
    config = run.calls[0].config
    assert (config.reconstruction.seed, config.reconstruction.batch_size) == (9, 4)
    assert config.preprocess.strip == "none"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[reconstruction]\nsead = 3", "Did you mean reconstruction.seed?"),
        ('[preprocess]\nstrip = "atlass"', "Did you mean atlas?"),
        ("[reconstruction]\nbatch_size = 0", "at least 1"),
        ("[[[", "not valid TOML"),
        (b"\xff\xfe\x00", "UTF-8"),
        (None, "No such file"),
    ],
)
def test_a_bad_config_file(run, capsys, tmp_path, text, part):
    file = tmp_path / "uad.toml"
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert part in fails(capsys, 2, "detect", "scan.nii", "--config", str(file))
    assert run.calls == []


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ("detect", "Missing argument"),
        ("detct scan.nii", "Did you mean 'detect'"),
        ("detect scan.nii --contrst T1w", "--contrast"),
        ("detect scan.nii --nonsense", "No such option"),
        ("detect scan.nii other.nii", "unexpected extra argument"),
        ("detect scan.nii --contrast T1", "Did you mean T1w?"),
        ("detect scan.nii --contrast PD", "Choose from T1w, T2w, FLAIR"),
        ("detect scan.nii --strip hdbet", "Did you mean hd-bet?"),
        ("detect scan.nii --space MNl", "Did you mean mni?"),
        ("detect scan.nii --geometry s-form", "Did you mean sform?"),
        ("detect scan.nii --score fischer", "Did you mean fisher?"),
        ("detect scan.nii --score fusions", "--score cannot be 'fusions'"),
        ("detect scan.nii --save brian", "Did you mean brain?"),
        ("detect scan.nii --save recon,x", "--save cannot be 'x'"),
        ("detect scan.nii --threshold high", "`calibrated`, `rate`"),
        ("detect scan.nii --threshold best-dice", "--labels need each other"),
        ("detect scan.nii --labels lesion.nii", "best-dice and --labels"),
        ("detect scan.nii --threshold nan", "--threshold cannot be 'nan'"),
        ("detect scan.nii --threshold 0", "a number above 0"),
        ("detect scan.nii --min-volume 3cm", "--min-volume cannot be '3cm'"),
        ("detect scan.nii --min-volume=-1", "--min-volume"),
        ("detect scan.nii --threads 0", "--threads"),
        ("detect scan.nii --batch-size 0", "--batch-size"),
        ("detect scan.nii --volume=-1", "--volume"),
        ("detect scan.nii --seed x", "--seed"),
        ("detect scan.nii -v -q", "--verbose and --quiet"),
        ("-q detect scan.nii -v", "--verbose and --quiet"),
        ("detect scan.nii --only-map --save recon", "--only-map and --save"),
        ("detect scan.nii --only-map --html", "--only-map and --html"),
        ("detect scan.nii --only-map --html niivue", "--only-map and --html"),
        ("detect scan.nii --html nivue", "Did you mean niivue?"),
        ("detect scan.nii --html=pdf", "Choose from grid, niivue"),
        ("detect scan.nii --html=", "--html cannot be ''"),
        ("detect --html pdf scan.nii", "--html cannot be 'pdf'"),
        ("batch scans -o maps --html pdf", "--html cannot be 'pdf'"),
        ("view", "Missing argument"),
        ("view map.nii --width 9", "--width"),
        ("detect scan.nii --brain-mask m.nii --strip atlas", "--brain-mask and --strip"),
    ],
)
def test_bad_usage_exits_with_2_before_any_work(run, capsys, arguments, part):
    assert part in fails(capsys, 2, *arguments.split())
    assert run.calls == []


@pytest.mark.parametrize("name", ["cuda:99", "mps", "gpu", "cuda:x"])
def test_a_missing_device_exits_with_5(run, capsys, monkeypatch, name):
    monkeypatch.setattr(device, "available", lambda: ["cpu"])
    run.act = lambda: device.choose(name)
    assert "This machine has cpu" in fails(capsys, 5, "detect", "scan.nii", "--device", name)


@pytest.mark.parametrize("kind", errors.UadError.__subclasses__(), ids=lambda kind: kind.__name__)
def test_every_kind_of_error_exits_with_its_code(run, capsys, kind):
    def act():
        raise kind("is wrong", path="scan.nii", hint="Mend it.")

    run.act = act
    assert fails(capsys, kind.exit_code, "detect", "scan.nii") == "error: scan.nii: is wrong. Mend it.\n"


def test_out_of_memory_exits_with_5(run, capsys):
    def act():
        raise MemoryError

    run.act = act
    assert "out of memory" in fails(capsys, 5, "detect", "scan.nii")


@pytest.mark.parametrize("arguments", [["detect", "scan.nii", "--debug"], ["--debug", "detect", "scan.nii"]])
def test_a_bug_exits_with_1_and_shows_its_traceback_only_with_debug(run, capsys, arguments):
    def act():
        raise ZeroDivisionError("by nothing")

    run.act = act
    line = fails(capsys, 1, "detect", "scan.nii")
    assert "this is a bug" in line
    assert "--debug" in line
    assert main(arguments) == 1
    assert "Traceback" in capsys.readouterr().err


def test_the_log_file_keeps_the_traceback(run, capsys, tmp_path):
    def act():
        raise ZeroDivisionError("by nothing")

    run.act = act
    for arguments in (
        ["detect", "s.nii", "--log-file", f"{tmp_path}/a"],
        ["--log-file", f"{tmp_path}/b", "detect", "s.nii"],
    ):
        fails(capsys, 1, *arguments)
    for name in "ab":
        assert "ZeroDivisionError: by nothing" in (tmp_path / name).read_text()


def test_the_method_is_a_setting_of_the_reconstruction(run, capsys, tmp_path):
    assert main(["detect", "s.nii", "--method", "DIFFUSE"]) == 0
    assert run.calls[-1].config.reconstruction.method == "diffuse"
    assert main(["detect", "s.nii"]) == 0
    assert run.calls[-1].config.reconstruction.method == ""
    capsys.readouterr()
    assert "Did you mean pddpm?" in fails(capsys, 2, "detect", "s.nii", "--method", "pdpm")
    (tmp_path / "c.toml").write_text('[reconstruction]\nmethod = "pdpm"\n')
    assert "reconstruction.method" in fails(capsys, 2, "detect", "s.nii", "--config", f"{tmp_path}/c.toml")


@pytest.mark.parametrize(("typed", "meant"), [("residual", "absolute"), ("fusion", "fisher")])
def test_a_score_can_go_by_its_other_name(run, typed, meant):
    assert main(["detect", "s.nii", "--score", typed]) == 0
    assert run.calls[-1].options.score == meant


def test_a_log_file_in_a_missing_folder_exits_with_6(run, capsys, tmp_path):
    assert "log file" in fails(capsys, 6, "detect", "s.nii", "--log-file", f"{tmp_path}/no/a")


@pytest.mark.parametrize(("signal_", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_unwind_and_exit_with_their_codes(run, signal_, code):
    cleaned = []

    def act():
        try:
            os.kill(os.getpid(), signal_)
        finally:
            cleaned.append(True)

    run.act = act
    before = signal.getsignal(signal.SIGTERM)
    # tests that a shell runs in the background ignore Ctrl-C from the start
    ctrl_c = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        found = main(["detect", "scan.nii"])
    except SystemExit as leaving:
        found = leaving.code
    finally:
        signal.signal(signal.SIGINT, ctrl_c)
    assert found == code
    assert cleaned == [True]
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("text", "value"), [("64", 64.0), ("64mm3", 64.0), ("64 mm3", 64.0), (".5ML", 500.0), ("0", 0)]
)
def test_volumes_with_units(text, value):
    assert cubic_millimetres(text) == value


def test_saved_files():
    assert saved("") == ()
    assert saved("brain, RECON") == ("recon", "brain")
    assert saved("all") == ("recon", "brain", "transform")
    with pytest.raises(UsageError):
        saved("recon;brain")


def test_doctor_says_whether_a_detect_could_run(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("UAD_WEIGHTS_DIR", str(tmp_path))
    assert main(["doctor", "--json"]) == 4
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert report["exit_code"] == 4
    assert report["network_needed"] is False
    assert report["versions"]["torch"]
    assert str(tmp_path) in err
    assert err.count("\n") == 1
    assert report["cache_folder"]
    assert main(["doctor"]) == 4
    assert "network needed" in capsys.readouterr().out


def test_doctor_says_that_weights_are_still_on_the_hub(capsys, monkeypatch, tmp_path):
    (tmp_path / "registry.toml").write_text(
        f'[[model]]\nname = "m"\nfile = "m.safetensors"\nsha256 = "{"a" * 64}"\ncontrasts = ["T1w"]\n'
        f'repo = "lab/m"\ncommit = "{"0" * 40}"\n'
    )
    monkeypatch.setenv("UAD_WEIGHTS_DIR", str(tmp_path))
    assert main(["doctor", "--json"]) == 4
    out, err = capsys.readouterr()
    assert json.loads(out)["network_needed"] is True
    assert f"uad weights download hf://lab/m@{'0' * 40}" in err
