"""`uad doctor`, `uad cite` and `uad config`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated

import typer

from uadcli.cli.grouped import grouped
from uadcli.config import DetectConfig, to_toml
from uadcli.console import print_result
from uadcli.detection.options import SCORE
from uadcli.errors import UadError
from uadcli.scoring import scores
from uadcli.settings import methods
from uadcli.settings.option import METHOD, Option, option


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    licences: Annotated[bool, typer.Option("--licences", help="Only list the licences of all packages.")] = False,
) -> None:
    """Check packages, devices, memory and weights."""
    from uadcli.doctor import examine, in_words, licences_in_words
    from uadcli.doctor import licences as stated

    if licences:
        print_result(json.dumps(stated(), indent=2) if as_json else licences_in_words(stated()))
        return
    report = examine()
    print_result(json.dumps(report, indent=2) if as_json else in_words(report))
    if report["problem"]:
        error = UadError(report["problem"])
        error.exit_code = report["exit_code"]
        raise error


@dataclass(frozen=True)
class Works:
    """What the works are behind; None: all."""

    method: str | None = option(None, Option("A reconstruction method.", METHOD), words=methods.NAMES)
    score: str | None = option(None, SCORE)


@grouped()
def cite(of: Works) -> None:
    """Print the works to cite, as BibTeX: all, or those behind one method, one score or both."""
    from uadcli.report.citation import bibtex

    works = (*_works_of(of.method), *(scores.find(of.score).cites if of.score else ()))
    print_result(bibtex(works if of.method or of.score else None, of.score or ""))


def _works_of(method: str | None) -> tuple[str, ...]:
    if method is None:
        return ()
    from uadcli.reconstruction import reconstructors  # loads torch

    return reconstructors.find(method).cites


def config() -> None:
    """Print the default settings of `uad detect` as TOML, for --config."""
    print_result(to_toml(DetectConfig()), end="")
