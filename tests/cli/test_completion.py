"""Completion as the three shells ask for it; a shell that is not installed is skipped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tools


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with `uad` in its PATH, two scans, and the shells' own files."""
    program = tmp_path / "bin" / "uad"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m uadcli "$@"\n')
    program.chmod(0o755)
    for name in ("scan a.nii.gz", "scan ü.nii.gz"):
        (tmp_path / name).touch()
    return tmp_path


def shell(home: Path, name: str, text: str) -> str:
    found = tools.program(name, install=f"apt-get install {name}")
    variables = os.environ | {"HOME": str(home), "PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    variables |= {"PYTHONPATH": str(Path(__file__).parents[2]), "LC_ALL": "C.UTF-8"}
    no_files = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[name]
    done = subprocess.run(
        [found, *no_files, "-c", text],
        cwd=home,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


ASK_BASH = """
eval "$(uad --show-completion)"
ask() {
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _uad_completion uad
    printf '<%s>' "${COMPREPLY[@]}"; echo
}
complete -p uad
ask uad ba
ask uad batch --clu
ask uad batch --participant
ask uad detect --no-such
ask uad detect sc
"""


def test_bash(home: Path) -> None:
    complete, command, option, long_option, none, files = shell(home, "bash", ASK_BASH).splitlines()
    assert command == "<batch>"
    assert option == "<--cluster>"
    assert long_option == "<--participant-label>"
    assert none == files == "<>"  # nothing of ours: bash completes file names itself, for which
    assert "-o default" in complete


def test_zsh(home: Path) -> None:
    text = """
    autoload -Uz compinit && compinit -u -d "$HOME/dump"
    eval "$(uad --show-completion)"
    echo "$_comps[uad]"
    ask() { env _TYPER_COMPLETE_ARGS="$1" _UAD_COMPLETE=complete_zsh uad; }
    ask "uad ba"; ask "uad batch --clu"; ask "uad detect sc"
    """
    function, command, option, files = shell(home, "zsh", text).splitlines()
    assert function == "_uad_completion"
    assert '"batch":' in command
    assert '"--cluster":' in option
    assert files == "_files"


def test_fish(home: Path) -> None:
    text = """
    uad --show-completion | source
    complete --do-complete "uad ba"
    complete --do-complete "uad batch --clu"
    complete --do-complete "uad detect sc"
    """
    command, option, *files = shell(home, "fish", text).splitlines()
    assert command.startswith("batch\t")
    assert option.startswith("--cluster\t")
    assert files == ["scan a.nii.gz", "scan ü.nii.gz"]


@pytest.mark.parametrize(
    ("name", "place"),
    [("bash", ".bashrc"), ("zsh", ".zshrc"), ("fish", ".config/fish/completions/uad.fish")],
)
def test_install_completion_writes_to_the_shells_own_file(home: Path, name: str, place: str) -> None:
    assert f"{name} completion installed" in shell(home, name, "uad --install-completion; true")
    assert (home / place).read_text()
