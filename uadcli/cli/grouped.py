"""Commands that take their options as dataclasses: each field made by `settings.option` becomes an option."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Sequence
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from uadcli.cli.options import CONFIG, Talk, read_config
from uadcli.config import DetectConfig
from uadcli.settings.bounds import nearest
from uadcli.settings.option import PANELS, REQUIRED, Option

Command = Callable[..., None]
SETTINGS = (DetectConfig,)  # read from --config; options on the command line override them


def grouped(*acting: type, in_batch: bool = False) -> Callable[[Command], Command]:
    """Turn the dataclass parameters of a command into options, one for each field made by `settings.option`.

    Dataclasses nested in them are included. Options of the classes `acting` take effect through their callbacks and are
    not passed to the command. `in_batch` selects the options, and their help, of `uad batch`. Panels in `--help` are in
    the order of `PANELS`.
    """

    def decorate(command: Command) -> Command:
        hints, own = get_type_hints(command, include_extras=True), inspect.signature(command).parameters
        kinds = {name: hints[name] for name in own if dataclasses.is_dataclass(hints[name])}
        plain = [name for name in own if name not in kinds and name != "ctx"]
        parameters = [own[name].replace(annotation=hints[name], kind=Parameter.KEYWORD_ONLY) for name in plain]
        for kind in (*kinds.values(), *acting):
            parameters += _parameters(kind, in_batch)
        context = Parameter("ctx", Parameter.KEYWORD_ONLY, annotation=typer.Context)
        parameters = [context, *sorted(parameters, key=_panel)]

        @functools.wraps(command)
        def taking(ctx: typer.Context, **given: Any) -> None:
            made = {name: _made(kind, given, ctx) for name, kind in kinds.items()}
            made |= {name: given[name] for name in plain} | ({"ctx": ctx} if "ctx" in own else {})
            return command(**made)

        taking.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        taking.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": None}
        return taking

    return decorate


def _panel(parameter: Parameter) -> int:
    """The position of a parameter's panel in `--help`."""
    infos = getattr(parameter.annotation, "__metadata__", ())
    return next((PANELS.index(one.rich_help_panel) for one in infos if hasattr(one, "rich_help_panel")), 0)


_hints = functools.cache(get_type_hints)


@functools.cache
def _parameters(kind: type, in_batch: bool, settings: bool = False) -> list[Parameter]:
    """The parameters of a dataclass in the order of its fields; those of settings have no defaults."""
    settings = settings or kind in SETTINGS
    hints, made = _hints(kind), list[Parameter]()
    for one in dataclasses.fields(kind):
        option: Option | None = one.metadata.get("option")
        if dataclasses.is_dataclass(hints[one.name]):
            made += _parameters(typing.cast(type, hints[one.name]), in_batch, settings)
        elif option and not (in_batch and option.in_batch == ""):
            made.append(_parameter(one, hints[one.name], in_batch, settings))
    return (
        [*made, _named("config", Path | None, typer.Option("--config", **_shown(CONFIG)))] if kind in SETTINGS else made
    )


def _parameter(one: dataclasses.Field[Any], hint: Any, in_batch: bool, settings: bool) -> Parameter:
    """The parameter of one field."""
    option: Option = one.metadata["option"]
    names = option.names or (f"--{one.name.replace('_', '-')}",)
    sort, many = (str, False) if option.parse else _sort_of(hint)
    words = [word for word in one.metadata.get("words", ()) if word]
    info = _shown(option) | {
        "metavar": option.metavar or "|".join(words) or None,
        "callback": option.callback or (_one_of(names[0], words) if words and not option.parse else None),
        "min": one.metadata["bounds"].low if sort is int and "bounds" in one.metadata else None,
    }
    if in_batch and option.in_batch:
        info["help"] = option.in_batch
    if settings:
        info["show_default"] = _in_words(one.default)
    made = typer.Argument(**info) if option.argument else typer.Option(*names, **info)
    if settings or many or one.default is None:
        return _named(one.name, (list[sort] if many else sort) | None, made)  # type: ignore[valid-type]
    return _named(one.name, sort, made, Parameter.empty if one.default is REQUIRED else one.default)


def _shown(option: Option) -> dict[str, Any]:
    return {
        "help": option.help,
        "rich_help_panel": option.panel,
        "metavar": option.metavar,
        "parser": option.parse,
        "show_default": option.shown,
    }


def _named(name: str, sort: Any, info: Any, default: Any = None) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, annotation=Annotated[sort, info], default=default)


def _sort_of(hint: Any) -> tuple[Any, bool]:
    """The type of a value on the command line, and whether the option can be repeated."""
    if isinstance(hint, types.UnionType):
        hint = next(one for one in get_args(hint) if one is not type(None))
    if get_origin(hint) in (list, tuple, Sequence):
        return get_args(hint)[0], True
    return str if get_origin(hint) is typing.Literal else hint, False


def _one_of(name: str, words: Sequence[str]) -> Callable[[str | None], str | None]:
    """A Typer callback that accepts only `words`, in upper or lower case."""

    def check(value: str | None) -> str | None:
        return None if value is None else nearest(value, words, name)

    return check


def _in_words(default: Any) -> str | bool:
    """The default to show for an option of the settings, which has none itself: `--config` or the program sets it."""
    return f"{default:g}" if isinstance(default, float) else str(default) or False


def _made(kind: Any, given: dict[str, Any], ctx: typer.Context) -> Any:
    """The dataclass with its values from `given`, from which they are removed."""
    if kind in SETTINGS:
        path = given.pop("config")
        return _over(kind() if path is None else read_config(path, kind), given)
    hints = _hints(kind)
    values: dict[str, Any] = {"before": ctx.obj} if issubclass(kind, Talk) else {}
    for one in dataclasses.fields(kind):
        if dataclasses.is_dataclass(hints[one.name]) and "option" not in one.metadata and one.name not in values:
            values[one.name] = _made(hints[one.name], given, ctx)
        elif "option" in one.metadata and one.name in given:
            value = given.pop(one.name)
            values[one.name] = tuple(value or ()) if _sort_of(hints[one.name])[1] else value
    return kind(**values)


def _over(settings: Any, given: dict[str, Any]) -> Any:
    """The settings, overridden by the values in `given`."""
    changed = {}
    for one in dataclasses.fields(settings):
        value = getattr(settings, one.name)
        if dataclasses.is_dataclass(value):
            changed[one.name] = _over(value, given)
        elif "option" in one.metadata and (asked := given.pop(one.name)) is not None:
            changed[one.name] = asked
    return dataclasses.replace(settings, **changed)
