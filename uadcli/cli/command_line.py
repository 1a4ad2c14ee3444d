"""The command as it was typed, for the sidecar, with paths shortened that could reveal users and machines."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath

# what can come before a path in an argument: `--output=`, `-o`, `-qo`, or `train.label_maps=` of --set
BEFORE = re.compile(r"(?:-{0,2}[A-Za-z][\w.-]*=|-[qv]*[A-Za-z](?=[~./\\]))?(?P<quote>[\"']?)")
ELSEWHERE = "..."  # stands for a folder outside the working folder


def command_line(arguments: Sequence[str], keep_paths: bool = False) -> str:
    """The command in shell syntax; without `keep_paths`, paths are relative to the working folder.

    Of a path outside that folder only the last part is kept: `.../scan.nii.gz`.
    """
    typed = arguments if keep_paths else [_without_place(argument) for argument in arguments]
    return shlex.join(["uad", *typed])


def _without_place(argument: str) -> str:
    found = BEFORE.match(argument)
    before, quote = (found[0], found["quote"]) if found else ("", "")
    path = argument[len(before) :].removesuffix(quote)
    return f"{before}{_relative(path)}{quote}" if _says_where(path) else argument


def _says_where(path: str) -> bool:
    """Whether a path names folders above or outside the working folder."""
    return path.startswith(("/", "~")) or ".." in Path(path).parts or PureWindowsPath(path).is_absolute()


def _relative(path: str) -> str:
    home = os.path.expanduser(path)
    if home.startswith("~") or PureWindowsPath(path).is_absolute():  # of an unknown user or another system
        return f"{ELSEWHERE}/{PureWindowsPath(path).name}"
    absolute = Path(os.path.abspath(home))
    for folder in (os.getcwd(), os.environ.get("PWD", "")):  # PWD keeps the names of symbolic links
        if folder and absolute.is_relative_to(folder):
            return str(absolute.relative_to(folder))
    return f"{ELSEWHERE}/{absolute.name}" if absolute.name else ELSEWHERE
