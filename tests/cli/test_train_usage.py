"""The command lines of `uad train`, `uad calibrate` and `uad export`."""

from __future__ import annotations

from pathlib import Path

import bundled
import numpy as np
import phantoms
import pytest

from uadcli.cli.app import main
from uadcli.config import TrainingConfig, preset, read_toml, to_toml
from uadcli.settings import methods


@pytest.mark.parametrize(
    "arguments",
    [
        ["train"],
        ["train", "data"],
        ["train", "--out", "run"],
        ["train", "d", "--out", "r", "--resume", "r"],
        ["train", "--resume", "r", "--method", "dae"],
        ["train", "d", "--out", "r", "--method", "gan"],
        ["train", "--check"],
        ["train", "--check", "--resume", "r"],
        ["train", "--check", "d", "--resume", "r"],
        ["train", "--smoke", "d"],
        ["train", "--smoke", "--resume", "r"],
        ["train", "--smoke", "--out", "r"],
        ["export", "r"],
        ["train", "d", "--out", "n", "--labels", "l"],
        ["train", "d", "--out", "n", "--score", "siamese"],
        ["train", "d", "--out", "n", "--score", "ssim", "--labels", "l"],
        ["train", "d", "--out", "n", "--weights", bundled.FLAIR, "--method", "cddpm"],
        ["train", "--resume", "r", "--weights", bundled.FLAIR],
        ["train", "d", "--out", "n", "--score", "siamese", "--labels", "l", "--method", "dae"],
        ["train", "d", "--out", "n", "--score", "siamese", "--labels", "l", "--profile", "reference"],
        ["train", "--resume", "r", "--score", "siamese", "--labels", "l"],
        ["train", "--smoke", "--score", "siamese", "--labels", "l"],
    ],
)
def test_what_is_no_whole_command_is_a_usage_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "config.toml").write_text(to_toml(TrainingConfig()))
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("borrowed", "said"),
    [
        (["T2w"], "cannot be 'T2w'"),
        (["T2w=T2w"], "cannot be 'T2w=T2w'"),
        (["T2w=FLAIR", "T2w=T1w"], "T2w cannot borrow from both FLAIR and T1w"),
    ],
)
def test_a_contrast_borrows_from_one_other(
    borrowed: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = [text for one in borrowed for text in ("--borrow", one)]
    assert main(["calibrate", str(tmp_path), str(tmp_path), *options]) == 2
    assert said in capsys.readouterr().err


def test_what_labels_are_for_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["train", "d", "--out", "n", "--score", "siamese"]) == 2
    assert "Without labels, `uad train` trains it on synthetic lesions." in capsys.readouterr().err
    assert main(["train", "d", "--out", "n", "--labels", "l"]) == 2
    assert "--score siamese" in capsys.readouterr().err
    labelled = ["train", str(tmp_path / "d"), "--score", "siamese", "--labels", str(tmp_path / "l")]
    for command in ([*labelled, "--out", str(tmp_path / "n")], [*labelled, "--check"]):
        assert main(command) == 3  # there are no scans
        assert "not a folder" in capsys.readouterr().err
    assert not (tmp_path / "n").exists()


