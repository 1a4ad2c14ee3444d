"""The Siamese score: shapes, symmetry, independence of the batch, training and resuming."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from states import same

from uadcli.config import PreprocessConfig, SiameseConfig
from uadcli.console import Reporter
from uadcli.errors import UadError
from uadcli.scoring.siamese import Runs, SiameseUNet, places, siamese_score, smooth_along_slices, with_neighbours
from uadcli.settings.option import Precision
from uadcli.synthesis.anatomy import Anatomy
from uadcli.training import devices
from uadcli.training.examples.pool import Example, ExampleMaker
from uadcli.training.examples.synthetic import Healthy, SceneMaker, Sources
from uadcli.training.score_network import SiameseTrainer, fit

SMALL = SiameseConfig(channels=(8, 16), batch_size=4, steps=60, warmup=5, learning_rate=3e-3)


@pytest.fixture
def network() -> SiameseUNet:
    torch.manual_seed(0)
    return SiameseUNet(SMALL)


def stacks() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.random((7, 32, 32), dtype=np.float32), rng.random((7, 32, 32), dtype=np.float32)


def test_a_probability_for_every_pixel_of_the_chosen_slices(network: SiameseUNet) -> None:
    slices, recon = stacks()
    result = siamese_score(network, slices, recon, np.array([1, 2, 5]))
    assert result.shape == slices.shape
    assert not result[[0, 3, 4, 6]].any()
    assert (result[[1, 2, 5]] > 0).all()
    assert (result[[1, 2, 5]] < 1).all()


def test_a_flip_of_the_scan_flips_the_map(network: SiameseUNet) -> None:
    slices, recon = stacks()
    straight = siamese_score(network, slices, recon, np.arange(7))
    flipped = siamese_score(network, slices[:, :, ::-1].copy(), recon[:, :, ::-1].copy(), np.arange(7))
    assert np.abs(straight - flipped[:, :, ::-1]).max() < 1e-5


@pytest.mark.parametrize("batch", [2, 32])
def test_the_batch_size_does_not_matter(network: SiameseUNet, batch: int) -> None:
    slices, recon = stacks()
    one = siamese_score(network, slices, recon, np.arange(7), Runs(batch=1))
    assert np.abs(one - siamese_score(network, slices, recon, np.arange(7), Runs(batch=batch))).max() < 1e-5


def test_bf16_changes_no_more_than_rounding(network: SiameseUNet) -> None:
    slices, recon = stacks()
    wanted, found = (siamese_score(network, slices, recon, np.arange(7), Runs(bf16=on)) for on in (False, True))
    assert 0 < np.abs(found - wanted).max() < 0.01


def test_smoothing_along_slices_keeps_constants_and_damps_single_slices() -> None:
    mask = np.zeros((6, 6, 30), dtype=bool)
    mask[1:5, 1:5, 3:27] = True
    even = np.where(mask, np.float32(0.2), 0)
    assert np.abs(smooth_along_slices(even, mask) - even).max() < 1e-5  # also at the ends of the brain
    alone = np.where(mask, np.float32(0.01), 0)
    alone[2, 2, 15] = 0.9
    smooth = smooth_along_slices(alone, mask)
    assert smooth[2, 2, 15] < 0.1
    assert smooth[2, 2, 15] > smooth[2, 2, 8]
    assert not smooth[~mask].any()
    assert np.array_equal(smooth[3, 3], smooth_along_slices(np.where(mask, np.float32(0.01), 0), mask)[3, 3])
    long = np.where(mask, np.float32(0.01), 0)
    long[2, 2, 8:22] = 0.9
    assert smooth_along_slices(long, mask)[2, 2, 15] > 0.85
    assert smooth_along_slices(long, mask, 0.0) is long  # weights of old were calibrated so


def test_both_inputs_count(network: SiameseUNet) -> None:
    slices, recon = stacks()
    base = siamese_score(network, slices, recon, np.arange(7))
    assert np.abs(base - siamese_score(network, slices, slices, np.arange(7))).max() > 1e-3
    assert np.abs(base - siamese_score(network, recon, recon, np.arange(7))).max() > 1e-3


def test_the_other_hemisphere_counts(network: SiameseUNet) -> None:
    """A change on the right reaches the logits on the left, beyond the network's field of view."""
    torch.manual_seed(0)
    parts = torch.rand(1, 3, 128, 128), torch.rand(1, 3, 128, 128), torch.zeros(1, 3, 64, 64)
    changed = parts[0].clone()
    changed[..., -8:] = torch.rand(1, 3, 128, 8)  # other values of the same kind: the group norms hardly notice
    blind = SiameseUNet(replace(SMALL, mirror=False))
    with torch.inference_mode():
        left = [net(*parts)[..., :8] - net(changed, *parts[1:])[..., :8] for net in (network.eval(), blind.eval())]
    seen, unseen = (float(d.abs().max()) for d in left)
    assert seen > 10 * unseen


