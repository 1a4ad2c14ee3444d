"""Checks that values read from a file have the types that a dataclass declares."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin

ANY_NUMBER = (int, float)


def misfit(kind: type[Any], values: Mapping[str, Any]) -> str:
    """What is wrong with `values` (plain JSON or TOML) for the dataclass `kind`, in words; empty if nothing is.

    A list may stand for a tuple and a whole number for a float; numbers must be finite.
    """
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if field.name not in values:
            if needed:
                return f"{field.name} is missing"
        elif not fits(values[field.name], hints[field.name]):
            return f"{field.name} is not of type {_name(hints[field.name])}"
    unknown = sorted(set(map(str, values)) - set(hints))
    return f"{unknown[0]} is unknown" if unknown else ""


def fits(value: Any, hint: Any) -> bool:
    """Whether a value fits a type annotation."""
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(fits(value, part) for part in parts)
    if origin is Literal:
        return value in parts
    if origin is dict:
        keys, items = parts
        return isinstance(value, dict) and all(fits(k, keys) and fits(v, items) for k, v in value.items())
    if origin is list:
        return isinstance(value, list) and all(fits(item, parts[0]) for item in value)
    if origin is tuple:
        return _fits_tuple(value, parts)
    if hint is float:
        return isinstance(value, ANY_NUMBER) and not isinstance(value, bool) and _is_finite(value)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _fits_tuple(value: Any, parts: tuple[Any, ...]) -> bool:
    if not isinstance(value, list | tuple):
        return False
    if parts[1:] == (Ellipsis,):
        return all(fits(item, parts[0]) for item in value)
    return len(value) == len(parts) and all(map(fits, value, parts))


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond any fraction
        return False


def _name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace("typing.", "")
