"""From a scan to bias-corrected intensities and a brain mask on the model's grid, and back.

Detection, training, calibration and evaluation all prepare scans here, so that a model sees the same kind of images in
use as in training.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadcli.arrays import Affine, Array
from uadcli.config import PreprocessConfig
from uadcli.console import Reporter
from uadcli.data import tissue_contrast, unsuitable
from uadcli.errors import about
from uadcli.files import DAMAGED, write_with
from uadcli.imaging import (
    geometry,
    header_geometry,
    intensity,
    levels,
    registration,
    skullstrip,
    stored,
    template,
)
from uadcli.imaging.levels import Levelled
from uadcli.imaging.skullstrip import BrainMask
from uadcli.imaging.slices import FINE_AFFINE, FINE_SHAPE, GRID_AFFINE, GRID_SHAPE
from uadcli.imaging.volume import Scan, Volume, read_scan

VERSION = 4  # increase it whenever a stage below changes its result, which invalidates caches
Stage = Callable[[str], AbstractContextManager[object]]


@dataclass(frozen=True)
class Prepared:
    """A scan on the model's grid (96, 96, 80), 2 mm MNI: `data` bias-corrected but not scaled, and the brain `mask`.

    `world_map` (4x4, RAS+ mm) maps MNI points to the scan's points. `mask_overlap` is the Dice of the registered
    brain mask with the template's, `similarity` the correlation ratio with the template, None if it was not computed;
    both are in 0..1.
    """

    data: Array
    mask: NDArray[np.bool_]
    world_map: Affine
    strip: str
    brain_volume_ml: float
    border_fraction: float
    mask_overlap: float
    similarity: float | None

    @property
    def jacobian(self) -> float:
        """The Jacobian determinant of the registration: volume in the patient's space per volume in MNI space."""
        return abs(float(np.linalg.det(self.world_map[:3, :3])))

    @property
    def stretch(self) -> float:
        """The ratio of the largest to the smallest scaling of the registration, at least 1."""
        scalings = np.linalg.svd(self.world_map[:3, :3], compute_uv=False)
        return float(max(scalings[0] / scalings[-1], 1.0))

    def scaled(self, config: PreprocessConfig) -> Array:
        """Intensities (96, 96, 80) in [0, 1] inside the brain, 0 outside."""
        return intensity.scale(self.data, self.mask, config)

    def linear(self, config: PreprocessConfig) -> Array:
        """The intensities (96, 96, 80) of `scaled` before clipping: a linear map of `data`."""
        return intensity.linear(self.data, self.mask, config)

    def contrast(self) -> tissue_contrast.ContrastGuess:
        """The contrast, judged by the intensities of the tissues. Raises `InputError`."""
        whole = self.strip.startswith(("hd-bet", "atlas")) and skullstrip.LOOKS_STRIPPED not in self.strip
        return tissue_contrast.classify_contrast(
            self.data, self.mask, template.on_grid("mni_tissue_dseg").astype(np.uint8), from_air=whole
        )


@dataclass(frozen=True)
class Stripped:
    """The brain on the scan's canonical grid: all intensities on the common scale (`imaging.levels`), and the mask.

    `world_map` is that of `Prepared`.
    """

    volume: Volume
    brain: NDArray[np.bool_]
    world_map: Affine

    @cached_property
    def on_grid(self) -> Array:
        """All intensities on the model's grid (96, 96, 80), with their bias field."""
        data, affine = self.volume.data, self.volume.affine
        return geometry.resample(data, affine, GRID_SHAPE, GRID_AFFINE, self.world_map, order=3, antialias=True)


def _silent(_: str) -> AbstractContextManager[object]:
    return nullcontext()


def prepare(
    scan: Scan,
    config: PreprocessConfig,
    *,
    brain_mask: Path | None = None,
    device: str = "cpu",
    stage: Stage = _silent,
) -> tuple[Prepared, Stripped]:
    """Strip, register and correct one scan; returns it on the model's grid, and the brain on the scan's grid.

    Raises `InputError`, which names the scan, if it is not an MR scan of a head or a stage fails.
    """
    header_geometry.check_coverage(scan.volume.affine, scan.volume.shape, scan.path)
    with about(scan.path):
        return _prepared(scan, config, brain_mask, device, stage)


