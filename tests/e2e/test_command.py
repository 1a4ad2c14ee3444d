"""`uad detect` as a user types it, on the committed clinical scan and on files that cannot be used."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from uadcli import device

REPOSITORY = Path(__file__).parents[2]
UAD = [sys.executable, "-m", "uadcli"]
NO_NETWORK = """
import socket
def _forbidden(*_args, **_kwargs):
    raise OSError("the network is cut off in this test")
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = _forbidden
"""


def _run(*arguments: object, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*UAD, *map(str, arguments)], capture_output=True, text=True, check=False, **more)


# The sha256 of map and mask of the example, decompressed, by what their bytes depend on. If a change alters them on
# purpose, or for another machine, look at the picture and take the new row from the report of the test.
PACKAGES = "torch 2.13.0, numpy 2.3.5, scipy 1.15.3, SimpleITK 2.5.7, antspyx 0.6.3"
BYTES = {
    2: (
        "c3732b626e65ad9e820a5709c1f731dcbc22aec53219e9f598c7005dbbd7c8dc",
        "fff437eb18871f6e49e6b5af1cbae9d627747f21c20c8c08e50ea3046fd0ea85",
    ),
    1: (
        "09d7f9b4992436b974bd8db1fd301ce559f931a64c02a326844cfa5ee856f47c",
        "fff437eb18871f6e49e6b5af1cbae9d627747f21c20c8c08e50ea3046fd0ea85",
    ),
}
KNOWN = {
    f"{PACKAGES}, {processor}, AVX512, avx512_bf16, {threads} threads": found
    for processor in ("AuthenticAMD 25 17", "AuthenticAMD 26 2")
    for threads, found in BYTES.items()
}


def _stack(threads: int) -> str:
    """What the bytes of a map depend on: packages that compute, kernels that they choose for this CPU, and threads."""
    cpu = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    found = [re.search(rf"^{name}\s*: (\S+)", cpu, re.M) for name in ("vendor_id", "cpu family", "model")]
    processor = " ".join(one[1] for one in found if one) or platform.machine()
    kernels = [torch.backends.cpu.get_cpu_capability(), *(one for one in ("avx512_bf16", "amx_tile") if one in cpu)]
    names = (
        "torch",
        "numpy",
        "scipy",
        "SimpleITK",
        "antspyx",
    )  # CPU and CUDA builds of torch give the same bytes on a CPU
    packages = [f"{name} {metadata.version(name).partition('+')[0]}" for name in names]
    return ", ".join([*packages, processor, *kernels, f"{threads} threads"])


def _sha256(file: Path) -> str:
    return hashlib.sha256(gzip.decompress(file.read_bytes())).hexdigest()


@pytest.fixture(scope="module")
def made(example: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The map of the example, in a folder of its own, and what `uad detect` printed."""
    out = tmp_path_factory.mktemp("example") / "größe 1" / "map.nii.gz"
    environment = os.environ | {"UAD_CACHE": str(tmp_path_factory.mktemp("cache"))}
    return out, _run("detect", example, "-o", out, env=environment)


