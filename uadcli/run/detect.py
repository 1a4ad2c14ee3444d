"""`uad detect`: from a scan file to an anomaly map on the scan's own grid. Read `ready_scan`, then `finish`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from uadcli import device
from uadcli.config import DetectConfig
from uadcli.console import Reporter
from uadcli.errors import UsageError
from uadcli.imaging import geometry, volume
from uadcli.imaging.geometry import Array
from uadcli.imaging.slices import GRID_AFFINE
from uadcli.imaging.volume import Scan, Volume
from uadcli.report import preview, sidecar
from uadcli.run import contrast, describe, gate, outputs, score, threshold
from uadcli.run.contrast import FoundContrast
from uadcli.run.gate import Distance
from uadcli.run.outputs import Outputs
from uadcli.run.prepare import Prepared, prepare
from uadcli.run.repeat import Repeats, repeat
from uadcli.run.threshold import BesideHealthy, Threshold, beside_healthy
from uadcli.scoring import quality
from uadcli.scoring.components import Component

if TYPE_CHECKING:
    import nibabel as nib

    from uadcli.reconstruction.weights import Weights

NATIVE_PICTURE_MM = 1.0


@dataclass(frozen=True)
class DetectOptions:
    """What a run needs beside the settings of its stages: where, with what, and which files."""

    contrast: str | None = None
    brain_mask: Path | None = None
    space: str = "native"
    save: tuple[str, ...] = ()
    only_map: bool = False
    html: bool = False
    weights: str | None = None
    score: str | None = None
    device: str = "auto"
    threads: int | None = None
    threshold: str = "auto"
    stability: int | None = None  # repeats with other seeds
    volume: int | None = None
    geometry: str = "auto"
    overwrite: bool = False
    strict: bool = False
    command: str = ""


@dataclass(frozen=True)
class DetectResult:
    """Where the map is, and the content of the sidecar."""

    map_path: Path
    sidecar: dict[str, Any]

    @property
    def image(self) -> nib.Nifti1Image | nib.Nifti2Image:
        """The map as a nibabel image, on the scan's own grid (with `space="mni"` on the template's), read when used."""
        import nibabel

        return nibabel.load(self.map_path)  # type: ignore[return-value]

    @property
    def findings(self) -> list[dict[str, Any]]:
        """The components of the map, largest first: volume in ml, peak and mean score, places in mm, regions."""
        return list(self.sidecar["anomaly"]["components"])


@dataclass(frozen=True)
class ReadyScan:
    """A scan ready for its model: as read, on the model's grid, its brain mask on its canonical grid, its contrast."""

    scan: Scan
    prepared: Prepared
    brain: NDArray[np.bool_]
    found: FoundContrast


@dataclass(frozen=True)
class Findings:
    """The result on the model's grid (96, 96, 80): map, component labels, pseudo-healthy volume, and the table."""

    anomaly_map: Array
    labels: NDArray[np.uint8]
    recon: Array
    score: str
    threshold: Threshold
    components: list[Component]
    beside: BesideHealthy | None  # None where the weights know no healthy scans, or not with these settings
    distance: Distance
    repeats: Repeats
    method: str = "cddpm"
    slice_scores: dict[int, float] | None = None  # by axial slice of the model's grid


def detect(
    scan: Path | str,
    output: Path | str | None = None,
    *,
    config: DetectConfig | None = None,
    options: DetectOptions | None = None,
    reporter: Reporter | None = None,
) -> DetectResult:
    """Write the anomaly map of one scan, and what goes with it.

    Errors are `UadError`s; with `strict`, a failed quality control is a `QualityError` after the files are written.
    """
    config, options, reporter = config or DetectConfig(), options or DetectOptions(), reporter or Reporter(silent=True)
    path, target = Path(scan), Path(output) if output is not None else None
    if not path.exists():
        volume.read_scan(path)  # says what is wrong
    threshold.parse(options.threshold)
    files = outputs.plan(path, target, options.space, options.save, options.only_map, options.overwrite, options.html)
    result = _run(path, files, config, options, reporter)
    if options.strict:
        sidecar.refuse_failed(path, result.sidecar)
    return result


