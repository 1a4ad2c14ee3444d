"""The reconstruction methods: from slices to pseudo-healthy slices, one file and one record for each.

A method is its network, the loss that trains it, and the reconstructor that uses it. To add one, add a file with a
record `METHOD` that has the file's name; nothing else needs to know of it.
"""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

from uadcli.arrays import Array
from uadcli.config import ModelConfig
from uadcli.errors import UsageError, WeightsError
from uadcli.reconstruction.model import Network
from uadcli.reconstruction.reconstructors.base import Method, Progress, Reconstructor, SliceReconstructor
from uadcli.reconstruction.reconstructors.cddpm import CddpmReconstructor
from uadcli.settings import methods

__all__ = [
    "BY_NAME",
    "Array",
    "CddpmReconstructor",
    "Method",
    "Progress",
    "Reconstructor",
    "SliceReconstructor",
    "build",
    "choose",
    "find",
    "for_method",
    "register",
]

BY_NAME: dict[str, Method] = {}


def register(method: Method) -> None:
    """Add a method to `BY_NAME`."""
    BY_NAME[method.name] = method


def find(name: str) -> Method:
    """The method with this name. Raises `UsageError` if there is none."""
    try:
        return BY_NAME[name]
    except KeyError:
        raise UsageError(f"unknown method {name!r}", hint=f"The methods are {', '.join(BY_NAME)}.") from None


def build(config: ModelConfig) -> Network:
    """The untrained network of a configuration's method."""
    return BY_NAME[config.method].network(config)


def for_method(model: ModelConfig, name: str) -> ModelConfig:
    """The same sizes for the method `name`, with an encoder where that method has one.

    Raises `UsageError` if there is no such method.
    """
    return dataclasses.replace(model, method=name, conditioned=find(name).conditioned)


def choose(wanted: str, trained: str, path: Path | None = None) -> Method:
    """The method `wanted` (empty: `trained`) on weights that were trained for `trained`.

    Raises `WeightsError` if they were not trained for it; `path` names them.
    """
    method = BY_NAME[wanted or trained]
    if method.name != trained and trained not in method.runs_on:
        raise WeightsError(
            f"was trained for {trained}, which does not serve {method.name}",
            path=path,
            hint=f"Train it: uad train DATA --out RUN --method {method.name}.",
        )
    return method


for _name in methods.NAMES:
    register(importlib.import_module(f"{__name__}.{_name}").METHOD)
