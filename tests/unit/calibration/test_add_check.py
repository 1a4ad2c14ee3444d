"""The out-of-distribution check of a contrast without healthy scans, from synthetic ones."""

from __future__ import annotations

import sys
from pathlib import Path

import add_check
import bundled
import numpy as np
import pytest
import torch

from uadcli.imaging.slices import GRID_SHAPE
from uadcli.model import out_of_distribution
from uadcli.scoring.out_of_distribution import Gate
from uadcli.weights import weights


def test_the_limit_follows_the_median_and_nothing_else_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = weights.load(*weights.find(bundled.T1W))
    size = before.model.config.encoder.condition
    wide = np.zeros((GRID_SHAPE[2], size), np.float32), np.eye(size, dtype=np.float32)
    asked, far = [], iter([0.2, 0.3, 7.0])  # the last is an unlucky draw of the contrast
    monkeypatch.setattr(add_check, "made", lambda *given: asked.append(given[1:3] + given[5:]) or [given[5]] * 3)
    monkeypatch.setattr(add_check, "parts", lambda model, scans, *rest: scans)
    monkeypatch.setattr(add_check, "fit_cloud", lambda scans, slices: wide if scans == ["train"] * 3 else None)
    monkeypatch.setattr(add_check, "distance", lambda mean, whitening, one: next(far) if one == "val" else None)
    arguments = ["add_check.py", "data", "--weights", bundled.T1W, "--contrast", "T2w", "--runs", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    add_check.main()
    assert asked == [("T2w", 24, "train"), ("T2w", 20, "val")]
    digest = capsys.readouterr().out.splitlines()[1].removeprefix("sha256 ")
    found = weights.load(tmp_path / "models" / bundled.T1W / f"{bundled.T1W}.safetensors", digest)
    gate = out_of_distribution.gate_of(found.gate_state, "T2w")
    assert isinstance(gate, Gate)
    assert gate.limit == pytest.approx(add_check.LIMIT * 0.3)
    assert found.card == before.card
    for kept, own in ((before.gate_state, found.gate_state), (before.reference_state, found.reference_state)):
        assert all(torch.equal(own[name], value) for name, value in kept.items())
