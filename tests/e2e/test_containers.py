"""What the containers promise, without an engine: the package they build, and a run as they run it."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import phantoms
import pytest
import tools

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("containers")]
ROOT = Path(__file__).parents[2]
NOBODY = 10001
SCRIPT = """
set -eu
mount --make-rprivate /
mkdir -p {root} && mount -t tmpfs -o mode=755 tmpfs {root}
mkdir -p {root}/tmp {root}/data {root}/dev {root}/proc
mount -t tmpfs -o mode=1777 tmpfs {root}/tmp
for place in {places}; do
    [ -e "$place" ] || continue
    mkdir -p "{root}$place" && mount --rbind "$place" "{root}$place" && mount -o remount,bind,ro "{root}$place"
done
mount --bind {data} {root}/data
mount --rbind /dev {root}/dev
mount -t proc proc {root}/proc
mount -o remount,ro {root}
exec chroot --userspec={user}:{user} {root} env -i {environment} sh -c {command}
"""


@pytest.fixture(scope="module")
def packaging() -> ModuleType:
    """The readers of Dockerfiles in the tests of `packaging/`."""
    spec = importlib.util.spec_from_file_location("test_packaging", ROOT / "tests" / "unit" / "test_packaging.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_package_made_of_what_is_copied_has_the_weights_inside(packaging: ModuleType, tmp_path: Path) -> None:
    for source in packaging.copied(packaging.DOCKERFILES[0]):
        target = tmp_path / "src" / source
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, target)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path)]
    subprocess.run(command, cwd=tmp_path / "src", check=True, capture_output=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    weights = sorted((ROOT / "weights").glob("*.safetensors"))
    assert weights
    with zipfile.ZipFile(wheel) as archive:
        for path in weights:
            inside = hashlib.sha256(archive.read(f"uadcli/_weights/{path.name}")).digest()
            assert inside == hashlib.sha256(path.read_bytes()).digest()


def test_detect_runs_without_root_network_and_a_writable_root(packaging: ModuleType, tmp_path: Path) -> None:
    """In namespaces of its own, with the image's user and variables, as `docker run --read-only --network none`."""
    probe = subprocess.run(["unshare", "--mount", "--net", "--pid", "--fork", "true"], check=False, capture_output=True)
    if os.geteuid() != 0 or probe.returncode != 0:
        tools.missing("namespaces need root")
    data = tmp_path / "data"
    data.mkdir()
    os.chown(data, NOBODY, NOBODY)
    brain = phantoms.brain((-32.0, -10.0, 28.0))
    phantoms.save(data / "scan_T1w.nii.gz", brain.data, brain.affine)
    (data / "uad.toml").write_text('[preprocess]\nstrip = "none"\n[reconstruction]\nlevels = [500]\n')
    folders = {*map(os.path.realpath, (sys.prefix, sys.base_prefix, ROOT / "uadcli", ROOT / "weights"))}
    variables = packaging.environment(packaging.DOCKERFILES[0]) | {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    python = os.path.join(os.path.realpath(sys.prefix), "bin", "python")
    command = (
        "cd /data; id -u; touch /new 2>/dev/null || echo read-only; "
        f"exec {shlex.quote(python)} -m uadcli detect scan_T1w.nii.gz --config uad.toml --device cpu --threads 1"
    )
    script = SCRIPT.format(
        root=shlex.quote(str(tmp_path / "root")),
        places=shlex.join(["/usr", "/bin", "/lib", "/lib64", "/etc", *sorted(folders)]),
        data=shlex.quote(str(data)),
        user=NOBODY,
        environment=shlex.join(f"{name}={value}" for name, value in variables.items()),
        command=shlex.quote(command),
    )
    done = subprocess.run(
        ["unshare", "--mount", "--net", "--pid", "--fork", "sh", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(NOBODY), "read-only", "scan_T1w_desc-anomaly_map.nii.gz"]
    made = data / "scan_T1w_desc-anomaly_map.nii.gz"
    assert made.stat().st_uid == NOBODY
