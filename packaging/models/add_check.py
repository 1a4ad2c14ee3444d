"""Give a model the out-of-distribution check of a contrast that has no healthy scans, from synthetic ones.

    python packaging/models/add_check.py DATA --weights small-17-t2w --contrast T2w [--training 24] [--held-out 20]

`uad synth` makes scans of the contrast from T1w scans of the development data, with scanner effects: those of the
training part fit the distribution, those of the validation part set the limit. The contrast of synthetic scans is drawn
wider than that of real ones, so the farthest of them says little: the limit is LIMIT times their median distance.
Networks, thresholds and card stay as they are. The weights are written to RUNS/models/NAME, under the same name.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from recalibrate import made, refuse_other_preparation, written

from uadcli import device
from uadcli.config import DetectConfig
from uadcli.console import Reporter
from uadcli.imaging.slices import GRID_SHAPE
from uadcli.model.out_of_distribution import parts, state_of
from uadcli.scoring.out_of_distribution import Gate, Part, distance, fit_cloud
from uadcli.weights import weights

LIMIT = 1.6  # that of small-14-t1w and small-15-t1w over the median of its held-out scans


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
    refuse_other_preparation(before.card)
    folder, config = arguments.runs / "synthetic-check", DetectConfig().preprocess

    def vectors_of(part: str, count: int) -> list[Part]:
        scans = made(arguments.data, arguments.contrast, count, folder, reporter, part)
        return parts(before.model, scans, arguments.cache, config, reporter.progress)

    mean, whitening = fit_cloud(vectors_of("train", arguments.training), GRID_SHAPE[2])
    each = (distance(mean, whitening, one) for one in vectors_of("val", arguments.held_out))
    distances = [one for one in each if one is not None]
    gate = Gate(mean, whitening, LIMIT * float(np.median(distances)))
    written(replace(before, gate_state=before.gate_state | state_of({arguments.contrast: gate})), arguments.runs)
    print(f"limit {gate.limit:.3f}, the farthest {max(distances):.3f}")


if __name__ == "__main__":
    main()
