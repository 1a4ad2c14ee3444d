"""What a reader can hold in mind: parameters of a function, lines of a file."""

from __future__ import annotations

import ast
from pathlib import Path
from statistics import median

import pytest

PACKAGE = Path(__file__).parents[2] / "uadcli"
MODULES = sorted(PACKAGE.rglob("*.py"))
MOST_PARAMETERS, MOST_LINES, USUAL_LINES = 6, 300, 120
NUMERIC = {"imaging/geometry.py resample"}  # like those of SciPy: each parameter is a number or an array of its own


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> list[str]:
    """All that a call can give, but for the object of a method."""
    a = function.args
    every = [*a.posonlyargs, *a.args, *a.kwonlyargs, *(one for one in (a.vararg, a.kwarg) if one)]
    return [one.arg for one in every if one.arg not in ("self", "cls")]


def long_lists(text: str) -> list[str]:
    """The functions of a module that take more than one keeps in mind."""
    functions = [one for one in ast.walk(ast.parse(text)) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [one.name for one in functions if len(parameters(one)) > MOST_PARAMETERS]


@pytest.mark.parametrize("file", MODULES, ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_no_function_takes_seven_parameters(file: Path) -> None:
    name = file.relative_to(PACKAGE).as_posix()
    found = {f"{name} {one}" for one in long_lists(file.read_text(encoding="utf-8"))}
    assert found <= NUMERIC, "find the object that they are"


def test_a_long_list_of_parameters_is_seen() -> None:
    assert long_lists("class A:\n def f(self, a, b, c, /, d, *e, f, **g): ...") == ["f"]
    assert not long_lists("class A:\n def f(self, a, b, c, /, d, *e, f): ...")
    assert not long_lists("def f(a, b, c, d, e, f=1): ...")


def lines(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines())


def test_no_file_is_longer_than_one_reads_at_once() -> None:
    assert not {file.name: lines(file) for file in MODULES if lines(file) > MOST_LINES}
    assert median(map(lines, MODULES)) <= USUAL_LINES
