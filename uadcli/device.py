"""Devices: choose and describe one, limit threads, and find the free memory."""

from __future__ import annotations

import multiprocessing
import os
import platform
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uadcli.errors import DeviceError
from uadcli.running import faults

if TYPE_CHECKING:
    import torch

CGROUP = Path("/sys/fs/cgroup")  # the limits of a container or a cluster job
# mallopt(3): the parameters M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and M_TOP_PAD, each with its value in bytes
REUSE = {-3: 2**30, -1: 2**31 - 1, -2: 2**26}


def offline() -> bool:
    """Whether `HF_HUB_OFFLINE` (set by `--offline` too) forbids the network."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


@contextmanager
def no_socket_probe() -> Iterator[None]:
    """Keep urllib3, which ANTs imports, from opening a socket to test IPv6 if the network is forbidden."""
    before = socket.has_ipv6
    socket.has_ipv6 = before and not offline()
    try:
        yield
    finally:
        socket.has_ipv6 = before


def choose(name: str = "auto") -> tuple[str, str]:
    """The torch name of the device `auto`, `cpu`, `cuda`, `cuda:N` or `mps`, and the reason for the choice.

    `auto` prefers CUDA, then MPS, then the CPU. On a GPU, convolutions in float32 are exact from then on: by default
    they round to TF32, of 10 bits. Raises `DeviceError`, which lists the available devices, if the requested one is
    missing or does not work.
    """
    import torch

    present = available()
    if present[0] != "cpu":
        torch.backends.cudnn.allow_tf32 = False
    if name == "auto":
        return _automatic(present)
    wanted = "cuda:0" if name == "cuda" else name
    exists = f"This machine has {', '.join(present)}; --device auto chooses."
    if not re.fullmatch(r"cpu|mps|cuda:\d+", wanted):
        raise DeviceError(f"unknown device {name!r}", hint=exists)
    if wanted not in present:
        raise DeviceError(f"the device {name} is not available{_why_missing(wanted)}", hint=exists)
    fault = _fault(wanted)
    if fault is not None:
        raise DeviceError(f"the device {name} does not work: {fault}", hint=exists)
    return wanted, "as requested"


def _automatic(present: list[str]) -> tuple[str, str]:
    faults = []
    for candidate in present[:-1]:
        fault = _fault(candidate)
        if fault is None:
            return candidate, "the first GPU that works"
        faults.append(f"{candidate} does not work: {fault}")
    return "cpu", "; ".join(faults) or "there is no GPU that torch can use"


def available() -> list[str]:
    """The names of the devices that torch can use, the fastest kind first; `cpu` is always last."""
    import torch

    cuda = [f"cuda:{n}" for n in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return cuda + (["mps"] if torch.backends.mps.is_available() else []) + ["cpu"]


def describe(device: torch.device | str) -> str:
    """A device in one line: its name, its model and its size (threads, or memory in GiB)."""
    import torch

    device = torch.device(device)
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{device} ({properties.name}, {properties.total_memory / 2**30:.1f} GiB)"
    if device.type == "mps":
        return f"mps ({platform.machine()})"
    return f"cpu ({_processor()}, {torch.get_num_threads()} threads)"


def bf16(precision: str, device: str) -> bool:
    """Whether a network runs in bfloat16 by a setting `auto`, `float32` or `bf16`.

    `auto` is bfloat16 on a CPU with instructions that multiply it, AVX512-BF16 or AMX. The CPU decides and not a
    measurement, so that a busy machine does not decide differently from one scan to the next.
    """
    if precision != "auto":
        return precision == "bf16"
    import torch

    has = torch.cpu.get_capabilities()
    return torch.device(device).type == "cpu" and bool(has.get("avx512_bf16") or has.get("amx_bf16"))


def bound_threads(count: int | None = None) -> int:
    """Limit torch, ITK and BLAS to `count` threads (default: all cores this process may use); returns the number.

    Call it before ANTs is loaded, whose ITK reads the environment only once. It also calls `reuse_freed_memory`. Raises
    `OutOfMemoryError` where the libraries do not fit into the address space.
    """
    threads = max(1, count or cores())
    faults.check_limit(threads)
    import SimpleITK as sitk
    import torch

    reuse_freed_memory()
    for variable in ("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(threads)  # for libraries that are loaded later
    torch.set_num_threads(threads)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)  # type: ignore[no-untyped-call]
    if find_spec("threadpoolctl"):
        import_module("threadpoolctl").threadpool_limits(threads)
    return threads


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Limit torch to one thread. A worker process stays limited, and does not load it for that: it takes seconds."""
    if multiprocessing.parent_process() is not None:
        os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # read when it is loaded
        if "torch" not in sys.modules:
            yield
            return
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def reuse_freed_memory() -> bool:
    """Keep freed arrays in the process instead of returning each to the system; whether the C library can (glibc).

    A network's layers allocate the same large arrays again and again. Returned to the system, each costs new pages,
    which the kernel fills with zeros: a tenth of the time of a detection. The peak grows by at most the pad, 64 MiB.
    """
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if platform.libc_ver()[0] == "glibc" else None
    return mallopt is not None and all(mallopt(parameter, size) for parameter, size in REUSE.items())


def yield_cores() -> None:
    """Let waiting OpenMP threads yield their core instead of spinning, for processes that share the cores.

    Call it before torch is loaded, which reads the environment only once; child processes inherit it. A policy set by
    the user is kept.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def cores() -> int:
    """The cores this process may use: its CPU affinity, and the quota of its container or cluster job."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read(CGROUP / "cpu.max").partition(" ")
    return max(1, min(mine, int(quota) // int(period))) if quota.isdigit() and period.isdigit() else mine


def free_memory_mb() -> float:
    """Free memory of this machine in MB (2**20 bytes), within the limit of its container."""
    import psutil

    free = [psutil.virtual_memory().available / 2**20]
    limit, used = _read(CGROUP / "memory.max"), _read(CGROUP / "memory.current")
    if limit.isdigit() and used.isdigit():
        free.append((int(limit) - int(used)) / 2**20)
    return max(min(free), 0.0)


def _fault(name: str) -> str | None:
    """The error of torch when a number is put on the device, or None."""
    import torch

    try:
        torch.zeros(1, device=name).add_(1).cpu()
    except (RuntimeError, AssertionError) as error:
        return (str(error).splitlines() or [type(error).__name__])[0]
    return None


def _why_missing(name: str) -> str:
    import torch

    version: Any = torch.version.cuda
    if name.startswith("cuda") and version is None:
        return f" (torch {torch.__version__} is built without CUDA)"
    return ""


def _processor() -> str:
    found = re.search(r"model name\s*:\s*(.+)", _read(Path("/proc/cpuinfo")))
    return found[1].strip() if found else platform.processor() or platform.machine()


def _read(path: Path) -> str:
    """The text of a kernel file; empty if it does not exist."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""
