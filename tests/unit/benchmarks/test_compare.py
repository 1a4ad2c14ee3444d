"""Runs of `make bench` are compared in units of a loop on the same machine; what is slower or grows too fast fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import compare
import cost
import numpy as np
import pytest

from uadcli.config import EncoderConfig, ModelConfig, UNetConfig
from uadcli.reconstruction.model import ConditionedDiffusion

SCRIPT = Path(compare.__file__)


def run(loop: float, detect: float, exponent: float = 0.9, **more: float) -> dict[str, Any]:
    return {compare.LOOP: loop, "seconds": {"uad detect": detect, **more}, "exponents": {"voxels": exponent}}


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (run(0.1, 20), ""),
        (run(0.2, 50), ""),  # a slower machine
        (run(0.1, 27), "uad detect: 1.35 times"),
        (run(0.05, 14), "uad detect: 1.40 times"),  # fewer seconds, on a machine that is twice as fast
        (run(0.1, 20, 1.15), "cost over voxels: exponent 1.15"),
        ({**run(0.1, 20), "seconds": {"other": 1.0}}, "uad detect: was not measured"),
    ],
)
def test_only_what_is_slower_than_the_committed_run_fails(new: dict[str, Any], words: str, tmp_path: Path) -> None:
    paths = tmp_path / "new.json", tmp_path / "old.json"
    for path, content in zip(paths, (new, run(0.1, 20)), strict=True):
        path.write_text(json.dumps(content))
    done = subprocess.run([sys.executable, SCRIPT, *paths], capture_output=True, text=True, check=False)
    assert done.returncode == (1 if words else 0)
    assert words in done.stderr
    assert bool(done.stderr) == bool(words)
    assert "| measurement |" in done.stdout


def test_without_a_run_the_command_that_makes_one_is_named(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, SCRIPT, tmp_path / "a.json"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"make bench JSON={tmp_path / 'a.json'}" in done.stderr


def test_the_exponent_is_that_of_a_power() -> None:
    assert compare.exponent([1, 2, 4, 8], [3 * n**1.1 for n in (1, 2, 4, 8)]) == pytest.approx(1.1)
    assert compare.exponent([1, 2, 4, 8], [5, 5, 5, 5]) == pytest.approx(0, abs=1e-9)


def test_the_loop_takes_its_time() -> None:
    assert 0.01 < compare.loop_seconds(1) < 60


def test_scans_grow_by_the_factor_and_keep_the_head(tmp_path: Path) -> None:
    import nibabel as nib

    small, large = (nib.load(cost.head(voxels, tmp_path)) for voxels in (0.1e6, 0.8e6))
    assert np.prod(large.shape) / np.prod(small.shape) == pytest.approx(8, rel=0.1)
    extents = [np.array(one.shape) * np.linalg.norm(one.affine[:3, :3], axis=0) for one in (small, large)]
    assert np.allclose(*extents, rtol=0.05)


def test_the_cost_over_slices_is_measured() -> None:
    tiny = ModelConfig(
        unet=UNetConfig(channels=8, multipliers=(1, 2), blocks=1, unshuffle=2, head_channels=8, embedding=16),
        encoder=EncoderConfig(blocks=(1, 1), width=4, condition=16, norm="group", unshuffle=2),
    )
    assert len(cost.over_slices(ConditionedDiffusion(tiny).eval(), (1, 2))) == 2
