"""What tests of reconstructions share."""

from __future__ import annotations

import dataclasses
from typing import cast

import pytest
import torch

from uadcli.config import ModelConfig
from uadcli.reconstruction.model import ConditionedDiffusion
from uadcli.reconstruction.reconstructors import build


@pytest.fixture
def network(tiny: ModelConfig) -> ConditionedDiffusion:
    """An untrained cDDPM whose last layers, which begin at 0, are random."""
    torch.manual_seed(0)
    made = build(dataclasses.replace(tiny, noise="gaussian"))
    for parameter in made.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return cast(ConditionedDiffusion, made.eval())
