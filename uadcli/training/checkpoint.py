"""Checkpoints of a training: the networks as safetensors, and the state that determines the next step.

A checkpoint is named after its state file, such as `last.pt`, which torch reads with `weights_only=True` and which
names the file of its tensors, `last-0000100.safetensors`. The state file is replaced last, so that a crash in between
leaves the previous checkpoint intact.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from uadcli.errors import InputError, UsageError
from uadcli.files import write_bytes
from uadcli.running.faults import is_memory

LAST, BEST = "last.pt", "best.pt"
FORMAT = 1


def write(path: Path, state: dict[str, Any], networks: dict[str, dict[str, Tensor]]) -> None:
    """Write the checkpoint `path`: `networks` are state dicts by name, `state["done"]` is the number of steps.

    Raises `OutputError`.
    """
    from safetensors.torch import save

    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f"{path.stem}-{state['done']:07d}.safetensors")
    flat = {f"{name}/{key}": value for name, network in networks.items() for key, value in network.items()}
    tensors = {key: value.detach().cpu().contiguous() for key, value in flat.items()}
    write_bytes(file, save(tensors))  # `save_file` has errors of its own, and files that only their owner may read
    stream = io.BytesIO()  # otherwise torch stores the name of the temporary file
    torch.save({**state, "format": FORMAT, "tensors": file.name}, stream)
    write_bytes(path, stream.getvalue())
    for other in path.parent.glob(f"{path.stem}-*.safetensors"):
        if other != file:
            other.unlink()


def read(path: Path) -> dict[str, Any]:
    """The state of a checkpoint and its networks by name, in one dictionary, on the CPU.

    Raises `InputError` if the checkpoint is missing or damaged.
    """
    from safetensors.torch import load_file

    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        flat = load_file(path.with_name(state["tensors"]))
    except Exception as error:  # invalid files make torch and pickle raise nearly anything
        if is_memory(error):
            raise
        raise InputError("is not a complete checkpoint", path=path, hint="Start a new run.") from error
    networks: dict[str, dict[str, Tensor]] = {}
    for key, value in flat.items():
        name, _, inner = key.partition("/")
        networks.setdefault(name, {})[inner] = value
    return {**state, **networks}


@contextmanager
def understood(path: Path) -> Iterator[None]:
    """A context for using the state of a checkpoint, in which errors caused by its content become `InputError`."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError, UsageError) as error:
        if is_memory(error):
            raise
        raise InputError("is not a complete checkpoint", path=path, hint="Start a new run.") from error


def find(folder: Path, name: str = LAST) -> Path | None:
    """The checkpoint of a run's folder: the one called `name`, else the last one, else None."""
    return next((folder / n for n in (name, LAST) if (folder / n).exists()), None)
