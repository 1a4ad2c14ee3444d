"""Synthetic examples: the same whoever makes them, made beside the steps, and no process is left behind."""

from __future__ import annotations

import multiprocessing
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cohort
import numpy as np
import pytest
import workloads

from uadcli.config import PreprocessConfig, SiameseConfig
from uadcli.console import Reporter
from uadcli.data.healthy import brain_slices
from uadcli.errors import DeviceError
from uadcli.imaging.slices import GRID_SHAPE
from uadcli.model.model import Model
from uadcli.synthesis.anatomy import Anatomy
from uadcli.training import score_network
from uadcli.training.examples import synthetic
from uadcli.training.examples.pool import Example, ExampleMaker, ExamplePool
from uadcli.training.examples.synthetic import Healthy, SceneMaker, Sources
from uadcli.training.loop import Interruption
from uadcli.training.score_network import SiameseTrainer, fit

CONFIG = SiameseConfig(
    channels=(8, 8), mirror=False, batch_size=4, steps=12, warmup=1, pool=4, draws=0.05, checkpoint_every=12
)


class Dimmed(Model):
    """Stands for a model: the reconstruction is darker, and the seed leaves its mark."""

    def __init__(self) -> None:
        super().__init__(None, "cpu")  # type: ignore[arg-type]

    def reconstruct(self, x, mask, config, *_, **__):  # type: ignore[no-untyped-def]
        return (x * (0.5 + config.seed % 100 / 250)).astype(np.float32)


def scenes() -> SceneMaker:
    head = cohort.head(1).astype(np.float32) / 250
    mask = head > 0
    labels = np.zeros((192, 192, 160), dtype=np.int16)
    labels[40:150, 40:150, 30:130], labels[60:120, 60:120, 50:110] = 3, 2  # cortex around white matter
    real = [Healthy(head[::side], mask[::side], brain_slices(mask), "T1w") for side in (1, -1)]
    return SceneMaker(Sources(real, [labels], ("T1w", "FLAIR")), PreprocessConfig(), 3, (500, 750), 0.5)


def test_an_example_has_the_scan_above_its_upper_percentile_where_the_network_sees_it() -> None:
    """The reconstruction sees the scan clipped in any case."""
    scene = scenes().draw(0)
    assert scene.x.max() == 1
    assert np.max(scene.headroom) > 0.02
    clipped, whole = (ExampleMaker(scenes(), Dimmed(), headroom).example(scene) for headroom in (False, True))
    assert clipped.image.max() == 255
    assert whole.image.max() == pytest.approx(255 * (1 + np.max(scene.headroom)), abs=1)
    np.testing.assert_array_equal(np.minimum(whole.image, 255), clipped.image)
    np.testing.assert_array_equal(whole.recon, clipped.recon)


@pytest.mark.slow
def test_an_example_depends_on_its_number_and_not_on_the_processes() -> None:
    def drawn(workers: int) -> list[Example]:
        return list(ExampleMaker(scenes(), Dimmed(), True, workers).several(range(5)))

    here = drawn(0)
    assert len({one.image.tobytes() for one in here}) == 5
    for elsewhere in (drawn(1), drawn(3)):
        for one, other in zip(here, elsewhere, strict=True):
            assert all(np.array_equal(part, vars(other)[name]) for name, part in vars(one).items())
    assert not multiprocessing.active_children()


class Waits(SiameseTrainer):
    """A training whose first step ends only when an example that it does not need has begun to be made."""

    def __init__(self, made: Path) -> None:
        super().__init__(CONFIG)
        self.made = made

    def step(self, pool: list[Example], rng: np.random.Generator) -> float:
        until = time.monotonic() + 120
        while not self.done and not list(self.made.glob(f"{CONFIG.pool} *")):
            assert time.monotonic() < until, "nothing is made beside the step"
            time.sleep(0.01)
        return super().step(pool, rng)


