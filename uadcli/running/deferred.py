"""Importing a package without those of its parts that are not used and take long; each is imported when it is used."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class _Empty(MetaPathFinder, Loader):
    """Finds modules of certain names, which are empty, but in which every public name is a function."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = frozenset(names)

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        """The specification of an empty module, None for other names."""
        return ModuleSpec(name, self, is_package=True) if name in self.names else None

    def exec_module(self, module: ModuleType) -> None:
        """Fill the module."""
        module.__dict__["__all__"] = []  # what `from module import *` takes
        module.__dict__["__getattr__"] = lambda name: _later(module.__name__, name)


def _later(module: str, name: str) -> Callable[..., Any]:
    """A function that imports the real one and calls it."""
    if name.startswith("__"):
        raise AttributeError(name)

    def call(*given: Any, **more: Any) -> Any:
        return getattr(importlib.import_module(module), name)(*given, **more)

    return call


@contextmanager
def deferred(package: str, parts: Sequence[str]) -> Iterator[None]:
    """A context in which a package is imported without its `parts`, dotted names that may not exist.

    Names that the package takes from a part by `*` are missing until one of them is used, which imports all parts.
    Nothing changes if the package was imported before.
    """
    if package in sys.modules:
        yield
        return
    empty = _Empty(parts)
    sys.meta_path.insert(0, empty)
    try:
        yield
    finally:
        sys.meta_path.remove(empty)
        for name in parts:
            if getattr(sys.modules.get(name), "__loader__", None) is empty:
                del sys.modules[name]
    made = sys.modules[package]
    made.__dict__["__getattr__"] = lambda name: _imported(made, name, parts)


def _imported(package: ModuleType, name: str, parts: Sequence[str]) -> Any:
    """What a package calls `name` once all parts are imported. Raises `AttributeError`."""
    if not name.startswith("__"):
        for part in parts:
            real = importlib.import_module(part)
            public = getattr(real, "__all__", [key for key in vars(real) if not key.startswith("_")])
            for key in public:
                package.__dict__.setdefault(key, getattr(real, key))
    if name not in package.__dict__:
        raise AttributeError(f"module {package.__name__!r} has no attribute {name!r}")
    return package.__dict__[name]