@pytest.mark.slow
@pytest.mark.xdist_group("example")  # in one process, so that the detection runs once
def test_the_example(example: Path, made: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, done = made
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(out)
    assert "\x1b" not in done.stderr
    assert "research use only" in done.stderr.lower()
    names = sorted(p.name for p in out.parent.iterdir())
    assert names == ["map.json", "map.nii.gz", "map_mask.nii.gz", "map_overlay.png"]
    scan, written = nib.load(example), nib.load(out)
    assert written.shape == scan.shape
    for field in ("srow_x", "srow_y", "srow_z", "sform_code", "qform_code", "quatern_b", "quatern_c", "quatern_d"):
        assert scan.header[field].tobytes() == written.header[field].tobytes()
    report = json.loads((out.parent / "map.json").read_text())
    assert report["contrast"] == {"value": "FLAIR", "source": "file name"}
    assert report["strip"] == ("hd-bet in bf16" if device.bf16("auto", "cpu") else "hd-bet")
    assert report["qc"]["verdict"] == "pass"
    assert report["warnings"] == []
    # the tumour, in the right frontal lobe, is the largest finding
    first = report["anomaly"]["components"][0]
    assert np.linalg.norm(np.array(first["centroid_mni_mm"]) - np.array([46, 36, 24])) < 25
    assert first["regions"][0]["name"].startswith("right cerebral")
    assert set(report["seconds"]) >= {"read", "brain mask", "registration", "bias field", "reconstruction", "write"}
    again = _run("detect", example, "-o", out)
    assert again.returncode == 6
    assert "--overwrite" in again.stderr


@pytest.mark.slow
@pytest.mark.xdist_group("example")
def test_the_map_of_the_example_has_the_same_bytes(made: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, done = made
    assert done.returncode == 0, done.stderr
    stack = _stack(device.cores())
    found = _sha256(out), _sha256(out.with_name("map_mask.nii.gz"))
    if stack not in KNOWN:
        pytest.skip(f"the bytes are not known for: {stack}; here they are {found}")
    assert found == KNOWN[stack]


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (lambda f: f / "none.nii.gz", 3, "no such file"),
        (lambda f: _write(f, b"text"), 3, "not a readable image"),
        (lambda f: _image(f, np.zeros((20, 20, 20), np.int16)), 3, "all voxels are zero"),
        (lambda f: _image(f, np.ones((20, 20), np.int16)), 3, "2 dimensions"),
        (lambda f: _image(f, np.arange(16000, dtype=np.int16).reshape(20, 20, 20, 2)), 3, "--volume"),
    ],
)
def test_bad_input_is_one_line_its_code_and_no_file(make, code: int, words: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    scan = make(tmp_path)
    before = sorted(p.name for p in tmp_path.iterdir())
    done = _run("detect", scan, "-o", tmp_path / "map.nii.gz", "-q")
    assert done.returncode == code
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1
    assert words in lines[0]
    assert scan.name in lines[0]
    assert done.stdout == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def _write(folder: Path, content: bytes) -> Path:
    (folder / "a.nii.gz").write_bytes(content)
    return folder / "a.nii.gz"


def _image(folder: Path, data: np.ndarray) -> Path:
    nib.Nifti1Image(data, np.eye(4)).to_filename(folder / "a.nii.gz")
    return folder / "a.nii.gz"


@pytest.mark.slow
def test_a_wheel_in_an_empty_environment_detects_without_network(example: Path, tmp_path: Path) -> None:
    """The wheel alone (its own files; the pinned dependencies are borrowed) runs from another folder, offline.

    It strips by the atlas, and finds the contrast by the image.
    """
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, REPOSITORY]
    built = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    wheel = next(tmp_path.glob("*.whl"))
    venv.create(tmp_path / "env", with_pip=False)
    site = next((tmp_path / "env" / "lib").glob("python*/site-packages"))
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(site)], check=True)
    borrowed = Path(np.__file__).parents[1]
    (site / "borrowed.pth").write_text(f"{borrowed}\n")
    (site / "sitecustomize.py").write_text(NO_NETWORK)
    python = tmp_path / "env" / "bin" / "python"
    where = subprocess.run(
        [python, "-c", "import uadcli; print(uadcli.__file__)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert str(site) in where.stdout
    scan = shutil.copy(example, tmp_path / "scan.nii.gz")
    options = ["-o", tmp_path / "m.nii.gz", "--strip", "atlas", "--html=niivue", "--json", "-q"]
    done = subprocess.run(
        [python, "-m", "uadcli", "detect", scan, *options], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["contrast"] == {"value": "FLAIR", "source": "image"}
    assert report["strip"] == "atlas"
    assert (tmp_path / "m_overlay.png").exists()
    # the wheel holds the page's templates and NiiVue, too
    assert "niivue" in (tmp_path / "m.html").read_text(encoding="utf-8")
    assert (tmp_path / "m.html").stat().st_size < 6_000_000
