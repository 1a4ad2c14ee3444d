"""What a training run keeps, damaged: checkpoints, thresholds, tables, settings, logs and volumes in caches."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from damage import CASES, damaged, each, odd_values

from uadcli.calibration import export
from uadcli.config import ModelConfig, TrainConfig, TrainingConfig, to_toml
from uadcli.console import Reporter
from uadcli.data import prepare
from uadcli.files import DAMAGED
from uadcli.imaging.slices import GRID_SHAPE, HALF_SHAPE
from uadcli.model import adapt
from uadcli.training import checkpoint, log, run_folder
from uadcli.training.reconstruction import Trainer
from uadcli.weights import weights


def test_checkpoints(tmp_path: Path, tiny: ModelConfig) -> None:
    Trainer(tiny, TrainConfig(steps=1)).save(tmp_path / "last.pt")
    content = (tmp_path / "last.pt").read_bytes()

    def use(made: object) -> None:
        (tmp_path / "last.pt").write_bytes(made)  # type: ignore[arg-type]
        checkpoint.read(tmp_path / "last.pt")
        Trainer.load(tmp_path / "last.pt")

    each(lambda rng: damaged(content, rng), use, CASES // 4)


def test_states_of_checkpoints(tmp_path: Path, tiny: ModelConfig) -> None:
    trainer, path = Trainer(tiny, TrainConfig(steps=1)), tmp_path / "last.pt"
    trainer.save(path)
    kept = torch.load(path, weights_only=True)
    plain = {key: value for key, value in kept.items() if key in ("train_config", "model_config", "done", "best")}

    def use(made: object) -> None:
        torch.save({**kept, **made}, path)  # type: ignore[dict-item]
        Trainer.load(path)

    each(lambda rng: odd_values(plain, rng), use, CASES // 4)


@pytest.fixture
def run_of(tmp_path: Path, exported: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the settings of a run, whose trained weights are those of `exported`."""
    loaded = weights.load(exported / "tiny 1.safetensors")
    monkeypatch.setattr(export, "trained_weights", lambda _: loaded)
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.toml").write_text(to_toml(TrainingConfig()))
    return folder


def test_thresholds_of_a_run(run_of: Path, tmp_path: Path) -> None:
    by_contrast = {"absolute": {"FLAIR": 0.2}}
    right = {
        "thresholds": by_contrast, "scans": {"FLAIR": 3}, "strengths": {"absolute": {"FLAIR": [0.1]}},
        "tails": {"absolute": {"FLAIR": [[0.01, 0.2]]}}, "shares": {"FLAIR": {"absolute": 1.0}},
        "borrowed": {"T2w": "FLAIR"}, "patients": {"FLAIR": 1}, "synthetic": {}, "fusion_power": 0.2,
        "reference_erosion": 3, "networks": export.digest_of(export.trained_weights(run_of)),
    }  # fmt: skip

    def use(made: object) -> None:
        (run_of / "thresholds.json").write_bytes(made)  # type: ignore[arg-type]
        export.export(run_of, tmp_path / "out", overwrite=True, reporter=Reporter(silent=True))
        weights.read_card(tmp_path / "out" / "out.safetensors")

    def make(rng: random.Random) -> bytes:
        if rng.random() < 0.5:
            return json.dumps(odd_values(right, rng)).encode()
        return damaged(json.dumps(right).encode(), rng)

    each(make, use, CASES // 4)


def test_tables_of_a_run(tmp_path: Path) -> None:
    head = b"subject\tpart\tcontrast\tscan\tsha256\tfault\tlesions\tlesions_sha256\tlesion_voxels\n"
    content = head + b"a\ttrain\tT1w\t/scans/a.nii\t00\t\t/masks/a.nii\t00\t12\nb\tval\tT2w\tb.nii\t11\tbad\t\t\t\n"

    def use(made: object) -> None:
        (tmp_path / "data.tsv").write_bytes(made)  # type: ignore[arg-type]
        for case in run_folder.usable_cases(tmp_path):
            case.scan.exists()
        sum(int(row.get("lesion_voxels") or 0) for row in run_folder.rows_of(tmp_path / "data.tsv") if not row["fault"])

    each(lambda rng: damaged(content, rng), use)


def test_settings_of_a_run(tmp_path: Path) -> None:
    content = to_toml(TrainingConfig()).encode()

    def use(made: object) -> None:
        (tmp_path / "config.toml").write_bytes(made)  # type: ignore[arg-type]
        run_folder.read_run(tmp_path)

    each(lambda rng: damaged(content, rng), use)


def test_logs_of_a_run(tmp_path: Path) -> None:
    content = (",".join(log.COLUMNS) + "\n5,0.5,0.4,0.1,12,60,0\n10,0.4,,,12,30,1\n15,,0.3,0.2,12,0,1\n").encode()

    def use(made: object) -> None:
        (tmp_path / "log.csv").write_bytes(made)  # type: ignore[arg-type]
        log.write_page(tmp_path, {"score": tmp_path})

    each(lambda rng: damaged(content, rng), use)


def test_volumes_kept_in_a_cache(tmp_path: Path) -> None:
    mask, path = np.zeros(GRID_SHAPE, dtype=bool), tmp_path / "a.npz"
    mask[40:50, 40:50, 40:50] = True
    prepare.save_prepared(path, prepare.Prepared(mask * 1.0, mask, np.eye(4), "none", 1400.0, 0.0, 0.9, 0.5))
    content = path.read_bytes()

    def use(made: object) -> None:
        path.write_bytes(made)  # type: ignore[arg-type]
        with suppress(*DAMAGED):
            assert prepare.unpacked(prepare.read_packed(path)).mask.shape == GRID_SHAPE
        adapt._kept(path, {"total": HALF_SHAPE, "count": HALF_SHAPE})

    each(lambda rng: damaged(content, rng), use, CASES // 4)