def test_the_anatomy_of_a_mirrored_scene_is_mirrored_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise lesions of white matter would lie where the other side has it."""
    mask = np.zeros(GRID_SHAPE, bool)
    mask[20:76, 20:76, 20:60] = True
    white = mask.copy()
    white[48:] = False
    known = Anatomy(white, mask & ~white, ~mask, ~mask)
    one = Healthy(np.where(mask, 0.3 + 0.4 * white, 0).astype(np.float32), mask, np.arange(20, 60), "FLAIR", known)
    given = list[tuple[np.ndarray, Anatomy]]()

    def paste(x: np.ndarray, inside: np.ndarray, *rest: Any) -> tuple[np.ndarray, np.ndarray]:
        given.append((x, rest[-1]))
        return x, np.zeros_like(inside)

    monkeypatch.setattr(synthetic, "paste_lesions", paste)
    monkeypatch.setattr(synthetic, "degrade", lambda x, inside, _: (x, inside))
    maker = SceneMaker(Sources([one], contrasts=("FLAIR",)), PreprocessConfig(), 3)
    for number in range(8):
        maker.draw(number)
    assert all(np.array_equal(anatomy.white, x > 0.5) for x, anatomy in given)
    assert {bool(anatomy.white[:48].any()) for _, anatomy in given} == {True, False}


def test_scenes_are_made_beside_the_steps(tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    maker = ExampleMaker(workloads.NotedScenes(made), Dimmed(), True, 1)  # type: ignore[arg-type]
    fit(Waits(made), maker, tmp_path / "run", Reporter(silent=True))
    noted = [tuple(map(int, path.name.split())) for path in made.iterdir()]
    assert os.getpid() not in {process for _, process, _ in noted}
    assert sorted(number for number, *_ in noted) == list(range(ExamplePool(maker, CONFIG, tmp_path).window(11).stop))
    assert not multiprocessing.active_children()


def test_with_workers_the_training_is_the_same(tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    results = []
    for workers in (0, 2):
        trainer = SiameseTrainer(CONFIG)
        maker = ExampleMaker(workloads.NotedScenes(made), Dimmed(), True, workers)  # type: ignore[arg-type]
        fit(trainer, maker, tmp_path / f"{workers}", Reporter(silent=True))
        results.append(trainer.model.state_dict())
    assert all((part == results[1][name]).all() for name, part in results[0].items())


def test_a_process_that_dies_ends_the_training_with_its_reason(tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    maker = ExampleMaker(workloads.DyingScenes(made), Dimmed(), True, 1)  # type: ignore[arg-type]
    with pytest.raises(DeviceError, match="synthetic example 3 was killed: out of memory"):
        fit(SiameseTrainer(CONFIG), maker, tmp_path / "run", Reporter(silent=True))
    assert not multiprocessing.active_children()


def test_a_damaged_example_is_made_again_and_others_are_not(tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    config = replace(CONFIG, pool=3)
    maker = ExampleMaker(workloads.NotedScenes(made), Dimmed(), True)  # type: ignore[arg-type]
    first = ExamplePool(maker, config, tmp_path / "pool").at(0, Interruption())
    (tmp_path / "pool" / "000001.npz").write_bytes(b"damaged")
    again = ExamplePool(maker, config, tmp_path / "pool").at(0, Interruption())
    assert first is not None
    assert again is not None
    for one, other in zip(first, again, strict=True):
        assert all(np.array_equal(part, vars(other)[name]) for name, part in vars(one).items())
    numbers = [int(path.name.split()[0]) for path in made.iterdir()]
    assert sorted(numbers) == [0, 1, 1, 2]


def test_a_score_network_is_judged_by_the_mean_over_examples_with_a_lesion(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large lesion that is found does not make up for a small one that is missed; a healthy brain does not count."""
    monkeypatch.setattr(score_network, "siamese_score", lambda _, image, *__: image)
    rng = np.random.default_rng(0)

    def example(size: int, seen: bool) -> Example:
        image, truth = rng.integers(0, 200, (6, 20, 20), dtype=np.uint8), np.zeros((6, 20, 20), dtype=bool)
        truth[2:4, :size, :size] = size > 0
        image[truth] = 255 if seen else 0
        return Example(image, image, truth, np.ones_like(truth), np.arange(6))

    trainer = SiameseTrainer(CONFIG)
    found, missed, healthy = example(15, True), example(2, False), example(0, True)
    assert trainer.auprc([found]) == pytest.approx(1)
    assert trainer.auprc([missed]) < 0.01  # type: ignore[operator]
    assert trainer.auprc([found, missed, healthy]) == pytest.approx(0.5, abs=0.01)
    assert trainer.auprc([healthy]) is None
