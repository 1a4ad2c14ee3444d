"""Recalibrate a bundled model: thresholds, references, shares, default scores.

The networks stay as they are, except that `--score-network` takes the score network from a run of `uad train --weights
NAME --set train.steps=0`, from a file of it alone that `--keep` wrote, or from a checkpoint, RUN/siamese/last.pt,
whether it was the best or not; of several it takes the mean of the parameters. Residuals are compared with healthy
scans without the shading of the scan, and `fisher` has its prior (`scoring.fusion.prior`), whatever the bundled model
does.

    python packaging/models/recalibrate.py DATA --weights small-16-flair --name small-17-flair [--borrow T2w=FLAIR]
        [--contrasts T2w] [--score-network RUN_OR_FILE ...] [--keep FILE] [--degraded 2] [--along-slices 3]
        [--guide 4] [--levels 500] [--headroom]

The healthy scans are those of `train_default.py`: the validation part of the development data. A contrast without any
borrows the thresholds of another (`--borrow`), or is calibrated on scans synthesised from the validation T1w scans by
`uad synth` (`--synthetic T2w=20`); the model card states which. With `--contrasts` the new model is for these alone,
with thresholds that may come from another contrast of the old one. The weights are written to RUNS/models/NAME; their
card (NAME.md) is written by hand.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from uadcli import device
from uadcli.calibration.calibrate import measure
from uadcli.calibration.export import calibrated_card, trained_weights
from uadcli.calibration.health import Cohort
from uadcli.config import DetectConfig
from uadcli.console import Reporter
from uadcli.data.dataset import Case, evenly
from uadcli.errors import InputError, UsageError
from uadcli.files import write_json
from uadcli.model.model import Model
from uadcli.scoring import healthy_reference
from uadcli.scoring.fusion import OUTSIDE_WHITE_MATTER
from uadcli.synthesis.options import SynthOptions
from uadcli.synthesis.synth import synth
from uadcli.training.card import score_settings
from uadcli.training.examples.pasted_lesions import shape_files
from uadcli.training.run_folder import START
from uadcli.training.score_network import SiameseTrainer
from uadcli.weights import registry, weights
from uadcli.weights.card import ModelCard

sys.path.append(str(Path(__file__).parents[1] / "evaluation"))
from development import cases
from development import refuse_other_preparation as refuse_other_preparation

FIRST_SEED = {"val": 0, "train": 100}  # of synthetic scans
NOTED = ("siamese", "training_data")  # what a card says of the score network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--name", help="of the new model; needed except with --keep")
    parser.add_argument("--synthetic", default="", help="contrast and number of scans, as in T2w=20")
    parser.add_argument(
        "--score-network",
        type=Path,
        nargs="+",
        default=[],
        metavar="RUN_OR_FILE",
        help="where to take the score network from; of several, the mean of their parameters",
    )
    parser.add_argument("--keep", type=Path, metavar="FILE", help="only write the score network of the run, in float16")
    parser.add_argument("--training-data", help="sources of all training data and their licences, for the card")
    parser.add_argument("--borrow", default="", help="contrast, and the one whose thresholds it takes, as in T2w=FLAIR")
    parser.add_argument("--contrasts", help="those of the new model, comma-separated; by default all of the old one")
    parser.add_argument("--training", type=int, help="number of training scans in the references without a network")
    parser.add_argument(
        "--degraded", type=int, default=0, help="copies of each healthy scan, as from other scanners, that join in"
    )
    parser.add_argument(
        "--along-slices", type=float, help="smoothing of the learned score, in slices; as before if not given"
    )
    parser.add_argument(
        "--guide",
        type=int,
        help="radius of the guided filter of the learned score, in voxels; as before if not given",
    )
    parser.add_argument("--levels", help="noise levels of the reconstruction, comma-separated; as before if not given")
    parser.add_argument("--headroom", action="store_true", help="show the score network the scan above 1 too")
    parser.add_argument("--scores", help="the scores to calibrate, comma-separated; by default all")
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    parser.add_argument("--runs", type=Path, default=Path("runs/default"))
    arguments = parser.parse_args()
    if not (arguments.name or arguments.keep):
        parser.error("--name is missing")
    device.bound_threads(None)
    reporter, config = Reporter(), DetectConfig()
    start = weights.load(*weights.find(arguments.weights))
    if arguments.keep:
        keep(with_score_network(start, arguments.score_network), arguments.keep)
        return
    refuse_other_preparation(start.card)
    along = start.card.along_slices if arguments.along_slices is None else arguments.along_slices
    guide = start.card.guide_radius if arguments.guide is None else arguments.guide
    levels = tuple(map(int, arguments.levels.split(","))) if arguments.levels else start.card.levels
    changed = dataclasses.replace(
        start.card,
        without_shading=True,
        along_slices=along,
        guide_radius=guide,
        levels=levels,
        odds_outside_white_matter=OUTSIDE_WHITE_MATTER,
    )
    start = dataclasses.replace(start, card=changed)
    start = with_score_network(start, arguments.score_network)
    if arguments.headroom and start.card.siamese is not None:
        seen = {**start.card.siamese, "headroom": True}
        start = dataclasses.replace(start, card=dataclasses.replace(start.card, siamese=seen))
    model = Model(start)
    found = [c for c in cases(arguments.data) if c.contrast in model.card.contrasts]
    held_out = [c for c in found if c.part == "val"]
    if arguments.synthetic:
        contrast, _, count = arguments.synthetic.partition("=")
        held_out += made(arguments.data, contrast, int(count), arguments.runs / f"synthetic-{contrast}", reporter)
    cohort = Cohort(
        held_out,
        [c for c in found if c.part == "train"][: arguments.training],
        arguments.cache,
        shape_files(str(arguments.data / "lesion_shapes")),
        arguments.degraded,
    )
    kinds = arguments.scores.split(",") if arguments.scores else None
    taker, _, giver = arguments.borrow.partition("=")
    borrow = {taker: giver} if giver else {}
    content, references = measure(model, cohort, config, reporter, borrow=borrow, kinds=kinds)
    card = calibrated_card(model.card, arguments.name, content, config.preprocess)
    card = dataclasses.replace(card, training_data=arguments.training_data or card.training_data)
    if arguments.contrasts:
        card = covering(card, arguments.contrasts.split(","))
    before = model.weights
    state = healthy_reference.state_of({key: one for key, one in references.items() if key[1] in card.contrasts})
    gates = {name: value for name, value in before.gate_state.items() if name.partition(".")[0] in card.contrasts}
    calibrated = dataclasses.replace(before, card=card, gate_state=gates, reference_state=state)
    out = written(calibrated, arguments.runs)
    write_json(out / "thresholds.json", content)
    print(f"scores {card.scores}\nshares {card.shares}\n{card.threshold_rule}")


def written(of: weights.Weights, runs: Path) -> Path:
    """Write weights to RUNS/models/NAME, print file and sha256, and return the folder.

    Raises `SystemExit` unless the networks in the file are those given, bit for bit.
    """
    out = runs / "models" / of.card.name
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{of.card.name}.safetensors"
    digest = weights.save(file, of.model, of.card, of.score_state, of.gate_state, of.reference_state)
    registry.write(out, registry.Entry(of.card.name, file.name, digest, of.card.contrasts))
    check_networks(of, weights.load(file, digest))
    print(f"{file}\nsha256 {digest}")
    return out


def covering(card: ModelCard, chosen: Sequence[str]) -> ModelCard:
    """The card for some of its contrasts alone. What a contrast has borrowed from another stays, and is its own.

    Raises `UsageError` for a contrast that the card does not cover.
    """
    if unknown := [one for one in chosen if one not in card.contrasts]:
        raise UsageError(f"the model does not cover {unknown[0]}", hint=f"It covers {', '.join(card.contrasts)}.")

    def kept(by_contrast: Mapping[str, Any]) -> dict[str, Any]:
        return {contrast: value for contrast, value in by_contrast.items() if contrast in chosen}

    by_score = {
        name: {score: own for score, by in getattr(card, name).items() if (own := kept(by))}
        for name in ("thresholds", "tails", "strengths")
    }
    by_contrast = {name: kept(getattr(card, name)) for name in ("scores", "shares", "borrowed")}
    return dataclasses.replace(
        card, contrasts=tuple(c for c in card.contrasts if c in chosen), **by_score, **by_contrast
    )


def with_score_network(found: weights.Weights, sources: Sequence[Path]) -> weights.Weights:
    """The weights with the score network of a run that began with them, or of a file from `keep`, if any is given.

    Of several, the mean of the parameters, and what the card says of the last. The parameters are rounded to float16 as
    in a weight file, so that the network that ships is the one calibrated.
    """
    if not sources:
        return found
    each = [_score_network(source) for source in sources]
    states = [state for state, _ in each]
    notes = {name: value for _, said in each for name, value in said.items()}
    mean = {name: torch.stack([one[name].float() for one in states]).mean(0).half().float() for name in states[0]}
    return dataclasses.replace(found, card=dataclasses.replace(found.card, **notes), score_state=mean)


def _score_network(source: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The score network of a run, a file from `keep` or a checkpoint, and what a card says of it.

    Raises `InputError` if it does not exist.
    """
    if not source.exists():
        raise InputError("does not exist", path=source, hint="--score-network takes the folder of a run, or a file.")
    if source.suffix == ".pt":
        trainer, start = SiameseTrainer.load(source), source.parents[1] / START
        before = weights.read_card(start) if start.exists() else None
        return trainer.average.state_dict(), {"siamese": score_settings(trainer, before)}
    if source.is_file():
        with safe_open(source, "pt") as stored:
            state = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            return state, {name: json.loads(text) for name, text in stored.metadata().items()}
    trained = trained_weights(source)
    return trained.score_state, {name: getattr(trained.card, name) for name in NOTED}


