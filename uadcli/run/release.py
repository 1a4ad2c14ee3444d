"""`uad calibrate` and `uad export`: from a trained run to weights that `uad detect` uses."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uadcli.config import CONTRASTS, DetectConfig, TrainingConfig, to_dict
from uadcli.console import Reporter
from uadcli.errors import RESEARCH_USE, InputError, OutputError, UsageError
from uadcli.files import file_sha256, write_bytes, write_json, write_text
from uadcli.run.dataset import find
from uadcli.run.run_folder import healthy_of, prepare_usable, read_run, rows_of, usable_cases
from uadcli.run.training_run import weights_of
from uadcli.scoring.fusion import ENOUGH, FISHER

if TYPE_CHECKING:
    from uadcli.reconstruction.weights import ModelCard, Weights
    from uadcli.scoring.gate import Gate

GATE_FILE, REFERENCE_FILE = "gate.safetensors", "reference.safetensors"
BORROWER = "fusion-absolute"  # of a contrast without healthy scans: both networks, and nothing held against health
RULE = "99.5th percentile of the scores inside the brain of {} healthy scans ({})"


def calibrate(
    run: Path,
    healthy: Path,
    *,
    workers: int,
    reporter: Reporter,
    borrow: Mapping[str, str] | None = None,
    kinds: Sequence[str] | None = None,
) -> Path:
    """Thresholds of a trained run from healthy scans that it was not trained on; returns `thresholds.json`.

    They are of the scores `kinds`, or of all that the model has.

    In `borrow` a contrast of the run without healthy scans, such as T2w made from T1w, has the one whose thresholds it
    takes. Raises `InputError` if a scan was trained on or has lesions by the run's labels, if the run does not cover
    its contrast, or if nothing usable is left; `UsageError` for a contrast that cannot borrow so.
    """
    from safetensors.torch import save as to_bytes

    from uadcli.run.calibrate import calibrate as calibration_of
    from uadcli.run.examples import load_healthy
    from uadcli.run.fit_fusion import paste_all, precision_by_power, with_best_power
    from uadcli.run.gate import fit_gates, gate_of
    from uadcli.run.lesion_set import shape_files
    from uadcli.run.supervised import is_supervised
    from uadcli.scoring import reference

    config = read_run(run)
    cases = find(healthy, None)
    rows = rows_of(run / "data.tsv")
    trained = {row["sha256"]: row["subject"] for row in rows if row["part"] == "train"}
    ill = {row["sha256"]: row["subject"] for row in rows if row.get("lesion_voxels") not in (None, "", "0")}
    masked = {row["sha256"]: row["subject"] for row in rows if row.get("lesions") and "lesion_voxels" not in row}
    for case in cases:
        digest = file_sha256(case.scan)
        if digest in trained:
            what = f"this scan trained the model (as {trained[digest]}); its score says nothing of others"
            raise InputError(what, path=case.scan, hint="Calibrate on other healthy scans.")
        if digest in masked and case.lesions is None:
            what = f"this scan is a patient's (as {masked[digest]}), and its lesion mask does not lie beside it here"
            raise InputError(what, path=case.scan, hint="Bring the mask along, or leave the scan out.")
        if digest in ill:
            what = f"this scan has lesions by the labels of the run (as {ill[digest]})"
            raise InputError(what, path=case.scan, hint="Calibrate on healthy scans.")
    shapes = shape_files(config.lesion_shapes)  # a wrong folder is better known before the scans are prepared
    usable = prepare_usable(cases, run, config.preprocess, workers, reporter)
    usable = healthy_of(usable, run, config.preprocess, reporter)
    if not usable:
        raise InputError("holds no usable scan", path=healthy, hint="See the warnings above.")
    loaded = _loaded(run)
    for case in usable.values():
        if case.contrast not in loaded.card.contrasts:
            covered = ", ".join(loaded.card.contrasts)
            raise InputError(f"is {case.contrast}, and the run covers {covered}", path=case.scan, hint="Leave it out.")
    counts = Counter(c.contrast for c in usable.values())
    _check_borrowed(borrow or {}, loaded.card, counts)
    detect = DetectConfig(preprocess=config.preprocess)
    with reporter.stage("fusion"):
        pasted = {}
        for contrast in counts:
            held_out = load_healthy(
                [c for c in usable.values() if c.contrast == contrast], run / "cache", config.preprocess
            )
            pasted[contrast] = paste_all(loaded, held_out, detect, shapes)
        precisions = precision_by_power([one for group in pasted.values() for one in group])
        if not precisions:
            reporter.warn(f"no scan has room for a synthetic lesion: the fusion keeps {loaded.card.fusion_power}")
        loaded = with_best_power(loaded, precisions)
    with reporter.stage("calibration"):
        found, references = calibration_of(loaded, list(usable.values()), run / "cache", detect, kinds, pasted)
    with reporter.stage("gate"):
        if is_supervised(run):  # the reconstruction, and so its gate, is that of the weights
            gates = {c: one for c in loaded.card.contrasts if (one := gate_of(loaded.gate_state, c)) is not None}
        else:
            training = [c for c in usable_cases(run) if c.part == "train"]
            gates = fit_gates(loaded.model, training, list(usable.values()), run / "cache", config.preprocess)
        _write_gates(run / GATE_FILE, gates, reporter)
        write_bytes(run / REFERENCE_FILE, to_bytes(reference.state_of(references)))
    for taker, giver in (borrow or {}).items():
        found.lend(giver, taker)
    content = {
        **dataclasses.asdict(found),
        "fusion_power": loaded.card.fusion_power,
        "reference_erosion": loaded.card.reference_erosion,
        "precision_by_power": precisions,
        "scans": dict(counts),
        "patients": dict(Counter(c.contrast for c in usable.values() if c.lesions is not None)),
        "research_use_only": RESEARCH_USE,
    }
    write_json(run / "thresholds.json", content)
    for contrast, count in counts.items():
        if count < 20:
            reporter.warn(
                f"{count} {contrast} scans: a 99.5th percentile of so few is uncertain; 20 or more are better"
            )
    return run / "thresholds.json"


def export(run: Path, out: Path, *, overwrite: bool, reporter: Reporter) -> Path:
    """Weights, registry and card of a calibrated run in a folder that `uad detect --weights` takes.

    Raises `InputError` if the run is not calibrated, `OutputError` if the folder has weights already.
    """
    from uadcli.reconstruction import registry, weights

    config, name = read_run(run), out.resolve().name
    file = out / f"{name}.safetensors"
    if out.is_dir() and any(out.glob("*.safetensors")) and not overwrite:
        raise OutputError("holds weights already", path=out, hint="Choose another folder, or give --overwrite.")
    try:
        calibrated = json.loads((run / "thresholds.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError("is not calibrated", path=run, hint=f"First: uad calibrate {run} HEALTHY.") from error
    loaded = _loaded(run)
    thresholds, scans, borrowed = calibrated["thresholds"], calibrated["scans"], calibrated.get("borrowed", {})
    rule = RULE.format(sum(scans.values()), ", ".join(f"{n} {c}" for c, n in scans.items()))
    patients = calibrated.get("patients", {})
    rule += "".join(f"; {n} of the {c} ones are patients, by their slices without lesion" for c, n in patients.items())
    rule += "".join(f"; {taker} has no healthy scans and takes those of {giver}" for taker, giver in borrowed.items())
    low, high = config.preprocess.lower_percentile, config.preprocess.upper_percentile
    card = dataclasses.replace(
        loaded.card,
        name=name,
        contrasts=tuple(c for c in CONTRASTS if c in {*scans, *borrowed}),
        scores={c: default_score(loaded.card, c, n, thresholds) for c, n in scans.items()}
        | dict.fromkeys(borrowed, BORROWER),
        thresholds=thresholds,
        threshold_rule=rule,
        strengths=calibrated["strengths"],
        tails=calibrated.get("tails", {}),  # of a run that was calibrated before there were rates
        fusion_power=calibrated.get("fusion_power", loaded.card.fusion_power),  # or before it was fitted
        reference_erosion=calibrated.get("reference_erosion", 3),  # or before it was another
        shares=calibrated.get("shares", {}),
        borrowed=borrowed,
        preprocess=to_dict(config.preprocess),
        intensity_range=f"[0, 1]: percentiles {low:g} and {high:g} inside the brain mask",
    )
    out.mkdir(parents=True, exist_ok=True)
    beside = (_read_state(run / part) for part in (GATE_FILE, REFERENCE_FILE))
    digest = weights.save(file, loaded.model, card, loaded.score_state, *beside)
    registry.write(out, registry.Entry(name, file.name, digest, card.contrasts))
    write_text(out / f"{name}.md", _card_text(card, digest, config))
    reporter.info(f"sha256 {digest}")
    return file


def _check_borrowed(borrow: Mapping[str, str], card: ModelCard, counts: Mapping[str, int]) -> None:
    """Raises `UsageError` if a contrast cannot take the thresholds of another."""
    for taker, giver in borrow.items():
        if taker not in card.contrasts:
            raise UsageError(f"the run does not cover {taker}", hint=f"It covers {', '.join(card.contrasts)}.")
        if taker in counts:
            raise UsageError(f"{taker} has healthy scans of its own", hint="Leave --borrow out for it.")
        if giver not in counts:
            raise UsageError(f"there is no healthy {giver} scan to take thresholds from", hint="See --borrow.")


def default_score(card: ModelCard, contrast: str, scans: int, thresholds: dict[str, dict[str, float]]) -> str:
    """`fisher` where enough healthy scans calibrated it; with lesion labels the score that learned from them."""
    known = not card.labelled_cases and scans >= ENOUGH and contrast in thresholds.get(FISHER, {})
    return FISHER if known else card.scores.get(contrast, "siamese")


def _write_gates(path: Path, gates: dict[str, Gate], reporter: Reporter) -> None:
    """Keep the gates of a run, also where there is none: an old file must not outlive its calibration."""
    from safetensors.torch import save

    from uadcli.run.gate import MIN_HELD_OUT, MIN_TRAINING, state_of

    write_bytes(path, save(state_of(gates)))
    if not gates:
        needed = f"{MIN_TRAINING} training scans of the reconstruction and {MIN_HELD_OUT} healthy scans of a contrast"
        reporter.warn(f"no out-of-distribution gate: it needs at least {needed}")


def _read_state(path: Path) -> dict[str, Any]:
    """Gates or references of a run as tensors; none of a run that was calibrated before there were any."""
    from safetensors.torch import load

    return load(path.read_bytes()) if path.exists() else {}


def _loaded(run: Path) -> Weights:
    """Model and score of a finished run. Raises `InputError` if one of them is not there yet."""
    from uadcli.run import checkpoint, supervised
    from uadcli.run.siamese import SiameseTrainer
    from uadcli.run.train import Trainer

    found = checkpoint.find(run, checkpoint.BEST)
    of_score = checkpoint.find(run / "siamese", checkpoint.BEST)
    if of_score and supervised.is_supervised(run):
        return supervised.weights_of(run, SiameseTrainer.load(of_score))
    if not found or not of_score:
        raise InputError("is not trained to its end", path=run, hint=f"Go on: uad train --resume {run}.")
    return weights_of(run, Trainer.load(found), SiameseTrainer.load(of_score))


def _card_text(card: ModelCard, digest: str, config: TrainingConfig) -> str:
    """The model card: what went in, what is known, and what is not."""
    from uadcli.reconstruction.reconstructors import BY_NAME

    score_steps = (card.siamese or {}).get("steps")
    lines = [
        f"# {card.name}",
        "",
        f"**{RESEARCH_USE}**",
        "",
        f"- contrasts: {', '.join(card.contrasts)}",
        f"- training data: {card.training_data}; validation share {config.validation_share} of the subjects",
        f"- reconstruction: {BY_NAME[config.model.method].title}, {card.steps} steps; "
        f"score: Siamese network, {score_steps} steps",
        *_labels_in_words(card),
        f"- curvature flow: {card.curvature_flow} iterations",
        f"- fusion: residual times the learned score to the power {card.fusion_power}",
        f"- thresholds: {card.threshold_rule}",
        *(f"  - {k}: " + ", ".join(f"{c} {v:.4f}" for c, v in t.items()) for k, t in card.thresholds.items()),
        f"- sha256: {digest}",
        "",
        f"Not known: how it does on {'other ' if card.labelled_cases else ''}lesions; nothing here was tested on any. "
        "Evaluate it before you rely on it.",
    ]
    return "\n".join(lines) + "\n"


def _labels_in_words(card: ModelCard) -> list[str]:
    """What the card says of a score network that is no longer without labels."""
    if not card.labelled_cases:
        return []
    return [
        f"- lesion labels: the score network saw those of {card.labelled_cases} cases; siamese, z-siamese, both "
        "fusions and fisher, which have it in them, are supervised, and no fair comparison on these cases or others "
        "like them"
    ]
