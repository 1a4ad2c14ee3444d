"""The networks of a run as weights, with a preliminary card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uadcli import __version__, contrasts
from uadcli.config import to_dict
from uadcli.files import file_sha256
from uadcli.scoring.fusion import OUTSIDE_WHITE_MATTER
from uadcli.training.run_folder import START, read_run, usable_cases

if TYPE_CHECKING:
    from uadcli.training.reconstruction import Trainer
    from uadcli.training.score_network import SiameseTrainer
    from uadcli.weights.card import ModelCard
    from uadcli.weights.weights import Weights

PLAIN_DEFAULT = "absolute"  # the score of a model without a network for one


def weights_of(run: Path, trainer: Trainer, scorer: SiameseTrainer | None) -> Weights:
    """The averaged networks of a run as weights, not calibrated yet; a run may have no score network."""
    from uadcli.scoring.fusion import POWER
    from uadcli.scoring.healthy_reference import EROSION
    from uadcli.scoring.siamese import ALONG
    from uadcli.weights import weights
    from uadcli.weights.card import ModelCard
    from uadcli.weights.weights import Weights

    method = trainer.method
    config = read_run(run)
    seen = {*config.contrasts, *([contrasts.T1W.name] if contrasts.FROM_T1W.keys() & {*config.contrasts} else [])}
    training = [c for c in usable_cases(run) if c.part == "train" and c.contrast in seen]
    counts = Counter((c.contrast, c.lesions is not None) for c in training)
    own = ", ".join(
        f"{n} {contrast} scans of the user{', patients by their slices without lesion' if ill else ''}"
        for (contrast, ill), n in sorted(counts.items())
    )
    before = weights.read_card(run / START) if (run / START).exists() else None
    learned = trainer.done or (scorer.done if scorer else 0)
    card = ModelCard(
        name=run.name,
        version=__version__,
        contrasts=config.contrasts,
        scores=dict.fromkeys(config.contrasts, "siamese" if scorer else PLAIN_DEFAULT),
        thresholds={},
        threshold_rule="",
        levels=before.levels if before else method.levels,
        along_slices=ALONG,
        guide_radius=guide_radius(config.contrasts),
        fusion_power=POWER,
        reference_erosion=EROSION,
        without_shading=True,
        odds_outside_white_matter=OUTSIDE_WHITE_MATTER,
        curvature_flow=config.preprocess.curvature_flow,
        scaling=config.preprocess.scaling or "percentile",
        intensity_range="[0, 1], inside the brain mask",
        training_data=own if before is None else _after(before, run, own, learned),
        licence=f"{f'{before.licence}; also ' if before else ''}that of the training scans",
        steps=trainer.done + (before.steps if before else 0),
        siamese=score_settings(scorer, before) if scorer else None,
        labelled_cases=before.labelled_cases if before else 0,
    )
    return Weights(trainer.average, card, run, "", scorer.average.state_dict() if scorer else {})


def guide_radius(covered: Collection[str]) -> int:
    """The radius, in voxels, of the guided filter of a model for these contrasts: the largest of theirs."""
    return max(contrasts.ALL[name].guide_radius for name in covered)


def score_settings(scorer: SiameseTrainer, before: ModelCard | None) -> dict[str, Any]:
    """What a card says of a score network: its settings, and its steps with those of the model that it began from."""
    earlier = int(((before and before.siamese) or {}).get("steps", 0))
    return to_dict(scorer.config) | {"steps": scorer.done + earlier}


def _after(before: ModelCard, run: Path, own: str, learned: int) -> str:
    """The description of the training data of networks that started from `before` and learned for so many steps."""
    known = f"{before.name}, sha256 {file_sha256(run / START)[:12]} ({before.training_data})"
    return f"{own}, after {known}" if learned else f"that of {known}: no better networks were found on {own}"
