"""Give a model the out-of-distribution check of a contrast that has no healthy scans, from synthetic ones.

    python packaging/models/add_check.py DATA --weights small-14-t2w --contrast T2w [--training 24] [--held-out 20]

`uad synth` makes scans of the contrast from T1w scans of the development data, with scanner effects: those of the
training part fit the distribution, those of the validation part set the limit. The contrast of synthetic scans is drawn
wider than that of real ones, so the farthest of them says little: the limit is LIMIT times their median distance.
Networks, thresholds and card stay as they are. The weights are written to RUNS/models/NAME, under the same name.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
from recalibrate import check_networks, made

from uadcli import device
from uadcli.config import DetectConfig
from uadcli.console import Reporter
from uadcli.data.healthy import healthy_slices
from uadcli.data.prepare import prepare_cached
from uadcli.model.out_of_distribution import fit_gates, state_of, vectors
from uadcli.scoring.out_of_distribution import distance
from uadcli.weights import registry, weights

LIMIT = 1.6  # that of small-14-t1w over the median of its held-out scans


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--contrast", required=True)
    parser.add_argument("--training", type=int, default=24, help="scans that the distribution is fitted to")
    parser.add_argument("--held-out", type=int, default=20, help="scans that set the limit")
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    parser.add_argument("--runs", type=Path, default=Path("runs/default"))
    arguments = parser.parse_args()
    device.bound_threads(None)
    reporter, before = Reporter(), weights.load(*weights.find(arguments.weights))
    counts, folder = {"train": arguments.training, "val": arguments.held_out}, arguments.runs / "synthetic-check"
    training, held_out = (
        made(arguments.data, arguments.contrast, count, folder, reporter, part) for part, count in counts.items()
    )
    cache, config = arguments.cache, DetectConfig().preprocess
    found = fit_gates(before.model, training, held_out, cache, config, reporter.progress)[arguments.contrast]
    scans = [prepare_cached(case.scan, config, cache) for case in held_out]
    slices = [healthy_slices(case, scan) for case, scan in zip(held_out, scans, strict=True)]
    parts = [(vectors(before.model, s.scaled(config), k), k) for s, k in zip(scans, slices, strict=True)]
    distances = [d for one in parts if (d := distance(found.mean, found.whitening, one)) is not None]
    gate = dataclasses.replace(found, limit=float(np.float32(LIMIT * np.median(distances))))
    card, out = before.card, arguments.runs / "models" / before.card.name
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{card.name}.safetensors"
    state = before.gate_state | state_of({arguments.contrast: gate})
    digest = weights.save(file, before.model, card, before.score_state, state, before.reference_state)
    registry.write(out, registry.Entry(card.name, file.name, digest, card.contrasts))
    check_networks(before, weights.load(file, digest))
    print(f"{file}\nsha256 {digest}\nlimit {gate.limit:.3f}, the farthest {max(distances):.3f}")


if __name__ == "__main__":
    main()
