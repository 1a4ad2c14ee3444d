"""Conversion of settings from and to dictionaries, assignments and TOML."""

from __future__ import annotations

import dataclasses
import difflib
import json
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from uadcli.errors import UsageError

T = TypeVar("T")
KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false", tuple: "a list"}


def to_dict(config: Any) -> dict[str, Any]:
    """A config as plain dictionaries, lists and numbers."""
    return dataclasses.asdict(config)


def from_dict(kind: type[T], values: dict[str, Any], where: str = "") -> T:
    """Build the config dataclass `kind` from nested dictionaries; missing keys keep their defaults.

    Words may be in any case. Raises `UsageError` for an unknown key (suggesting the nearest known one), a value of the
    wrong type, or one out of bounds.
    """
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    default = kind()
    chosen: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{where}{key}"
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"Did you mean {where}{near[0]}?" if near else f"Known here: {', '.join(fields)}."
            raise UsageError(f"unknown setting {name}", hint=hint)
        empty: Any = "" if fields[key].type == "tuple[str, ...]" else 0  # an item of an empty tuple
        made = _coerce(getattr(default, key), value, name, empty)
        known = fields[key].metadata.get("words", ())
        chosen[key] = next((one for one in known if one.lower() == str(made).lower()), made)
    return kind(**chosen)


def _coerce(default: Any, value: Any, name: str, empty: Any = 0) -> Any:
    if dataclasses.is_dataclass(default) and not isinstance(default, type):
        if not isinstance(value, dict):
            raise UsageError(f"{name} is a table of settings, not {value!r}")
        return from_dict(type(default), value, f"{name}.")
    if isinstance(default, tuple) and isinstance(value, list | tuple):
        return tuple(_coerce(default[0] if default else empty, item, name) for item in value)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return _as_float(value, name)
    if type(value) is not type(default):
        raise UsageError(f"{name} must be {KINDS[type(default)]}, not {value!r}")
    return value


def _as_float(value: int, name: str) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise UsageError(f"{name} is too large") from error


def with_settings(config: T, assignments: Sequence[str]) -> T:
    """A copy of a config with assignments `a.b=value`; values are TOML (a bare word is a string).

    Raises `UsageError` for an invalid assignment, an unknown key or a value of the wrong type.
    """
    values = to_dict(config)
    for text in assignments:
        name, equals, raw = text.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"--set {text!r} is not an assignment", hint="Write it as train.steps=5000.")
        *tables, key = name.strip().split(".")
        place = values
        for table in tables:
            place = place.setdefault(table, {})
            if not isinstance(place, dict):
                raise UsageError(f"unknown setting {name.strip()}")
        try:
            place[key] = tomllib.loads(f"x = {raw}")["x"]
        except (ValueError, RecursionError):
            place[key] = raw.strip()
    return from_dict(type(config), values)


def read_toml(kind: type[Any], text: str, missing: Mapping[str, Mapping[str, Any]] | None = None) -> Any:
    """Parse TOML `text` into the config dataclass `kind`; errors as in `from_dict`, and `UsageError` for bad TOML.

    `missing` are settings by table that hold where the text does not say otherwise, instead of the defaults.
    """
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also for numbers with very many digits, and deep nesting
        raise UsageError(f"not valid TOML: {error}") from error
    for table, known in (missing or {}).items():
        if isinstance(given := values.setdefault(table, {}), dict):
            values[table] = {**known, **given}
    return from_dict(kind, values)


def to_toml(config: Any) -> str:
    """A config as TOML text that `read_toml` reads back to an equal config.

    Raises `UsageError` for text that is not Unicode, such as a file name with stray bytes.
    """
    return "\n".join(_toml_lines(to_dict(config), "")).strip() + "\n"


def _toml_lines(values: dict[str, Any], table: str) -> list[str]:
    lines = [f"{key} = {_toml_value(value)}" for key, value in values.items() if not isinstance(value, dict)]
    for key, value in values.items():
        if isinstance(value, dict):
            lines += ["", f"[{table}{key}]", *_toml_lines(value, f"{table}{key}.")]
    return lines


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    return _toml_text(value) if isinstance(value, str) else repr(value)


def _toml_text(value: str) -> str:
    """A TOML basic string: escaped as in JSON, plus DEL."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(f"{value!r} cannot be written as TOML", hint="Use names in UTF-8.") from error
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
