"""The first stage of training: the encoder learns to reconstruct hidden patches of healthy slices (method 2.3)."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from uadcli.config import EncoderConfig, PretrainConfig, from_dict, to_dict
from uadcli.console import Reporter
from uadcli.reconstruction.pretraining import MaskedAutoencoder, draw_visible, masked_loss, patches
from uadcli.training import checkpoint, loop
from uadcli.training.examples.slices import SliceSet, Split
from uadcli.training.learner import DrawingLearner, constant_rate

if TYPE_CHECKING:
    from lightning_fabric import Fabric

VALIDATED = 48  # slices


class Pretrainer(DrawingLearner):
    """Body of the encoder, decoder, optimiser and random state; without augmentation, as published."""

    config: PretrainConfig
    model: MaskedAutoencoder
    average: MaskedAutoencoder

    def __init__(self, encoder: EncoderConfig, config: PretrainConfig) -> None:
        torch.manual_seed(config.seed)
        self.config, self.encoder_config, self.clip = config, encoder, config.clip
        self.model = MaskedAutoencoder(encoder)
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=config.learning_rate, weight_decay=0.05, betas=(0.9, 0.95)
        )
        self.generator = torch.Generator().manual_seed(config.seed)

    def step(self, data: SliceSet) -> float:
        """One update on a random batch of slices (N, 96, 96), shared by the processes; returns the loss."""
        with self.here():
            index = data.draw(self.config.batch_size // self.processes, self.generator)
            x = data.batch(index, self.generator)
            side = patches(x.shape[-1], self.average.patch)
            visible = draw_visible(len(x), side, self.config.ratio, self.generator)
            self.model.train()
            return self.descend(masked_loss(self.model(x, visible), x, visible))

    def rate(self) -> float:
        """Constant after the warm-up, of which the published training has none."""
        return constant_rate(self.done, self.config.warmup)

    @torch.inference_mode()
    def error(self, data: SliceSet) -> float:
        """The loss on fixed slices of `data` (N, 96, 96) with fixed masks."""
        x = data.at(data.spread(VALIDATED))
        side = patches(x.shape[-1], self.average.patch)
        visible = draw_visible(len(x), side, self.config.ratio, torch.Generator().manual_seed(1)).to(self.device)
        return float(masked_loss(self.average(x, visible), x, visible))

    def state(self) -> dict[str, Any]:
        """The content of a checkpoint apart from the networks."""
        return {**super().state(), "encoder_config": to_dict(self.encoder_config)}

    @classmethod
    def load(cls, path: Path, fabric: Fabric | None = None, **changes: Any) -> Pretrainer:
        """Load a checkpoint; `changes` override settings."""
        state = checkpoint.read(path)
        with checkpoint.understood(path):
            config = dataclasses.replace(from_dict(PretrainConfig, state["train_config"]), **changes)
            trainer = cls(from_dict(EncoderConfig, state["encoder_config"]), config)
        return trainer.goes_on(state, fabric, path)


def pretrain(
    encoder: EncoderConfig,
    config: PretrainConfig,
    slices: Split,
    folder: Path,
    reporter: Reporter,
    fabric: Fabric,
) -> dict[str, torch.Tensor]:
    """Run or resume the pretraining to its end; returns the parameters of the encoder's body."""
    found = checkpoint.find(folder)
    if found:
        trainer = Pretrainer.load(found, fabric, steps=config.steps, learning_rate=config.learning_rate)
    else:
        trainer = Pretrainer(encoder, config)
        trainer.place(fabric)
    placed = slices.to(trainer.device)
    stage = loop.Stage(
        "encoder",
        trainer,
        folder,
        lambda _: trainer.step(placed.train),
        lambda: loop.Validation(trainer.error(placed.validation)),
    )
    loop.run(stage, reporter)
    return {name: value.detach().cpu().clone() for name, value in trainer.average.body.state_dict().items()}
