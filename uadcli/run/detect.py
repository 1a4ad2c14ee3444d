"""`uad detect`: from a scan file to an anomaly map on the scan's own grid. Read `_run` for the way of the data."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadcli import __version__, device
from uadcli.config import DetectConfig, to_dict
from uadcli.console import Reporter
from uadcli.errors import QualityError, UsageError
from uadcli.imaging import geometry, volume
from uadcli.imaging.geometry import Array
from uadcli.imaging.slices import GRID_AFFINE
from uadcli.imaging.volume import Scan, Volume
from uadcli.report import preview, sidecar
from uadcli.run import contrast, outputs
from uadcli.run.contrast import FoundContrast
from uadcli.run.outputs import Outputs
from uadcli.run.prepare import Prepared, prepare
from uadcli.scoring import quality
from uadcli.scoring.components import Component, components
from uadcli.scoring.residual import anomaly_score

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
    device: str = "auto"
    threads: int | None = None
    threshold: str = "calibrated"
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


@dataclass(frozen=True)
class Findings:
    """The result on the model's grid (96, 96, 80): map, component labels, pseudo-healthy volume, and the table."""

    anomaly_map: Array
    labels: NDArray[np.uint8]
    recon: Array
    threshold: float
    components: list[Component]


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
    threshold = _threshold_option(options.threshold)
    files = outputs.plan(path, target, options.space, options.save, options.only_map, options.overwrite, options.html)
    result = _run(path, files, config, options, threshold, reporter)
    if options.strict and result.sidecar["qc"]["verdict"] == "fail":
        failed = ", ".join(c["name"] for c in result.sidecar["qc"]["checks"] if c["verdict"] == "fail")
        raise QualityError(
            f"quality control failed ({failed})", path=path, hint="Look at the overlay; try --brain-mask."
        )
    return result


def _run(
    path: Path,
    files: Outputs,
    config: DetectConfig,
    options: DetectOptions,
    threshold: float | None,
    reporter: Reporter,
) -> DetectResult:
    from uadcli.reconstruction import weights
    from uadcli.run.calibrate import reconstruct

    name, why = device.choose(options.device)
    threads = device.bound_threads(options.threads)
    reporter.info(f"{sidecar.RESEARCH_USE}")
    reporter.info(f"device {name} ({why}), {threads} threads")
    with reporter.stage("read"):
        scan = volume.read_scan(path, volume=options.volume, geometry=options.geometry)
    for text in scan.warnings:
        reporter.warn(text)
    known = contrast.known_before(path, options.contrast)
    if known or options.weights:  # a missing model is better known now than in a minute
        weights.find(options.weights, known.contrast if known else None)
    prepared, brain = prepare(scan, config.preprocess, brain_mask=options.brain_mask, device=name, stage=reporter.stage)
    found = _contrast(known, prepared, reporter)
    with reporter.stage("weights"):
        loaded = weights.load(*weights.find(options.weights, found.contrast))
        if found.contrast not in loaded.card.contrasts:
            covered = ", ".join(loaded.card.contrasts)
            raise UsageError(f"{loaded.card.name} does not cover {found.contrast}", hint=f"It covers {covered}.")
    with reporter.stage("reconstruction"):
        x = prepared.scaled(config.preprocess)
        recon = reconstruct(loaded, x, prepared.mask, config.reconstruction, name, reporter.progress)
    with reporter.stage("score"):
        findings = _score(x, recon, prepared, loaded.card, found.contrast, threshold, config)
    verdict = quality.assess(prepared.brain_volume_ml, prepared.mask_overlap, prepared.border_fraction)
    for check in verdict.checks:
        if check.verdict != "pass":
            reporter.warn(f"quality control, {check.verdict}: {check.name} is {check.value:.2f} ({check.text})")
    with reporter.stage("write"):
        _write(files, scan, brain, prepared, findings, options)
        content = _sidecar(scan, files, prepared, loaded, found, findings, verdict, config, options, name, reporter)
    content["seconds"] = {k: round(v, 2) for k, v in reporter.seconds.items()}
    if "page" in files.paths:
        from uadcli.run.page import write_page

        write_page(files.paths["page"], x, findings.recon, findings.anomaly_map, findings.labels, prepared, content)
    if "sidecar" in files.paths:
        sidecar.write_json(files.paths["sidecar"], content)
    return DetectResult(files.map, sidecar.finite(content))


def _threshold_option(text: str) -> float | None:
    if text == "calibrated":
        return None
    try:
        value = float(text)
    except ValueError as error:
        raise UsageError(f"--threshold {text!r} is neither 'calibrated' nor a number") from error
    if not value > 0:
        raise UsageError("--threshold must be above 0")
    return value


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


