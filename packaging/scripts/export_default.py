"""Make the weight file that comes along out of a training checkpoint: thresholds, card and registry.

    python packaging/scripts/export_default.py DATA --model FILE --siamese runs/siamese/last.pt

`--model` is a checkpoint, or a weight file whose network stays as it is. Thresholds come from the healthy validation
scans alone (IXI val; tumour-free slices of TCGA-LGG train patients that were held out of training); T2w has no healthy
cohort and takes the threshold of FLAIR, which the card says; for the same reason it gets no out-of-distribution gate.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from uadcli import __version__, device
from uadcli.config import DetectConfig, to_dict
from uadcli.reconstruction import registry, weights
from uadcli.reconstruction.weights import ModelCard
from uadcli.run.calibrate import CALIBRATED, calibrate
from uadcli.run.development import cases
from uadcli.run.gate import fit_gates, state_of
from uadcli.run.siamese import SiameseTrainer
from uadcli.run.train import Trainer
from uadcli.scoring.fusion import POWER
from uadcli.scoring.siamese import ALONG

NAME = "small-4"
SCORES = {"T1w": "siamese", "FLAIR": "fusion-bright", "T2w": "fusion-bright"}
COMMENT = "# Models that come along, the default first; sha256 of each file.\n\n"
RULE = (
    "99.5th percentile of the scores inside the brain of healthy scans: T1w 20 IXI val scans, FLAIR tumour-free slices "
    "of 6 TCGA-LGG patients held out of training; T2w has no healthy cohort and takes the FLAIR threshold"
)
TRAINING = (
    "T1w: 60 IXI scans (CC BY-SA 3.0). FLAIR: tumour-free slices of 20 TCGA-LGG patients (CC BY 3.0; chosen with "
    "masks of Buda 2019, CC BY-NC-SA 4.0), and made from IXI T1w. T2w: made from IXI T1w. The score network also on "
    "all contrasts made from 20 SynthSeg head label maps (Apache-2.0); its lesions are synthetic"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", type=Path, required=True, help="checkpoint or weight file of the reconstruction")
    parser.add_argument("--siamese", type=Path, required=True, help="checkpoint of the score network")
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    parser.add_argument("--out", type=Path, default=Path("weights"))
    arguments = parser.parse_args()
    device.bound_threads(None)
    if arguments.model.suffix == ".safetensors":
        given = weights.load(arguments.model)
        model, steps = given.model, given.card.steps
    else:
        trainer = Trainer.load(arguments.model)
        model, steps = trainer.average, trainer.done
    siamese = SiameseTrainer.load(arguments.siamese)
    card = ModelCard(
        name=NAME,
        version=__version__,
        contrasts=("T1w", "T2w", "FLAIR"),
        scores=SCORES,
        thresholds={},
        threshold_rule=RULE,
        levels=(250, 500, 750),
        along_slices=ALONG,
        fusion_power=POWER,
        intensity_range="[0, 1]: percentiles 1 and 99 inside the brain mask",
        training_data=TRAINING,
        licence="CC BY-SA 3.0 (weights)",
        steps=steps,
        siamese=to_dict(siamese.config) | {"steps": siamese.done},
    )
    file = arguments.out / f"{NAME}.safetensors"
    arguments.out.mkdir(parents=True, exist_ok=True)
    weights.save(file, model, card, siamese.average.state_dict())
    loaded = weights.load(file)  # calibrate what ships: the float16 weights
    validation = [c for c in cases(arguments.data) if c.part == "val"]
    found = calibrate(loaded, validation, arguments.cache, DetectConfig(), CALIBRATED)
    found.lend("FLAIR", "T2w")
    card = dataclasses.replace(card, **vars(found))
    training = [c for c in cases(arguments.data) if c.part == "train"]
    gates = fit_gates(loaded.model, training, validation, arguments.cache, DetectConfig().preprocess)
    digest = weights.save(file, loaded.model, card, loaded.score_state, state_of(gates))
    registry.write(arguments.out, registry.Entry(NAME, file.name, digest, card.contrasts), COMMENT)
    print({contrast: one.limit for contrast, one in gates.items()})
    print(found.thresholds, file.stat().st_size, digest)


if __name__ == "__main__":
    main()
