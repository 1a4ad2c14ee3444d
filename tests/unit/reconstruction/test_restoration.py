"""The loss in anomalies: as heavy as the rest of the slice at any size, and lower the better they are removed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from uadcli.config import ModelConfig, TrainConfig
from uadcli.reconstruction.noise import NoiseBank
from uadcli.reconstruction.reconstructors import BY_NAME, build, for_method
from uadcli.reconstruction.restoration import emphasis, loss, refinement

ADAPTIVE = TrainConfig(adaptive_weight=True)
SIDE = 32


def anomaly(*sides: int) -> Tensor:
    """Weights (B, 1, 32, 32) of square anomalies."""
    weight = torch.zeros(len(sides), 1, SIDE, SIDE)
    for one, side in zip(weight, sides, strict=True):
        one[0, 4 : 4 + side, 6 : 6 + side] = 1
    return weight


def test_an_anomaly_weighs_as_much_as_the_rest_whatever_its_size() -> None:
    weight = anomaly(1, 2, 8, 24)
    found = emphasis(weight, ADAPTIVE)
    inside, outside = ((found * part).sum(dim=(1, 2, 3)) for part in (weight, 1 - weight))
    assert torch.allclose(inside, outside, rtol=1e-4)
    assert torch.allclose(found.mean(dim=(1, 2, 3)), torch.ones(4), rtol=1e-4)
    each = [float(one[part > 0].mean()) for one, part in zip(found, weight, strict=True)]
    assert each == sorted(each, reverse=True)  # a pixel of a small anomaly weighs more


def test_slices_without_anomaly_and_all_of_one_weigh_the_same_everywhere() -> None:
    assert torch.equal(emphasis(anomaly(0), ADAPTIVE), torch.ones(1, 1, SIDE, SIDE))
    assert torch.equal(emphasis(torch.ones(1, 1, SIDE, SIDE), ADAPTIVE), torch.ones(1, 1, SIDE, SIDE))
    assert torch.equal(emphasis(anomaly(3), TrainConfig(lesion_weight=4.0)), 1 + 4 * anomaly(3))


def test_the_refinement_is_low_where_the_residual_shows_the_anomaly() -> None:
    weight = anomaly(6, 0)
    shown, hidden = refinement(weight, weight), refinement(0 * weight, weight)
    everywhere = refinement(torch.ones_like(weight), weight)
    assert shown < 0.01
    assert hidden > 0.95
    assert shown < everywhere < hidden
    assert refinement(torch.rand(2, 1, SIDE, SIDE), anomaly(0, 0)) == 0


def test_the_refinement_leads_away_from_a_copied_anomaly() -> None:
    """At a prediction between the slice with its anomaly and without, a step down the loss removes more of it."""
    weight, clean = anomaly(6), torch.full((1, 1, SIDE, SIDE), 0.4)
    x = clean + 0.3 * weight
    predicted = ((x + clean) / 2).requires_grad_()
    config = TrainConfig(lesion_weight=0.0, refinement=1.0)
    plain = loss(predicted, clean, x, weight, TrainConfig(lesion_weight=0.0))
    assert loss(predicted, clean, x, weight, config) > plain
    (by_both,) = torch.autograd.grad(loss(predicted, clean, x, weight, config), predicted)
    (by_one,) = torch.autograd.grad(plain, predicted)
    assert (by_both[weight > 0] > by_one[weight > 0]).all()  # the prediction is too bright there


def test_a_region_is_all_that_counts() -> None:
    weight, region = anomaly(6), torch.zeros(1, 1, SIDE, SIDE, dtype=torch.bool)
    region[..., :16] = True
    clean = torch.rand(1, 1, SIDE, SIDE)
    x, predicted = clean + 0.3 * weight, torch.rand(1, 1, SIDE, SIDE)
    config = TrainConfig(refinement=0.5)
    other = torch.where(region, predicted, 1 - predicted)
    assert loss(predicted, clean, x, weight, config, region) == loss(other, clean, x, weight, config, region)
    assert loss(predicted, clean, x, weight, config) != loss(other, clean, x, weight, config)


@pytest.mark.parametrize("method", ["cddpm", "pddpm", "maediff", "synomaly"])
def test_every_method_with_anomalies_trains_with_both(method: str, tiny: ModelConfig) -> None:
    torch.manual_seed(0)
    model, clean, bank = build(for_method(tiny, method)), torch.rand(4, 1, 96, 96), NoiseBank(4, 110, 0)
    found = []
    for config in (TrainConfig(), ADAPTIVE, TrainConfig(adaptive_weight=True, refinement=0.2)):
        found.append(BY_NAME[method].loss(model, clean, bank, torch.Generator().manual_seed(1), config))
    assert len({float(one.detach()) for one in found}) == 3
    found[-1].backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