def _score(
    x: Array, recon: Array, prepared: Prepared, card: Any, kind: str, threshold: float | None, config: DetectConfig
) -> Findings:
    anomaly_map = anomaly_score(x, recon, prepared.mask, card.scores[kind], config.scoring)
    used = card.thresholds[kind] if threshold is None else threshold
    # components are measured in the patient's millimetres: the affine to MNI changes the size of the head
    growth = abs(float(np.linalg.det(prepared.world_map[:3, :3])))
    labels, table = components(anomaly_map, used, config.scoring.min_volume_mm3 / growth, GRID_AFFINE)
    return Findings(anomaly_map, labels, recon, used, table)


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
        elif kind == "brain":
            _write_one(path, space, scan, brain, prepared.mask, np.uint8, "brain mask")
        elif kind == "transform":
            sidecar.write_json(path, _transform(prepared))
        elif kind == "overlay":
            _picture(path, scan, brain, native_map, native_mask, findings.threshold)


def _write_one(path: Path, space: str, scan: Scan, native: Any, mni: Any, dtype: type, name: str) -> None:
    if space == "mni":
        volume.write_mni(path, Volume(mni, GRID_AFFINE), dtype=dtype, name=name)
    else:
        volume.write_native(path, native, scan, dtype=dtype, name=name)


def _transform(prepared: Prepared) -> dict[str, Any]:
    return {
        "schema_version": sidecar.SCHEMA_VERSION,
        "description": "4x4 affines between world points in mm, RAS+; MNI is MNI152NLin2009cAsym",
        "mni_to_native": prepared.world_map.tolist(),
        "native_to_mni": np.linalg.inv(prepared.world_map).tolist(),
    }


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


def _sidecar(
    scan: Scan,
    files: Outputs,
    prepared: Prepared,
    loaded: Any,
    found: FoundContrast,
    findings: Findings,
    verdict: quality.Quality,
    config: DetectConfig,
    options: DetectOptions,
    name: str,
    reporter: Reporter,
) -> dict[str, Any]:
    growth = abs(float(np.linalg.det(prepared.world_map[:3, :3])))
    card = loaded.card
    rule = card.threshold_rule if options.threshold == "calibrated" else "given by the user"
    return {
        "schema_version": sidecar.SCHEMA_VERSION,
        "research_use_only": sidecar.RESEARCH_USE,
        "tool": {"name": "uad", "version": __version__},
        "command": options.command or None,
        "versions": sidecar.versions(),
        "input": {
            "name": scan.path.name,
            "sha256": scan.sha256,
            "shape": list(scan.source_shape),
            "spacing_mm": geometry.spacing(scan.source_affine).tolist(),
            "axes": scan.axes,
            "nonfinite_voxels": scan.nonfinite_voxels,
        },
        "contrast": {"value": found.contrast, "source": found.source},
        "weights": {"name": card.name, "version": card.version, "sha256": loaded.sha256, "licence": card.licence},
        "device": name,
        "seed": config.reconstruction.seed,
        "score": card.scores[found.contrast],
        "threshold": {"value": findings.threshold, "rule": rule},
        "settings": to_dict(config),
        "strip": prepared.strip,
        "brain_volume_ml": prepared.brain_volume_ml,
        "registration": {"mask_overlap": prepared.mask_overlap, "similarity": prepared.similarity},
        "anomaly": {
            "volume_ml": sum(c.volume_mm3 for c in findings.components) * growth / 1e3,
            "components": [_row(c, prepared, growth) for c in findings.components],
        },
        "qc": {"verdict": verdict.verdict, "checks": [dataclasses.asdict(c) for c in verdict.checks]},
        "warnings": reporter.warnings,
        "peak_memory_mb": round(sidecar.peak_memory_mb()),
        "outputs": {key: path.name for key, path in files.paths.items()},
        "space": options.space,
    }


def _row(component: Component, prepared: Prepared, growth: float) -> dict[str, Any]:
    """A component in the sidecar: its volume in the patient's space, its places in both."""
    centre, top = np.array(component.centroid_mm), np.array(component.peak_mm)
    return {
        "index": component.index,
        "volume_ml": component.volume_mm3 * growth / 1e3,
        "peak": component.peak,
        "mean": component.mean,
        "centroid_native_mm": geometry.apply(prepared.world_map, centre).tolist(),
        "centroid_mni_mm": centre.tolist(),
        "peak_mni_mm": top.tolist(),
    }
