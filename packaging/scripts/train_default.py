"""Train a model that comes along, on the development data, and continue it.

    python packaging/scripts/train_default.py DATA --run runs/default --steps 2600
    python packaging/scripts/train_default.py DATA --run runs/default --steps 6000      # goes on from the checkpoint
    python packaging/scripts/train_default.py DATA --contrasts T1w --run runs/next \\
        --start-from weights/small-8-t1w.safetensors --steps 6000

IXI T1w (train part), tumour-free slices of the TCGA-LGG train patients (FLAIR), and T2w and FLAIR made from the T1w
slices; one network for all, or for the --contrasts alone. Scans are prepared once and kept in --cache.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from uadcli.config import CONTRASTS, PreprocessConfig, TrainConfig, preset
from uadcli.console import Reporter
from uadcli.reconstruction import weights
from uadcli.run import checkpoint
from uadcli.run.development import cases
from uadcli.run.train import Trainer, fit
from uadcli.run.training_data import load_slices


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--run", type=Path, default=Path("runs/default"))
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    parser.add_argument("--steps", type=int, default=TrainConfig().steps)
    parser.add_argument("--start-from", type=Path, help="a weight file whose network a new run begins with")
    parser.add_argument("--contrasts", nargs="+", choices=CONTRASTS, default=CONTRASTS)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    reporter = Reporter()
    found = cases(arguments.data)
    train = load_slices([c for c in found if c.part == "train"], arguments.cache, PreprocessConfig())
    train = train.only(arguments.contrasts)
    held_out = [c for c in found if c.part == "val" and c.contrast in arguments.contrasts]
    if not held_out:
        parser.error(f"no healthy {' or '.join(arguments.contrasts)} is held out to validate on")
    validation = load_slices(held_out[:8], arguments.cache, PreprocessConfig())
    flair = int((train.contrast == 1).sum())
    reporter.info(f"{len(train.slices)} training slices ({flair} FLAIR), {len(validation.slices)} for validation")
    found_before = checkpoint.find(arguments.run)
    if found_before:
        trainer = Trainer.load(found_before, steps=arguments.steps)
        reporter.info(f"goes on from step {trainer.done}")
    else:
        trainer = Trainer(preset("small"), TrainConfig(steps=arguments.steps))
        if arguments.start_from:
            trainer.start_from(weights.load(arguments.start_from).model.state_dict())
    fit(trainer, train, validation, arguments.run, reporter)


if __name__ == "__main__":
    main()
