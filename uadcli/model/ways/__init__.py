"""The ways of adapting a model, one file and one record for each."""

from __future__ import annotations

from typing import TypeVar

from uadcli.errors import UsageError
from uadcli.model.ways import condition, low_rank, residual
from uadcli.model.ways.base import OfScan, Way

BY_HEALTHY_SCANS: dict[str, Way] = {one.name: one for one in (residual.WAY, condition.WAY)}
BY_SCAN: dict[str, OfScan] = {one.name: one for one in (low_rank.WAY,)}
AnyWay = TypeVar("AnyWay")


def find(name: str) -> Way | OfScan:
    """The way with this name. Raises `UsageError` if there is none."""
    known: dict[str, Way | OfScan] = {**BY_HEALTHY_SCANS, **BY_SCAN}
    return _found(name, known)


def by_healthy_scans(name: str) -> Way:
    """The way by healthy scans with this name. Raises `UsageError` if there is none."""
    return _found(name, BY_HEALTHY_SCANS)


def by_scan(name: str) -> OfScan:
    """The way by the examined scan with this name. Raises `UsageError` if there is none."""
    return _found(name, BY_SCAN)


def _found(name: str, known: dict[str, AnyWay]) -> AnyWay:
    try:
        return known[name]
    except KeyError:
        raise UsageError(f"unknown way to adapt {name!r}", hint=f"They are {', '.join(known)}.") from None
