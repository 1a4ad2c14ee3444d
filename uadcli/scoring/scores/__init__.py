"""The anomaly scores, one file each; every score but a joined one also exists normalised to healthy scans (`z-`).

Importing this package loads no numerical library, so `--help` can list the scores.
"""

from __future__ import annotations

import importlib
import pkgutil

from uadcli.errors import UsageError
from uadcli.scoring.scores.base import Evidence, Score, Z, normalised_to_healthy

__all__ = ["BY_NAME", "Evidence", "Score", "Z", "aliases", "base_of", "find", "joined", "names", "plain", "register"]

BY_NAME: dict[str, Score] = {}


def register(score: Score) -> None:
    """Add a score, and its version normalised to healthy scans, to `BY_NAME`."""
    BY_NAME[score.name] = score
    if not score.joined:
        BY_NAME[Z + score.name] = normalised_to_healthy(score)


def find(name: str) -> Score:
    """The score with this name. Raises `UsageError` if there is none."""
    try:
        return BY_NAME[name]
    except KeyError:
        raise UsageError(f"unknown score {name!r}", hint=f"The scores are {', '.join(names())}.") from None


def names() -> tuple[str, ...]:
    """All scores: joined ones, plain ones, then those normalised to healthy scans."""
    return (*joined(), *plain(), *(Z + name for name in plain()))


def plain() -> tuple[str, ...]:
    """The scores that need neither a healthy reference nor other scores."""
    return tuple(name for name, score in BY_NAME.items() if not score.normalised)


def joined() -> tuple[str, ...]:
    """The scores that are made of others."""
    return tuple(name for name, score in BY_NAME.items() if score.joined)


def aliases() -> dict[str, str]:
    """Other names that `--score` takes, and what each stands for."""
    return {alias: score.name for score in BY_NAME.values() for alias in score.aliases}


def base_of(name: str) -> str:
    """The plain score behind `z-NAME`; any other name as it is."""
    return name.removeprefix(Z)


for _module in pkgutil.iter_modules(__path__):
    if _module.name != "base":
        for _score in importlib.import_module(f"{__name__}.{_module.name}").SCORES:
            register(_score)
