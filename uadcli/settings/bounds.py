"""Bounds of settings, checked whenever a dataclass of settings is created."""

from __future__ import annotations

import dataclasses
import difflib
import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from uadcli.errors import UsageError

MOST_SEED = 2**63 - 1  # the largest that TOML and random generators accept


@dataclass(frozen=True)
class Bounds:
    """The range of a numeric setting: from `low` (excluded if `above`) to `high`."""

    low: float
    high: float
    above: bool

    def hold(self, value: Any) -> bool:
        """Whether a value is a number within the range; NaN is not."""
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            return False
        number = int(value) if isinstance(value, numbers.Integral) else float(value)  # an integer may exceed floats
        return (self.low < number if self.above else self.low <= number) and number <= self.high

    def __str__(self) -> str:
        start = f"above {self.low:g}" if self.above else f"at least {self.low:g}"
        return start if math.isinf(self.high) else f"{start} and at most {self.high:g}"


def within(default: Any, low: float, high: float = math.inf, *, above: bool = False, **more: Any) -> Any:
    """A field whose number or numbers must be within bounds; `above` excludes `low`.

    `more` becomes metadata of the field, as in `word`: its `option`, and whether it `decides` results.
    """
    return field(default=default, metadata={"bounds": Bounds(low, high, above), **more})


def word(default: str, known: Sequence[str], *, empty: bool = False, **more: Any) -> Any:
    """A field that must be one of the words `known`, or with `empty` also an empty string."""
    return field(default=default, metadata={"words": (*known, "") if empty else tuple(known), **more})


class Checked:
    """Checks fields made by `within`, `word` and `option` on creation; `TABLE` is their prefix in error messages.

    None is allowed where it is the default. A text becomes a path in a field of paths, and a path a text in a field of
    texts.
    """

    TABLE: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for one in dataclasses.fields(self):  # type: ignore[arg-type]
            name, value = f"{self.TABLE}{one.name}", getattr(self, one.name)
            if value is None and one.default is None:
                continue
            object.__setattr__(self, one.name, _as_declared(value, str(one.type)))
            if "bounds" in one.metadata:
                _check_number(name, value, one.default, one.metadata["bounds"])
            elif "words" in one.metadata:
                check_word(name, value, one.metadata["words"])
            elif isinstance(one.default, bool) and not isinstance(value, bool):
                raise UsageError(f"{name} cannot be {value!r}", hint="It is true or false.")


def _as_declared(value: Any, kind: str) -> Any:
    """A text as a path or the other way round, if the annotation of the field, as text, says so; else the value."""
    if kind.startswith("tuple[Path"):
        return tuple(_as_declared(one, "Path") for one in ([value] if isinstance(value, str | Path) else value))
    if kind.startswith("Path") and isinstance(value, str):
        return Path(value)
    return str(value) if kind.startswith("str") and isinstance(value, Path) else value


def _check_number(name: str, value: Any, default: Any, bounds: Bounds) -> None:
    several = isinstance(default, tuple)
    if several and not isinstance(value, tuple):
        raise UsageError(f"{name} cannot be {value!r}", hint="It is a list of numbers.")
    example = default[0] if several and default else bounds.low if default is None else default
    whole = not isinstance(example, float)
    for one in value if several else (value,):
        if not bounds.hold(one) or (whole and not isinstance(one, numbers.Integral)):
            kind = "Each is" if several else "It is"
            what = "a whole number" if whole else "a number"
            raise UsageError(f"{name} cannot be {value!r}", hint=f"{kind} {what}, {bounds}.")


def check_word(name: str, value: Any, known: Sequence[str]) -> None:
    """Raises `UsageError` with the closest known word unless `value` is one of `known`."""
    if not isinstance(value, str) or value not in known:
        nearest(str(value), [one for one in known if one], name, exact=True)


def nearest(value: str, known: Sequence[str], name: str, *, exact: bool = False) -> str:
    """The member of `known` equal to `value` up to case. Raises `UsageError`, which suggests the closest one.

    With `exact`, another case is an error as well.
    """
    by_lower = {one.lower(): one for one in known}
    if value.lower() in by_lower and not exact:
        return by_lower[value.lower()]
    near = difflib.get_close_matches(value.lower(), by_lower, n=1)
    guess = f"Did you mean {by_lower[near[0]]}? " if near else ""
    raise UsageError(f"{name} cannot be {value!r}", hint=f"{guess}Choose from {', '.join(known)}.")
