"""`uad export`: a calibrated run as weights, registry and model card for `uad detect`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uadcli.config import CONTRASTS, PreprocessConfig, TrainingConfig, to_dict
from uadcli.console import Reporter
from uadcli.errors import RESEARCH_USE, InputError
from uadcli.files import make_folder, write_text
from uadcli.model.healthy_scans import copies_in_words
from uadcli.scoring.fusion import ENOUGH, FISHER
from uadcli.settings.training import HAND, MAHALANOBIS
from uadcli.training.card import PLAIN_DEFAULT, weights_of
from uadcli.training.run_folder import read_run
from uadcli.typed import fits

if TYPE_CHECKING:
    from uadcli.weights.card import ModelCard
    from uadcli.weights.weights import Weights


GATE_FILE, REFERENCE_FILE = "gate.safetensors", "reference.safetensors"
BORROWER = "siamese"  # default score of a contrast without real healthy scans: trained on the contrast, and needs none
CALIBRATED: dict[str, Any] = {  # fields of thresholds.json
    "thresholds": dict[str, dict[str, float]],
    "scans": dict[str, int],
    "strengths": dict[str, dict[str, list[float]]],
    "tails": dict[str, dict[str, list[tuple[float, float]]]],
    "shares": dict[str, dict[str, float]],
    "borrowed": dict[str, str],
    "patients": dict[str, int],
    "synthetic": dict[str, int],
    "fusion_power": float,
    "reference_erosion": int,
    "networks": str,
}
CHECKS = {MAHALANOBIS: "Mahalanobis distance of the encoder's features", HAND: "HAND"}  # out of distribution
RULE = "99.5th percentile of the scores inside the brain of {} healthy scans ({})"


def _broken(run: Path) -> InputError:
    return InputError("is damaged", path=run / "thresholds.json", hint=f"Make it again: uad calibrate {run} HEALTHY.")


def export(run: Path | str, out: Path | str, *, overwrite: bool = False, reporter: Reporter | None = None) -> Path:
    """Write weights, registry and card of a calibrated run into the folder `out`, whose name becomes the model's;
    returns the weight file.

    Raises `InputError` if the run is not calibrated, or was trained further after that; `OutputError` if the folder
    cannot be written or already contains weights, with `overwrite` only those with another name, next to which the new
    ones would be of no use.
    """
    from uadcli.weights import registry, weights

    run, out, reporter = Path(run), Path(out), reporter or Reporter(silent=True)
    config, name = read_run(run), out.resolve().name
    file = out / f"{name}.safetensors"
    registry.refuse_taken(out, file.name, overwrite)
    try:
        calibrated = json.loads((run / "thresholds.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError("is not calibrated", path=run, hint=f"First: uad calibrate {run} HEALTHY.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise _broken(run) from error
    if not isinstance(calibrated, dict) or not all(fits(calibrated.get(k), hint) for k, hint in CALIBRATED.items()):
        raise _broken(run)
    with reporter.stage("export"):
        loaded = trained_weights(run)
        if calibrated["networks"] != digest_of(loaded):
            what = "its networks are not those that it was calibrated with: it was trained further"
            raise InputError(what, path=run, hint=f"Calibrate it again: uad calibrate {run} HEALTHY.")
        card = calibrated_card(loaded.card, name, calibrated, config.preprocess)
        make_folder(out)
        gates, references = (_read_state(run / part) for part in (GATE_FILE, REFERENCE_FILE))
        digest = weights.save(file, loaded.model, card, loaded.score_state, gates, references)
    registry.write(out, registry.Entry(name, file.name, digest, card.contrasts))
    write_text(out / f"{name}.md", card_text(card, digest, config, gates))
    reporter.info(f"sha256 {digest}")
    return file


def calibrated_card(
    card: ModelCard, name: str, calibrated: Mapping[str, Any], preprocess: PreprocessConfig
) -> ModelCard:
    """A card with the name of the model and the results of a calibration (`thresholds.json`)."""
    thresholds, scans, borrowed = calibrated["thresholds"], calibrated["scans"], calibrated["borrowed"]
    rule = RULE.format(sum(scans.values()), ", ".join(f"{n} {c}" for c, n in scans.items()))
    copies = calibrated.get("degraded", 0)  # earlier calibrations do not say
    rule += copies_in_words(copies)
    patients = calibrated["patients"]
    rule += "".join(f"; {n} of the {c} scans are of patients (slices without lesion only)" for c, n in patients.items())
    synthetic = calibrated["synthetic"]
    rule += "".join(f"; {n} of the {c} scans are synthetic" for c, n in synthetic.items())
    rule += "".join(f"; {taker} has no healthy scans and borrows those of {giver}" for taker, giver in borrowed.items())
    return dataclasses.replace(
        card,
        name=name,
        contrasts=tuple(c for c in CONTRASTS if c in {*scans, *borrowed}),
        scores={c: default_score(card, c, n - synthetic.get(c, 0), thresholds) for c, n in scans.items()}
        | dict.fromkeys(borrowed, BORROWER if card.siamese else PLAIN_DEFAULT),
        thresholds=thresholds,
        threshold_rule=rule,
        strengths=calibrated["strengths"],
        tails=calibrated["tails"],
        fusion_power=calibrated["fusion_power"],
        reference_erosion=calibrated["reference_erosion"],
        shares=calibrated["shares"],
        borrowed=borrowed,
        preprocess=to_dict(preprocess),
        degraded=copies,
        without_shading=calibrated.get("without_shading", False),  # nor this
        odds_outside_white_matter=calibrated.get("odds_outside_white_matter", 1.0),  # nor this
        intensity_range=_range_in_words(card, preprocess),
    )


def _range_in_words(card: ModelCard, preprocess: PreprocessConfig) -> str:
    """The range of intensities in the brain mask, by the scaling of the model, and what its score network sees."""
    from uadcli.imaging.intensity import KNEE, MIDDLE

    if card.scaling == "tissue":
        anchors = f"the darkest percentile is 0, the mean of grey and white matter {MIDDLE:g}"
        return f"[0, 1): inside the brain mask {anchors}, compressed above {KNEE:g}"
    low, high = preprocess.lower_percentile, preprocess.upper_percentile
    above = "; the learned score also sees what lies above" if (one := card.score_network) and one.headroom else ""
    return f"[0, 1]: percentiles {low:g} and {high:g} inside the brain mask{above}"


def default_score(card: ModelCard, contrast: str, scans: int, thresholds: dict[str, dict[str, float]]) -> str:
    """`fisher` if enough real healthy scans calibrated it; with lesion labels, the score that learned from them.

    Without real healthy scans it is `siamese`: what is rare in synthetic scans may be normal tissue of a real scanner.
    """
    if not scans:
        return BORROWER if card.siamese else card.scores.get(contrast, PLAIN_DEFAULT)
    known = not card.labelled_cases and scans >= ENOUGH and contrast in thresholds.get(FISHER, {})
    return FISHER if known else card.scores.get(contrast, "siamese")


def _read_state(path: Path) -> dict[str, Any]:
    """Out-of-distribution checks or references of a run as tensors. Raises `InputError`."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise _broken(path.parent) from error


