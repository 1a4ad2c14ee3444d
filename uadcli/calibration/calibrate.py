"""`uad calibrate`: thresholds and healthy references of a trained run, from held-out healthy scans."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uadcli import device
from uadcli.calibration.export import GATE_FILE, REFERENCE_FILE, digest_of, trained_weights
from uadcli.config import DetectConfig, TrainingConfig
from uadcli.console import Reporter
from uadcli.data.dataset import find, is_synthetic
from uadcli.data.scans import Scans, each_once
from uadcli.errors import RESEARCH_USE, InputError, UsageError
from uadcli.files import file_sha256, in_json, make_folder, write_together
from uadcli.imaging.stored import same_content
from uadcli.imaging.volume import stem
from uadcli.model.model import Model
from uadcli.running.stage import Part
from uadcli.settings.training import HAND, CalibrationMachine, Fitted
from uadcli.training.run_folder import healthy_of, prepare_usable, read_run, refuse_changed, rows_of, usable_cases

if TYPE_CHECKING:
    from uadcli.calibration.health import Cohort, References
    from uadcli.model.hand import HandGate
    from uadcli.scoring.out_of_distribution import Gate
    from uadcli.weights.card import ModelCard


def calibrate(
    run: Path | str,
    healthy: Path | str,
    *,
    machine: CalibrationMachine | None = None,
    borrow: Mapping[str, str] | None = None,
    fitted: Fitted | None = None,
    reporter: Reporter | None = None,
) -> Path:
    """Calibrate a trained run on healthy scans that it was not trained on; returns the path of `thresholds.json`.

    `borrow` maps a contrast of the run without healthy scans, such as T2w made from T1w, to the contrast whose
    thresholds it borrows. Raises `InputError` if a scan was trained on or has lesions by the run's labels, if the run
    does not cover its contrast, or if no usable scan is left; `UsageError` for a contrast that cannot borrow, or for
    HAND in a run on labelled scans, which keeps the check of its weights; `DeviceError` if the device is missing;
    `OutputError` if the run cannot be written.
    """
    from safetensors.torch import save as to_bytes

    from uadcli.calibration.health import Cohort
    from uadcli.model.out_of_distribution import MIN_HELD_OUT, MIN_TRAINING, state_of
    from uadcli.scoring import healthy_reference
    from uadcli.training.examples.pasted_lesions import shape_files
    from uadcli.training.supervised import is_supervised

    run, healthy, reporter = Path(run), Path(healthy), reporter or Reporter(silent=True)
    machine, fitted = machine or CalibrationMachine(), fitted or Fitted()
    config = read_run(run)
    make_folder(run)  # fail early if it cannot be written
    name, why = device.choose(machine.device)
    threads = device.bound_threads(machine.threads)
    reporter.info(f"device {name} ({why}), {threads} threads")
    model = Model(trained_weights(run), name)
    rows = rows_of(run / "data.tsv")
    if (supervised := is_supervised(run)) and fitted.gate == HAND:
        what = "a run on labelled scans keeps the out-of-distribution check of its weights"
        raise UsageError(what, hint="Leave --gate out.")
    refuse_changed([row for row in rows if row["part"] == "train"], reporter)  # they join the references
    trained = {row["sha256"]: row["subject"] for row in rows if row["part"] == "train"}
    ill = {row["sha256"]: row["subject"] for row in rows if row.get("lesion_voxels") not in (None, "", "0")}
    masked = {row["sha256"]: row["subject"] for row in rows if row.get("lesions") and "lesion_voxels" not in row}
    cases = each_once(find(healthy, None, reporter.info), reporter)  # of two copies, one would judge the other
    for case in cases:
        digest = _digest(case.scan, rows)
        if digest in trained:
            what = f"the model was trained on this scan (as {trained[digest]})"
            raise InputError(what, path=case.scan, hint="Calibrate on other healthy scans.")
        if digest in masked and case.lesions is None:
            what = f"this scan belongs to a patient (as {masked[digest]}), and its lesion mask is not next to it"
            raise InputError(what, path=case.scan, hint="Add the mask, or leave the scan out.")
        if digest in ill:
            what = f"this scan has lesions by the labels of the run (as {ill[digest]})"
            raise InputError(what, path=case.scan, hint="Calibrate on healthy scans.")
    shapes = shape_files(config.lesion_shapes)  # fail early if the folder is wrong
    scans = Scans(run / "cache", config.preprocess)
    usable = healthy_of(prepare_usable(cases, scans, machine.workers, reporter), scans, reporter)
    if not usable:
        raise InputError("contains no usable scan", path=healthy, hint="See the warnings above.")
    for case in usable.values():
        if case.contrast not in model.card.contrasts:
            covered = ", ".join(model.card.contrasts)
            raise InputError(f"is {case.contrast}, but the run covers {covered}", path=case.scan, hint="Leave it out.")
    counts = Counter(c.contrast for c in usable.values())
    _check_borrowed(borrow or {}, model.card, counts)
    training = [c for c in usable_cases(run) if c.part == "train"]
    cohort = Cohort(list(usable.values()), training, run / "cache", shapes, fitted.degraded)
    settings = DetectConfig(preprocess=config.preprocess)
    content, references = measure(model, cohort, settings, reporter, borrow=borrow, kinds=fitted.kinds)
    with reporter.stage("gate"):
        gates = _kept_gates(model) if supervised else _gates(model, cohort, config, fitted.gate, reporter)
        if not gates:
            needed = (
                f"{MIN_TRAINING} training scans of the reconstruction and {MIN_HELD_OUT} healthy scans of a contrast"
            )
            reporter.warn(f"no out-of-distribution check: it needs at least {needed}")
    thresholds = in_json(content | {"networks": digest_of(model.weights)})
    states = {GATE_FILE: state_of(gates), REFERENCE_FILE: healthy_reference.state_of(references)}  # of no gate, too
    files = {run / name: to_bytes(state) for name, state in states.items()}
    write_together({**files, run / "thresholds.json": thresholds.encode()})
    for contrast, count in counts.items():
        if count < 20:
            reporter.warn(
                f"{count} {contrast} scans: a 99.5th percentile of so few is uncertain; 20 or more are better"
            )
    return run / "thresholds.json"


def _digest(scan: Path, rows: Sequence[Mapping[str, str]]) -> str:
    """The sha256 of a scan, or that in the rows of `data.tsv` of one that only compression tells apart from it."""
    for row in rows:
        known = Path(row["scan"])
        other = known.name != scan.name and stem(known) == stem(scan)
        if other and known.exists() and same_content(scan, known):
            return row["sha256"]
    return file_sha256(scan)


def measure(
    model: Model,
    cohort: Cohort,
    config: DetectConfig,
    reporter: Reporter,
    *,
    borrow: Mapping[str, str] | None = None,
    kinds: Sequence[str] | None = None,
) -> tuple[dict[str, Any], References]:
    """The content of `thresholds.json` for a model, and the healthy references of its scores; see `calibrate`."""
    from uadcli.calibration.fit_fusion import PastedScan, paste_all, precision_by_power, with_best_power
    from uadcli.calibration.health import calibrate as calibration_of
    from uadcli.training.examples.synthetic import load_healthy

    counts = Counter(c.contrast for c in cohort.held_out)
    pasted, precisions = dict[str, list[PastedScan]](), dict[float, float]()
    if model.card.siamese is not None:  # without a score network there is nothing to combine
        with reporter.stage("fusion"):
            for contrast in counts:
                healthy = [c for c in cohort.held_out if c.contrast == contrast]
                volumes = load_healthy(healthy, Scans(cohort.cache, config.preprocess))
                pasting = Part(reporter.note, f"reconstructing {contrast} with synthetic lesions,")
                pasted[contrast] = paste_all(model, volumes, config, cohort.shapes, pasting)
            precisions = precision_by_power([one for group in pasted.values() for one in group])
            if not precisions:
                reporter.warn(f"no scan has room for a synthetic lesion: the fusion keeps {model.card.fusion_power}")
            model = with_best_power(model, precisions)
    with reporter.stage("calibration"):
        found, references = calibration_of(model, cohort, config, kinds, pasted, reporter.progress)
    for taker, giver in (borrow or {}).items():
        found.lend(giver, taker)
    content = {
        **dataclasses.asdict(found),
        "fusion_power": model.card.fusion_power,
        "reference_erosion": model.card.reference_erosion,
        "without_shading": model.card.without_shading,
        "odds_outside_white_matter": model.card.odds_outside_white_matter,
        "precision_by_power": precisions,
        "scans": dict(counts),
        "degraded": cohort.degraded,
        "patients": dict(Counter(c.contrast for c in cohort.held_out if c.lesions is not None)),
        "synthetic": dict(Counter(c.contrast for c in cohort.held_out if is_synthetic(c.scan))),
        "research_use_only": RESEARCH_USE,
    }
    return content, references


def _check_borrowed(borrow: Mapping[str, str], card: ModelCard, counts: Mapping[str, int]) -> None:
    """Raises `UsageError` if a contrast cannot borrow the thresholds of another."""
    for taker, giver in borrow.items():
        if taker not in card.contrasts:
            raise UsageError(f"the run does not cover {taker}", hint=f"It covers {', '.join(card.contrasts)}.")
        if taker in counts:
            raise UsageError(f"{taker} has its own healthy scans", hint="Leave --borrow out for it.")
        if giver not in counts:
            raise UsageError(f"there is no healthy {giver} scan to borrow thresholds from", hint="See --borrow.")


def _kept_gates(model: Model) -> Mapping[str, Gate | HandGate]:
    """The out-of-distribution checks of the weights that the model was made from, by contrast."""
    from uadcli.model.out_of_distribution import gate_of

    return {c: one for c in model.card.contrasts if (one := gate_of(model.weights.gate_state, c)) is not None}


def _gates(
    model: Model, cohort: Cohort, config: TrainingConfig, kind: str, reporter: Reporter
) -> Mapping[str, Gate | HandGate]:
    """The out-of-distribution checks of this kind by contrast, fitted to the healthy scans."""
    from uadcli.calibration.fit_hand import fit_hand
    from uadcli.model.out_of_distribution import fit_gates
    from uadcli.training.examples.synthetic import label_files, load_labels

    if kind == HAND:
        labels = load_labels(label_files(config.label_maps), cohort.cache)
        scans = Scans(cohort.cache, config.preprocess)
        return fit_hand(cohort.training, cohort.held_out, scans, labels, reporter.note)
    encoding = Part(reporter.note, "encoding scan")
    return fit_gates(model.network, cohort.training, cohort.held_out, cohort.cache, config.preprocess, encoding)
