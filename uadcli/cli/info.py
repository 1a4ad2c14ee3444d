"""`uad doctor`, `uad cite` and `uad config`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from uadcli.cli import options as o
from uadcli.config import DetectConfig, to_toml
from uadcli.console import print_result
from uadcli.errors import UadError
from uadcli.scoring import scores


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False) -> None:
    """Check packages, devices, memory and weights."""
    from uadcli.doctor import examine, in_words

    report = examine()
    print_result(json.dumps(report, indent=2) if as_json else in_words(report))
    if report["problem"]:
        error = UadError(report["problem"])
        error.exit_code = report["exit_code"]
        raise error


def cite(method: o.Method = None, score: o.Score = None) -> None:
    """Print the works to cite, as BibTeX: all, or those behind one method, one score or both."""
    from uadcli.report.citation import bibtex

    works = (*_works_of(method), *(scores.find(score).cites if score else ()))
    print_result(bibtex(works if method or score else None, score or ""))


def _works_of(method: str | None) -> tuple[str, ...]:
    if method is None:
        return ()
    from uadcli.reconstruction import reconstructors  # loads torch

    return reconstructors.find(method).cites


def config() -> None:
    """Print the default settings of `uad detect` as TOML, for --config."""
    print_result(to_toml(DetectConfig()), end="")
