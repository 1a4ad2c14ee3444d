"""Masked pretraining: hidden patches stay hidden, statistics are those of what shows, and the encoder takes it over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from uadcli.config import EncoderConfig, ModelConfig, PretrainConfig, TrainConfig, training_preset
from uadcli.console import Reporter
from uadcli.reconstruction.encoder import Encoder
from uadcli.reconstruction.pretraining import MaskedAutoencoder, draw_visible, masked_loss
from uadcli.training import devices
from uadcli.training.encoder import Pretrainer, pretrain
from uadcli.training.examples.slices import SliceSet, Split
from uadcli.training.reconstruction import Trainer

SMALL = EncoderConfig(blocks=(1, 1, 1, 1), width=4, condition=8, norm="group", unshuffle=2)
SETTINGS = PretrainConfig(steps=4, batch_size=4, checkpoint_every=2)


def slices() -> SliceSet:
    generator = torch.Generator().manual_seed(0)
    return SliceSet(torch.randint(0, 255, (8, 96, 96), generator=generator, dtype=torch.uint8), torch.zeros(8))


def test_six_of_nine_patches_are_hidden_in_each_slice() -> None:
    visible = draw_visible(50, 3, 0.65, torch.Generator().manual_seed(0))
    assert visible.shape == (50, 1, 3, 3)
    assert (visible.sum(dim=(1, 2, 3)) == 3).all()
    assert (visible.sum(dim=0) > 0).all()


@pytest.mark.parametrize(("ratio", "hidden"), [(0.0, 1), (0.04, 1), (0.3, 3), (1.0, 8)])
def test_one_patch_is_hidden_and_one_visible_at_least(ratio: float, hidden: int) -> None:
    visible = draw_visible(5, 3, ratio, torch.Generator().manual_seed(0))
    assert ((1 - visible).sum(dim=(1, 2, 3)) == hidden).all()
    assert torch.isfinite(masked_loss(torch.zeros(5, 1, 96, 96), torch.ones(5, 1, 96, 96), visible))


@pytest.mark.parametrize("norm", ["group", "batch"])
@pytest.mark.parametrize("unshuffle", [1, 2])
def test_hidden_pixels_change_nothing_and_visible_ones_do(norm: str, unshuffle: int) -> None:
    torch.manual_seed(0)
    model = MaskedAutoencoder(replace(SMALL, norm=norm, unshuffle=unshuffle))
    x, visible = torch.rand(2, 1, 96, 96), draw_visible(2, 3, 0.65, torch.Generator().manual_seed(0))
    shown = visible.repeat_interleave(32, 2).repeat_interleave(32, 3)
    base = model(x, visible)
    assert base.shape == x.shape
    assert torch.equal(base, model(x * shown + torch.rand_like(x) * (1 - shown), visible))
    assert not torch.equal(base, model(x * (1 - shown) + torch.rand_like(x) * shown, visible))
    for feature in model.pyramid(x, visible):
        side = feature.shape[2] // 3
        hidden = 1 - visible.repeat_interleave(side, 2).repeat_interleave(side, 3)
        assert float((feature.detach() * hidden).abs().max()) == 0


@pytest.mark.parametrize("scale", range(4))
def test_the_decoder_sees_every_scale_of_the_encoder(scale: int) -> None:
    torch.manual_seed(0)
    model = MaskedAutoencoder(SMALL)
    x, visible = torch.rand(2, 1, 96, 96), draw_visible(2, 3, 0.65, torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model(x, visible)
        model.lateral[scale].weight.mul_(2)
        assert not torch.allclose(before, model(x, visible))


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_with_nothing_hidden_it_is_the_encoder_itself(norm: str) -> None:
    torch.manual_seed(0)
    model, encoder = MaskedAutoencoder(replace(SMALL, norm=norm)), Encoder(replace(SMALL, norm=norm))
    encoder.body.load_state_dict(model.body.state_dict())
    x = torch.rand(3, 1, 96, 96)
    dense = encoder.body(torch.nn.functional.pixel_unshuffle(x, 2))
    sparse = model.pyramid(x, torch.ones(3, 1, 3, 3))[-1]
    assert torch.allclose(dense, sparse, atol=1e-4)
    for name, value in encoder.body.state_dict().items():  # the running statistics, too
        assert torch.allclose(value, model.body.state_dict()[name], atol=1e-4), name


def test_the_loss_is_that_of_hidden_patches() -> None:
    x, visible = torch.zeros(1, 1, 6, 6), torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 0, 0]]).view(1, 1, 3, 3)
    reconstructed = torch.zeros_like(x)
    reconstructed[..., :2, :2] = 9
    assert float(masked_loss(reconstructed, x, visible)) == 0
    reconstructed[..., 2:, :] = 2
    assert float(masked_loss(reconstructed, x, visible)) == pytest.approx(4 * 24 / 32)


def test_resuming_after_two_steps_equals_four_steps(tmp_path: Path) -> None:
    whole, half = Pretrainer(SMALL, SETTINGS), Pretrainer(SMALL, SETTINGS)
    losses = [whole.step(slices()) for _ in range(4)]
    first = [half.step(slices()) for _ in range(2)]
    half.save(tmp_path / "last.pt")
    again = Pretrainer.load(tmp_path / "last.pt")
    assert first + [again.step(slices()) for _ in range(2)] == losses
    for a, b in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("warmup", "rates"), [(0, [1e-3, 1e-3, 1e-3]), (2, [5e-4, 1e-3, 1e-3])])
def test_the_rate_is_constant_after_the_warmup(warmup: int, rates: list[float]) -> None:
    trainer, found = Pretrainer(SMALL, replace(SETTINGS, warmup=warmup, learning_rate=1e-3)), list[float]()
    for _ in rates:
        trainer.step(slices())
        found.append(trainer.optimiser.param_groups[0]["lr"])
    assert found == rates


def test_it_learns_and_the_trainer_takes_its_encoder(tmp_path: Path) -> None:
    config = replace(SETTINGS, steps=20, learning_rate=3e-3, checkpoint_every=20)
    before = Pretrainer(SMALL, config).error(slices())
    body = pretrain(SMALL, config, Split(slices(), slices()), tmp_path, Reporter(silent=True), devices.fabric(0))
    assert Pretrainer.load(tmp_path / "last.pt").error(slices()) < 0.7 * before
    trainer = Trainer(ModelConfig(encoder=SMALL, unet=replace(TINY, embedding=16)), TrainConfig())
    trainer.start_encoder(body)
    for model in (trainer.model, trainer.average):
        assert model.encoder is not None
        assert all(torch.equal(value, body[name]) for name, value in model.encoder.body.state_dict().items())


TINY = ModelConfig().unet.__class__(channels=8, multipliers=(1, 1), blocks=1, unshuffle=2, head_channels=8)


def test_only_the_reference_profile_pretrains() -> None:
    assert training_preset("small").pretrain.steps == 0
    assert training_preset("reference").pretrain.steps == 13200
