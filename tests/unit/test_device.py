"""An explicit device is that device or an error; threads and memory are bounded by what there is."""

import os
import platform
import subprocess
import sys

import psutil
import pytest
import torch

from uadcli import device
from uadcli.config import DetectConfig, PreprocessConfig
from uadcli.detection.session import in_arithmetic
from uadcli.errors import DeviceError
from uadcli.settings.training import Machine
from uadcli.training import devices


@pytest.fixture
def machine(monkeypatch):
    """A machine with the devices given, of which `broken` ones fail at first use."""

    def build(present, broken=()):
        monkeypatch.setattr(device, "available", lambda: [*present, "cpu"])
        monkeypatch.setattr(device, "_fault", lambda name: "no kernel image" if name in broken else None)

    return build


def test_cpu_is_always_there():
    assert device.choose("cpu") == ("cpu", "as requested")
    assert device.available()[-1] == "cpu"


@pytest.mark.parametrize(
    ("present", "broken", "name", "why"),
    [
        ([], (), "cpu", "no GPU"),
        (["cuda:0", "cuda:1"], (), "cuda:0", "first GPU"),
        (["cuda:0", "cuda:1"], ("cuda:0",), "cuda:1", "first GPU"),
        (["mps"], (), "mps", "first GPU"),
        (["cuda:0"], ("cuda:0",), "cpu", "cuda:0 does not work: no kernel image"),
    ],
)
def test_auto_says_what_it_chose_and_why(machine, present, broken, name, why):
    machine(present, broken)
    chosen, reason = device.choose("auto")
    assert chosen == name
    assert why in reason


def test_cuda_means_the_first_one(machine):
    machine(["cuda:0", "cuda:1"])
    assert device.choose("cuda")[0] == "cuda:0"
    assert device.choose("cuda:1")[0] == "cuda:1"


@pytest.mark.parametrize("name", ["auto", "cuda:0"])
def test_float32_on_a_gpu_is_not_rounded_to_ten_bits(machine, monkeypatch, name):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    machine(["cuda:0"])
    device.choose(name)
    assert not torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7", "mps"])
def test_a_missing_device_is_an_error_that_says_what_exists(machine, name):
    machine([])
    with pytest.raises(DeviceError) as caught:
        device.choose(name)
    assert caught.value.exit_code == 5
    assert name in str(caught.value)
    assert "This machine has cpu;" in str(caught.value)


@pytest.mark.parametrize("name", ["gpu", "", "cuda:", "cuda:x", "cuda:-1", "CPU ", "cpu:0"])
def test_a_malformed_device_is_an_error(machine, name):
    machine(["cuda:0"])
    with pytest.raises(DeviceError) as caught:
        device.choose(name)
    assert "cuda:0, cpu" in str(caught.value)


def test_a_broken_device_is_never_replaced_when_asked_for(machine):
    machine(["cuda:0"], broken=("cuda:0",))
    with pytest.raises(DeviceError) as caught:
        device.choose("cuda")
    assert "no kernel image" in str(caught.value)


@pytest.mark.parametrize("instructions", [{}, {"avx512_bf16": False}, {"avx512_bf16": True}, {"amx_bf16": True}])
def test_auto_precision_is_bfloat16_on_a_cpu_that_multiplies_it(monkeypatch, instructions):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    assert device.bf16("auto", "cpu") is any(instructions.values())
    assert not device.bf16("auto", "cuda:0")
    assert not device.bf16("float32", "cpu")
    assert device.bf16("bf16", "cpu")


@pytest.mark.parametrize(("precision", "arithmetic"), [("auto", ""), ("float32", "float32"), ("bf16", "bf16")])
def test_reconstruction_and_score_run_in_the_arithmetic_of_the_option(precision, arithmetic):
    config = DetectConfig(preprocess=PreprocessConfig(precision=precision))
    assert in_arithmetic(config).reconstruction.arithmetic == arithmetic


@pytest.mark.parametrize(
    ("precision", "native", "used"),
    [
        ("auto", True, "bf16-mixed"),
        ("auto", False, "32-true"),
        ("float32", True, "32-true"),
        ("bf16", False, "bf16-mixed"),
    ],
)
def test_training_runs_in_the_arithmetic_of_the_option(monkeypatch, precision, native, used):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native})
    assert devices.fabric(0, precision=precision).strategy.precision.precision == used
    assert devices.one_process(Machine(gpus=0, precision=precision)).strategy.precision.precision == used


def test_every_available_device_works_and_can_be_described():
    for name in device.available():
        assert device.choose(name)[0] == name
        assert device.describe(name).startswith(f"{name} (")


@pytest.fixture
def threads(monkeypatch):
    """Put torch, SimpleITK and the environment back afterwards."""
    import SimpleITK as sitk

    before, itk = torch.get_num_threads(), sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    for name in ("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, os.environ.get(name, str(before)))
    yield sitk.ProcessObject
    torch.set_num_threads(before)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(itk)


def test_one_number_bounds_torch_and_itk(threads):
    assert device.bound_threads(1) == 1
    assert torch.get_num_threads() == 1
    assert threads.GetGlobalDefaultNumberOfThreads() == 1
    assert os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] == "1"


def test_torch_has_one_thread_for_a_while(threads):
    torch.set_num_threads(2)
    with device.one_torch_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


def test_torch_has_one_thread_in_a_worker_that_has_not_loaded_it():
    code = """
import multiprocessing, sys
from uadcli import device
multiprocessing.parent_process = lambda: "a process"
with device.one_torch_thread():
    print("torch" in sys.modules)
    import torch
    print(torch.get_num_threads())
with device.one_torch_thread():
    print(torch.get_num_threads())
"""
    variables = os.environ | {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    run = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "1", "1"]


def test_threads_default_to_the_cores_of_this_process(threads):
    assert device.bound_threads() == device.cores()


@pytest.mark.parametrize(("quota", "cores"), [("150000 100000", 1), ("max 100000", 64), ("400000 100000", 4)])
def test_a_container_quota_bounds_the_cores(monkeypatch, tmp_path, quota, cores):
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(device, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert device.cores() == cores


def test_a_container_limit_bounds_the_free_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(device, "CGROUP", tmp_path)
    whole = device.free_memory_mb()
    assert whole > 0
    assert whole == pytest.approx(psutil.virtual_memory().available / 2**20, rel=0.2)
    (tmp_path / "memory.max").write_text(str(100 * 2**20))
    (tmp_path / "memory.current").write_text(str(60 * 2**20))
    assert device.free_memory_mb() == 40.0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_a_freed_array_is_used_again_without_new_pages():
    code = """
import resource, numpy as np
from uadcli.device import reuse_freed_memory
assert reuse_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(20_000_000, np.float32)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults(), faults(), faults())
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, *later = map(int, run.stdout.split())
    assert first > 50
    assert max(later) < 20
