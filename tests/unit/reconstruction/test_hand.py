"""HAND's network and loss: which way each part of the loss pulls."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from uadcli.reconstruction import hand
from uadcli.reconstruction.hand import Hand, Reversed, errors, loss, shrunk


def slices(seed: int, count: int = 4) -> Tensor:
    x = torch.rand((count, 1, hand.SIZE, hand.SIZE), generator=torch.Generator().manual_seed(seed))
    x[:, :, :8] = 0  # outside the brain
    return x


@pytest.fixture
def network() -> Hand:
    torch.manual_seed(0)
    return Hand()


def test_the_gradient_is_reversed_and_the_value_is_not() -> None:
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    y = Reversed.apply(x, 0.25)
    assert torch.equal(y, x)
    (y * torch.tensor([3.0, 5.0])).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [-0.75, -1.25]


@pytest.mark.parametrize("part", ["convolutions", "transformer", "decoder"])
def test_the_loss_pulls_towards_known_slices_and_away_from_unknown_ones(network: Hand, part: str) -> None:
    known, unknown = slices(1), 0.2 * slices(2)  # near enough to 0 to count as reconstructed
    parameters = list(getattr(network, part).parameters())
    for parameter in network.discriminator.parameters():
        parameter.data.zero_()  # leaves the reconstruction alone to act on encoder and decoder

    def gradient(value: Tensor) -> Tensor:
        network.zero_grad()
        value.backward()
        return torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])

    to_know = gradient(errors(network.decode(network.encode(known)), known).mean())
    to_learn_unknown = gradient(errors(network.decode(network.encode(unknown)), unknown).clamp(max=hand.WORST).mean())
    total = gradient(loss(network, known, unknown))
    assert to_learn_unknown.abs().max() > 1e-3
    expected = hand.RECONSTRUCTION * (to_know - hand.REVERSAL * to_learn_unknown)
    assert torch.allclose(total, expected, rtol=1e-4, atol=1e-6)


def test_an_unknown_slice_that_is_not_reconstructed_no_longer_acts(network: Hand) -> None:
    known = slices(1)
    with torch.no_grad():
        network.decoder[-1].bias.fill_(100.0)  # type: ignore[index, union-attr, operator]
    both = [loss(network, known, slices(seed)) for seed in (2, 3)]
    of_decoder = [torch.autograd.grad(one, network.decoder[0][1].weight)[0] for one in both]  # type: ignore[index]
    assert torch.equal(*of_decoder)


def test_the_discriminator_learns_which_slices_are_unknown(network: Hand) -> None:
    known, unknown = 0.3 * slices(1), slices(2)
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3)
    for _ in range(12):
        optimiser.zero_grad()
        loss(network, known, unknown).backward()
        optimiser.step()
    with torch.no_grad():
        assert network(unknown)[1].min() > network(known)[1].max()


def test_errors_are_those_of_the_brain_alone() -> None:
    x = slices(1, 2)
    worse = torch.where(x > 0, x + 0.5, 7.0)
    assert errors(worse, x).tolist() == pytest.approx([0.25, 0.25])
    assert errors(x, torch.zeros_like(x)).tolist() == [0, 0]  # an empty slice


def test_slices_are_halved_by_averaging() -> None:
    x = torch.arange(2 * 96 * 96, dtype=torch.float32).view(2, 96, 96)
    small = shrunk(x)
    assert small.shape == (2, 1, hand.SIZE, hand.SIZE)
    assert small[1, 0, 3, 5] == x[1, 6:8, 10:12].mean()
