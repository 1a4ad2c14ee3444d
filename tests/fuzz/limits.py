"""The bounds of one damaged file: two seconds of this processor, one gigabyte beyond what the process had."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from uadcli.errors import UadError
from uadcli.running import faults

SECONDS, BYTES = 2.0, 10**9


@contextmanager
def memory() -> Iterator[None]:
    """Within it the process gets no more than a gigabyte in addition: more is a `MemoryError`, however fast it goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def bounded(case: object) -> Iterator[None]:
    """Within it a damaged file is used: it may end in a `UadError`, but not in want of memory, and not late."""
    began = time.process_time()
    try:
        yield
    except UadError as error:
        if faults.is_memory(error):
            raise AssertionError(f"case {case}: more than {BYTES} bytes") from error
    except BaseException as error:
        raise AssertionError(f"case {case}") from error
    assert time.process_time() - began < SECONDS, f"case {case}"
