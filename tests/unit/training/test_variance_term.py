"""The variance term in the loss of the score network: 0 where slices are equally hard, otherwise on the hardest."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from uadcli.config import SiameseConfig
from uadcli.training.score_network import loss

PLAIN, VARIANCE = SiameseConfig(dice_weight=0.0), SiameseConfig(dice_weight=0.0, variance_weight=2.0)
SHAPE = (3, 1, 6, 5)


def batch(*levels: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits that are the same all over a slice, no lesion, and a brain of half of each slice."""
    logits = torch.tensor(levels).view(-1, 1, 1, 1).expand(SHAPE).clone().requires_grad_()
    brain = torch.zeros(SHAPE)
    brain[:, :, :3] = 1
    return logits, torch.zeros(SHAPE), brain


def test_it_is_the_variance_of_the_slices() -> None:
    logits, truth, brain = batch(-1.0, 0.5, 2.0)
    each = F.softplus(torch.tensor([-1.0, 0.5, 2.0]))
    assert float(loss(logits, truth, brain, PLAIN).detach()) == pytest.approx(float(each.mean()))
    expected = float(each.mean() + 2 * each.var(correction=0))
    assert float(loss(logits, truth, brain, VARIANCE).detach()) == pytest.approx(expected)


def test_slices_that_are_equally_hard_have_none() -> None:
    alike = batch(0.7, 0.7, 0.7)
    assert float(loss(*alike, VARIANCE).detach()) == pytest.approx(float(loss(*alike, PLAIN).detach()))


def test_the_hardest_slice_pulls_harder_than_without_it() -> None:
    pull = []
    for config in (PLAIN, VARIANCE):
        logits, truth, brain = batch(-1.0, 0.0, 2.0)
        loss(logits, truth, brain, config).backward()
        assert logits.grad is not None
        pull.append(logits.grad.sum(dim=(1, 2, 3)))
    assert pull[1][2] > pull[0][2]
    assert pull[1][0] < pull[0][0]


def test_a_slice_without_brain_has_no_loss_and_breaks_nothing() -> None:
    logits, truth, brain = batch(-1.0, 0.0, 2.0)
    brain[0] = 0
    assert torch.isfinite(loss(logits, truth, brain, VARIANCE))
