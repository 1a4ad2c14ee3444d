"""Training: resumes bit for bit, survives a bad loss, and learns on phantoms."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from uadcli.config import ModelConfig, TrainConfig
from uadcli.console import Reporter
from uadcli.errors import UadError
from uadcli.reconstruction.augment import augment, synthetic_lesions
from uadcli.reconstruction.noise import NoiseBank
from uadcli.run.train import Trainer, fit
from uadcli.run.training_data import SliceSet, from_t1

SETTINGS = TrainConfig(steps=10, batch_size=4, checkpoint_every=5, warmup=2)


@pytest.fixture
def slices() -> SliceSet:
    """Discs of random size and brightness with a darker rim: what a slice is at its simplest."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(96) - 47.5, torch.arange(96) - 47.5, indexing="ij")
    radius = 25 + 15 * torch.rand(40, 1, 1, generator=generator)
    distance = (y**2 + x**2).sqrt() / radius
    image = torch.where(distance < 0.8, 200, torch.where(distance < 1, 120, 0)).to(torch.uint8)
    return SliceSet(image, torch.arange(40) % 2)


def test_ten_steps_are_five_and_five(slices: SliceSet, tiny: ModelConfig, tmp_path: Path) -> None:
    whole = Trainer(tiny, SETTINGS)
    losses = [whole.step(slices) for _ in range(10)]
    half = Trainer(tiny, SETTINGS)
    first = [half.step(slices) for _ in range(5)]
    half.save(tmp_path / "c.pt")
    again = Trainer.load(tmp_path / "c.pt")
    assert first + [again.step(slices) for _ in range(5)] == losses
    for a, b in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(whole.average.parameters(), again.average.parameters(), strict=True):
        assert torch.equal(a, b)


def test_fit_writes_log_and_checkpoint_and_goes_on(slices: SliceSet, tiny: ModelConfig, tmp_path: Path) -> None:
    fit(Trainer(tiny, SETTINGS), slices, slices, tmp_path, Reporter(silent=True))
    assert [line.split(",")[0] for line in (tmp_path / "log.csv").read_text().splitlines()] == ["step", "5", "10"]
    more = Trainer.load(tmp_path / "checkpoint.pt", steps=15)
    fit(more, slices, slices, tmp_path, Reporter(silent=True))
    assert more.done == 15


def test_a_loss_that_is_not_finite_changes_nothing_and_ends_after_ten(
    slices: SliceSet, tiny: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(tiny, SETTINGS)
    before = [p.clone() for p in trainer.model.parameters()]
    monkeypatch.setattr(trainer, "_loss", lambda _: torch.tensor(float("nan")))
    for _ in range(9):
        trainer.step(slices)
    with pytest.raises(UadError, match="not finite"):
        trainer.step(slices)
    assert trainer.bad_steps == 10
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))


def test_a_new_run_begins_with_another_model(tiny: ModelConfig) -> None:
    one, two = Trainer(tiny, SETTINGS), Trainer(tiny, TrainConfig(seed=1))
    two.start_from(one.average)
    for a, b in zip(one.model.parameters(), two.average.parameters(), strict=True):
        assert torch.equal(a, b)
    assert two.done == 0


@pytest.mark.slow
def test_training_lowers_the_validation_loss(slices: SliceSet, tiny: ModelConfig) -> None:
    trainer = Trainer(tiny, TrainConfig(steps=60, batch_size=8, warmup=5, learning_rate=2e-3, ema=0.9))
    before = trainer.validate(slices, 16)
    for _ in range(60):
        trainer.step(slices)
    assert trainer.validate(slices, 16) < 0.5 * before


def test_synthetic_lesions_stay_in_the_brain_and_where_their_weight_is(slices: SliceSet) -> None:
    x = slices.slices[:16].float().div(255)[:, None]
    y, weight = synthetic_lesions(x, NoiseBank(8, 100, 0), torch.Generator().manual_seed(3))
    assert float(weight[x == 0].max()) == 0
    assert torch.equal(y[weight == 0], x[weight == 0])
    assert (weight.flatten(1).max(1).values > 0.5).sum() >= 14
    assert float((y - x).abs()[weight > 0.5].mean()) > 0.05
    assert float(y.min()) >= 0
    assert float(y.max()) <= 1


def test_augmentation_keeps_background_and_range(slices: SliceSet) -> None:
    x = slices.slices[:8].float().div(255)[:, None]
    y = augment(x, torch.Generator().manual_seed(0))
    assert y.shape == x.shape
    assert float(y[..., 0, 0].abs().max()) == 0
    assert 0 <= float(y.min()) <= float(y.max()) <= 1
    assert not torch.equal(x, y)


@pytest.mark.parametrize("kind", ["T2w", "FLAIR"])
def test_made_contrasts_keep_the_physical_order_of_tissues(kind: str) -> None:
    tissue = torch.tensor([0.0, 0.12, 0.5, 0.82]).view(1, 1, 1, 4).repeat(64, 1, 1, 1)
    y = from_t1(tissue, kind, torch.Generator().manual_seed(0)).squeeze().mean(dim=0)
    none, csf, grey, white = y.tolist()
    assert none == 0
    assert grey > white
    assert (csf > grey) if kind == "T2w" else (csf < white)