def digest_of(loaded: Weights) -> str:
    """The hexadecimal SHA-256 of the parameters of both networks, by which a calibration says what it is of."""
    from safetensors.torch import save

    state = {f"model.{name}": value for name, value in loaded.model.state_dict().items()}
    state |= {f"score.{name}": value for name, value in loaded.score_state.items()}
    return hashlib.sha256(save({name: value.detach().contiguous() for name, value in state.items()})).hexdigest()


def trained_weights(run: Path) -> Weights:
    """Reconstruction and score network of a finished run. Raises `InputError` if one of them is missing."""
    from uadcli.training import checkpoint, supervised
    from uadcli.training.reconstruction import Trainer
    from uadcli.training.score_network import SiameseTrainer

    found = checkpoint.find(run, checkpoint.BEST)
    of_score = checkpoint.find(run / "siamese", checkpoint.BEST)
    if of_score and supervised.is_supervised(run):
        return supervised.weights_of(run, SiameseTrainer.load(of_score))
    if not found or not (of_score or read_run(run).siamese.steps == 0):
        raise InputError("is not fully trained", path=run, hint=f"Continue: uad train --resume {run}.")
    return weights_of(run, Trainer.load(found), SiameseTrainer.load(of_score) if of_score else None)


def card_text(card: ModelCard, digest: str, config: TrainingConfig, gates: dict[str, Any]) -> str:
    """The model card as Markdown; `gates` are the tensors of the out-of-distribution checks in the weights."""
    from uadcli.reconstruction.reconstructors import BY_NAME

    learned = f"Siamese network, {card.siamese.get('steps')} steps" if card.siamese else "no network"
    lines = [
        f"# {card.name}",
        "",
        f"**{RESEARCH_USE}**",
        "",
        f"- contrasts: {', '.join(card.contrasts)}",
        f"- training data: {card.training_data}; validation share {config.validation_share} of the subjects",
        f"- reconstruction: {BY_NAME[config.model.method].title}, {card.steps} steps; score: {learned}",
        *_labels_in_words(card),
        f"- curvature flow: {card.curvature_flow} iterations",
        f"- scaling of intensities: {card.scaling}",
        *([f"- fusion: residual times the learned score to the power {card.fusion_power}"] if card.siamese else []),
        f"- thresholds: {card.threshold_rule}",
        *(f"  - {k}: " + ", ".join(f"{c} {v:.4f}" for c, v in t.items()) for k, t in card.thresholds.items()),
        f"- out-of-distribution check: {_checks_in_words(card, gates)}",
        f"- sha256: {digest}",
        "",
        f"Performance on {'other ' if card.labelled_cases else ''}lesions is unknown: nothing here was tested on any. "
        "Evaluate it before relying on it.",
    ]
    return "\n".join(lines) + "\n"


def _checks_in_words(card: ModelCard, gates: dict[str, Any]) -> str:
    """The kind of out-of-distribution check of each contrast."""
    from uadcli.model.out_of_distribution import gate_of

    found = {contrast: gate_of(gates, contrast) for contrast in card.contrasts}
    return ", ".join(f"{contrast} {CHECKS[one.kind] if one else 'none'}" for contrast, one in found.items())


def _labels_in_words(card: ModelCard) -> list[str]:
    """The lines of the card about a score network that was trained with labels."""
    if not card.labelled_cases:
        return []
    return [
        f"- lesion labels: the score network saw those of {card.labelled_cases} cases; siamese, z-siamese, both "
        "fusions and fisher, which use it, are supervised, and not comparable on these cases or similar ones"
    ]