def _run(
    path: Path,
    files: Outputs,
    config: DetectConfig,
    options: DetectOptions,
    reporter: Reporter,
) -> DetectResult:
    name, why = device.choose(options.device)
    threads = device.bound_threads(options.threads)
    reporter.info(f"{sidecar.RESEARCH_USE}")
    reporter.info(f"device {name} ({why}), {threads} threads")
    ready = ready_scan(path, config, options, name, reporter)
    return finish(ready, files, config, options, name, reporter)


def ready_scan(path: Path, config: DetectConfig, options: DetectOptions, name: str, reporter: Reporter) -> ReadyScan:
    """The first half of a detection, which needs no model: read, strip, register, correct, tell the contrast.

    `name` is the torch device of the brain mask. Raises `InputError`, and `WeightsError` where no model fits.
    """
    from uadcli.reconstruction import weights
    from uadcli.reconstruction.reconstructors import choose

    with reporter.stage("read"):
        scan = volume.read_scan(path, volume=options.volume, geometry=options.geometry)
    for text in scan.warnings:
        reporter.warn(text)
    known = contrast.known_before(path, options.contrast)
    if known or options.weights:  # a missing model is better known now than in a minute
        found, _ = weights.find(options.weights, known.contrast if known else None, tell=reporter.info)
        if config.reconstruction.method:
            choose(config.reconstruction.method, weights.trained_method(found), found)
    prepared, brain = prepare(scan, config.preprocess, brain_mask=options.brain_mask, device=name, stage=reporter.stage)
    return ReadyScan(scan, prepared, brain, _contrast(known, prepared, reporter))


def finish(
    ready: ReadyScan,
    files: Outputs,
    config: DetectConfig,
    options: DetectOptions,
    name: str,
    reporter: Reporter,
    load: Callable[[Path, str | None], Weights] | None = None,
) -> DetectResult:
    """The second half: reconstruct on the device `name`, score, write; the sidecar, which vouches for all, comes last.

    `load` takes the place of `weights.load`. Raises `UadError`s.
    """
    from uadcli.reconstruction import weights

    scan, prepared, brain, found = ready.scan, ready.prepared, ready.brain, ready.found
    with reporter.stage("weights"):
        loaded = (load or weights.load)(*weights.find(options.weights, found.contrast))
        if found.contrast not in loaded.card.contrasts:
            covered = ", ".join(loaded.card.contrasts)
            raise UsageError(f"{loaded.card.name} does not cover {found.contrast}", hint=f"It covers {covered}.")
        kind = options.score or loaded.card.scores[found.contrast]
        method = score.method_of(loaded, config.reconstruction).name
        card = score.card_for(loaded, method)
        used = threshold.resolve(options.threshold, card, kind, found.contrast)
    with reporter.stage("reconstruction"):
        x = prepared.scaled(config.preprocess)
        distance = gate.measure(loaded, x, prepared.mask, found.contrast, name)
        recon = score.reconstruct(loaded, x, prepared.mask, config.reconstruction, name, reporter.progress)
    with reporter.stage("score"):
        anomaly_map = score.score(loaded, x, recon, prepared.mask, kind, config, name)
        labels, table = score.find(anomaly_map, used.value, prepared, config)
        healthy = threshold.healthy_scans(card, kind, found.contrast, config)
        beside = beside_healthy(anomaly_map, labels, len(table), healthy, prepared, config) if healthy else None
        by_slice = score.slice_scores(loaded, x, recon, prepared.mask)
    uncertain, asked = "uncertainty" in files.paths, options.stability
    with reporter.stage("repeats") if uncertain or asked else nullcontext():
        repeats = repeat(
            loaded, x, prepared, anomaly_map, kind, used.value, config, asked, uncertain, name, reporter.progress
        )
    findings = Findings(anomaly_map, labels, recon, kind, used, table, beside, distance, repeats, method, by_slice)
    reporter.info(describe.summary(findings, prepared))
    verdict = quality.assess(
        prepared.brain_volume_ml,
        prepared.mask_overlap,
        prepared.border_fraction,
        stretch=prepared.stretch,
        distance=distance.value,
        distance_limit=distance.limit,
    )
    for check in verdict.checks:
        if check.verdict in ("warn", "fail"):
            reporter.warn(f"quality control, {check.verdict}: {check.name} is {check.value:.2f} ({check.text})")
    with reporter.stage("write"):
        if "sidecar" in files.paths:  # an old one must not vouch for new files
            files.paths["sidecar"].unlink(missing_ok=True)
        _write(files, scan, brain, prepared, findings, options)
    content = describe.sidecar_of(
        scan, files, prepared, loaded, found, findings, verdict, config, options, name, reporter
    )
    if "page" in files.paths:
        from uadcli.run.page import write_page

        write_page(files.paths["page"], x, findings.recon, findings.anomaly_map, findings.labels, prepared, content)
    if "sidecar" in files.paths:
        sidecar.write_json(files.paths["sidecar"], content)
    return DetectResult(files.map, content)


