"""Make the weight file that comes along out of a training checkpoint: thresholds, card and registry.

    python packaging/scripts/export_default.py DATA runs/default/checkpoint.pt

Thresholds come from the healthy validation scans alone (IXI val; tumour-free slices of TCGA-LGG train patients that
were held out of training); T2w has no healthy cohort and takes the threshold of FLAIR, which the card says.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from uadcli import __version__, device
from uadcli.config import DetectConfig
from uadcli.reconstruction import weights
from uadcli.reconstruction.weights import ModelCard, Weights
from uadcli.run.calibrate import calibrate
from uadcli.run.development import cases
from uadcli.run.train import Trainer

NAME = "small-1"
SCORES = {"T1w": "absolute", "FLAIR": "bright-weighted", "T2w": "bright-weighted"}
RULE = (
    "99.5th percentile of the scores inside the brain of healthy scans: T1w 20 IXI val scans, FLAIR tumour-free slices "
    "of 6 TCGA-LGG patients held out of training; T2w has no healthy cohort and takes the FLAIR threshold"
)
TRAINING = (
    "T1w: 60 IXI scans (CC BY-SA 3.0). FLAIR: tumour-free slices of 20 TCGA-LGG patients (CC BY 3.0; chosen with "
    "masks of Buda 2019, CC BY-NC-SA 4.0), and made from IXI T1w. T2w: made from IXI T1w only"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    parser.add_argument("--out", type=Path, default=Path("weights"))
    arguments = parser.parse_args()
    device.bound_threads(None)
    trainer = Trainer.load(arguments.checkpoint)
    card = ModelCard(
        name=NAME,
        version=__version__,
        contrasts=("T1w", "T2w", "FLAIR"),
        scores=SCORES,
        thresholds={},
        threshold_rule=RULE,
        levels=(250, 500, 750),
        intensity_range="[0, 1]: percentiles 1 and 99 inside the brain mask",
        training_data=TRAINING,
        licence="CC BY-SA 3.0 (weights)",
        steps=trainer.done,
    )
    file = arguments.out / f"{NAME}.safetensors"
    arguments.out.mkdir(parents=True, exist_ok=True)
    weights.save(file, trainer.average, card)
    loaded = weights.load(file)  # calibrate what ships: the float16 weights
    validation = [c for c in cases(arguments.data) if c.part == "val"]
    thresholds = calibrate(loaded, validation, arguments.cache, DetectConfig())
    thresholds["T2w"] = thresholds["FLAIR"]
    finished = Weights(loaded.model, dataclasses.replace(card, thresholds=thresholds), file, "")
    digest = weights.save(file, finished.model, finished.card)
    (arguments.out / "registry.toml").write_text(
        "# Models that come along, the default first; sha256 of each file.\n\n[[model]]\n"
        f'name = "{NAME}"\nfile = "{file.name}"\nsha256 = "{digest}"\ncontrasts = ["T1w", "T2w", "FLAIR"]\n',
        encoding="utf-8",
    )
    print({k: round(v, 4) for k, v in thresholds.items()}, file.stat().st_size, digest)


if __name__ == "__main__":
    main()
