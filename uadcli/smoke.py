"""`uad train --smoke`: every step from scans to weights, once, on brains made from the template, in under 2 min."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uadcli.calibration import calibrate
from uadcli.calibration.export import export
from uadcli.config import (
    DetectConfig,
    EncoderConfig,
    ModelConfig,
    PreprocessConfig,
    PretrainConfig,
    ReconstructionConfig,
    SiameseConfig,
    TrainConfig,
    TrainingConfig,
    UNetConfig,
)
from uadcli.console import Reporter
from uadcli.contrasts import T1W
from uadcli.imaging import template
from uadcli.scoring.fusion import FISHER, PARTS
from uadcli.settings.training import CalibrationMachine, Fitted, Machine
from uadcli.training import train

if TYPE_CHECKING:
    from uadcli.weights.weights import Weights

SCANS, HEALTHY = 2, 2  # to train and to validate on, and to calibrate with (each is compared with the other)
STEPS = 4
KINDS = ("absolute", *PARTS[T1W.name])  # the other scores are calibrated in the same way


def settings() -> TrainingConfig:
    """A model of a few thousand parameters and a few steps of each training; the scans have no skull to strip."""
    return TrainingConfig(
        preprocess=PreprocessConfig(strip="none"),
        model=ModelConfig(
            unet=UNetConfig(channels=8, multipliers=(1, 1), blocks=1, unshuffle=2, head_channels=8, embedding=16),
            encoder=EncoderConfig(blocks=(1, 1), width=8, condition=16, norm="group", unshuffle=2),
        ),
        pretrain=PretrainConfig(steps=2, batch_size=4, checkpoint_every=2),
        train=TrainConfig(steps=STEPS, batch_size=4, warmup=2, checkpoint_every=2),
        siamese=SiameseConfig(channels=(8, 16), steps=STEPS, batch_size=4, warmup=2, pool=2, checkpoint_every=2),
    )


def smoke(folder: Path, *, workers: int, reporter: Reporter) -> str:
    """Make scans, train both networks on them, calibrate, export, load the export and use it once.

    Everything is written below `folder`, which must be empty. Returns a line for each step; raises the `UadError` of
    the step that failed.
    """
    from uadcli.weights import weights

    data, healthy = _heads(folder / "scans", SCANS, 1), _heads(folder / "healthy", HEALTHY, 2)
    run, exported = folder / "run", folder / "smoke"
    train.train(data, run, settings(), machine=Machine(workers), reporter=reporter)
    calibrate.calibrate(run, healthy, machine=CalibrationMachine(workers), reporter=reporter, fitted=Fitted(KINDS))
    file = export(run, exported, overwrite=False, reporter=reporter)
    loaded = weights.load(*weights.find(str(exported)))
    score_steps = (loaded.card.siamese or {}).get("steps")
    threshold, highest = loaded.card.thresholds[FISHER][T1W.name], _use(loaded)
    lines = [
        f"made {SCANS + HEALTHY} scans from the template and prepared them",
        f"trained the reconstruction for {loaded.card.steps} steps and the score for {score_steps}",
        f"calibrated: threshold {threshold:.4f} of the score {FISHER}, on {HEALTHY} scans",
        f"exported {file.name}, {file.stat().st_size / 1e3:.0f} kB, and loaded it again",
        f"used it on one brain: scores up to {highest:.4f}",
    ]
    return "\n".join(lines)


def _heads(folder: Path, count: int, seed: int) -> Path:
    """Brains at 2 mm, made from the template, with slightly different size, contrast and noise."""
    import nibabel as nib

    source, rng = template.brain(), np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for i in range(count):
        tone = (source.data / source.data.max()) ** rng.uniform(0.9, 1.1)
        data = np.where(source.data > 0, np.clip(tone * 1000 + rng.normal(0, 5, tone.shape), 1, None), 0)
        affine = source.affine @ np.diag([*rng.uniform(0.92, 1.0, 3), 1.0])
        image: Any = nib.Nifti1Image(data.astype(np.int16), affine)
        image.header.set_xyzt_units("mm", "sec")
        image.to_filename(folder / f"sub-{seed}{i}_{T1W.name}.nii.gz")
    return folder


def _use(loaded: Weights) -> float:
    """The highest score in the template's brain, after checking that scores are in their valid range."""
    from uadcli.errors import WeightsError
    from uadcli.imaging import intensity
    from uadcli.model.model import Model
    from uadcli.model.subject import Subject

    config, mask = (
        DetectConfig(reconstruction=ReconstructionConfig(levels=(500,))),
        template.on_grid("mni_brain_mask") > 0,
    )
    head = template.on_grid("mni_head_T1w", 1)
    x = intensity.scale(head, mask, config.preprocess)
    subject = Subject.of(Model(loaded), x, mask, config, T1W.name, head)
    found = {name: subject.score(name) for name in ("siamese", FISHER)}
    for name, values in found.items():
        if not (np.isfinite(values).all() and 0 <= values.min() < values.max()) or found["siamese"].max() > 1:
            raise WeightsError(f"computes invalid scores {name!r}", path=loaded.path, hint="Please report it.")
    return float(found[FISHER].max())
