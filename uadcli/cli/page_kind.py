"""`--html`, the one option whose value may be left out, which Typer does not support."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand

from uadcli.config import PAGES

NAME = "--html"
WORD = re.compile(r"\w[\w-]*")


class WithPage(TyperCommand):
    """A command that has `--html`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments after giving `--html` its value."""
        return super().parse_args(ctx, with_kind(args))


def with_kind(arguments: Sequence[str]) -> list[str]:
    """The arguments with `--html` and `--html KIND` as `--html=KIND`, up to `--`; by default the first of `PAGES`."""
    made, left = list[str](), list(arguments)
    while left:
        one = left.pop(0)
        if one == "--":
            return [*made, one, *left]
        if one == NAME:
            one = f"{NAME}={left.pop(0) if left and _is_kind(left[0]) else PAGES[0]}"
        made.append(one)
    return made


def _is_kind(word: str) -> bool:
    """Whether what follows `--html` is its value rather than a scan: also one that is misspelt, to be refused."""
    return word.lower() in PAGES or (bool(WORD.fullmatch(word)) and not os.path.exists(word))