def _prepared(
    scan: Scan, config: PreprocessConfig, brain_mask: Path | None, device: str, stage: Stage
) -> tuple[Prepared, Stripped]:
    unsuitable.refuse(scan.volume, scan.path, masked=brain_mask is not None or config.strip == "none")
    with stage("brain mask"):
        brain, volume = _brain(scan, config, brain_mask, device)
    with stage("registration"):
        inside = np.where(brain.mask, registration.robust_range(volume.data, brain.mask), 0).astype(np.float32)
        world_map = registration.register_affine(Volume(inside, volume.affine), template.brain())
        stripped = Stripped(volume, brain.mask, world_map)
        data = _on_grid(stripped, config)
        mask = (
            geometry.resample(brain.mask.astype(np.float32), volume.affine, GRID_SHAPE, GRID_AFFINE, world_map) >= 0.5
        )
    with stage("bias field"):
        corrected = intensity.correct_bias(data, mask) if config.bias_field else data
    reference = template.on_grid("mni_brain_mask") > 0
    both = mask & reference
    prepared = Prepared(
        data=np.where(mask, corrected, 0).astype(np.float32),
        mask=mask,
        world_map=world_map,
        strip=brain.method,
        brain_volume_ml=float(brain.mask.sum() * np.prod(geometry.spacing(volume.affine)) / 1e3),
        border_fraction=border_fraction(brain.mask),
        mask_overlap=float(2 * both.sum() / max(mask.sum() + reference.sum(), 1)),
        similarity=registration.similarity(corrected, template.on_grid("mni_head_T1w", 1), both),
    )
    return prepared, stripped


def _brain(scan: Scan, config: PreprocessConfig, brain_mask: Path | None, device: str) -> tuple[BrainMask, Volume]:
    """The brain mask, and the scan's intensities on the common scale."""
    level, stripped = common_scale(scan.volume)
    if brain_mask:
        return skullstrip.read_mask(brain_mask, scan), level.volume
    arithmetic = skullstrip.Arithmetic(device, config.precision)
    return skullstrip.extract(level, config.strip, arithmetic, stripped), level.volume


def common_scale(volume: Volume) -> tuple[Levelled, bool]:
    """A scan's intensities on the common scale of all stages, and whether its skull was removed before.

    Raises `InputError` for a volume of one value.
    """
    level = levels.levelled(volume)
    if stripped := skullstrip.looks_stripped(level):
        level = dataclasses.replace(level, volume=levels.raised(level.volume))
    return level, stripped


def _on_grid(stripped: Stripped, config: PreprocessConfig) -> Array:
    """The intensities on the model's grid; with curvature flow, only the brain, smoothed at 1 mm."""
    if not config.curvature_flow:
        return stripped.on_grid
    (x, y, z), affine = GRID_SHAPE, stripped.volume.affine
    inside = np.where(stripped.brain, stripped.volume.data, 0)
    data = geometry.resample(inside, affine, FINE_SHAPE, FINE_AFFINE, stripped.world_map, order=3, antialias=True)
    smoothed = intensity.curvature_flow(data, 1.0, config.curvature_flow)
    return np.asarray(smoothed.reshape(x, 2, y, 2, z, 2).mean(axis=(1, 3, 5)), dtype=np.float32)


def border_fraction(mask: NDArray[np.bool_]) -> float:
    """The share of the surface voxels of a mask (X, Y, Z) on the border of its grid; high if the brain is cut off."""
    from scipy import ndimage

    surface = mask & ~ndimage.binary_erosion(mask)
    border = np.ones_like(mask)
    border[1:-1, 1:-1, 1:-1] = False
    return float((surface & border).sum() / max(surface.sum(), 1))


def to_native(data: Array, scan: Scan, prepared: Prepared, order: int) -> Array:
    """Resample a volume (96, 96, 80) from the model's grid to the scan's canonical grid by the inverse registration."""
    back = np.linalg.inv(prepared.world_map)
    return geometry.resample(data, GRID_AFFINE, scan.volume.shape, scan.volume.affine, back, order=order)


