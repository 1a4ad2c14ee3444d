"""What the trainings of reconstruction and score share: learning rate, moving average, and whole files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import nn


def learning_rate(done: int, steps: int, warmup: int) -> float:
    """The factor of the learning rate: warm-up, then half a cosine down to 2 % at the last step."""
    if done < warmup:
        return (done + 1) / warmup
    part = min((done - warmup) / max(steps - warmup, 1), 1.0)
    return 0.02 + 0.98 * (1 + math.cos(math.pi * part)) / 2


@torch.no_grad()
def move_average(average: nn.Module, model: nn.Module, ema: float, done: int) -> None:
    """Move the parameters of `average` towards those of `model` after `done` steps, faster in the first ones."""
    decay = min(ema, (1 + done) / (10 + done))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)


def write(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint to a temporary name first."""
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)
