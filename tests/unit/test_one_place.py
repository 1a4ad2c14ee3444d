"""A score, a reconstruction method and a contrast are one record each: added in one place, they are known everywhere.

One of each is added to a copy of the package; then the copy's own commands are asked what they know of them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

import uadcli

pytestmark = pytest.mark.xdist_group("one place")  # one process for the copy

SCORE = '''"""A made-up score."""
import numpy as np

from uadcli.scoring.scores.base import Evidence, Score


def compute(evidence: Evidence) -> np.ndarray:
    return np.where(evidence.mask, evidence.x**2, 0).astype(np.float32)


SCORES = (Score("invented", "brightness squared", compute, ("wang2004image",), aliases=("made-up",)),)
'''
METHOD = '''"""A made-up method: a DDPM that answers with half of the scan."""
from uadcli.reconstruction.model import ConditionedDiffusion
from uadcli.reconstruction.reconstructors import cddpm
from uadcli.reconstruction.reconstructors.base import Method, SliceReconstructor


class Half(SliceReconstructor):
    def _slices(self, slices, indices, part):
        return slices[part] / 2


METHOD = Method("halved", "half of the scan", ConditionedDiffusion, cddpm.loss, Half, cites=("kingma2014auto",))
'''
CONTRAST = """XYW = Contrast(
    name="XYw",
    words="xyw?",
    levels=(Level(WHITE, 0.5, 0.5), Level(GREY, 0.2, 0.2, above=WHITE), Level(CSF, 0.8, 0.8)),
    bright_lesions=0.9,
    volumes=0.3,
    fisher={"siamese": 1.0},
)
"""
# Detects in a brain on the model's grid, with weights of random numbers for the method and the contrast.
DETECT = """
import sys
from pathlib import Path

import nibabel, numpy, torch
import cohort
from uadcli.cli.app import main
from uadcli.imaging.slices import GRID_AFFINE
from uadcli.reconstruction.reconstructors import build, for_method
from uadcli.weights.registry import Entry, write
from uadcli.weights.card import ModelCard
from uadcli.weights.weights import save

method, contrast, score = sys.argv[1:]
card = ModelCard("lab", "1", (contrast,), {contrast: "absolute"}, {score: {contrast: 0.3}}, "rule", (500,), "[0, 1]",
                 "none", "CC BY 4.0 (weights)", 3)
Path("lab").mkdir()
torch.manual_seed(0)
digest = save(Path("lab/lab.safetensors"), build(for_method(cohort.TINY, method)), card)
write(Path("lab"), Entry("lab", "lab.safetensors", digest, card.contrasts))
data = numpy.zeros((96, 96, 80), numpy.float32)
data[..., 38:46] = cohort.head(0)[..., 38:46]
nibabel.save(nibabel.Nifti1Image(data, GRID_AFFINE), f"sub-1_{contrast}.nii.gz")
sys.exit(main(["detect", f"sub-1_{contrast}.nii.gz", "-o", "map.nii.gz", "--weights", "lab", "--strip", "none",
               "--score", score, "--threads", "1"]))
"""


class Copy:
    """A copy of the package in a folder, and what its commands print."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.package = folder, folder / "uadcli"
        shutil.copytree(Path(uadcli.__file__).parent, self.package, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "home").mkdir()

    def run(self, *command: str) -> str:
        places = os.pathsep.join([str(self.folder), str(Path(__file__).parents[1])])
        variables = os.environ | {"PYTHONPATH": places, "COLUMNS": "500", "HOME": f"{self.folder}/home"}
        done = subprocess.run(
            [sys.executable, *command], cwd=self.folder, env=variables, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def uad(self, *words: str) -> str:
        return self.run("-m", "uadcli", *words)

    @cached_property
    def help(self) -> str:
        return " ".join(self.uad("detect", "--help").replace("│", " ").split())

    @cached_property
    def reference(self) -> str:
        """What `make docs` writes to packaging/docs/cli.md."""
        return self.run("-m", "typer", "uadcli.cli.app", "utils", "docs", "--name", "uad")

    @cached_property
    def report(self) -> dict[str, Any]:
        """The sidecar of a detection with the made-up method, contrast and score."""
        self.run("-c", DETECT, "halved", "XYw", "invented")
        found: dict[str, Any] = json.loads((self.folder / "map.json").read_text())
        return found


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """The package with a made-up score, method and contrast: two new files, and a record in `contrasts.py`."""
    made = Copy(tmp_path_factory.mktemp("copy"))
    (made.package / "scoring" / "scores" / "made_up.py").write_text(SCORE)
    (made.package / "reconstruction" / "reconstructors" / "halved.py").write_text(METHOD)
    file = made.package / "contrasts.py"
    before, all_of_them, after = file.read_text().partition("ALL: dict[str, Contrast]")
    file.write_text(before + CONTRAST + all_of_them + after.replace("T2W, FLAIR)", "T2W, FLAIR, XYW)", 1))
    return made


def test_a_score_is_one_file(copied: Copy) -> None:
    assert "made-up is invented" in copied.help
    assert "|invented" in copied.help
    assert "|invented" in copied.reference
    assert "wang2004image" in copied.uad("cite", "--score", "made-up")
    assert copied.report["score"] == "invented"


def test_a_method_is_one_file(copied: Copy) -> None:
    assert "|halved" in copied.help
    assert copied.reference.count("|halved") == copied.reference.count("|maediff")  # of detect, batch, train and cite
    assert "kingma2014auto" in copied.uad("cite", "--method", "halved")
    assert copied.report["weights"]["method"] == "halved"


def test_a_contrast_is_one_record(copied: Copy) -> None:
    assert "|XYw" in copied.help
    assert "|XYw" in copied.reference
    assert copied.report["contrast"] == {"value": "XYw", "source": "file name"}
