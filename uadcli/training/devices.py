"""Devices of a training: one CPU, several CPU processes (gloo), one GPU or several, through Lightning Fabric.

The code is the same in each case and needs no launcher: further processes are started here.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from uadcli.device import bf16
from uadcli.errors import DeviceError, UadError
from uadcli.settings.option import Precision
from uadcli.settings.training import Machine

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def fabric(gpus: int | None = None, processes: int = 1, precision: Precision = "auto") -> Fabric:
    """The fabric for `gpus` GPUs (None: one if there is one, else the CPU; 0: the CPU) or for CPU `processes`.

    `auto` trains in bfloat16 where GPU or CPU multiply it.

    Raises `DeviceError` if there are fewer GPUs, and `UadError` if Lightning Fabric is not installed.
    """
    if find_spec("lightning_fabric") is None:
        raise UadError("training needs the package lightning-fabric", hint="pip install 'uadcli[train]'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about optional packages and clusters
        from lightning_fabric import Fabric
        from lightning_fabric.plugins.environments import LightningEnvironment  # type: ignore[attr-defined]
        from lightning_fabric.strategies import DDPStrategy  # type: ignore[attr-defined]

        present = torch.cuda.device_count() if torch.cuda.is_available() else 0
        wanted = min(present, 1) if gpus is None else gpus
        if wanted > present:
            raise DeviceError(f"{wanted} GPUs requested, {present} available", hint="Give a smaller --gpus.")
        count = wanted or processes
        strategy: Any = DDPStrategy(start_method="spawn") if count > 1 else "auto"
        return Fabric(
            accelerator="cuda" if wanted else "cpu",
            devices=count,
            strategy=strategy,
            precision="bf16-mixed" if _in_bf16(bool(wanted), precision) else "32-true",
            plugins=[LightningEnvironment()],
        )


def one_process(machine: Machine) -> Fabric:
    """The fabric for work in one process, on a GPU if allowed and present. Raises as `fabric`."""
    return fabric(min(machine.gpus, 1) if machine.gpus else machine.gpus, precision=machine.precision)


def _in_bf16(on_gpu: bool, precision: Precision) -> bool:
    if on_gpu and precision == "auto":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bf16(precision, "cpu")


def launch(where: Fabric, work: Callable[..., Any], *arguments: Any) -> Any:
    """Call `work(fabric, *arguments)` in every process and return the result of the first.

    `work` is a module-level function, and the arguments can be pickled. Ctrl-C and SIGTERM are passed on to the
    processes, which are then awaited. Raises the `UadError` that ended the work.
    """
    if where.world_size == 1:
        return where.launch(work, *arguments)
    call = _Call(work, arguments)
    try:
        result = where.launch(_caught, call)  # type: ignore[arg-type]
    except (ProcessRaisedException, ProcessExitedException):
        if call.errors.empty():
            raise
        raise call.errors.get() from None  # the others failed because they lost that process
    except (KeyboardInterrupt, SystemExit):
        children = multiprocessing.active_children()
        for child in children:
            if child.pid is not None:
                os.kill(child.pid, signal.SIGTERM)
        for child in children:
            child.join()
        raise
    if isinstance(result, UadError):
        raise result
    return result


class _Call:
    """A function with its arguments, hidden from Fabric, which inspects dataclasses and refuses frozen ones.

    `errors` takes the `UadError` of each process to the one that launched them.
    """

    def __init__(self, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.work, self.arguments = work, arguments
        self.errors = multiprocessing.get_context("spawn").SimpleQueue()


def _caught(where: Fabric, call: _Call) -> Any:
    """Run a call in one of several processes, which ignores Ctrl-C and returns a `UadError` as a value.

    Most occur in all processes in the same step; that of a file which cannot be written only where it is written.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return call.work(where, *call.arguments)
    except UadError as error:
        call.errors.put(error)  # before the others lose this process
        return error
    finally:
        if torch.distributed.is_initialized():  # a process that ends while gloo's threads run may abort
            torch.distributed.destroy_process_group()
