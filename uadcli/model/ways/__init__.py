"""The ways of adapting a model, one file and one record for each."""

from __future__ import annotations

from uadcli.errors import UsageError
from uadcli.model.ways import condition, residual
from uadcli.model.ways.base import Way

BY_NAME: dict[str, Way] = {one.name: one for one in (residual.WAY, condition.WAY)}


def find(name: str) -> Way:
    """The way with this name. Raises `UsageError` if there is none."""
    try:
        return BY_NAME[name]
    except KeyError:
        raise UsageError(f"unknown way to adapt {name!r}", hint=f"They are {', '.join(BY_NAME)}.") from None
