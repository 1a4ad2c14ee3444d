"""Pages for tests: volumes with findings whose place is known, and a sidecar to go with them."""

from __future__ import annotations

from typing import Any

import numpy as np

from uadcli.errors import RESEARCH_USE
from uadcli.imaging.slices import GRID_AFFINE, GRID_SHAPE
from uadcli.report.native import Native
from uadcli.report.page import HealthyRange, Volumes

# centre in mm (RAS+) and radius in voxels; the first is on the patient's left
FINDINGS = (((-31.0, 21.0, 25.0), 6), ((39.0, -33.0, 3.0), 4))

REGIONS = (
    [{"name": "left cerebral white matter", "share": 0.62}, {"name": "left cerebral cortex", "share": 0.28}],
    None,
)


def world() -> np.ndarray:
    """Places of all voxels of the model's grid in mm, shape (96, 96, 80, 3)."""
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in GRID_SHAPE], indexing="ij"), axis=-1)
    return grid @ GRID_AFFINE[:3, :3].T + GRID_AFFINE[:3, 3]


def volumes(noise: bool = False) -> Volumes:
    """An ellipsoid brain of 1.6 l with two findings; with `noise` every byte is random, the worst for compression."""
    places = world()
    brain = (((places - (0, -17, 6)) / (68, 86, 66)) ** 2).sum(axis=-1) < 1
    labels = np.zeros(GRID_SHAPE, np.uint8)
    for index, (centre, radius) in enumerate(FINDINGS, start=1):
        labels[np.linalg.norm(places - centre, axis=-1) < 2 * radius] = index
    rng = np.random.default_rng(0)
    texture = rng.random((3, *GRID_SHAPE)).astype(np.float32)
    if not noise:
        texture = 0.5 + 0.1 * np.round(texture)
    score = np.where(labels == 1, 0.8, np.where(labels == 2, 0.6, 0.1)).astype(np.float32)
    return Volumes(
        scan=texture[0],
        recon=texture[1],
        anomaly_map=texture[2] if noise else np.where(brain, score, 0).astype(np.float32),
        labels=labels,
        brain=brain,
        template_brain=brain,
        template_tissue=np.where(brain, 1 + (places[..., 0] > 0) + (places[..., 1] > 0), 0).astype(np.uint8),
        affine=GRID_AFFINE,
        healthy=_healthy(rng if noise else None),
    )


# of a scan in native space: thick slices, tilted by 15 degrees against the template
NATIVE_SHAPE = (96, 112, 30)
TILT = np.deg2rad(15)
NATIVE_AFFINE = np.array(
    [
        [1.8, 0, 0, -86.4],
        [0, 1.8 * np.cos(TILT), -5.5 * np.sin(TILT), -90.0],
        [0, 1.8 * np.sin(TILT), 5.5 * np.cos(TILT), -100.0],
        [0, 0, 0, 1],
    ]
)
AROUND = 3.0  # what the scan holds outside the brain, brighter than anything in it


def native() -> Native:
    """The same brain and findings in native space, where it is surrounded by what must not be shown."""
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in NATIVE_SHAPE], indexing="ij"), axis=-1)
    places = grid @ NATIVE_AFFINE[:3, :3].T + NATIVE_AFFINE[:3, 3]
    brain = (((places - (0, -17, 6)) / (68, 86, 66)) ** 2).sum(axis=-1) < 1
    labels = np.zeros(NATIVE_SHAPE, np.uint8)
    for index, (centre, radius) in enumerate(FINDINGS, start=1):
        labels[np.linalg.norm(places - centre, axis=-1) < 2 * radius] = index
    score = np.where(labels == 1, 0.8, np.where(labels == 2, 0.6, 0.1)).astype(np.float32)
    texture = 0.5 + 0.1 * np.round(np.random.default_rng(1).random(NATIVE_SHAPE))
    return Native(
        scan=np.where(brain, texture, AROUND).astype(np.float32),
        anomaly_map=np.where(brain, score, AROUND).astype(np.float32),
        labels=labels,
        brain=brain,
        affine=NATIVE_AFFINE,
    )


def _healthy(noise: np.random.Generator | None) -> HealthyRange:
    """Blocks of 4 mm, brighter on the right by a tenth."""
    shape = tuple(n // 2 for n in GRID_SHAPE)
    if noise:
        return HealthyRange(*noise.random((2, *shape)).astype(np.float32))
    mean = np.where(np.arange(shape[0])[:, None, None] >= shape[0] // 2, 0.4, 0.3) * np.ones(shape)
    return HealthyRange(mean.astype(np.float32), np.full(shape, 0.06, np.float32))


def sidecar(name: str = "sub-01_FLAIR.nii.gz", **changed: Any) -> dict[str, Any]:
    """The content of a sidecar as `uad detect` makes it, with the two findings."""
    components = [
        {
            "index": index,
            "volume_ml": 7.2 / index,
            "peak": 0.8,
            "mean": 0.7,
            "centroid_native_mm": list(centre),
            "centroid_mni_mm": list(centre),
            "peak_mni_mm": list(centre),
            "peak_native_mm": list(centre),
            "side": ("left", "right")[index - 1],
            "regions": REGIONS[index - 1],
            "healthy_scans_as_strong": (3, None)[index - 1],
            "healthy_scans_interval": ([0.03, 0.38], None)[index - 1],
        }
        for index, (centre, _) in enumerate(FINDINGS, start=1)
    ]
    checks = [
        {"name": "brain_volume_ml", "value": 1612.4, "verdict": "pass", "text": "volume of the brain mask"},
        {"name": "mask_overlap", "value": 0.71, "verdict": "fail", "text": "overlap with the template"},
        {"name": "border_fraction", "value": None, "verdict": "not computed", "text": "part cut off"},
        {"name": "new_measure", "value": 1.5, "verdict": "warn", "text": "a measure of tomorrow"},
    ]
    return {
        "research_use_only": RESEARCH_USE,
        "tool": {"name": "uad", "version": "0.1.0"},
        "command": "uad detect '/home/jane doe/scan.nii.gz'",
        "versions": {"python": "3.11", "torch": None},
        "input": {
            "name": name,
            "sha256": "ab" * 32,
            "shape": [208, 256, 26],
            "spacing_mm": [0.9, 0.9, 5.5],
            "axes": "LAS",
            "sides_known": True,
        },
        "contrast": {"value": "FLAIR", "source": "file name"},
        "weights": {"name": "small-2", "version": "0.1.0", "sha256": "cd" * 32, "licence": "CC BY-SA 3.0"},
        "device": "cpu",
        "seed": 0,
        "score": "bright-weighted",
        "threshold": {"value": 0.4177, "rule": "99.5th percentile"},
        "settings": {"preprocess": {"strip": "atlas"}, "reconstruction": {"levels": []}},
        "strip": "atlas",
        "registration": {"mask_overlap": 0.71, "similarity": None},
        "anomaly": {
            "volume_ml": 10.8,
            "components": components,
            "strength": 0.8,
            "healthy_scans": {
                "scans": 20,
                "brains": 20,
                "as_strong": 3,
                "share": 0.15,
                "interval": [0.03, 0.38],
                "p_value": 4 / 21,
            },
            "healthy_scans_unknown": None,
        },
        "qc": {"verdict": "fail", "checks": checks},
        "warnings": [],
        "seconds": {"read": 0.1},
    } | changed
