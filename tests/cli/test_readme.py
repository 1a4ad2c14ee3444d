"""The README shows no command and no option that `--help` does not know; it has all of detect's and evaluate's."""

import re
import shlex
from functools import cache
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from uadcli.cli.app import app

README = Path(__file__).parents[2] / "README.md"
COMMANDS = tuple(typer.main.get_command(app).commands)
FLAG = re.compile(r"--[a-z][a-z0-9-]*")


@cache
def flags(command=""):
    """The long options in the help of a command, or of `uad` itself."""
    group = getattr(typer.main.get_command(app).commands.get(command), "commands", {})
    below = [flags(f"{command} {name}") for name in group]  # of `uad weights`, the options of all its commands
    arguments = [*command.split(), "--help"]
    shown = CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "TERMINAL_WIDTH": "200", "NO_COLOR": "1"})
    assert shown.exit_code == 0
    return frozenset(FLAG.findall(shown.output)).union(*below)


def readme():
    return README.read_text(encoding="utf-8").replace("\\\n", " ")


def code():
    """The lines of code blocks, fenced or indented, and the code within lines."""
    text = readme()
    fenced = re.findall(r"^```.*?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in fenced for line in block.splitlines()]
    lines += [line for line in text.splitlines() if line.startswith("    ")]
    return lines + re.findall(r"`([^`\n]+)`", text)


def uad_lines():
    """Each `uad ...` in the README's code, split into words."""
    for line in code():
        for match in re.finditer(r"(?:^|[;&|$]\s*|\bbin/)uad((?:\s[^;&|#]*)?)", line.strip()):
            try:
                yield shlex.split(match[1])
            except ValueError:
                yield match[1].split()


def test_every_command_in_the_readme_exists():
    for words in uad_lines():
        named = [word for word in words if not word.startswith("-")]
        assert not named or named[0] in COMMANDS, f"uad {' '.join(words)}"


def test_every_option_shown_with_a_command_is_in_its_help():
    for words in uad_lines():
        command = next((word for word in words if word in COMMANDS), "")
        known = flags(command) | flags()
        for word in words:
            for flag in FLAG.findall(word)[:1] if word.startswith("--") else []:
                assert flag in known, f"uad {' '.join(words)}: no {flag}"


def test_every_option_shown_alone_is_in_some_help():
    known = flags().union(*(flags(command) for command in COMMANDS))
    for piece in re.findall(r"`(--[^`\n]+)`", readme()):
        assert FLAG.findall(piece)[0] in known, piece


@pytest.mark.parametrize("flag", sorted((flags("detect") | flags("evaluate") | flags("batch")) - {"--help"}))
def test_every_option_of_detect_evaluate_and_batch_is_in_the_readme(flag):
    assert re.search(rf"{flag}(?![a-z0-9-])", readme()), f"{flag} is not in the README"
