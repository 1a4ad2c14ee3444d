"""Does the variance term (VAT) help a score network that learns from few labelled patients?

    python packaging/evaluation/few_patients.py DATA [--patients 2,4,8] [--weight 1] [--steps 300] [--seeds 2]

Trains the score network of the bundled FLAIR model further on the first labelled gliomas of the training part, as
`uad train --score siamese --labels` does, once with the plain loss and once with `siamese.variance_weight`, from the
same examples. Prints the pooled AUPRC of the development gliomas in the brain on the model grid: before any step, and
after the last with each loss, for every number of patients, as mean over the seeds. Labels of the development
gliomas choose nothing.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from development import cases
from scenes import models, options

from uadcli import device
from uadcli.config import PreprocessConfig, SiameseConfig
from uadcli.console import Reporter
from uadcli.data import lesion_labels
from uadcli.data.scans import Scans
from uadcli.model.model import Model
from uadcli.training import score_network
from uadcli.training.examples.pool import ExampleMaker
from uadcli.training.examples.synthetic import load_healthy
from uadcli.training.score_network import SiameseTrainer
from uadcli.training.supervised import LabelledScenes

SOURCE, CONTRAST = "tcga_lgg", "FLAIR"


class Study:
    """The gliomas to train on and to evaluate on, and the model whose score network learns."""

    def __init__(self, data: Path, cache: Path, model: Model, most: int) -> None:
        found = [c for c in cases(data) if (c.source, c.contrast) == (SOURCE, CONTRAST) and c.lesions is not None]
        self.model = model
        self.config = PreprocessConfig(scaling=model.card.scaling, curvature_flow=model.card.curvature_flow)
        self.scans = Scans(cache, self.config)
        self.training = [c for c in found if c.part == "train"]
        self.held_out = lesion_labels.load([c for c in found if c.part == "dev"][:most], self.scans)

    def scenes(self, patients: int, seed: int) -> LabelledScenes:
        """Scenes of the first patients, and synthetic lesions in their slices without any."""
        chosen = self.training[:patients]
        labelled, healthy = lesion_labels.load(chosen, self.scans), load_healthy(chosen, self.scans)
        return LabelledScenes(labelled, healthy, self.config, seed)

    def auprc(self, patients: int, settings: SiameseConfig) -> tuple[float, float]:
        """The AUPRC before and after training."""
        scenes, trainer = self.scenes(patients, settings.seed), SiameseTrainer(settings)
        maker = ExampleMaker(scenes, self.model, settings.headroom)
        examples = [maker.example(scenes.unmodified(one)) for one in self.held_out]
        trainer.start_from(self.model.score_network)
        before = trainer.auprc(examples)
        with tempfile.TemporaryDirectory() as folder:
            score_network.fit(trainer, maker, Path(folder), Reporter(silent=True))
        after = trainer.auprc(examples)
        return tuple(float("nan") if v is None else v for v in (before, after))  # type: ignore[return-value]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--patients", default="2,4,8")
    parser.add_argument("--weight", type=float, default=1.0, help="of the variance term")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--cases", type=int, default=14, help="development gliomas at most")
    arguments = parser.parse_args()
    device.bound_threads(None)
    study = Study(arguments.data, arguments.cache, models(arguments.weights)[CONTRAST], arguments.cases)
    sizes = study.model.card.score_network
    assert sizes is not None
    print("| patients | before | plain loss | with the variance term | by seed |\n" + "|---" * 5 + "|")
    for patients in map(int, arguments.patients.split(",")):
        rows = []
        for seed in range(arguments.seeds):
            plain = replace(sizes, steps=arguments.steps, seed=seed, variance_weight=0.0)
            before, without = study.auprc(patients, plain)
            _, with_term = study.auprc(patients, replace(plain, variance_weight=arguments.weight))
            rows.append((before, without, with_term))
        means = " | ".join(f"{value:.3f}" for value in np.mean(rows, axis=0))
        each = ", ".join(f"{c - b:+.3f}" for _, b, c in rows)
        print(f"| {patients} | {means} | {each} |", flush=True)
    print(f"\n{arguments.steps} steps, weight {arguments.weight:g}; {len(study.held_out)} development gliomas")


if __name__ == "__main__":
    main()
