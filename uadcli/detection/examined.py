"""A prepared scan under its model: the question put to it, and the findings.

What can be checked before a scan is prepared, which takes long, is checked before (`check_early`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from uadcli import device
from uadcli.data.contrast import FoundContrast
from uadcli.data.names import Outputs
from uadcli.data.prepare import scaled_as
from uadcli.detection import repeat
from uadcli.detection.findings import Findings, Question, ReadyScan, examine
from uadcli.detection.options import DetectOptions
from uadcli.detection.repeat import Wanted
from uadcli.detection.session import Session
from uadcli.errors import UsageError, WeightsError
from uadcli.model import adapt, healthy_scans, model, threshold, ways
from uadcli.model.adapt import ScannerAdapter
from uadcli.model.healthy_folder import HealthyScans
from uadcli.model.threshold import ScanThreshold, Threshold

if TYPE_CHECKING:
    from uadcli.model.model import Model
    from uadcli.reconstruction.reconstructors import Method
    from uadcli.weights.card import ModelCard


@dataclass(frozen=True)
class Examined:
    """What was asked of a model about a scan, and what it found."""

    asked: Question
    findings: Findings


def examined(ready: ReadyScan, files: Outputs, session: Session) -> Examined:
    """Load the model of a prepared scan, reconstruct and score. Raises a `UadError`."""
    options, reporter = session.options, session.reporter
    with reporter.stage("weights"):
        asked = _question(ready, files, session)
        needed = asked.model.card.curvature_flow
        if needed != ready.curvature_flow:
            what = (
                f"was trained with {needed} iterations of curvature flow, the scan prepared with {ready.curvature_flow}"
            )
            raise WeightsError(
                what, path=asked.model.path, hint="Give --contrast, so that the model is known from the start."
            )
    scaled = scaled_as(session.config.preprocess, asked.model.card.scaling, reporter)
    scaling = replace(session, config=replace(session.config, preprocess=scaled))
    if options.way is not None:
        with reporter.stage("adaptation"):
            asked = _adapted(asked, _adapted_model(asked, ready, options.way, scaling))
    return Examined(asked, examine(asked, ready, scaling.config, reporter))


def _question(ready: ReadyScan, files: Outputs, session: Session) -> Question:
    """Load the model for a scan, and collect what it is asked for. Raises `UsageError` and `WeightsError`."""
    config, options, labels, contrast = session.config, session.options, ready.labels, ready.found.contrast
    loaded = session.model(contrast)
    if contrast not in loaded.card.contrasts:
        covered = ", ".join(loaded.card.contrasts)
        raise UsageError(f"{loaded.card.name} does not cover {contrast}", hint=f"It covers {covered}.")
    kind = options.score or loaded.card.scores[contrast]
    method = loaded.method(config.reconstruction)
    loaded.check(kind, contrast, config.reconstruction)  # fail early if healthy statistics are missing
    check_seeds(method, loaded.trained_method, kind, options)
    card = loaded.card_by(config.reconstruction)
    asked = (
        config if options.brain_mask is None else replace(config, preprocess=replace(config.preprocess, strip="none"))
    )
    used = threshold.resolve(options.rule, card, kind, contrast, asked) if labels is None else labels
    healthy = healthy_scans.strengths_of(card, kind, contrast, asked)
    unknown = healthy_scans.why_unknown(card, kind, contrast, asked)
    wanted = Wanted(options.stability or 0, "uncertainty" in files.paths)
    written = "map" in files.paths  # not the map of a further contrast, which is joined on the model's grid
    return Question(loaded, contrast, kind, used, method.name, healthy, unknown, wanted, written)


def check_seeds(method: Method, trained: str, kind: str, options: DetectOptions) -> None:
    """Raises `UsageError` if repeats or adaptation are requested but do not apply to the score, to the method, or to
    the network of the method that the weights were `trained` for."""
    from uadcli.reconstruction.reconstructors import find

    if options.stability or "uncertainty" in options.save:
        repeat.check(method, kind)
    if options.way is not None:
        adapt.check(kind, options.way, find(trained))


def _adapted_model(asked: Question, ready: ReadyScan, way: str, session: Session) -> Model:
    """The model adapted to the scanner by healthy scans or, if there are none, to the scan itself."""
    healthy, config = session.options.adapt, session.config
    if isinstance(healthy, HealthyScans):
        adapter = ScannerAdapter.of(asked.model, healthy, asked.contrast, config, session.reporter)
        return adapter.by(way).adapted(healthy.digest_like(ready.scan.path, ready.scan.sha256))
    x, mask = ready.prepared.scaled(config.preprocess), ready.prepared.mask
    return replace(asked.model, adaptation=ways.by_scan(way).adaptation(asked.model, x, mask, config.reconstruction))


def _adapted(asked: Question, adapted: Model) -> Question:
    """The same question to the adapted model; its thresholds were calibrated for the unadapted one."""
    used = asked.threshold
    if isinstance(used, Threshold | ScanThreshold):
        used = threshold.mismatched(used, "adapted")
    return replace(asked, model=adapted, threshold=used, healthy=None, why_unknown=healthy_scans.NOT_ADAPTED)


def check_early(known: FoundContrast | None, session: Session) -> ModelCard | None:
    """The model's card; fails before the scan is prepared if the model is missing or cannot do what is asked for.

    Until the contrast is known, nothing is downloaded: the card is that of the first model on this machine, None if
    there is none. Raises `UsageError` and `WeightsError`.
    """
    from uadcli.reconstruction.reconstructors import choose
    from uadcli.weights import weights

    options = session.options
    unknown = known is None and options.weights is None
    here = weights.first_here() if unknown else None
    if unknown and here is None and not device.offline():
        return None
    found, digest = here or weights.find(options.weights, known.contrast if known else None, reporter=session.reporter)
    card = weights.read_card(found, digest)
    by_method = card
    if known or options.weights:
        trained = weights.trained_method(found)
        method = choose(session.config.reconstruction.method, trained, found)
        check_seeds(method, trained, options.score or "", options)
        by_method = model.card_for(card, trained, method.name)
    if known and known.contrast in by_method.contrasts:
        kind = options.score or by_method.scores[known.contrast]
        model.check_network(by_method, kind, found)
        model.parts_of(by_method, kind, known.contrast)  # is the score calibrated?
        if options.labels is None:
            threshold.resolve(options.rule, by_method, kind, known.contrast)
    return card
