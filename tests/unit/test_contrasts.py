"""A contrast is one record: everything that depends on the contrast is read from it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from uadcli import contrasts
from uadcli.config import CONTRASTS

MADE_UP = """
from pathlib import Path
from uadcli import contrasts
from uadcli.contrasts import CSF, GREY, WHITE, Contrast, Level, MadeFromT1w

made = MadeFromT1w((0.9, 0.05), (0.8, 0.1), (0.1, 0.05), slices=0.1, volumes=0.2)
levels = (Level(WHITE, 0.5, 0.5), Level(GREY, 0.2, 0.2, above=WHITE), Level(CSF, 0.8, 0.8))
contrasts.ALL["XYw"] = Contrast("XYw", "xyw?", levels, 0.9, 0.3, {"siamese": 1.0}, made_from_t1w=made)
contrasts.FROM_T1W["XYw"] = made

import numpy as np, torch
from typer.testing import CliRunner
from uadcli.cli.app import app
from uadcli.data import contrast
from uadcli.scoring import fusion
from uadcli.synthesis.brains import CSF as FLUID, tissue_intensities
from uadcli.synthesis.contrast import from_t1
from uadcli.training.examples.slices import SliceSet
from uadcli.training.examples.synthetic import SHARES

assert "T1w|T2w|FLAIR|XYw" in CliRunner(env={"COLUMNS": "200"}).invoke(app, ["detect", "--help"]).output
assert contrast.from_name(Path("sub-1_XYw.nii.gz")) == contrast.from_name(Path("3_xy_tra.nii.gz")) == "XYw"
assert tissue_intensities("XYw", np.random.default_rng(0))[FLUID] == 0.8
x = from_t1(torch.full((1, 1, 8, 8), 0.1), "XYw", torch.Generator().manual_seed(0))
assert 0.8 < float(x.mean()) < 1.0
assert SliceSet(torch.zeros(1), torch.zeros(1)).made[-1] == 0.1
assert (SHARES["XYw"], SHARES["T1w as XYw"]) == (0.3, 0.2)
assert fusion.PARTS["XYw"] == {"siamese": 1.0}
"""


def test_a_made_up_contrast_is_added_in_one_place() -> None:
    done = subprocess.run([sys.executable, "-c", MADE_UP], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", CONTRASTS)
def test_the_levels_have_the_order_of_the_contrast(name: str) -> None:
    from uadcli.synthesis.brains import CORTEX, CSF, WHITE, tissue_intensities

    order = {"T1w": (CSF, CORTEX, WHITE), "T2w": (WHITE, CORTEX, CSF), "FLAIR": (CSF, WHITE, CORTEX)}[name]
    for seed in range(20):
        found = tissue_intensities(name, np.random.default_rng(seed))
        assert [found[tissue] for tissue in order] == sorted(found[tissue] for tissue in order)


def test_the_shares_of_a_record_are_shares() -> None:
    for one in contrasts.ALL.values():
        assert sum(one.fisher.values()) == pytest.approx(1)
        assert 0 <= one.bright_lesions <= 1
    assert {name: one.lesions for name, one in contrasts.ALL.items()} == {
        "T1w": "dark",
        "T2w": "bright",
        "FLAIR": "bright",
    }
