"""One network for all contrasts, or one each: a trial.

    python packaging/scripts/trial_contrasts.py DATA --weights FILE --steps 300

From the same weights, of one network for all contrasts, the reconstruction is trained on for the same number of steps
with all contrasts, with T1w alone, and with FLAIR alone (real and made from T1w). For each: mean AUPRC over the glioma
dev cases, on the model's grid, of the residual (absolute for T1w, bright for FLAIR; post-processed) and of the default
score of the weights, whose network stays as it is.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from uadcli.config import CONTRASTS, DetectConfig, PreprocessConfig, TrainConfig
from uadcli.reconstruction import weights
from uadcli.run.development import cases
from uadcli.run.prepare import prepare_cached
from uadcli.run.score import reconstruct, scores
from uadcli.run.train import Trainer
from uadcli.run.training_data import lesions_on_grid, load_slices
from uadcli.scoring.metrics import average_precision

SCORES = {"T1w": "absolute", "FLAIR": "bright"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", required=True, help="a model that covers T1w and FLAIR")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    arguments = parser.parse_args()
    found, config = cases(arguments.data), DetectConfig()
    start = weights.load(*weights.find(arguments.weights))
    everything = load_slices([c for c in found if c.part == "train"], arguments.cache, PreprocessConfig())
    for name, seen in (
        ("not trained on", ()),
        ("all contrasts", CONTRASTS),
        ("T1w alone", ("T1w",)),
        ("FLAIR alone", ("FLAIR",)),
    ):
        model = start.model
        if seen:
            trainer = Trainer(model.config, TrainConfig(steps=arguments.steps, learning_rate=2e-4, ema=0.98))
            trainer.start_from(model)
            slices = everything.only(seen)
            for _ in range(arguments.steps):
                trainer.step(slices)
            model = trainer.average
        loaded = replace(start, model=model)
        for contrast in [c for c in SCORES if c in (seen or SCORES)]:
            kinds = (SCORES[contrast], start.card.scores[contrast])
            values: dict[str, list[float]] = {kind: [] for kind in kinds}
            for case in (c for c in found if c.part == "dev" and c.source == "tcga_lgg" and c.contrast == contrast):
                prepared = prepare_cached(case.scan, config.preprocess, arguments.cache)
                x, truth = prepared.scaled(config.preprocess), lesions_on_grid(case, prepared)
                recon = reconstruct(loaded, x, prepared.mask, config.reconstruction)
                for kind, score in scores(loaded, x, recon, prepared.mask, kinds, config).items():
                    values[kind].append(average_precision(score, truth))
            for kind in kinds:
                mean, count = np.mean(values[kind]), len(values[kind])
                print(f"{name}\t{contrast} {kind}\tAUPRC {mean:.3f}\t{count} scans", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
