"""`uad detect`: from a scan file to an anomaly map on the scan's own grid. Read `ready_scan`, then `finish`."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from uadcli import device
from uadcli.config import DetectConfig
from uadcli.console import Reporter
from uadcli.data import artefacts, contrast, names, scan_json
from uadcli.data.contrast import Described
from uadcli.data.names import Outputs
from uadcli.data.prepare import prepare, smoothed_as
from uadcli.detection import joined, niivue, record, together
from uadcli.detection.examined import check_early, examined
from uadcli.detection.findings import ReadyScan
from uadcli.detection.further import with_further
from uadcli.detection.options import DetectOptions
from uadcli.detection.session import Session, in_arithmetic, with_healthy
from uadcli.detection.verdict import judge, report
from uadcli.detection.write import write_files
from uadcli.errors import RESEARCH_USE, UsageError, about
from uadcli.files import refuse_closed, write_json
from uadcli.imaging import mask_file, volume
from uadcli.imaging.volume import Scan
from uadcli.model import model
from uadcli.report import sidecar
from uadcli.running import faults
from uadcli.scoring import healthy_reference

if TYPE_CHECKING:
    import nibabel as nib


INTENSITY = "intensity"  # the score that is the scan itself


@dataclass(frozen=True)
class DetectResult:
    """The path of the map, and the content of the sidecar."""

    map_path: Path
    sidecar: dict[str, Any]

    @property
    def image(self) -> nib.Nifti1Image | nib.Nifti2Image:
        """The map as a nibabel image on the scan's own grid (with `space="mni"`, the template's), loaded on access."""
        import nibabel

        return nibabel.load(self.map_path)  # type: ignore[return-value]

    @property
    def findings(self) -> list[dict[str, Any]]:
        """The components of the map, largest first: volume in ml, peak and mean score, positions in mm, regions."""
        return list(self.sidecar["anomaly"]["components"])


def detect(
    scan: Path | str | Sequence[Path | str],
    output: Path | str | None = None,
    *,
    config: DetectConfig | None = None,
    options: DetectOptions | None = None,
    reporter: Reporter | None = None,
) -> DetectResult:
    """Write the anomaly map of one scan, with mask, picture and sidecar unless `options` say otherwise.

    Of several scans of a patient, each of another contrast, the evidence is joined on the grid of the first. Without
    `output` the map is `SCAN_desc-anomaly_map.nii.gz` next to the scan. Messages go to `reporter`, or to the logger
    `uadcli`. Raises a `UadError`; with `strict`, failed quality control raises `QualityError` after the files are
    written.
    """
    config, options, reporter = config or DetectConfig(), options or DetectOptions(), reporter or Reporter(silent=True)
    path, *more = _paths(scan)
    target = Path(output) if output is not None else None
    options = replace(options, further=(*options.further, *more))
    if path.is_dir() or not path.exists():
        volume.read_scan(path)  # says what is wrong
    options.rule.check_labels(options.labels is not None)
    options.check_further()
    options = with_healthy(options, reporter)
    refuse_closed(target or path)
    together.sweep_results((target or path).parent)
    files = names.plan(path, target, options)
    with together.made_together(files) as hidden:
        with faults.naming(path, files.map):
            result = _run(path, hidden, config, options, reporter)
        together.publish(hidden, files)
    result = replace(result, map_path=files.map)
    if options.strict:
        sidecar.refuse_failed(path, result.sidecar)
    return result


def _paths(scan: object) -> list[Path]:
    """The path of a scan, or of several. Raises `UsageError` for anything else, such as an image or an array."""
    hint = "Give the path of a scan file, or the paths of several; save an image or array to a file first."
    given = scan if isinstance(scan, Sequence) and not isinstance(scan, str) else [scan]
    paths = list[Path]()
    for one in given:
        if not isinstance(one, str | os.PathLike):
            raise UsageError(f"a scan cannot be given as {type(one).__name__}", hint=hint)
        paths.append(Path(one))
    if not paths:
        raise UsageError("no scan is given", hint=hint)
    return paths


def _run(path: Path, files: Outputs, config: DetectConfig, options: DetectOptions, reporter: Reporter) -> DetectResult:
    niivue.ensure(options.html, reporter)
    name, why = device.choose(options.device)
    threads = device.bound_threads(options.threads)
    reporter.info(f"{RESEARCH_USE}")
    reporter.info(f"device {name} ({why}), {threads} threads")
    load = functools.cache(functools.partial(model.load, device=name))  # contrasts of a patient may share a model
    session = Session(in_arithmetic(config), options, name, reporter, load=load)
    ready = ready_scan(path, session)
    with about(path):
        return finish(ready, files, session)


def ready_scan(path: Path, session: Session) -> ReadyScan:
    """The first half of a detection, which needs only the model's card: read, strip, register, find the contrast.

    The further contrasts of the options are prepared as well, and registered to the scan. Raises `InputError`, and
    `WeightsError` if no model fits.
    """
    return with_further(path, session, _ready_one) if session.options.further else _ready_one(path, session)


def _ready_one(path: Path, session: Session) -> ReadyScan:
    config, options, reporter = session.config, session.options, session.reporter
    with reporter.stage("read"):
        scan = volume.read_scan(path, volume=options.volume, geometry=options.geometry)
    for text in scan.warnings:
        reporter.warn(text)
    labels = _labels(options.labels, scan, reporter)
    described = _described(path, reporter)
    known = contrast.known_before(path, options.contrast, described, next(iter(options.columns), ""))
    card = check_early(known, session)
    smoothing = card.curvature_flow if card else 0
    settings = smoothed_as(config.preprocess, smoothing, reporter)
    mask = options.brain_mask
    prepared, stripped = prepare(scan, settings, brain_mask=mask, device=session.device, stage=reporter.stage)
    reporter.info(f"brain mask: {prepared.strip}")
    found = scan_json.found_contrast(path, known, prepared, described)
    reporter.info(f"contrast {found.contrast} (by {found.source})")
    with reporter.stage("artefacts"), about(path):
        signs = artefacts.measure(scan.volume, stripped, prepared)
    return ReadyScan(scan, prepared, stripped.brain, found, stripped.volume, labels, smoothing, signs, described)


def finish(ready: ReadyScan, files: Outputs, session: Session) -> DetectResult:
    """The second half: reconstruct, score and write; the sidecar is written last, as proof of completion.

    Raises a `UadError`.
    """
    session = replace(session, options=with_healthy(session.options, session.reporter))
    options, reporter, scan, prepared = session.options, session.reporter, ready.scan, ready.prepared
    own = joined.find(ready, files, session) if ready.further else examined(ready, files, session)
    asked, findings = own.asked, own.findings
    reporter.info(record.summary(findings, prepared, scan.sides_known))
    verdict = judge(ready, findings.distance)
    report(verdict, findings.distance, reporter)
    verdict = joined.judge_all(verdict, findings.joined)
    if options.strict and findings.distance.beyond is None:
        reporter.warn(f"--strict cannot check whether the scan is like the training scans: {findings.distance.note}")
    with reporter.stage("write"):
        if "sidecar" in files.paths:  # an old one must not describe new files
            files.paths["sidecar"].unlink(missing_ok=True)
        write_files(files, scan, ready.brain, prepared, findings, options.space)
    # the settings as given, not as completed by the weights: a batch compares them when it resumes
    content = record.sidecar_of(ready, files, asked.model, findings, verdict, session)
    if "page" in files.paths:
        from uadcli.detection.page import write_page

        with reporter.stage("page"):
            healthy = healthy_reference.from_state(asked.model.weights.reference_state, INTENSITY, asked.contrast)
            write_page(files.paths["page"], ready, findings, content, str(options.html), healthy)
    if "sidecar" in files.paths:
        write_json(files.paths["sidecar"], content)
    return DetectResult(files.map, content)


def _labels(path: Path | None, scan: Scan, reporter: Reporter) -> NDArray[np.bool_] | None:
    """The user's lesion mask, if there is one; reports how it was read."""
    if path is None:
        return None
    found = mask_file.read_labels(path, scan)
    reporter.info(f"lesions are the {found.taken} of {path.name}")
    return found.voxels


def _described(path: Path, reporter: Reporter) -> Described:
    """What the JSON file of the scan says about its contrast; a warning if it cannot be read."""
    described = scan_json.describe(path)
    if described.warning:
        reporter.warn(described.warning)
    return described