def keep(of: weights.Weights, file: Path) -> None:
    """Write the score network alone, in float16, with what the card says of it: a third of a weight file."""
    state = {name: value.half().contiguous() for name, value in of.score_state.items()}
    save_file(state, file, {name: json.dumps(getattr(of.card, name)) for name in NOTED})
    print(f"{file}\n{file.stat().st_size / 1e6:.1f} MB")


def made(data: Path, contrast: str, count: int, folder: Path, reporter: Reporter, part: str = "val") -> list[Case]:
    """Make a folder of healthy scans of a contrast from the T1w scans of a part, with scanner effects.

    They are cases of that part, and each has a seed of its own.
    """
    sources = evenly([c for c in cases(data) if c.part == part and c.contrast == "T1w"], count)
    folder.mkdir(parents=True, exist_ok=True)
    result = []
    for seed, source in enumerate(sources, start=FIRST_SEED[part]):
        scan = folder / f"{source.subject}_desc-synthetic_{contrast}.nii.gz"
        if not scan.exists():
            synth(source.scan, scan, SynthOptions(contrast, seed=seed), reporter)
        result.append(dataclasses.replace(source, source="synthetic", contrast=contrast, scan=scan))
    return result


def check_networks(before: weights.Weights, after: weights.Weights) -> None:
    """Raises `SystemExit` unless the networks are unchanged, bit for bit."""
    pairs = [(before.model.state_dict(), after.model.state_dict()), (before.score_state, after.score_state)]
    for old, new in pairs:
        if old.keys() != new.keys() or not all(torch.equal(old[name], new[name]) for name in old):
            raise SystemExit("the networks are not those of before")


if __name__ == "__main__":
    main()
