"""Score maps of prepared scans, and thresholds from the healthy ones among them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uadcli.config import DetectConfig, ReconstructionConfig
from uadcli.imaging.geometry import Array
from uadcli.imaging.slices import from_slices, occupied, to_slices
from uadcli.reconstruction.reconstructors import CddpmReconstructor, Progress
from uadcli.reconstruction.weights import Weights
from uadcli.run.development import Case
from uadcli.run.prepare import Prepared, prepare_cached
from uadcli.run.training_data import healthy_slices
from uadcli.scoring.calibration import healthy_quantile
from uadcli.scoring.residual import anomaly_score, postprocess


def reconstruct(
    loaded: Weights,
    x: Array,
    mask: NDArray[np.bool_],
    config: ReconstructionConfig,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Array:
    """The pseudo-healthy volume of a scaled scan x (96, 96, 80) in [0, 1]; 0 outside the brain mask."""
    slices, indices = to_slices(x), occupied(mask)
    levels = config.levels or loaded.card.levels
    settings = ReconstructionConfig(levels, config.batch_size, config.seed)
    recon = np.zeros_like(slices)
    recon[indices] = CddpmReconstructor(loaded.model, settings, device, progress)(slices[indices], indices.tolist())
    return np.where(mask, from_slices(recon), 0).astype(np.float32)


def score_map(
    loaded: Weights, prepared: Prepared, contrast: str, config: DetectConfig, x: Array | None = None
) -> Array:
    """The anomaly map of a prepared scan as `detect` computes it; `x` replaces its scaled intensities."""
    x = prepared.scaled(config.preprocess) if x is None else x
    recon = reconstruct(loaded, x, prepared.mask, config.reconstruction)
    return anomaly_score(x, recon, prepared.mask, loaded.card.scores[contrast], config.scoring)


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


def calibrate(loaded: Weights, validation: list[Case], cache: Path, config: DetectConfig) -> dict[str, float]:
    """Thresholds by contrast: the 99.5th percentile of the scores in healthy brain of the validation scans."""
    result = {}
    for contrast in sorted({c.contrast for c in validation}):
        chosen = [(c, prepare_cached(c.scan, config.preprocess, cache)) for c in validation if c.contrast == contrast]
        maps = [(score_map(loaded, p, contrast, config), healthy_part(c, p)) for c, p in chosen]
        result[contrast] = healthy_quantile(maps)
    return result


def calibrate_baseline(validation: list[Case], cache: Path, config: DetectConfig) -> dict[str, float]:
    """The same thresholds for the plain baseline."""
    result = {}
    for contrast in sorted({c.contrast for c in validation}):
        chosen = [(c, prepare_cached(c.scan, config.preprocess, cache)) for c in validation if c.contrast == contrast]
        maps = [(baseline_map(p, baseline_kind(contrast), config), healthy_part(c, p)) for c, p in chosen]
        result[contrast] = healthy_quantile(maps)
    return result
