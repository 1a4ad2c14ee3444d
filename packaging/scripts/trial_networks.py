"""Which reconstruction and which score network find the dev gliomas best: a trial of trained networks.

    python packaging/scripts/trial_networks.py DATA --contrast T1w --reconstruction A.safetensors runs/t1/last.pt \\
        --score A.safetensors runs/t1-score/last.pt

Each reconstruction with each score network, all checkpoints or weight files: mean AUPRC and mean best Dice (an oracle)
over the glioma dev cases, on the model's grid, of the residual (absolute for T1w, bright-weighted for FLAIR) and of the
learned and fused scores. So one network for all contrasts is held against one each: train both on for the same number
of steps (`uad train`, with the setting `contrasts`), and give both. `--levels 500 250,500,750` tries noise levels of
the test.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
from development import cases
from scenes import CONFIG, reconstruction_of, score_of

from uadcli import device
from uadcli.data.healthy import lesions_on_grid
from uadcli.data.prepare import prepare_cached
from uadcli.model.scores import reconstruct, scores
from uadcli.scoring.metrics import average_precision, best_dice
from uadcli.weights import weights
from uadcli.weights.weights import Weights

SCORES = {
    "T1w": ("absolute", "siamese", "fusion-absolute"),
    "FLAIR": ("bright-weighted", "siamese", "fusion-absolute", "fusion-bright"),
}


def levels(text: str) -> tuple[int, ...]:
    """Noise levels from `250,500,750`."""
    return tuple(map(int, text.split(",")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--contrast", choices=SCORES, required=True)
    parser.add_argument("--reconstruction", type=Path, nargs="+", required=True)
    parser.add_argument("--score", type=Path, nargs="+", required=True)
    parser.add_argument("--levels", nargs="+", type=levels, default=[()], help="as 250,500,750; else those of the card")
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    arguments = parser.parse_args()
    device.bound_threads(None)
    kinds = SCORES[arguments.contrast]
    base = weights.load(*weights.find(None, arguments.contrast))  # for levels, smoothing and power
    dev = [c for c in cases(arguments.data) if c.part == "dev" and c.source == "tcga_lgg"]
    dev = [c for c in dev if c.contrast == arguments.contrast]
    print(f"{len(dev)} {arguments.contrast} scans; levels and fusion of {base.card.name}\n")
    print("| reconstruction | score network | score | AUPRC | best Dice (oracle) |\n|---|---|---|---|---|")
    for file, at in itertools.product(arguments.reconstruction, arguments.levels):
        settings = replace(CONFIG.reconstruction, levels=at)
        model, judged = replace(base, model=reconstruction_of(file)[0]), dict[Path, Weights]()
        for one in arguments.score:
            state, sizes = score_of(one)
            judged[one] = replace(model, score_state=state, card=replace(base.card, siamese=sizes))
        values: dict[tuple[Path, str], list[tuple[float, float]]] = {}
        for case in dev:
            prepared = prepare_cached(case.scan, CONFIG.preprocess, arguments.cache)
            x, truth = prepared.scaled(CONFIG.preprocess), lesions_on_grid(case, prepared)
            recon = reconstruct(model, x, prepared.mask, settings)
            for one, loaded in judged.items():
                for kind, score in scores(loaded, x, recon, prepared.mask, kinds, CONFIG).items():
                    figures = average_precision(score, truth), best_dice(score, truth)[0]
                    values.setdefault((one, kind), []).append(figures)
        for (one, kind), pairs in values.items():
            auprc, overlap = np.mean(pairs, axis=0)
            name = f"{file}{' at ' + ', '.join(map(str, at)) if at else ''}"
            print(f"| {name} | {one} | {kind} | {auprc:.3f} | {overlap:.3f} |", flush=True)


if __name__ == "__main__":
    main()
