"""Thresholds from healthy scans alone, for the scores of a model and for the plain baseline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uadcli.config import DetectConfig
from uadcli.imaging.geometry import Array
from uadcli.reconstruction.weights import Weights
from uadcli.run.dataset import Case
from uadcli.run.prepare import Prepared, prepare_cached
from uadcli.run.score import reconstruct, scores, strength_of
from uadcli.run.training_data import healthy_slices
from uadcli.scoring.calibration import healthy_quantile
from uadcli.scoring.residual import postprocess

CALIBRATED = ("fusion-absolute", "fusion-bright", "siamese", "absolute", "bright-weighted", "ssim")


@dataclass(frozen=True)
class Calibration:
    """By score and contrast: the 99.5th percentile of healthy voxels, and the strengths of whole healthy scans."""

    thresholds: dict[str, dict[str, float]]
    strengths: dict[str, dict[str, list[float]]]


def baseline_kind(contrast: str) -> str:
    """What makes a voxel suspicious to the plain baseline: `bright` in FLAIR and T2w, `dark` in T1w."""
    return "dark" if contrast == "T1w" else "bright"


def baseline_map(prepared: Prepared, kind: str, config: DetectConfig, x: Array | None = None) -> Array:
    """Intensity or darkness inside the brain, post-processed like a score: what a model has to beat."""
    x = prepared.scaled(config.preprocess) if x is None else x
    return postprocess(x if kind == "bright" else 1 - x, prepared.mask, config.scoring)


def healthy_part(case: Case, prepared: Prepared) -> NDArray[np.bool_]:
    """The voxels of a validation scan that count as healthy: its brain, in slices without tumour.

    Of patients, the lesion masks say which slices to leave out; nothing else of them is used.
    """
    part = np.zeros_like(prepared.mask)
    keep = healthy_slices(case, prepared)
    part[:, :, keep] = prepared.mask[:, :, keep]
    return part


def calibrate(
    loaded: Weights, validation: list[Case], cache: Path, config: DetectConfig, kinds: tuple[str, ...]
) -> Calibration:
    """Thresholds and strengths by score and contrast, from the healthy brain of the validation scans."""
    thresholds: dict[str, dict[str, float]] = {kind: {} for kind in kinds}
    strengths: dict[str, dict[str, list[float]]] = {kind: {} for kind in kinds}
    for contrast in sorted({c.contrast for c in validation}):
        maps: dict[str, list[tuple[Array, NDArray[np.bool_]]]] = {kind: [] for kind in kinds}
        for case in (c for c in validation if c.contrast == contrast):
            prepared = prepare_cached(case.scan, config.preprocess, cache)
            x, part = prepared.scaled(config.preprocess), healthy_part(case, prepared)
            recon = reconstruct(loaded, x, prepared.mask, config.reconstruction)
            for kind, values in scores(loaded, x, recon, prepared.mask, kinds, config).items():
                maps[kind].append((values, part))
                if case.lesions is None:  # some slices of a patient are no healthy scan
                    strengths[kind].setdefault(contrast, []).append(strength_of(values, prepared, config))
        for kind in kinds:
            thresholds[kind][contrast] = healthy_quantile(maps[kind])
    return Calibration(thresholds, strengths)


def calibrate_baseline(validation: list[Case], cache: Path, config: DetectConfig) -> dict[str, float]:
    """The same thresholds for the plain baseline."""
    result = {}
    for contrast in sorted({c.contrast for c in validation}):
        chosen = [(c, prepare_cached(c.scan, config.preprocess, cache)) for c in validation if c.contrast == contrast]
        maps = [(baseline_map(p, baseline_kind(contrast), config), healthy_part(c, p)) for c, p in chosen]
        result[contrast] = healthy_quantile(maps)
    return result
