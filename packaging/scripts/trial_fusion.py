"""How much the learned score should weigh in the fused one: a trial on synthetic lesions and the dev cases.

    python packaging/scripts/trial_fusion.py DATA [--weights FILE] [--every 2]

For each power: mean AUPRC on the model's grid over synthetic lesions in IXI val (`fusion-absolute`, T1w), the glioma
dev cases (T1w, and `fusion-bright` for FLAIR), and, as what it costs in healthy brain, the 99.5th healthy percentile of
the validation scans over the median score inside the lesions (lower is better). Power 0 is the residual alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from eval_dev import synthetic

from uadcli.config import DetectConfig
from uadcli.reconstruction import weights
from uadcli.run.calibrate import healthy_part
from uadcli.run.development import cases
from uadcli.run.prepare import prepare_cached
from uadcli.run.score import probability, reconstruct
from uadcli.run.training_data import lesions_on_grid
from uadcli.scoring import fusion
from uadcli.scoring.calibration import healthy_quantile
from uadcli.scoring.metrics import average_precision
from uadcli.scoring.siamese import smooth_along_slices

POWERS = (0.0, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
KINDS = {"T1w": "fusion-absolute", "FLAIR": "fusion-bright"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights")
    parser.add_argument("--every", type=int, default=1, help="take every n-th scan")
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    arguments = parser.parse_args()
    config, loaded = DetectConfig(), weights.load(*weights.find(arguments.weights))
    found = cases(arguments.data)
    shapes = sorted((arguments.data / "lesion_shapes").glob("*.nii.gz"))
    for contrast, kind in KINDS.items():
        healthy, lesioned = [], []
        chosen = [c for c in found if c.contrast == contrast and (c.part == "val" or c.source == "tcga_lgg")]
        for number, case in enumerate([c for c in chosen if c.part in ("val", "dev")][:: arguments.every]):
            prepared = prepare_cached(case.scan, config.preprocess, arguments.cache)
            x = prepared.scaled(config.preprocess)
            inputs = [(x, healthy_part(case, prepared) if case.part == "val" else lesions_on_grid(case, prepared))]
            if case.part == "val" and contrast == "T1w":
                pasted = synthetic(prepared, x, shapes[number % len(shapes)], number)
                inputs += [pasted] if pasted else []
            for i, (image, part) in enumerate(inputs):
                recon = reconstruct(loaded, image, prepared.mask, config.reconstruction)
                p = smooth_along_slices(probability(loaded, image, recon, prepared.mask, config), prepared.mask)
                name = "synthetic" if i else "glioma"
                entry = (name, image, recon, p, prepared.mask, part)
                (healthy if case.part == "val" and not i else lesioned).append(entry)
        for power in POWERS:
            level = healthy_quantile([(fusion.fused_score(*e[1:5], kind, power), e[5]) for e in healthy])
            for name in dict.fromkeys(e[0] for e in lesioned):
                maps = [(fusion.fused_score(*e[1:5], kind, power), e[5]) for e in lesioned if e[0] == name]
                auprc = np.mean([average_precision(m, t) for m, t in maps])
                cost = np.median([level / max(float(np.median(m[t])), 1e-6) for m, t in maps])
                print(
                    f"{contrast} {name}\t{kind}\tpower {power}\tAUPRC {auprc:.3f}\thealthy/lesion {cost:.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
