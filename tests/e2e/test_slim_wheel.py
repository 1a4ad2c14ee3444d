"""The wheel without weights in an environment of its own: models come from the Hub once, and then never again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import phantoms
import pytest
from hub import Hub
from models import export

from uadcli.config import ModelConfig
from uadcli.weights import registry

RELEASE = Path(__file__).parents[2] / "packaging" / "release"
MOST_BYTES = 2**20


def script(name: str, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(RELEASE / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture
def weights(tmp_path: Path, tiny: ModelConfig) -> Path:
    """A folder like `weights/` with two tiny models, for FLAIR and for T1w."""
    folder, entries = tmp_path / "weights", []
    folder.mkdir()
    for seed, contrast in enumerate(("FLAIR", "T1w")):
        made = export(tmp_path / f"tiny-{contrast}", tiny, seed=seed, contrast=contrast)
        entries += registry.read(made)
        for file in made.glob("tiny*"):
            shutil.copy(file, folder)
    registry.write(folder, *entries, comment="# Two models.\n\n")
    return folder


class Installed:
    """The slim wheel of a published folder of weights, in a fresh environment with an empty home folder."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        environment = folder / "venv"
        venv.create(environment, symlinks=True)
        python = environment / "bin" / "python"
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index"]
        subprocess.run([*pip, "--no-compile", str(wheel)], check=True, timeout=120)
        (site,) = environment.glob("lib/python*/site-packages")
        # the dependencies of these tests, without the editable uadcli that is found through a file there
        (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
        self.program = environment / "bin" / "uad"

    def run(self, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        left_out = {"PYTHONPATH", "UAD_CACHE", "UAD_WEIGHTS_DIR", "HF_TOKEN", "XDG_CACHE_HOME", "HF_HOME"}
        variables = {key: value for key, value in os.environ.items() if key not in left_out}
        command = [str(self.program), *map(str, arguments)]
        variables["HOME"] = str(self.home)
        done = subprocess.run(command, env=variables, cwd=self.home, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return done


@pytest.mark.slow
def test_the_slim_wheel_fetches_the_model_of_the_contrast_once(weights: Path, hub: Hub, tmp_path: Path) -> None:
    told = script("publish_weights.py", "lab/uad", "--weights", weights).stdout.splitlines()
    entries = registry.read(weights)
    assert [line.split() for line in told] == [[entry.name, entry.reference] for entry in entries]
    assert (weights / registry.FILE).read_text().startswith("# Two models.\n\n[[model]]")
    assert [set(hub.commits["lab/uad"][str(entry.commit)]) for entry in entries] == [
        {".gitattributes", "README.md", "registry.toml", "tiny-FLAIR.safetensors", "tiny-FLAIR.md", *more}
        for more in ([], ["tiny-T1w.safetensors", "tiny-T1w.md"])
    ]
    page = hub.commits["lab/uad"][str(entries[-1].commit)]["README.md"].decode()
    assert "# tiny-FLAIR" in page
    assert "# tiny-T1w" in page
    made = script("build_slim.py", "--registry", weights / registry.FILE, "-o", tmp_path / "slim").stdout.strip()
    assert Path(made).stat().st_size < MOST_BYTES
    slim = Installed(tmp_path, Path(made))
    hub.requests.clear()

    listed = json.loads(slim.run("weights", "list", "--json").stdout)
    assert [(row["path"], row["origin"]) for row in listed] == [(None, entry.reference) for entry in entries]
    brain = phantoms.brain()
    scan = phantoms.save(tmp_path / "sub-1_T1w.nii.gz", brain.data, brain.affine)
    detect = ("detect", scan, "-o", slim.home / "map.nii.gz", "--strip", "none", "--threads", 1, "--overwrite")
    flair, t1w = entries
    refused = slim.run(*detect, "--offline", code=4)
    command = f"uad weights download {t1w.reference}"
    assert refused.stderr.splitlines()[-1].endswith(command)
    assert hub.requests == []
    refused = slim.run(*detect, "--html", "niivue", "--offline", code=4)
    assert "NiiVue is not in the cache" in refused.stderr
    assert "uad detect SCAN --html niivue" in refused.stderr
    assert "brain mask" not in refused.stderr  # before any work

    neutral = shutil.copy(scan, tmp_path / "scan.nii.gz")  # whose contrast is seen in the image alone
    first = slim.run("detect", neutral, *detect[2:])
    assert f"downloading {t1w.reference}" in first.stderr
    assert "download, MB" in json.loads((slim.home / "map.json").read_text())["seconds"]  # its progress was counted
    assert (hub.fetched("tiny-FLAIR.safetensors"), hub.fetched("tiny-T1w.safetensors")) == (0, 1)
    of_first = json.loads((slim.home / "map.json").read_text())["weights"]
    assert (of_first["sha256"], of_first["origin"]) == (t1w.sha256, t1w.reference)

    hub.requests.clear()
    again = slim.run(*detect, "--only-map")
    assert "download" not in again.stderr
    assert hub.requests == []
    assert slim.run("weights", "download", flair.reference).stdout.endswith("tiny-FLAIR.safetensors\n")
    assert slim.run("weights", "path").stdout.count(str(slim.home)) == 2


def test_a_slim_wheel_needs_the_addresses_of_all_models(weights: Path, tmp_path: Path) -> None:
    done = script("build_slim.py", "--registry", weights / registry.FILE, "-o", tmp_path / "slim", code=4)
    assert "no address on the Hub for tiny-FLAIR, tiny-T1w" in done.stderr
    assert "make publish-weights REPO=owner/name" in done.stderr
    assert not (tmp_path / "slim").exists()


def test_what_cannot_be_published_leaves_the_registry(weights: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (weights / registry.FILE).read_bytes()
    monkeypatch.setenv("HF_TOKEN", "wrong")
    done = script("publish_weights.py", "lab/uad", "--weights", weights, code=4)
    assert "HF_TOKEN" in done.stderr
    monkeypatch.setenv("HF_TOKEN", "secret")
    hub.spoiled.add("tiny-T1w.safetensors")  # the second, as it comes back
    script("publish_weights.py", "lab/uad", "--weights", weights, code=4)
    assert (weights / registry.FILE).read_bytes() == before
