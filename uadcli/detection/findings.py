"""Findings of a model in a prepared scan: map, components, and their uncertainty."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uadcli.arrays import Array
from uadcli.config import DetectConfig
from uadcli.console import Reporter
from uadcli.data.artefacts import Artefacts
from uadcli.data.contrast import NOTHING, Described, FoundContrast
from uadcli.data.prepare import Prepared, to_native
from uadcli.data.same_patient import Alignment
from uadcli.detection.repeat import Found, Repeats, Wanted, repeat
from uadcli.imaging.volume import Scan, Volume
from uadcli.model import components, out_of_distribution, own_grid, threshold
from uadcli.model.healthy_scans import HealthyComparison, compare_with_healthy
from uadcli.model.model import Model
from uadcli.model.out_of_distribution import Distance
from uadcli.model.subject import Subject
from uadcli.model.threshold import Resolved, ScanThreshold, Threshold
from uadcli.scoring.components import Component


@dataclass(frozen=True)
class ReadyScan:
    """A scan ready for its model: as read, on the model's grid, its brain mask on the canonical grid, its contrast.

    `levelled` is the scan on the common scale of intensities (`imaging.levels`), on its canonical grid. `further` are
    the patient's scans of other contrasts, prepared alike.
    """

    scan: Scan
    prepared: Prepared
    brain: NDArray[np.bool_]
    found: FoundContrast
    levelled: Volume
    labels: NDArray[np.bool_] | None = None
    curvature_flow: int = 0  # iterations applied to it
    artefacts: Artefacts = field(default_factory=Artefacts)
    described: Described = NOTHING
    further: tuple[Further, ...] = ()


@dataclass(frozen=True)
class Further:
    """A further scan of a patient with its place relative to the first; or the reason why it is left out."""

    path: Path
    sha256: str | None  # None if it cannot be read
    described: Described
    ready: ReadyScan | None = None
    alignment: Alignment | None = None
    left_out: str = ""
    column: str = ""  # of a table, its contrast


@dataclass(frozen=True)
class Contribution:
    """What one scan of a patient gave to the joined map: weight, findings and quality control of its own.

    What was not computed is None. The first scan has no alignment.
    """

    of: Further
    model: Model | None = None
    own: Findings | None = None
    quality: str | None = None
    weight: float | None = None

    @property
    def contrast(self) -> str | None:
        """The contrast of the scan; None if it could not be prepared."""
        return self.of.ready.found.contrast if self.of.ready else None


@dataclass(frozen=True)
class Question:
    """A model and the request to it: contrast, score, threshold, method, repeats, deviation over noise draws.

    Lesion labels on the scan's canonical grid in place of a threshold ask for the one with the best Dice. Without
    `own_grid` there is no map with the detail of the scan's own grid, which takes a second.
    """

    model: Model
    contrast: str
    score: str
    threshold: Resolved | NDArray[np.bool_]
    method: str
    healthy: list[float] | None  # strengths of the healthy scans to compare with
    why_unknown: str | None = None  # if there are none
    repeats: Wanted = field(default_factory=Wanted)
    own_grid: bool = True


@dataclass(frozen=True)
class Findings:
    """The result on the model's grid (96, 96, 80): scaled scan, map, component labels, reconstruction, components."""

    x: Array
    anomaly_map: Array
    labels: NDArray[np.uint8]
    recon: Array
    score: str
    threshold: Threshold
    components: list[Component]
    comparison: HealthyComparison | None  # None if the weights have no healthy scans for these settings
    distance: Distance
    repeats: Repeats
    method: str
    slice_scores: dict[int, float] | None  # by axial slice of the model's grid; None if the method has none
    strength: float  # of the scan (`scoring.calibration.strength`)
    why_unknown: str | None  # if there is no comparison
    joined: tuple[Contribution, ...] = ()  # the scans of a patient, the first one first; empty for a single scan
    own_map: Array | None = None  # on the scan's canonical grid, with more detail (`model.own_grid`), if there is one


def examine(asked: Question, ready: ReadyScan, config: DetectConfig, reporter: Reporter) -> Findings:
    """Reconstruct and score a scan. Raises a `UadError`."""
    scan, prepared = ready.scan, ready.prepared
    model, mask = asked.model, prepared.mask
    with reporter.stage("reconstruction"):
        x = prepared.scaled(config.preprocess)
        distance = out_of_distribution.measure(model, x, mask, asked.contrast)
        recon = model.reconstruct(x, mask, config.reconstruction, reporter.progress)
        subject = Subject(model, x, recon, mask, config, asked.contrast, unclipped=prepared.data)
    with reporter.stage("score"):
        anomaly_map = subject.score(asked.score)
        own_map = own_grid.own_map(subject, asked.score, ready.levelled, prepared) if asked.own_grid else None
        used = asked.threshold
        if isinstance(used, ScanThreshold):
            used = used.of(anomaly_map, mask)
        if not isinstance(used, Threshold):
            native = to_native(anomaly_map, scan, prepared, 1) if own_map is None else own_map
            used = threshold.best_dice(native, used)
            reporter.warn("the threshold was chosen by lesion labels: for comparison with papers only")
        marked, table = components.find(anomaly_map, used.value, prepared, config, used.extent)
        comparison = None
        if asked.healthy:
            known, copies = asked.healthy, model.card.degraded
            comparison = compare_with_healthy(anomaly_map, marked, known, prepared, config, copies)
        strength = comparison.strength if comparison else components.strength_of(anomaly_map, prepared, config)
        by_slice = model.slice_scores(x, recon, mask)
    with reporter.stage("repeats") if asked.repeats.count else nullcontext():
        repeats = repeat(subject, asked.score, Found(anomaly_map, used, prepared), asked.repeats, reporter.progress)
    return Findings(
        x,
        anomaly_map,
        marked,
        recon,
        asked.score,
        used,
        table,
        comparison,
        distance,
        repeats,
        asked.method,
        by_slice,
        strength,
        asked.why_unknown,
        own_map=own_map,
    )
