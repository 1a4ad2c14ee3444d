"""Train the Siamese score of a model that comes along, on synthetic lesions in healthy scans, and continue it.

    python packaging/scripts/train_siamese.py DATA --run runs/siamese --steps 4100
    python packaging/scripts/train_siamese.py DATA --contrasts T1w --weights small-8-t1w --run runs/next \\
        --start-from weights/small-8-t1w.safetensors --steps 4000

Healthy volumes: IXI T1w (train part), T2w and FLAIR made from them, tumour-free slices of the TCGA-LGG train patients,
and all three contrasts made from head label maps; of these the --contrasts alone. No real lesion and no real lesion
shape takes part.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from scenes import reconstruction_of

from uadcli.config import CONTRASTS, PreprocessConfig, SiameseConfig
from uadcli.console import Reporter
from uadcli.reconstruction import weights
from uadcli.run import checkpoint
from uadcli.run.development import cases
from uadcli.run.examples import ExampleMaker, load_healthy, load_labels
from uadcli.run.score import siamese_network
from uadcli.run.siamese import SiameseTrainer, fit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", help="name or file of the reconstructing model")
    parser.add_argument("--reconstruction", type=Path, help="checkpoint or weight file whose network does it instead")
    parser.add_argument("--start-from", type=Path, help="a weight file whose score network a new run begins with")
    parser.add_argument("--run", type=Path, default=Path("runs/siamese"))
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    parser.add_argument("--steps", type=int, default=SiameseConfig().steps)
    parser.add_argument("--seed", type=int, default=SiameseConfig().seed, help="another one shows it other examples")
    parser.add_argument("--learning-rate", type=float, default=SiameseConfig().learning_rate)
    parser.add_argument("--contrasts", nargs="+", choices=CONTRASTS, default=CONTRASTS)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    reporter = Reporter()
    train = [c for c in cases(arguments.data) if c.part == "train"]
    healthy = load_healthy(train, arguments.cache, PreprocessConfig())
    labels = load_labels(sorted((arguments.data / "labelmaps").glob("*_dseg.nii.gz")), arguments.cache)
    reporter.info(f"{len(healthy)} healthy volumes, {len(labels)} label maps")
    found_before = checkpoint.find(arguments.run)
    if found_before:
        trainer = SiameseTrainer.load(found_before, steps=arguments.steps)
        reporter.info(f"goes on from step {trainer.done}")
    else:
        settings = SiameseConfig(steps=arguments.steps, seed=arguments.seed, learning_rate=arguments.learning_rate)
        trainer = SiameseTrainer(settings)
        if arguments.start_from:
            trainer.start_from(siamese_network(weights.load(arguments.start_from)))
    model = weights.load(*weights.find(arguments.weights, arguments.contrasts[0]))
    if other := set(arguments.contrasts) - set(model.card.contrasts):
        parser.error(f"{model.card.name} does not rebuild {', '.join(sorted(other))}: name another with --weights")
    if arguments.reconstruction:
        model = replace(model, model=reconstruction_of(arguments.reconstruction)[0])
    maker = ExampleMaker(healthy, labels, model, trainer.config.seed, contrasts=arguments.contrasts)
    fit(trainer, maker, arguments.run, reporter)


if __name__ == "__main__":
    main()