def _contrast(known: FoundContrast | None, prepared: Prepared, reporter: Reporter) -> FoundContrast:
    """The contrast, with a warning where the image is doubtful or speaks against the file name."""
    if known is None:
        guess = prepared.contrast()
        found = FoundContrast(guess.contrast, "image")
        if guess.doubtful:
            reporter.warn(f"T1w and FLAIR are hard to tell apart in this image; {guess.contrast} is taken (--contrast)")
    else:
        found = known
        seen = prepared.contrast() if known.source == "file name" else None
        if seen and seen.contrast != known.contrast and not seen.doubtful:
            reporter.warn(f"the file name says {known.contrast}, the image looks like {seen.contrast} (--contrast)")
    reporter.info(f"contrast {found.contrast} (by {found.source})")
    return found


def to_native(data: Array, scan: Scan, prepared: Prepared, order: int) -> Array:
    """Bring a volume of the model's grid back to the scan's canonical grid by the inverse of the registration."""
    back = np.linalg.inv(prepared.world_map)
    return geometry.resample(data, GRID_AFFINE, scan.volume.shape, scan.volume.affine, back, order=order)


def _write(
    files: Outputs, scan: Scan, brain: NDArray[np.bool_], prepared: Prepared, findings: Findings, options: DetectOptions
) -> None:
    native_map = to_native(findings.anomaly_map, scan, prepared, 1)
    native_mask = to_native((findings.labels > 0).astype(np.float32), scan, prepared, 1) >= 0.5
    grid = "native" if options.space != "mni" else "mni"
    for key, path in files.paths.items():
        space = "mni" if key.startswith("mni_") else grid
        kind = key.removeprefix("mni_")
        if kind == "map":
            _write_one(path, space, scan, native_map, findings.anomaly_map, np.float32, "anomaly score")
        elif kind == "mask":
            _write_one(path, space, scan, native_mask, findings.labels > 0, np.uint8, "anomaly mask")
        elif kind == "recon":
            _write_one(
                path, space, scan, to_native(findings.recon, scan, prepared, 1), findings.recon, np.float32, "recon"
            )
        elif kind == "uncertainty" and (spread := findings.repeats.uncertainty) is not None:
            _write_one(path, space, scan, to_native(spread, scan, prepared, 1), spread, np.float32, "score deviation")
        elif kind == "brain":
            _write_one(path, space, scan, brain, prepared.mask, np.uint8, "brain mask")
        elif kind == "transform":
            sidecar.write_json(path, describe.transform(prepared))
        elif kind == "overlay":
            _picture(path, scan, brain, native_map, native_mask, findings.threshold.value)


def _write_one(path: Path, space: str, scan: Scan, native: Any, mni: Any, dtype: type, name: str) -> None:
    if space == "mni":
        volume.write_mni(path, Volume(mni, GRID_AFFINE), dtype=dtype, name=name)
    else:
        volume.write_native(path, native, scan, dtype=dtype, name=name)


def _picture(
    path: Path,
    scan: Scan,
    brain: NDArray[np.bool_],
    native_map: Array,
    native_mask: NDArray[np.bool_],
    threshold: float,
) -> None:
    """The overlay, on an isotropic grid with the scan's own directions and field of view."""
    size = geometry.spacing(scan.volume.affine)
    factor = NATIVE_PICTURE_MM / size
    affine = scan.volume.affine @ np.diag([*factor, 1.0])
    x, y, z = (int(n) for n in np.maximum(np.round(np.array(scan.volume.shape) / factor), 1))

    def fine(data: Any, order: int = 1) -> Array:
        return geometry.resample(data.astype(np.float32), scan.volume.affine, (x, y, z), affine, order=order)

    preview.render_overlay(
        path,
        fine(np.where(brain, scan.volume.data, 0)),
        fine(native_map),
        fine(native_mask) >= 0.5,
        fine(brain) >= 0.5,
        affine,
        threshold,
        scan.path.name,
    )
