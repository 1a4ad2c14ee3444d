"""What is slow in a detection or a training, replaced by stand-ins that take milliseconds and leave pauses."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import cohort
import numpy as np
import pytest
import torch
from stand import Stand

from uadcli.config import (
    PreprocessConfig,
    PretrainConfig,
    SiameseConfig,
    TrainConfig,
    TrainingConfig,
    to_toml,
)
from uadcli.model.model import Model
from uadcli.training import log
from uadcli.training.examples import pasted_lesions, slices, synthetic
from uadcli.training.examples.pool import Example, ExampleMaker
from uadcli.training.loop import Validation
from uadcli.training.reconstruction import Trainer
from uadcli.training.score_network import SiameseTrainer

PAUSE_SECONDS = 0.005
SETTINGS = TrainingConfig(
    preprocess=PreprocessConfig(strip="none"),
    model=cohort.TINY,
    pretrain=PretrainConfig(steps=1, batch_size=2, warmup=1, checkpoint_every=1),
    train=TrainConfig(steps=3, batch_size=2, warmup=1, checkpoint_every=1),
    siamese=SiameseConfig(
        channels=(8, 8), mirror=False, batch_size=2, steps=2, warmup=1, pool=2, draws=1.0, checkpoint_every=1
    ),
)


class SlowStand(Stand):
    """The stand-in of a detection, with pauses in which a signal finds it."""

    def finish(self, *given: Any, **more: Any) -> Any:
        time.sleep(2 * PAUSE_SECONDS)
        result = super().finish(*given, **more)
        time.sleep(PAUSE_SECONDS)
        return result


def training(folder: Path, patch: pytest.MonkeyPatch) -> list[str]:
    """Let a whole `uad train` take a fraction of a second; returns its arguments but for the run's folder.

    Networks, steps, checkpoints, log, pictures and all files are real; scans, lesions and validations are made up.
    """
    made, _ = cohort.cohort(folder / "own", dict.fromkeys("abc", False), {"c": "val"})
    (folder / "run.toml").write_text(to_toml(SETTINGS))
    cohort.as_they_are(patch)
    patch.setattr(Model, "reconstruct", lambda _, x, *rest: (0.9 * x).astype(np.float32))
    patch.setattr(ExampleMaker, "draw", lambda _, number: _example(number))
    patch.setattr(slices, "load_slices", lambda *_: _slices())
    patch.setattr(synthetic, "load_healthy", lambda *_: [])
    patch.setattr(pasted_lesions, "lesion_set", lambda *_: None)
    patch.setattr(log, "_tensorboard", lambda _: None)
    patch.setattr(Trainer, "validate", lambda self, *_: Validation(1 / self.done, (0.5, 0.7, 0.6)[self.done - 1]))
    patch.setattr(Trainer, "sheet", lambda *_: np.full((9, 12), 100, dtype=np.uint8))
    patch.setattr(SiameseTrainer, "auprc", lambda self, _: (0.5, 0.7, 0.6)[self.done - 1])
    real = Trainer.step

    def step(self: Trainer, data: Any) -> float:
        time.sleep(PAUSE_SECONDS)
        return real(self, data)

    patch.setattr(Trainer, "step", step)
    return ["train", str(made), "--config", str(folder / "run.toml"), "--workers", "0"]


def _example(number: int) -> Example:
    rng = np.random.default_rng(number)
    image = rng.integers(1, 255, (4, 32, 32), dtype=np.uint8)
    truth = rng.random(image.shape) < 0.1
    return Example(image, image // 2, truth, np.ones(image.shape, dtype=bool), np.arange(4))


def _slices() -> slices.SliceSet:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 255, (6, 96, 96), generator=generator, dtype=torch.uint8)
    return slices.SliceSet(images, torch.zeros(6, dtype=torch.long))
