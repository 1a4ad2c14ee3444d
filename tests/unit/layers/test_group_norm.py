"""The group norm for bfloat16 on a CPU is torch's own but for rounding, forwards and backwards."""

from __future__ import annotations

import pytest
import torch

from uadcli.layers.group_norm import GroupNorm


def norms(groups: int, channels: int) -> tuple[GroupNorm, torch.nn.GroupNorm]:
    """Ours and torch's, with the same random factors and offsets."""
    own, known = GroupNorm(groups, channels), torch.nn.GroupNorm(groups, channels)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        own.weight.normal_(generator=random)
        own.bias.normal_(generator=random)
    known.load_state_dict(own.state_dict())
    return own, known


def images(channels: int, side: int, mean: float = 0.0) -> torch.Tensor:
    """Channels-last images of random values."""
    x = mean + torch.randn(3, channels, side, side, generator=torch.Generator().manual_seed(0))
    return x.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("groups", "channels", "side"), [(32, 128, 6), (8, 32, 12), (4, 4, 3), (1, 6, 1)])
@pytest.mark.parametrize("mean", [0.0, 30.0])
def test_in_bfloat16_it_is_that_of_float32_but_for_rounding(groups: int, channels: int, side: int, mean: float) -> None:
    own, known = norms(groups, channels)
    x = images(channels, side, mean).bfloat16()
    found, wanted = own(x), known(x.float())
    assert found.dtype is torch.bfloat16
    assert found.shape == x.shape
    spread = x.float().reshape(3, groups, -1).std(dim=2, correction=0).min()
    size = wanted.abs().max() + mean * known.weight.abs().max() / spread  # the mean is subtracted after rounding
    assert (found.float() - wanted).abs().max() <= 2**-7 * size


def test_its_gradients_are_those_of_float32_but_for_rounding() -> None:
    own, known = norms(8, 32)
    x = images(32, 12)
    ours, theirs = x.bfloat16().requires_grad_(), x.clone().requires_grad_()
    factor = images(32, 12).roll(1, 0)
    (own(ours).float() * factor).sum().backward()
    (known(theirs) * factor).sum().backward()
    pairs = ((ours.grad, theirs.grad), (own.weight.grad, known.weight.grad), (own.bias.grad, known.bias.grad))
    for found, wanted in pairs:
        assert found is not None
        assert wanted is not None
        assert (found.float() - wanted).norm() <= 0.01 * wanted.norm()


def test_in_float32_it_is_torch_s_own_bit_for_bit() -> None:
    own, known = norms(8, 32)
    x = images(32, 12)
    assert torch.equal(own(x), known(x))


def test_neither_the_memory_layout_nor_the_batch_matters() -> None:
    own, _ = norms(8, 32)
    x = images(32, 12).bfloat16()
    whole = own(x)
    assert torch.equal(own(x.contiguous()), whole)
    assert torch.equal(torch.cat([own(one[None]) for one in x]), whole)