def smoothed_as(config: PreprocessConfig, iterations: int, reporter: Reporter) -> PreprocessConfig:
    """The settings with the curvature-flow iterations of the weights; reports if others were set."""
    if config.curvature_flow not in (0, iterations):
        reporter.warn(f"preprocess.curvature_flow is ignored: the weights need {iterations}")
    return dataclasses.replace(config, curvature_flow=iterations)


def scaled_as(config: PreprocessConfig, scaling: str, reporter: Reporter) -> PreprocessConfig:
    """The settings with the intensity scaling of the weights; reports if another was set."""
    if config.scaling not in ("", scaling):
        reporter.warn(f"preprocess.scaling is ignored: the weights need {scaling}")
    return dataclasses.replace(config, scaling=scaling)


def prepare_cached(path: Path, config: PreprocessConfig, cache: Path, *, brain_mask: Path | None = None) -> Prepared:
    """`prepare` for the scan at `path`, cached in the folder `cache` by the content of scan, mask and settings."""
    return unpacked(packed_cached(path, config, cache, brain_mask=brain_mask))


def packed_cached(
    path: Path, config: PreprocessConfig, cache: Path, *, brain_mask: Path | None = None
) -> Mapping[str, Any]:
    """The same as it is in the cache, 1.6 MB a scan, for `unpacked`."""
    # the cache holds unscaled intensities, and the brain mask is the same in any precision but for rounding
    later = ("lower_percentile", "upper_percentile", "scaling", "precision")
    relevant = {k: v for k, v in dataclasses.asdict(config).items() if k not in later}
    if not config.curvature_flow:  # a step that is left out is not part of the key
        del relevant["curvature_flow"]
    key = json.dumps([VERSION, stored.sha256(path), brain_mask and stored.sha256(brain_mask), relevant], sort_keys=True)
    file = cache / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npz"
    if file.exists():
        with suppress(*DAMAGED):  # it is made again
            values = read_packed(file)
            unpacked(values)
            return values
    prepared, _ = prepare(read_scan(path), config, brain_mask=brain_mask)
    cache.mkdir(parents=True, exist_ok=True)
    save_prepared(file, prepared)
    return read_packed(file)


def save_prepared(file: Path, prepared: Prepared) -> None:
    """Write a prepared scan atomically."""
    values = dataclasses.asdict(prepared)
    peak = float(np.abs(prepared.data).max()) or 1.0  # float16 ends at 65504
    values["data"] = (prepared.data / peak).astype(np.float16)
    values["mask"] = np.packbits(prepared.mask)
    values["similarity"] = np.nan if prepared.similarity is None else prepared.similarity
    write_with(file, lambda temporary: _savez(temporary, peak=peak, **values))


def _savez(file: Path, **values: Any) -> None:
    """An .npz as of NumPy, but packed by bzip2: four fifths of the bytes for these volumes, read by `np.load` alike."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_BZIP2) as archive:
        for name, value in values.items():
            with archive.open(f"{name}.npy", "w") as stream:
                np.lib.format.write_array(stream, np.asanyarray(value), allow_pickle=False)


def read_packed(file: Path) -> Mapping[str, Any]:
    """The arrays that `save_prepared` wrote."""
    with np.load(file, allow_pickle=False) as values:
        return {name: values[name] for name in values.files}


def unpacked(values: Mapping[str, Any]) -> Prepared:
    """The prepared scan of such arrays."""
    count, similarity = int(np.prod(GRID_SHAPE)), float(values["similarity"])
    return Prepared(
        data=values["data"].astype(np.float32) * float(values["peak"]),
        mask=np.unpackbits(values["mask"], count=count).reshape(GRID_SHAPE).astype(bool),
        world_map=values["world_map"],
        strip=str(values["strip"]),
        **{k: float(values[k]) for k in ("brain_volume_ml", "border_fraction", "mask_overlap")},
        similarity=None if np.isnan(similarity) else similarity,
    )
