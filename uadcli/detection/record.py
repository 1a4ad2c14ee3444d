"""The content of a map's sidecar; nothing from the text fields of a header."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from uadcli import __version__
from uadcli.config import to_dict
from uadcli.data.names import Outputs
from uadcli.data.prepare import Prepared
from uadcli.imaging import geometry, template
from uadcli.imaging.slices import GRID_AFFINE
from uadcli.model.components import volume_ml
from uadcli.model.healthy_scans import HealthyComparison
from uadcli.model.threshold import Threshold
from uadcli.report import phrases, sidecar
from uadcli.scoring.components import Component
from uadcli.scoring.quality import Quality
from uadcli.settings.option import deciding
from uadcli.weights import cache

if TYPE_CHECKING:
    from uadcli.detection.findings import Contribution, Findings, ReadyScan
    from uadcli.detection.options import DetectOptions
    from uadcli.detection.session import Session
    from uadcli.model.model import Model


def sidecar_of(
    ready: ReadyScan, files: Outputs, model: Model, findings: Findings, verdict: Quality, session: Session
) -> dict[str, Any]:
    """The content of `map.json`; numbers that were not computed are None."""
    scan, prepared, found = ready.scan, ready.prepared, ready.found
    config, options, reporter = session.config, session.options, session.reporter
    card, comparison, adapted = model.card, findings.comparison, model.adaptation
    return sidecar.Sidecar(
        tool={"name": "uad", "version": __version__},
        command=options.command or None,
        input={
            "name": scan.path.name,
            "sha256": scan.sha256,
            "described": ready.described.recorded,
            "shape": list(scan.source_shape),
            "spacing_mm": geometry.spacing(scan.source_affine).tolist(),
            "axes": scan.axes,
            "sides_known": scan.sides_known,
            "nonfinite_voxels": scan.nonfinite_voxels,
        },
        contrast={"value": found.contrast, "source": found.source},
        weights={
            "name": card.name,
            "version": card.version,
            "sha256": model.sha256,
            "licence": card.licence,
            "origin": cache.origin(model.path),
            "method": findings.method,
            "curvature_flow": card.curvature_flow,
            "scaling": card.scaling,
            "reference_erosion": card.reference_erosion,
            "without_shading": card.without_shading,
            "odds_outside_white_matter": card.odds_outside_white_matter,
            "labelled_cases": card.labelled_cases,
            "adapted": adapted and {"by": adapted.way, "healthy_scans": adapted.scans, "sha256": adapted.sha256},
        },
        device=model.device,
        seed=config.reconstruction.seed,
        score=findings.score,
        threshold=threshold_of(findings.threshold),
        settings=to_dict(config),
        strip=prepared.strip,
        brain_volume_ml=prepared.brain_volume_ml,
        registration={
            "mask_overlap": prepared.mask_overlap,
            "similarity": prepared.similarity,
            "stretch": prepared.stretch,
        },
        anomaly={
            "volume_ml": volume_ml(findings.components, prepared),
            "components": [row(c, prepared, findings.comparison, scan.sides_known) for c in findings.components],
            "strength": findings.strength,
            "healthy_scans": comparison and comparison.of_scan,
            "healthy_scans_unknown": findings.why_unknown,
            "own_resolution": findings.own_map is not None,
            "latent_dissimilarity": slice_rows(findings.slice_scores),
        },
        gate={**dataclasses.asdict(findings.distance), "beyond": findings.distance.beyond},
        stability=findings.repeats.stability,
        qc={"verdict": verdict.verdict, "checks": [dataclasses.asdict(c) for c in verdict.checks]},
        warnings=reporter.warnings,
        peak_memory_mb=round(sidecar.peak_memory_mb()),
        outputs={key: path.name for key, path in files.paths.items()},
        space=options.space,
        requested=requested(options),
        contrasts=[contribution(one) for one in findings.joined] or None,
        seconds={k: round(v, 2) for k, v in reporter.seconds.items()},
    ).to_dict()


def summary(findings: Findings, prepared: Prepared, sides_known: bool = True) -> str:
    """The findings in one line for the terminal."""
    count, comparison = len(findings.components), findings.comparison
    text = f"{count} {'finding' if count == 1 else 'findings'}, {volume_ml(findings.components, prepared):.1f} ml"
    if findings.components:
        text += f", the largest: {phrases.regions_phrase(regions(findings.components[0], sides_known))}"
    if comparison:
        text += f"; {phrases.healthy_share(comparison.of_scan)} have one as strong as the strongest here"
    return text


def requested(options: DetectOptions) -> dict[str, Any]:
    """The options that determine a result besides settings and weights; a batch compares them when it resumes."""
    return deciding(options)


def threshold_of(used: Threshold) -> dict[str, Any]:
    """A threshold in the sidecar: value, extent, how it was chosen (in fields and in words), if it holds here."""
    basis = used.basis
    return {
        "value": used.value,
        "extent": used.extent,
        "rule": basis.in_words(),
        "kind": basis.kind,
        "share": basis.share,
        "borrowed_from": basis.borrowed_from,
        "valid": basis.valid,
    }


def row(
    component: Component, prepared: Prepared, comparison: HealthyComparison | None, sides_known: bool = True
) -> dict[str, Any]:
    """A component in the sidecar: volume in the patient's space, positions in both spaces, healthy scans as strong.

    `side` is the patient's, or both, None if left and right are unknown; region names then have no side.
    """
    healthy = (comparison and comparison.of_component(component.index)) or {}
    centre, top = np.array(component.centroid_mm), np.array(component.peak_mm)
    return {
        "index": component.index,
        "volume_ml": volume_ml([component], prepared),
        "peak": component.peak,
        "mean": component.mean,
        "healthy_scans_as_strong": healthy.get("as_strong"),
        "healthy_scans_share": healthy.get("share"),
        "healthy_scans_interval": healthy.get("interval"),
        "healthy_scans_p_value": healthy.get("p_value"),
        "centroid_native_mm": geometry.apply(prepared.world_map, centre).tolist(),
        "peak_native_mm": geometry.apply(prepared.world_map, top).tolist(),
        "centroid_mni_mm": centre.tolist(),
        "peak_mni_mm": top.tolist(),
        "side": phrases.side_of_finding(component.left, sides_known),
        "regions": regions(component, sides_known),
    }


def contribution(one: Contribution) -> dict[str, Any]:
    """What one scan of a patient gave to the joined map; None for what was not computed."""
    ready, own, place = one.of.ready, one.own, one.of.alignment
    return {
        "name": one.of.path.name,
        "sha256": one.of.sha256,
        "described": one.of.described.recorded,
        "contrast": one.contrast,
        "weights": one.model and {"name": one.model.card.name, "sha256": one.model.sha256},
        "score": own and own.score,
        "weight": one.weight,
        "threshold": own and threshold_of(own.threshold),
        "findings": own and len(own.components),
        "volume_ml": volume_ml(own.components, ready.prepared) if own and ready else None,
        "qc": one.quality,
        "registration": place
        and {
            "matrix": place.matrix.tolist(),
            "rotation_degrees": place.degrees,
            "shift_mm": place.shift_mm,
            "mask_overlap": place.mask_overlap,
            "similarity": place.similarity,
            "mirrored_similarity": place.mirrored,
        },
        "left_out": one.of.left_out or None,
    }


def slice_rows(scores: dict[int, float] | None) -> list[dict[str, float]] | None:
    """The slice scores with the height of each axial slice in MNI space; None if none were computed."""
    if scores is None:
        return None
    return [{"z_mni_mm": float(GRID_AFFINE[2, 2] * z + GRID_AFFINE[2, 3]), "value": v} for z, v in scores.items()]


def regions(component: Component, sides_known: bool = True) -> list[dict[str, Any]] | None:
    """The shares of a component by region, largest first; None if it is outside all regions.

    Without `sides_known`, a region and its counterpart on the other side are merged.
    """
    names = template.region_names()
    shares: dict[str, float] = {}
    for index, share in component.regions:
        name = names[index] if sides_known else names[index].removeprefix("left ").removeprefix("right ")
        shares[name] = shares.get(name, 0.0) + share
    largest_first = sorted(shares.items(), key=lambda one: -one[1])
    return [{"name": name, "share": share} for name, share in largest_first] or None
