"""The score network of a training, kept in a file of its own, from which the training can be continued."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest
import recalibrate
import torch

from uadcli.training.score_network import SiameseTrainer
from uadcli.weights import weights

KEPT = Path(__file__).parents[3] / "packaging" / "default"


@pytest.mark.slow
def test_a_score_network_comes_back_from_its_file(tmp_path: Path) -> None:
    of, other = (weights.load(*weights.find(name)) for name in ("small-14-t1w", "small-13-flair"))
    recalibrate.keep(of, tmp_path / "score.safetensors")
    found = recalibrate.with_score_network(other, [tmp_path / "score.safetensors"])
    assert found.card.siamese == of.card.siamese
    assert found.card.training_data == of.card.training_data
    assert found.card.name == other.card.name
    assert found.score_state.keys() == of.score_state.keys()
    assert all(torch.equal(found.score_state[name], value) for name, value in of.score_state.items())


@pytest.mark.slow
def test_of_two_score_networks_the_mean_of_the_parameters_is_taken(tmp_path: Path) -> None:
    start = weights.load(*weights.find("small-14-t1w"))
    kept = [tmp_path / name for name in ("low", "high")]
    for file, factor in zip(kept, (0.5, 1.5), strict=True):
        state = {name: factor * value for name, value in start.score_state.items()}
        recalibrate.keep(dataclasses.replace(start, score_state=state), file)
    found = recalibrate.with_score_network(start, kept)
    for name, value in start.score_state.items():
        torch.testing.assert_close(found.score_state[name], value, rtol=2e-3, atol=1e-4)  # float16


def test_a_checkpoint_gives_its_averaged_network_and_says_nothing_else(tmp_path: Path) -> None:
    start = weights.load(*weights.find("small-14-t1w"))
    assert start.card.score_network is not None
    trainer = SiameseTrainer(start.card.score_network)
    trainer.save(tmp_path / "last.pt")
    found = recalibrate.with_score_network(start, [tmp_path / "last.pt"])
    assert found.card == start.card
    for name, value in trainer.average.state_dict().items():
        torch.testing.assert_close(found.score_state[name], value, rtol=2e-3, atol=1e-4)  # float16


def test_the_kept_network_fits_the_bundled_model() -> None:
    start = weights.load(*weights.find("small-13-flair"))
    found = recalibrate.with_score_network(start, [KEPT / "t2w-score.safetensors"])
    assert found.card.siamese is not None
    assert start.card.siamese is not None
    assert found.card.siamese["steps"] == start.card.siamese["steps"] + 1200
    assert {k: v.shape for k, v in found.score_state.items()} == {k: v.shape for k, v in start.score_state.items()}
    assert not all(torch.equal(found.score_state[name], value) for name, value in start.score_state.items())


def test_importing_the_script_does_not_hide_modules_of_the_tests() -> None:
    folders = [Path(one).resolve() for one in sys.path]
    tests = Path(__file__).parents[2]
    assert folders.index(tests) < folders.index(tests.parent / "packaging" / "evaluation")  # both have a scenes.py
