"""The score network of a training, kept in a file of its own, from which the training can be continued."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from shutil import copyfile

import bundled
import pytest
import recalibrate
import torch

from uadcli.config import to_dict
from uadcli.errors import InputError, UsageError
from uadcli.model.model import Model
from uadcli.training.run_folder import START
from uadcli.training.score_network import SiameseTrainer
from uadcli.weights import weights


@pytest.mark.slow
def test_a_score_network_comes_back_from_its_file(tmp_path: Path) -> None:
    of, other = (weights.load(*weights.find(name)) for name in (bundled.T1W, bundled.FLAIR))
    recalibrate.keep(of, tmp_path / "score.safetensors")
    found = recalibrate.with_score_network(other, [tmp_path / "score.safetensors"])
    assert found.card.siamese == of.card.siamese
    assert found.card.training_data == of.card.training_data
    assert found.card.name == other.card.name
    assert found.score_state.keys() == of.score_state.keys()
    assert all(torch.equal(found.score_state[name], value) for name, value in of.score_state.items())


@pytest.mark.slow
def test_of_two_score_networks_the_mean_of_the_parameters_is_taken(tmp_path: Path) -> None:
    start = weights.load(*weights.find(bundled.T1W))
    kept = [tmp_path / name for name in ("low", "high")]
    for file, factor in zip(kept, (0.5, 1.5), strict=True):
        state = {name: factor * value for name, value in start.score_state.items()}
        recalibrate.keep(dataclasses.replace(start, score_state=state), file)
    found = recalibrate.with_score_network(start, kept)
    for name, value in start.score_state.items():
        torch.testing.assert_close(found.score_state[name], value, rtol=2e-3, atol=1e-4)  # float16


def test_a_checkpoint_gives_its_averaged_network_and_its_steps_after_those_of_its_start(tmp_path: Path) -> None:
    start = weights.load(*weights.find(bundled.T1W))
    assert start.card.score_network is not None
    assert start.card.siamese is not None
    trainer = SiameseTrainer(start.card.score_network)
    trainer.done = 7
    file = tmp_path / "siamese" / "last.pt"
    file.parent.mkdir()
    trainer.save(file)
    found = recalibrate.with_score_network(start, [file])
    assert found.card.siamese == to_dict(trainer.config) | {"steps": 7}
    for name, value in trainer.average.state_dict().items():
        torch.testing.assert_close(found.score_state[name], value, rtol=2e-3, atol=1e-4)  # float16
    copyfile(weights.find(bundled.T1W)[0], tmp_path / START)
    found = recalibrate.with_score_network(start, [file])
    assert found.card.siamese == to_dict(trainer.config) | {"steps": start.card.siamese["steps"] + 7}
    assert dataclasses.replace(found.card, siamese=None) == dataclasses.replace(start.card, siamese=None)


@pytest.mark.parametrize("name", ["run", "score.safetensors", "run/siamese/last.pt"])
def test_a_score_network_that_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    start = weights.load(*weights.find(bundled.T1W))
    with pytest.raises(InputError, match=f"{name}: does not exist"):
        recalibrate.with_score_network(start, [tmp_path / name])


def test_a_card_for_one_contrast_keeps_what_that_contrast_borrowed() -> None:
    card = weights.load(*weights.find(bundled.FLAIR)).card
    own = recalibrate.covering(card, ["T2w"])
    assert own.contrasts == ("T2w",)
    assert own.borrowed == {"T2w": "FLAIR"}
    assert own.scores == {"T2w": card.scores["T2w"]}
    assert own.shares == {}
    assert own.thresholds["siamese"] == {"T2w": card.thresholds["siamese"]["FLAIR"]}
    assert own.tails["siamese"] == {"T2w": card.tails["siamese"]["FLAIR"]}
    assert all(by.keys() == {"T2w"} for by in (*own.thresholds.values(), *own.tails.values()))
    assert not any("FLAIR" in by for by in own.strengths.values())
    with pytest.raises(UsageError, match="does not cover T1w"):
        recalibrate.covering(card, ["T1w"])


@pytest.mark.parametrize(("arguments", "needs"), [([], True), (["--keep", "score.safetensors"], False)])
def test_a_new_model_needs_a_name_and_a_score_network_alone_does_not(
    arguments: list[str],
    needs: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["recalibrate.py", "data", "--weights", bundled.T1W, *arguments])
    if needs:
        with pytest.raises(SystemExit, match="2"):
            recalibrate.main()
        assert "--name is missing" in capsys.readouterr().err
    else:
        recalibrate.main()
        assert (tmp_path / "score.safetensors").exists()


@pytest.mark.parametrize(("arguments", "along"), [([], 3.0), (["--along-slices", "1.5"], 1.5)])
def test_the_learned_score_is_smoothed_as_before_or_as_told(
    arguments: list[str], along: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []

    def measured(model: Model, *_: object, **__: object) -> None:
        seen.append(model.card.along_slices)
        raise KeyboardInterrupt

    command = ["recalibrate.py", "data", "--weights", bundled.T2W, "--name", "new", *arguments]
    monkeypatch.setattr(sys, "argv", command)
    for name, found in (("cases", []), ("shape_files", []), ("measure", None)):
        monkeypatch.setattr(recalibrate, name, measured if found is None else lambda *_, found=found: found)
    with pytest.raises(KeyboardInterrupt):
        recalibrate.main()
    assert seen == [along]


def test_the_model_of_t2w_has_the_reconstruction_of_flair_and_a_score_network_of_its_own() -> None:
    flair, t2w = (weights.load(*weights.find(None, contrast)) for contrast in ("FLAIR", "T2w"))
    assert t2w.card.contrasts == ("T2w",)
    assert t2w.card.borrowed == {"T2w": "FLAIR"}
    assert t2w.card.siamese is not None
    assert flair.card.siamese is not None
    assert t2w.card.siamese["steps"] == flair.card.siamese["steps"] + 1200
    reconstruction = flair.model.state_dict()
    assert all(torch.equal(value, reconstruction[name]) for name, value in t2w.model.state_dict().items())
    assert t2w.score_state.keys() == flair.score_state.keys()
    assert not all(torch.equal(value, flair.score_state[name]) for name, value in t2w.score_state.items())


def test_importing_the_script_does_not_hide_modules_of_the_tests() -> None:
    folders = [Path(one).resolve() for one in sys.path]
    tests = Path(__file__).parents[2]
    assert folders.index(tests) < folders.index(tests.parent / "packaging" / "evaluation")  # both have a scenes.py
