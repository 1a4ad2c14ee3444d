"""A command-line option as a field of a dataclass: its help, bounds, and whether it determines the result."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from uadcli.errors import UsageError
from uadcli.settings.bounds import Bounds

OUTPUT, INPUT, METHOD, RUNNING, CLUSTER, TALK = "Output", "Input", "Method", "Running", "Cluster", "Messages"
PANELS = (None, OUTPUT, INPUT, METHOD, RUNNING, CLUSTER, TALK)  # of `--help`, in this order
REQUIRED = dataclasses.MISSING
Precision = Literal["auto", "float32", "bf16"]  # of the networks
PRECISIONS: tuple[str, ...] = get_args(Precision)


@dataclass(frozen=True)
class Option:
    """How a field is shown and read on the command line.

    `names` default to the name of the field. `shown` is the default value in words (False: not shown). `parse` converts
    text to a value and returns a value unchanged. `in_batch` is the help in `uad batch`, which does not have the option
    if it is empty. An `argument` is positional.
    """

    help: str
    panel: str | None = None
    names: tuple[str, ...] = ()
    metavar: str | None = None
    parse: Callable[[Any], Any] | None = None
    shown: str | bool = True
    callback: Callable[..., Any] | None = None
    in_batch: str | None = None
    argument: bool = False


def option(
    default: Any,
    shown_as: Option,
    *,
    words: Sequence[str] = (),
    low: int | None = None,
    decides: bool | Callable[[Any], Any] | None = None,
) -> Any:
    """A field that is an option, if given limited to one of `words` or to whole numbers from `low`.

    `decides` says whether the result depends on it, or is a function from its value to what is recorded; see
    `deciding`.
    """
    metadata: dict[str, Any] = {"option": shown_as}
    metadata |= {"words": tuple(words)} if words else {}
    metadata |= {} if low is None else {"bounds": Bounds(low, math.inf, above=False)}
    metadata |= {} if decides is None else {"decides": decides}
    return field(default=default, metadata=metadata)


def deciding(options: Any) -> dict[str, Any]:
    """The options that determine the result, as they are recorded. Each option must have `decides`."""
    values = {}
    for one in (one for one in dataclasses.fields(options) if "option" in one.metadata):
        decides, value = one.metadata["decides"], getattr(options, one.name)
        if decides:
            values[one.name] = decides(value) if callable(decides) and value is not None else value
    return values


def deciding_settings(values: Any, kind: type) -> Any:
    """Settings of the dataclass `kind` as plain values, without those that do not affect results (`decides=False`)."""
    if not isinstance(values, dict):
        return values
    left = dict(values)
    for one in dataclasses.fields(kind):
        if one.metadata.get("decides") is False:
            left.pop(one.name, None)
        elif one.default_factory is not dataclasses.MISSING and one.name in left:
            left[one.name] = deciding_settings(left[one.name], type(one.default_factory()))
    return left


def named(kind: type, mark: str, table: str = "") -> set[str]:
    """The settings of a dataclass, as `table.name`, whose fields have `mark` in their metadata."""
    found = {f"{table}{one.name}" for one in dataclasses.fields(kind) if one.metadata.get(mark)}
    for one in dataclasses.fields(kind):
        part = one.default_factory() if one.default_factory is not dataclasses.MISSING else None
        found |= named(type(part), mark, f"{table}{one.name}.") if dataclasses.is_dataclass(part) else set()
    return found


def cubic_millimetres(text: str | float) -> float:
    """A volume in mm3 from `64`, `64mm3` or `0.5ml`. Raises `UsageError` for anything else."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(mm3|mm³|ml)?\s*", str(text), re.IGNORECASE)
    if not found:
        raise UsageError(f"--min-volume cannot be {text!r}", hint="Give mm3, for example 64 or 64mm3.")
    return float(found[1]) * (1000.0 if (found[2] or "").lower() == "ml" else 1.0)


MIN_VOLUME = Option(
    "Smallest component to keep, for example 64 or 64mm3.",
    METHOD,
    names=("--min-volume",),
    metavar="MM3",
    parse=cubic_millimetres,
)
DEVICE = Option("Device for the networks.", RUNNING, metavar="auto|cpu|cuda|cuda:N|mps")
THREADS = Option("Maximum number of threads.", RUNNING, metavar="N", shown="all cores")
OVERWRITE = Option("Replace files that exist.", OUTPUT)
