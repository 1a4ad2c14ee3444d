"""Training: resumes bit for bit, survives a bad loss, and learns on phantoms."""

from __future__ import annotations

import math
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from uadcli.config import ModelConfig, TrainConfig
from uadcli.console import Reporter
from uadcli.errors import InputError, UadError
from uadcli.reconstruction.augment import augment, synthetic_lesions
from uadcli.reconstruction.noise import NoiseBank, simplex_noise
from uadcli.run import checkpoint
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


def same(a: object, b: object) -> bool:
    """Whether two nested states are equal bit for bit."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_ten_steps_are_five_and_five(slices: SliceSet, tiny: ModelConfig, tmp_path: Path, norm: str) -> None:
    """Weights, average, optimiser, schedule, sampler and random state, bit for bit."""
    model = replace(tiny, encoder=replace(tiny.encoder, norm=norm))
    whole = Trainer(model, SETTINGS)
    losses = [whole.step(slices) for _ in range(10)]
    half = Trainer(model, SETTINGS)
    first = [half.step(slices) for _ in range(5)]
    half.save(tmp_path / "c.pt")
    again = Trainer.load(tmp_path / "c.pt")
    assert first + [again.step(slices) for _ in range(5)] == losses
    assert same(whole.model.state_dict(), again.model.state_dict())
    assert same(whole.average.state_dict(), again.average.state_dict())
    assert same(whole.state(), again.state())
    assert torch.equal(slices.draw(9, whole.generator), slices.draw(9, again.generator))


def test_fit_writes_log_and_checkpoint_and_goes_on(slices: SliceSet, tiny: ModelConfig, tmp_path: Path) -> None:
    fit(Trainer(tiny, SETTINGS), slices, slices, tmp_path, Reporter(silent=True))
    rows = [line.split(",") for line in (tmp_path / "log.csv").read_text().splitlines()]
    assert rows[0] == ["step", "loss", "validation", "slices_per_s", "seconds_left", "skipped"]
    assert [row[0] for row in rows[1:]] == ["5", "10"]
    assert all(float(cell) >= 0 for row in rows[1:] for cell in row)
    more = Trainer.load(tmp_path / "last.pt", steps=15)
    fit(more, slices, slices, tmp_path, Reporter(silent=True))
    assert more.done == 15
    assert [p.name for p in tmp_path.glob("*.safetensors")] == ["last-0000015.safetensors"]


def test_the_tensors_are_safetensors_and_the_state_holds_no_code(
    slices: SliceSet, tiny: ModelConfig, tmp_path: Path
) -> None:
    trainer = Trainer(tiny, SETTINGS)
    trainer.step(slices)
    trainer.save(tmp_path / "last.pt")
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    tensors = load_file(tmp_path / state["tensors"])
    assert {name.split("/")[0] for name in tensors} == {"model", "average"}
    assert "model" not in state


def test_a_checkpoint_of_the_earlier_form_is_read(slices: SliceSet, tiny: ModelConfig, tmp_path: Path) -> None:
    trainer = Trainer(tiny, SETTINGS)
    trainer.step(slices)
    networks = {"model": trainer.model.state_dict(), "average": trainer.average.state_dict()}
    torch.save(trainer.state() | networks, tmp_path / "checkpoint.pt")
    again = Trainer.load(checkpoint.find(tmp_path) or tmp_path)
    assert again.step(slices) == trainer.step(slices)


def test_half_a_checkpoint_is_an_error_of_one_line(tiny: ModelConfig, tmp_path: Path) -> None:
    Trainer(tiny, SETTINGS).save(tmp_path / "last.pt")
    next(tmp_path.glob("*.safetensors")).write_bytes(b"cut")
    with pytest.raises(InputError, match="no whole checkpoint"):
        Trainer.load(tmp_path / "last.pt")


@pytest.mark.parametrize(("sent", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_writes_a_checkpoint_after_the_step_at_hand(
    slices: SliceSet,
    tiny: ModelConfig,
    tmp_path: Path,
    sent: signal.Signals,
    error: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, trainer = Trainer(tiny, SETTINGS), Trainer(tiny, SETTINGS)
    fit(whole, slices, slices, tmp_path / "whole", Reporter(silent=True))
    step = trainer.step

    def interrupted(data: SliceSet) -> float:
        if trainer.done == 6:
            signal.raise_signal(sent)
        return step(data)

    monkeypatch.setattr(trainer, "step", interrupted)
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with pytest.raises(error):
            fit(trainer, slices, slices, tmp_path / "parts", Reporter(silent=True))
    finally:
        signal.signal(signal.SIGTERM, before)
    again = Trainer.load(tmp_path / "parts" / "last.pt")
    assert again.done == 7
    fit(again, slices, slices, tmp_path / "parts", Reporter(silent=True))
    assert same(whole.model.state_dict(), again.model.state_dict())
    assert same(whole.state(), again.state())


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


def test_a_gradient_that_is_not_finite_changes_nothing(
    slices: SliceSet, tiny: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sqrt at 0: the loss is finite, its gradient is not."""
    trainer = Trainer(tiny, SETTINGS)
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    monkeypatch.setattr(trainer, "_loss", lambda _: sum((0 * p).sum() for p in trainer.model.parameters()).sqrt())
    assert math.isnan(trainer.step(slices))
    assert (trainer.skipped, trainer.done) == (1, 1)
    assert same(before, trainer.model.state_dict())


def test_ten_bad_losses_end_the_run_with_the_network_before_them(
    slices: SliceSet, tiny: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(tiny, replace(SETTINGS, steps=50))
    loss = trainer._loss
    monkeypatch.setattr(trainer, "_loss", lambda x: loss(x) * (math.nan if trainer.done in {1, *range(6, 99)} else 1))
    with pytest.raises(UadError, match="not finite"):
        fit(trainer, slices, slices, tmp_path, Reporter(silent=True))
    kept = Trainer.load(tmp_path / "last.pt")
    assert (kept.done, kept.skipped, kept.bad_steps) == (16, 11, 0)
    assert all(bool(p.isfinite().all()) for p in kept.model.parameters())


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


def test_noise_for_training_is_a_window_of_a_map_turned_flipped_and_signed() -> None:
    """Each drawn map is found in the bank, by the sixteen ways of laying it."""
    bank = NoiseBank(2, 8, 0)
    maps = [simplex_noise((8, 8), np.random.SeedSequence([0, i])) for i in range(2)]
    ways = []
    for one in maps:
        for top in range(3):
            for left in range(3):
                window = one[top : top + 6, left : left + 6]
                for k in range(4):
                    turned = np.rot90(window, k)
                    ways += [turned, -turned, turned[:, ::-1], -turned[:, ::-1]]
    drawn = bank.draw(40, (6, 6), torch.Generator().manual_seed(0))[:, 0].numpy()
    found = [min(range(len(ways)), key=lambda i: np.abs(ways[i] - one).max()) for one in drawn]
    assert all(np.array_equal(ways[i], one) for i, one in zip(found, drawn, strict=True))
    assert len(set(found)) > 20
