"""`uad train --smoke`: from scans to weights that load, leaving nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_step_is_tried_once_and_said(tmp_path: Path) -> None:
    place = tmp_path / "smoke"
    done = subprocess.run(
        [sys.executable, "-m", "uadcli", "train", "--smoke", "--out", str(place), "--threads", "1", "--workers", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "made",
        "trained",
        "calibrated:",
        "exported",
        "used",
    ]
    assert "of the score fisher, on 2 scans" in done.stdout  # healthy reference and all
    assert (place / "smoke" / "smoke.safetensors").exists()
    assert (place / "run" / "thresholds.json").exists()
