"""Make a weight file that comes along out of training checkpoints: thresholds, card and registry.

    python packaging/scripts/export_default.py DATA --name NAME --contrasts T1w --model FILE --siamese RUN/last.pt

`--model` and `--siamese` are checkpoints, or weight files whose networks stay as they are. The weight of the learned
score in the fusion is fitted on stroke shapes pasted into the healthy validation scans, or given. Thresholds, and the
healthy reference of some scores, come from these healthy validation scans alone (IXI val; tumour-free slices of
TCGA-LGG train patients that were held out of training); T2w has no healthy cohort and takes the thresholds of FLAIR,
which the card says; for the same reason it gets no healthy reference and no out-of-distribution gate.
The new model comes first in the registry; those that no contrast gets any more are left out there.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from scenes import reconstruction_of, score_of, stroke_shapes

from uadcli import __version__, device
from uadcli.config import CONTRASTS, DetectConfig
from uadcli.reconstruction import registry, weights
from uadcli.reconstruction.weights import ModelCard
from uadcli.run.calibrate import CALIBRATED, calibrate
from uadcli.run.development import cases
from uadcli.run.examples import load_healthy
from uadcli.run.fit_fusion import precision_by_power, with_best_power, with_power
from uadcli.run.gate import fit_gates, state_of
from uadcli.scoring import reference
from uadcli.scoring.siamese import ALONG

SCORES = {"T1w": "fisher", "FLAIR": "fisher", "T2w": "fusion-absolute"}
COMMENT = "# Models that come along; a contrast gets the first that covers it. sha256 of each file.\n\n"
RULE = "99.5th percentile of the scores inside the brain of healthy scans"
HEALTHY = {
    "T1w": "T1w 20 IXI val scans",
    "FLAIR": "FLAIR tumour-free slices of 6 TCGA-LGG patients held out of training",
    "T2w": "T2w has no healthy cohort and takes the FLAIR threshold",
}
TRAINING = (
    "T1w: 60 IXI scans (CC BY-SA 3.0). FLAIR: tumour-free slices of 20 TCGA-LGG patients (CC BY 3.0; chosen with "
    "masks of Buda 2019, CC BY-NC-SA 4.0), and made from IXI T1w. T2w: made from IXI T1w. The score network also on "
    "all contrasts made from 20 SynthSeg head label maps (Apache-2.0); its lesions are synthetic"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--contrasts", nargs="+", choices=CONTRASTS, default=CONTRASTS)
    parser.add_argument("--model", type=Path, required=True, help="checkpoint or weight file of the reconstruction")
    parser.add_argument("--siamese", type=Path, required=True, help="checkpoint or weight file of the score network")
    parser.add_argument("--levels", type=int, nargs="+", default=[250, 500, 750], help="of the noise at test")
    parser.add_argument("--fusion-power", type=float, help="of the learned score, where it was fitted before")
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    parser.add_argument("--out", type=Path, default=Path("weights"))
    arguments = parser.parse_args()
    device.bound_threads(None)
    model, steps = reconstruction_of(arguments.model)
    score_state, of_score = score_of(arguments.siamese)
    contrasts = tuple(c for c in CONTRASTS if c in arguments.contrasts)
    if "T2w" in contrasts and "FLAIR" not in contrasts:
        parser.error("T2w takes its thresholds from FLAIR")
    before = registry.read(arguments.out) if (arguments.out / registry.FILE).exists() else []
    if any(one.name == arguments.name and set(one.contrasts) - set(contrasts) for one in before):
        parser.error(f"the {arguments.name} that is there covers more contrasts: choose another name")
    card = ModelCard(
        name=arguments.name,
        version=__version__,
        contrasts=contrasts,
        scores={contrast: SCORES[contrast] for contrast in contrasts},
        thresholds={},
        threshold_rule=f"{RULE}: {'; '.join(HEALTHY[c] for c in contrasts)}",
        levels=tuple(arguments.levels),
        along_slices=ALONG,
        reference_erosion=reference.EROSION,
        intensity_range="[0, 1]: percentiles 1 and 99 inside the brain mask",
        training_data=TRAINING + (f". At the end on {' and '.join(contrasts)} alone" if contrasts != CONTRASTS else ""),
        licence="CC BY-SA 3.0 (weights)",
        steps=steps,
        siamese=of_score,
    )
    file = arguments.out / f"{card.name}.safetensors"
    arguments.out.mkdir(parents=True, exist_ok=True)
    weights.save(file, model, card, score_state)
    loaded = weights.load(file)  # calibrate what ships: the float16 weights
    known = [c for c in cases(arguments.data) if c.contrast in contrasts]
    training, validation = ([c for c in known if c.part == part] for part in ("train", "val"))
    precisions = {}
    if arguments.fusion_power is None:
        held_out = load_healthy(validation, arguments.cache, DetectConfig().preprocess)
        precisions = precision_by_power(loaded, held_out, DetectConfig(), stroke_shapes(arguments.data))
        loaded = with_best_power(loaded, precisions)
    else:
        loaded = with_power(loaded, arguments.fusion_power)
    found, references = calibrate(loaded, validation, arguments.cache, DetectConfig(), CALIBRATED)
    if "T2w" in contrasts:
        found.lend("FLAIR", "T2w")
    card = dataclasses.replace(loaded.card, **vars(found))
    gates = fit_gates(loaded.model, training, validation, arguments.cache, DetectConfig().preprocess)
    digest = weights.save(file, loaded.model, card, loaded.score_state, state_of(gates), reference.state_of(references))
    entry = registry.Entry(card.name, file.name, digest, contrasts)
    entries = registry.needed([entry, *(one for one in before if one.name != entry.name)])
    registry.write(arguments.out, *entries, comment=COMMENT)
    for one in before:
        if one.name not in {kept.name for kept in entries}:
            print(f"no contrast gets {one.name} any more: {one.file} and {one.card} can go")
    print("AUPRC of the fusion on pasted stroke shapes, by power:", {a: round(v, 4) for a, v in precisions.items()})
    print({contrast: one.limit for contrast, one in gates.items()})
    print(found.thresholds, file.stat().st_size, digest)


if __name__ == "__main__":
    main()
