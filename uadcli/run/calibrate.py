"""Thresholds from healthy scans alone, for the scores of a model and for the plain baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uadcli.config import DetectConfig
from uadcli.imaging.geometry import Array
from uadcli.reconstruction.weights import Weights
from uadcli.run.dataset import Case
from uadcli.run.healthy import healthy_part
from uadcli.run.prepare import Prepared, prepare_cached
from uadcli.run.score import raw_scores, reconstruct, strength_of
from uadcli.scoring import fusion, reference
from uadcli.scoring.calibration import healthy_quantile, healthy_tail, tails_of_the_others
from uadcli.scoring.reference import Reference
from uadcli.scoring.residual import postprocess

PLAIN, RAW = "plain", "plain, raw"
References = dict[tuple[str, str], Reference]  # by score and contrast
CALIBRATED = (
    *("fusion-absolute", "fusion-bright", "siamese", "absolute", "bright-weighted", "ssim"),
    *(reference.PREFIX + kind for kind in reference.REFERENCED),
)


@dataclass(frozen=True)
class Calibration:
    """What healthy scans say of scores, by score and contrast.

    The 99.5th percentile of healthy voxels, thresholds for other rates of false positives among them, and the
    strengths of whole healthy scans. The field names are those of `ModelCard`.
    """

    thresholds: dict[str, dict[str, float]] = field(default_factory=dict)
    tails: dict[str, dict[str, list[tuple[float, float]]]] = field(default_factory=dict)
    strengths: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, kind: str, contrast: str, scans: Sequence[Scored], config: DetectConfig) -> None:
        """Take in the healthy scans of a contrast under a score."""
        maps = [(one.values, one.part) for one in scans]
        self.thresholds.setdefault(kind, {})[contrast] = healthy_quantile(maps)
        self.tails.setdefault(kind, {})[contrast] = list(healthy_tail(maps))
        whole = [strength_of(one.values, one.prepared, config) for one in scans if one.whole]
        if whole:
            self.strengths.setdefault(kind, {})[contrast] = whole

    def lend(self, giver: str, taker: str) -> None:
        """Give the thresholds of one contrast to another, which has no healthy scans, and so no healthy reference."""
        for kind in (one for one in self.thresholds if not fusion.held_against_health(one)):
            self.thresholds[kind][taker] = self.thresholds[kind][giver]
            self.tails[kind][taker] = self.tails[kind][giver]


@dataclass(frozen=True)
class Scored:
    """The map of a validation scan, and which of its voxels count as healthy: of a `whole` scan, the whole brain."""

    prepared: Prepared
    values: Array
    part: NDArray[np.bool_]
    whole: bool


def baseline_kind(contrast: str) -> str:
    """What makes a voxel suspicious to the plain baseline: `bright` in FLAIR and T2w, `dark` in T1w."""
    return "dark" if contrast == "T1w" else "bright"


def baseline_map(prepared: Prepared, kind: str, config: DetectConfig, x: Array | None = None) -> Array:
    """Intensity or darkness inside the brain, post-processed like a score: what a model has to beat."""
    x = prepared.scaled(config.preprocess) if x is None else x
    return postprocess(x if kind == "bright" else 1 - x, prepared.mask, config.scoring)


def baselines(prepared: Prepared, contrast: str, config: DetectConfig, x: Array) -> dict[str, Array]:
    """`baseline_map` as `PLAIN`, and as `RAW` the intensity as it is, for lesions that a median takes away."""
    kind = baseline_kind(contrast)
    raw = np.where(prepared.mask, x if kind == "bright" else 1 - x, 0).astype(np.float32)
    return {PLAIN: baseline_map(prepared, kind, config, x), RAW: raw}


def calibrate(
    loaded: Weights, validation: list[Case], cache: Path, config: DetectConfig, kinds: tuple[str, ...]
) -> tuple[Calibration, References]:
    """The calibration of several scores of a model, from the healthy brain of the validation scans.

    With it, where a contrast has two scans, the healthy references of the scores that are held against one; their
    calibration holds each scan against the others. `fisher` is calibrated where all its parts are, each scan by the
    tails of the others; these others were held against a reference that it is part of.
    """

    def maps(prepared: Prepared, x: Array, _: str) -> dict[str, Array]:
        recon = reconstruct(loaded, x, prepared.mask, config.reconstruction)
        return raw_scores(loaded, x, recon, prepared.mask, kinds, config)

    return _calibrated(maps, validation, cache, config)


def calibrate_baseline(validation: list[Case], cache: Path, config: DetectConfig) -> Calibration:
    """The same for the plain baselines, under the names `PLAIN` and `RAW`."""

    def maps(prepared: Prepared, x: Array, contrast: str) -> dict[str, Array]:
        return baselines(prepared, contrast, config, x)

    return _calibrated(maps, validation, cache, config)[0]


def _calibrated(
    maps: Callable[[Prepared, Array, str], dict[str, Array]], validation: list[Case], cache: Path, config: DetectConfig
) -> tuple[Calibration, References]:
    result, references = Calibration(), References()
    for contrast in sorted({c.contrast for c in validation}):
        scans: dict[str, list[Scored]] = {}
        for case in (c for c in validation if c.contrast == contrast):
            prepared = prepare_cached(case.scan, config.preprocess, cache)
            part, whole = healthy_part(case, prepared), case.lesions is None  # a patient is no whole healthy scan
            for kind, values in maps(prepared, prepared.scaled(config.preprocess), contrast).items():
                scans.setdefault(kind, []).append(Scored(prepared, values, part, whole))
        references |= take_in(result, scans, contrast, config)
    return result, references


def take_in(result: Calibration, scans: dict[str, list[Scored]], contrast: str, config: DetectConfig) -> References:
    """Calibrate the scores of a contrast by healthy scans, whose raw maps `scans` has, and `fisher`, if they have all
    its parts; returns the references."""
    scans, references = dict(scans), References()
    for kind in [one for one in scans if one.startswith(reference.PREFIX)]:
        raw = scans.pop(kind)
        if len(raw) > 1:
            references[kind.removeprefix(reference.PREFIX), contrast] = reference.fit(
                [(one.values, one.part) for one in raw]
            )
            scans[kind] = held_against_others(raw)
    for kind, found in scans.items():
        result.add(kind, contrast, found, config)
    if all(part in scans for part in fusion.PARTS[contrast]):
        result.add(fusion.FISHER, contrast, joined(scans, contrast), config)
    return references


def joined(scans: dict[str, list[Scored]], contrast: str) -> list[Scored]:
    """The same scans under the score `fisher`, from their maps under its parts and the tails of the other scans."""
    of_parts = [scans[part] for part in fusion.PARTS[contrast]]
    tails = [tails_of_the_others([(one.values, one.part) for one in part]) for part in of_parts]
    result = list[Scored]()
    for i, one in enumerate(of_parts[0]):
        parts = [(part[i].values, known[i]) for part, known in zip(of_parts, tails, strict=True)]
        result.append(replace(one, values=fusion.fisher_score(parts, one.prepared.mask)))
    return result


def held_against_others(scans: Sequence[Scored]) -> list[Scored]:
    """The same scans with their deviations from the reference that the others make."""
    pairs, masks = [(one.values, one.part) for one in scans], [one.prepared.mask for one in scans]
    deviations = reference.cross_fitted(pairs, masks)
    return [replace(one, values=values) for one, values in zip(scans, deviations, strict=True)]