def test_a_network_without_mirror_image_hands_on_what_it_knows() -> None:
    old = SiameseUNet(replace(SMALL, mirror=False))
    trainer = SiameseTrainer(SMALL)
    trainer.start_from(old)
    parts = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32), torch.rand(2, 3, 16, 16)
    assert torch.allclose(trainer.average(*parts), old.eval()(*parts), atol=1e-5)


def test_neighbours_repeat_at_the_ends_and_places_span_the_template() -> None:
    stack = np.arange(4, dtype=np.float32)[:, None, None] * np.ones((1, 2, 2), dtype=np.float32)
    assert with_neighbours(stack, np.array([0, 2, 3]))[:, :, 0, 0].tolist() == [[0, 0, 1], [1, 2, 3], [2, 3, 3]]
    place = places(np.array([0, 3]), (4, 8, 8))
    assert place.shape == (2, 3, 4, 4)
    assert np.array_equal(place[:, 0], place[:, 0, :, ::-1])
    assert place[0, 2, 0, 0] == -1
    assert place[1, 2, 0, 0] == 1


def bright_spots() -> list[Example]:
    """Grey discs with a bright square, whose reconstruction lacks it."""
    rng, pool = np.random.default_rng(0), []
    y, x = np.indices((32, 32))
    disc = (x - 16) ** 2 + (y - 16) ** 2 < 150
    for _ in range(6):
        truth = np.zeros((5, 32, 32), dtype=bool)
        row, column = rng.integers(8, 20, 2)
        truth[:, row : row + 5, column : column + 5] = True
        healthy = np.broadcast_to(np.where(disc, 120, 0), truth.shape).astype(np.uint8)
        image = np.where(truth, 200, healthy).astype(np.uint8)
        pool.append(Example(image, healthy, truth, np.broadcast_to(disc, truth.shape) | truth, np.arange(5)))
    return pool


def test_training_learns_to_find_what_was_pasted() -> None:
    trainer, pool, rng = SiameseTrainer(SMALL), bright_spots(), np.random.default_rng(1)
    for _ in range(60):
        trainer.step(pool, rng)
    one = pool[0]
    result = siamese_score(trainer.model, one.image / np.float32(255), one.recon / np.float32(255), np.arange(5))
    assert result[one.truth].mean() > 3 * result[one.brain & ~one.truth].mean()


def arithmetic(trainer: SiameseTrainer) -> set[torch.dtype]:
    """The arithmetic of the convolutions in one step."""
    seen = set()
    for layer in trainer.model.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(lambda _, __, output: seen.add(output.dtype))
    trainer.step(bright_spots(), np.random.default_rng(1))
    return seen


@pytest.mark.parametrize("setting", [False, True])
@pytest.mark.parametrize("option", ["float32", "bf16"])
def test_it_learns_in_bf16_if_the_setting_of_the_run_or_the_option_says_so(
    tmp_path: Path, setting: bool, option: Precision
) -> None:
    where = devices.fabric(0, precision=option)
    wanted = torch.bfloat16 if setting or option == "bf16" else torch.float32
    begun = SiameseTrainer(replace(SMALL, bf16=setting))
    begun.place(where)
    begun.save(tmp_path / "last.pt")
    assert arithmetic(begun) == arithmetic(SiameseTrainer.load(tmp_path / "last.pt", where)) == {wanted}


