"""What a run's folder and the caches hold, damaged: an error of one line that names the file, or made anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from uadcli.calibration.export import export
from uadcli.config import PreprocessConfig, TrainConfig, TrainingConfig, to_toml
from uadcli.console import Reporter
from uadcli.data import prepare
from uadcli.data.dataset import Case
from uadcli.errors import InputError
from uadcli.imaging.slices import GRID_SHAPE
from uadcli.training import checkpoint, run_folder, train
from uadcli.training.encoder import Pretrainer
from uadcli.training.log import COLUMNS, Log, read_log
from uadcli.training.reconstruction import Trainer
from uadcli.training.score_network import SiameseTrainer

HEAD = "subject\tpart\tcontrast\tscan\tsha256\tfault\tlesions\n"
ROW = "a\ttrain\tT1w\t/scans/a.nii\t00\t\t\n"
RUBBISH = [
    b"",
    b"rubbish",
    b"\xff\xfe\0",
    b"{",
    b"[" * 5000,
    b"null",
    b'{"thresholds": {"x": {"T1w": NaN}}}',
    b"9" * 5000,
]


def at(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        HEAD + "a\ttrain\n",
        HEAD + ROW.replace("\n", "\tmore\n"),
        HEAD.replace("\tscan", "") + ROW,
        HEAD + ROW.replace("T1w", "CT"),
        HEAD + ROW.replace("/scans/a.nii", ""),
        HEAD + ROW.replace("/scans", "/scans\0"),
        HEAD.replace("\n", "\tlesion_voxels\n") + ROW.replace("\n", "\tmany\n"),
        HEAD + f"{'x' * 200_000}\n",
    ],
)
def test_a_table_of_a_run_that_is_damaged(content: str, tmp_path: Path) -> None:
    path = at(tmp_path, "data.tsv", content)
    with pytest.raises(InputError, match="is damaged") as caught:
        run_folder.usable_cases(tmp_path)
    assert caught.value.path == path


def test_a_scan_whose_name_is_not_utf_8_is_found_again(tmp_path: Path) -> None:
    scan = tmp_path / "a\udcff_T1w.nii"
    scan.write_bytes(b"scan")
    case = Case("a", "", "train", "T1w", scan)
    run_folder.write_rows(tmp_path / "data.tsv", [case], {scan: case})
    assert [one.scan for one in run_folder.usable_cases(tmp_path)] == [scan]


@pytest.mark.parametrize("name", ["a_T1w.nii", "mask.nii"])
@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_bytes(b"other")])
def test_a_run_whose_scan_or_mask_changed_is_not_resumed(name: str, change: Any, tmp_path: Path) -> None:
    """It would go on with other scans than `data.tsv` says, by which calibration knows what was trained on."""
    scan, mask = (at(tmp_path, one, "it") for one in ("a_T1w.nii", "mask.nii"))
    (tmp_path / "run").mkdir()
    at(tmp_path, "run/config.toml", to_toml(TrainingConfig()))
    case = Case("a", "", "train", "T1w", scan, mask)
    run_folder.write_rows(tmp_path / "run" / "data.tsv", [case], {scan: case})
    change(tmp_path / name)
    with pytest.raises(InputError, match="is gone or has changed") as caught:
        train.resume(tmp_path / "run")
    assert caught.value.path == tmp_path / name


@pytest.mark.parametrize("content", [b"\xff\xfe", b"train = 3\n", b"x = " + b"[" * 5000])
def test_settings_of_a_run_that_are_damaged(content: bytes, tmp_path: Path) -> None:
    at(tmp_path, "config.toml", content)
    with pytest.raises(Exception, match=r"run of uad train|TOML|table|config|train") as caught:
        run_folder.read_run(tmp_path)
    assert caught.value.exit_code in (2, 3)  # type: ignore[attr-defined]


@pytest.mark.parametrize("content", RUBBISH)
def test_thresholds_of_a_run_that_are_damaged(content: bytes, tmp_path: Path) -> None:
    at(tmp_path, "config.toml", to_toml(TrainingConfig()))
    path = at(tmp_path, "thresholds.json", content)
    with pytest.raises(InputError, match="is damaged") as caught:
        export(tmp_path, tmp_path / "out", overwrite=False, reporter=Reporter(silent=True))
    assert caught.value.path == path
    assert "uad calibrate" in caught.value.hint


RIGHT: dict[str, object] = {
    "thresholds": {"absolute": {"FLAIR": 0.2}}, "scans": {"FLAIR": 3}, "strengths": {"absolute": {"FLAIR": [0.1]}},
    "tails": {"absolute": {"FLAIR": [[0.01, 0.2]]}}, "shares": {"FLAIR": {"absolute": 1.0}}, "borrowed": {},
    "patients": {"FLAIR": 1}, "synthetic": {}, "fusion_power": 0.2, "reference_erosion": 3,
    "networks": "00",
}  # fmt: skip


WRONG = [(k, v) for k in RIGHT for v in (None, "x", ["x"], {"x": None}, ...) if (k, v) != ("networks", "x")]


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_a_value_of_the_thresholds_that_is_none_of_its_kind_or_missing(key: str, value: object, tmp_path: Path) -> None:
    """Case 522 of the thresholds in `tests/fuzz/test_files_of_runs.py` ended in an AttributeError: `patients` null."""
    made = {name: one for name, one in (RIGHT | {key: value}).items() if one is not ...}
    at(tmp_path, "config.toml", to_toml(TrainingConfig()))
    at(tmp_path, "thresholds.json", json.dumps(made))
    with pytest.raises(InputError, match="is damaged"):
        export(tmp_path, tmp_path / "out", overwrite=False, reporter=Reporter(silent=True))


@pytest.mark.parametrize(
    ("more", "steps"),
    [
        ("15,0.2,,,1,1,0\n", [5.0, 10.0, 15.0]),
        ("15\n", [5.0, 10.0, 15.0]),
        ("x,y,z\n\n,,,,,,\n-3,1\n1e300,1\nnan,1\n", [5.0, 10.0]),
        ('"quoted\n', [5.0, 10.0]),
        ("15,0.2,,,1,1,0,more,more\n", [5.0, 10.0, 15.0]),
        ("9" * 200_000 + "\n", [5.0, 10.0]),
    ],
)
def test_a_log_with_rubbish_is_drawn_without_it(more: str, steps: list[float], tmp_path: Path) -> None:
    log = Log(tmp_path, "reconstruction")
    row = dict.fromkeys(COLUMNS, 0.5) | {"step": 5}
    log.write(row)
    log.write(row | {"step": 10})
    with log.path.open("ab") as stream:
        stream.write(more.encode() + b"\xff\xfe\n")
    assert [one["step"] for one in read_log(log.path)] == steps
    log.write(row | {"step": 20})
    Log(tmp_path, "reconstruction").page()
    assert "step 20" in (tmp_path / "report.html").read_text()


def test_a_log_that_was_cut_off_in_a_line_goes_on_in_the_next(tmp_path: Path) -> None:
    log = Log(tmp_path, "score")
    row = dict.fromkeys(COLUMNS, 0.5) | {"step": 5}
    log.write(row)
    log.path.write_bytes(log.path.read_bytes() + b"10,0.")
    log.write(row | {"step": 15})
    assert [one["step"] for one in read_log(log.path)] == [5.0, 10.0, 15.0]


def test_a_log_that_is_something_else_is_put_aside(tmp_path: Path) -> None:
    at(tmp_path, "log.csv", b"\xff\xfe\0rubbish")
    Log(tmp_path, "score")
    assert (tmp_path / "log-before.csv").read_bytes() == b"\xff\xfe\0rubbish"


def test_pictures_of_others_in_the_folder_of_sheets(tmp_path: Path) -> None:
    (tmp_path / "sheets").mkdir()
    at(tmp_path / "sheets", "mine.png", b"mine")
    Log(tmp_path, "score").page()
    assert (tmp_path / "report.html").exists()


@pytest.mark.parametrize("kind", [Trainer, SiameseTrainer, Pretrainer])
@pytest.mark.parametrize(
    "state",
    [
        {},
        {"train_config": {}},
        {"train_config": 3},
        {"train_config": {"steps": "x"}},
        {"model_config": [], "done": "x"},
    ],
)
def test_a_checkpoint_of_something_else(kind: type, state: dict[str, object], tmp_path: Path) -> None:
    checkpoint.write(tmp_path / "last.pt", {"done": 1, **state} | {"done": 1}, {"model": {"a": torch.zeros(3)}})
    with pytest.raises(InputError, match="not a complete checkpoint"):
        kind.load(tmp_path / "last.pt")  # type: ignore[attr-defined]


def test_a_checkpoint_of_a_network_of_other_sizes(tiny: object, tmp_path: Path) -> None:
    trainer = Trainer(tiny, TrainConfig(steps=1))  # type: ignore[arg-type]
    checkpoint.write(
        tmp_path / "last.pt", trainer.state() | {"done": 0}, {"model": {"a": torch.zeros(3)}, "average": {}}
    )
    with pytest.raises(InputError, match="not a complete checkpoint"):
        Trainer.load(tmp_path / "last.pt")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 rubbish", b"\x93NUMPY", None])
def test_a_prepared_scan_that_is_damaged_is_prepared_again(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    mask = np.ones(GRID_SHAPE, dtype=bool)
    one = prepare.Prepared(mask.astype(np.float32), mask, np.eye(4), "none", 1400.0, 0.0, 0.9, 0.5)

    def prepared(*_: object, **__: object) -> tuple[prepare.Prepared, object]:
        made.append(1)
        return one, mask

    monkeypatch.setattr(prepare, "prepare", prepared)
    monkeypatch.setattr(prepare, "read_scan", lambda _: None)
    scan = at(tmp_path, "a.nii", b"scan")
    for _ in range(2):
        prepare.prepare_cached(scan, PreprocessConfig(), tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(file.read_bytes()[:-300] if content is None else content)
    again = prepare.prepare_cached(scan, PreprocessConfig(), tmp_path / "cache")
    assert len(made) == 2
    np.testing.assert_allclose(again.data, one.data, rtol=1e-3)