@pytest.mark.parametrize("bare", [["--profile", "reference"], ["--set", "train.lesion_probability=0"]])
def test_synomaly_without_anomalies_is_refused(
    bare: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = ["train", str(tmp_path), "--out", str(tmp_path / "n"), "--method"]
    assert main([*command, "synomaly", *bare]) == 2
    assert "--set train.lesion_probability=0.5" in capsys.readouterr().err
    assert main([*command, "ddpm", *bare]) == 3  # there are no scans
    assert main([*command, "synomaly", "--profile", "reference", "--set", "train.lesion_probability=0.5"]) == 3


def test_print_config_prints_what_config_reads(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["train", "--print-config", "--profile", "reference", "--set", "train.steps=13200"]) == 0
    text = capsys.readouterr().out
    config = read_toml(TrainingConfig, text)
    assert config.model == preset("reference")
    assert config.train.steps == 13200
    (tmp_path / "mine.toml").write_text(text)
    assert main(["train", "--print-config", "--config", str(tmp_path / "mine.toml")]) == 0
    assert capsys.readouterr().out == text


@pytest.mark.parametrize("method", methods.NAMES)
def test_the_method_is_in_the_settings_of_the_model(method: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--print-config", "--method", method]) == 0
    config = read_toml(TrainingConfig, capsys.readouterr().out)
    assert config.model.method == method
    assert config.model.conditioned == (method in ("cddpm", "diffuse"))
    assert config.model.unet == preset("small").unet


def test_a_setting_that_does_not_exist_is_named_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--print-config", "--set", "train.stebs=3"]) == 2
    assert "Did you mean train.steps?" in capsys.readouterr().err


def test_paths_that_are_no_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["export", str(tmp_path), "-o", str(tmp_path / "w")]) == 3
    assert "not a run" in capsys.readouterr().err
    assert main(["train", str(tmp_path / "none"), "--check"]) == 3
    assert "not a folder" in capsys.readouterr().err


def test_check_ends_with_the_code_of_a_training_that_would_be_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """It reports all files first; one that cannot be read does no harm if the others are enough."""
    broken, voxels = tmp_path / "sub-0_FLAIR.nii.gz", np.random.default_rng(0).random((30, 30, 30))
    broken.write_bytes(b"text")
    assert main(["train", "--check", str(tmp_path)]) == 3
    out, err = capsys.readouterr()
    assert out.startswith(f"{broken}: ")
    assert "no usable scan in train" in err
    for number, (code, said) in enumerate([(3, "no usable FLAIR scan in val"), (0, "")], start=1):
        phantoms.save(tmp_path / f"sub-{number}_FLAIR.nii.gz", 1000 * voxels + number, np.diag([4.0, 4, 4, 1]))
        (tmp_path / "participants.tsv").write_text("participant_id\tsplit\nsub-1\ttrain\nsub-2\tval\n")
        assert main(["train", "--check", str(tmp_path)]) == code
        out, err = capsys.readouterr()
        assert "1 FLAIR scans in train" in out
        assert f"{broken}: " in out
        assert said in err
    assert main(["train", "--check", str(tmp_path), "--set", 'contrasts=["T1w"]']) == 2
    assert "cannot provide T1w" in capsys.readouterr().err


def test_check_counts_a_scan_under_two_names_once_as_a_training_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The copy to train on stays, so that here none is left to validate by."""
    for number in range(2):
        phantoms.save(tmp_path / f"sub-{number}_T1w.nii", np.indices((20, 20, 20)).sum(axis=0), 3 * np.eye(4))
    (tmp_path / "participants.tsv").write_text("participant_id\tsplit\nsub-0\tval\nsub-1\ttrain\n")
    assert main(["train", "--check", str(tmp_path)]) == 3
    out, err = capsys.readouterr()
    assert "sub-0_T1w.nii: same as sub-1_T1w.nii, in training and validation" in out
    assert "no usable T1w scan in val" in err


@pytest.mark.parametrize("name", ["sub-0_label-lesion_mask.nii", "sub-0_T1w_lesion.nii"])
def test_check_reports_masks_for_which_a_training_leaves_scans_out(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mask on another grid, and one whose name does not say whose it is: there is one scan left, and no split."""
    for number in range(2):
        phantoms.save(tmp_path / f"sub-{number}_T1w.nii", np.indices((20, 20, 20)).sum(axis=0) + number, 3 * np.eye(4))
    assert main(["train", "--check", str(tmp_path)]) == 0
    phantoms.save(tmp_path / name, np.ones((20, 20, 19)), 3 * np.eye(4), np.uint8)
    capsys.readouterr()
    assert main(["train", "--check", str(tmp_path)]) == 3
    out, err = capsys.readouterr()
    assert "sub-0_T1w.nii: " in out
    assert "no usable scan in" in err


def test_check_of_labelled_scans_that_cannot_be_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name in ("sub-1_FLAIR.nii.gz", "masks/sub-1_mask.nii.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"text")
    command = ["train", str(tmp_path), "--score", "siamese", "--labels", str(tmp_path / "masks")]
    assert main([*command, "--check"]) == 3
    out, err = capsys.readouterr()
    assert "sub-1_FLAIR.nii.gz: " in out
    assert "sub-1_FLAIR.nii.gz: " in err
    assert main([*command, "--out", str(tmp_path / "run")]) == 3
    assert not (tmp_path / "run").exists()


def test_an_out_of_distribution_check_that_does_not_exist_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["calibrate", str(tmp_path), str(tmp_path), "--gate", "band"]) == 2
    assert "--gate cannot be 'band'. Did you mean hand? Choose from mahalanobis, hand." in capsys.readouterr().err
    assert main(["calibrate", str(tmp_path), str(tmp_path), "--gate", "hand"]) == 3
    assert "not a run" in capsys.readouterr().err