def test_examples_are_of_the_contrasts_asked_for() -> None:
    mask = np.ones((8, 8, 4), dtype=bool)
    white = np.arange(8)[:, None, None] < mask * 4
    anatomy = Anatomy(white, ~white, ~mask, ~mask)
    data = np.where(white, 0.8, 0.5).astype(np.float32)
    scans = [Healthy(data, mask, np.arange(4), kind, anatomy) for kind in ("T1w", "FLAIR")]
    rng = np.random.default_rng(0)
    labels = np.zeros((48, 48, 16), dtype=np.int16)
    labels[4:44, 4:44, 4:12] = 2  # white matter

    def kinds(*contrasts: str) -> set[str]:
        maker = SceneMaker(Sources(scans, [labels], contrasts), PreprocessConfig(), 0)
        return {maker._healthy(rng).kind for _ in range(30)}

    assert kinds("T1w") == {"T1w"}
    assert kinds("FLAIR", "T2w") == {"FLAIR", "T2w"}
    assert kinds("T1w", "FLAIR", "T2w") == {"T1w", "FLAIR", "T2w"}


def test_scan_reconstruction_lesion_and_brain_of_a_batch_are_mirrored_together() -> None:
    """Of a case whose lesion and brain are on one side, where the scan is bright."""
    truth, brain = np.zeros((3, 32, 32), bool), np.zeros((3, 32, 32), bool)
    truth[:, 10:14, 4:8] = brain[:, :, :16] = True
    image, recon = (255 * truth).astype(np.uint8), np.where(brain, 120, 0).astype(np.uint8)
    case, trainer, sides = Example(image, recon, truth, brain, np.arange(3)), SiameseTrainer(SMALL), set()
    for seed in range(8):
        scan, residual, _, lesion, inside = trainer.batch([case], np.random.default_rng(seed))
        assert torch.equal(scan[:, 1:2] > 0.6, lesion > 0)
        assert torch.equal((scan - residual)[:, 1:2] > 0.2, inside > 0)
        sides.add(bool(lesion[..., :16].any()))
    assert sides == {True, False}


class Spots(ExampleMaker):
    """Stands for the maker of examples: the spots above, and which numbers were asked for."""

    def __init__(self) -> None:
        self.spots, self.made, self.workers = bright_spots(), list[int](), 0

    def draw(self, number: int) -> Example:
        self.made.append(number)
        return self.spots[number % len(self.spots)]


GOES_ON = replace(SMALL, steps=10, checkpoint_every=5, pool=4, draws=0.05)


def test_resuming_after_five_steps_equals_ten_steps(tmp_path: Path) -> None:
    """Examples come and go on the way: 0.05 draws of 60 slices are used up by a batch of 4 in less than a step."""
    whole = SiameseTrainer(GOES_ON)
    fit(whole, Spots(), tmp_path / "whole", Reporter(silent=True))
    first, second = Spots(), Spots()
    with pytest.raises(KeyboardInterrupt):
        fit(Stops(GOES_ON, 5), first, tmp_path / "parts", Reporter(silent=True))
    parts = SiameseTrainer.load(tmp_path / "parts" / "last.pt")
    assert parts.done == 5
    fit(parts, second, tmp_path / "parts", Reporter(silent=True))
    assert max(first.made) > 4
    assert not set(first.made) & set(second.made)  # what was made before is read again
    assert same(whole.state(), parts.state())
    assert same(whole.model.state_dict(), parts.model.state_dict())
    assert same(whole.average.state_dict(), parts.average.state_dict())
    assert not (tmp_path / "parts" / "pool").exists()


class Stops(SiameseTrainer):
    """Is told to stop, as by Ctrl-C, in its n-th step."""

    def __init__(self, config: SiameseConfig, at: int) -> None:
        super().__init__(config)
        self.at = at

    def step(self, pool: list[Example], rng: np.random.Generator) -> float:
        if self.done == self.at - 1:
            signal.raise_signal(signal.SIGINT)
        return super().step(pool, rng)


def test_a_loss_that_is_not_finite_changes_nothing_and_ends_after_ten(tmp_path: Path) -> None:
    maker = Spots()
    maker.spots = [replace(one, truth=one.truth * np.float32("nan")) for one in maker.spots]
    trainer = SiameseTrainer(GOES_ON)
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    with pytest.raises(UadError, match="not finite"):
        fit(trainer, maker, tmp_path, Reporter(silent=True))
    kept = SiameseTrainer.load(tmp_path / "last.pt")
    assert same(before, kept.model.state_dict())
    assert (kept.done, kept.skipped, kept.bad_steps) == (10, 10, 0)
