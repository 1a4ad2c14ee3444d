"""Synthetic cases for training the score: healthy volumes, lesions and scanner effects."""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from uadcli import contrasts
from uadcli.arrays import Array, Mask
from uadcli.config import CONTRASTS, PreprocessConfig
from uadcli.data.dataset import SCANS, Case
from uadcli.data.healthy import brain_slices
from uadcli.data.scans import Scans
from uadcli.errors import InputError
from uadcli.files import DAMAGED, file_sha256, write_with
from uadcli.imaging import geometry, intensity, registration, template
from uadcli.imaging.slices import FINE_AFFINE, FINE_SHAPE
from uadcli.imaging.volume import Volume
from uadcli.running.stage import Progress, unseen
from uadcli.synthesis import anatomy
from uadcli.synthesis.anatomy import Anatomy
from uadcli.synthesis.brains import brain_of, from_labels, without_parcels
from uadcli.synthesis.contrast import volume_from_t1
from uadcli.synthesis.lesions import paste_lesions
from uadcli.synthesis.scanner import degrade

LABELS, AS = "labels", f"{contrasts.T1W.name} as "
# shares of the volumes by origin
SHARES = {
    **{name: one.volumes for name, one in contrasts.ALL.items()},
    **{f"{AS}{name}": made.volumes for name, made in contrasts.FROM_T1W.items()},
    LABELS: 0.22,
}
KEPT = 3  # increase it whenever the cached form of a label map changes


@dataclass(frozen=True)
class Healthy:
    """A healthy volume on the model's grid, linear in the scan's intensities, and its usable slices.

    Without an `anatomy` it only gets lesions of kinds that can be anywhere.
    """

    data: Array
    mask: NDArray[np.bool_]
    usable: NDArray[np.int64]
    kind: str
    anatomy: Anatomy | None = None


def load_healthy(chosen: Sequence[Case], scans: Scans, progress: Progress = unseen) -> list[Healthy]:
    """The healthy part of each case: of patients, the slices without lesion (by mask, with a margin)."""
    result = []
    for done, case in enumerate(chosen):
        progress(done, len(chosen))
        prepared = scans.prepared(case.scan)
        usable = scans.healthy_slices(case)
        kind = case.contrast or prepared.contrast().contrast
        data, mask = prepared.linear(scans.config), prepared.mask
        known = anatomy.of_scan(data, mask, kind) if contrasts.ALL[kind].dark_fluid else None
        result.append(Healthy(data, mask, usable, kind, known))
    return result


def label_files(folder: str) -> list[Path]:
    """The label maps of a folder; none if no folder is named. Raises `InputError` if it holds none."""
    files = sorted(p for p in Path(folder).glob("*") if p.name.endswith(SCANS)) if folder else []
    if folder and not files:
        raise InputError(
            "contains no label maps", path=Path(folder), hint="Correct the setting label_maps, or leave it out."
        )
    return files


def load_labels(files: list[Path], cache: Path, progress: Progress = unseen) -> list[NDArray[np.int16]]:
    """Head label maps in template space, 1 mm, twice the model's grid (192, 192, 160); registered once and cached.

    Raises `InputError` for a file that is not a label map.
    """
    result = []
    for done, file in enumerate(files):
        progress(done, len(files))
        kept = cache / f"labels-{KEPT}-{file_sha256(file)[:24]}.npz"
        found = _kept_labels(kept)
        if found is None:
            found = _on_grid(file)
            cache.mkdir(parents=True, exist_ok=True)
            write_with(kept, functools.partial(np.savez_compressed, labels=found))
        result.append(found)
    return result


def _kept_labels(file: Path) -> NDArray[np.int16] | None:
    """A cached label map; None if it is missing or damaged."""
    with suppress(*DAMAGED), np.load(file, allow_pickle=False) as stored:
        found: NDArray[np.int16] = stored["labels"]
        return found if found.shape == FINE_SHAPE else None
    return None


def _on_grid(file: Path) -> NDArray[np.int16]:
    """The label map of a head in template space, inside the brain. Raises `InputError`."""
    image, labels = _label_map(file)
    brain = brain_of(labels)
    padded = np.pad(labels, [(0, n % 2) for n in labels.shape])
    half = from_labels(padded, contrasts.T1W.name, np.random.default_rng(0))
    coarse = geometry.scaled_grid(image.affine, np.full(3, 2.0))
    world_map = registration.register_affine(Volume(half, coarse), template.brain())
    inside = np.where(brain, labels, 0).astype(np.float32)
    on_grid = geometry.resample(inside, image.affine, FINE_SHAPE, FINE_AFFINE, world_map, order=0)
    return np.round(on_grid).astype(np.int16)


def _label_map(file: Path) -> tuple[Any, NDArray[np.int16]]:
    """The image of a file and its labels. Raises `InputError`."""
    try:
        image: Any = nib.load(file)
        labels = without_parcels(np.asarray(image.dataobj).astype(np.int16))
    except (OSError, ValueError, nib.filebasedimages.ImageFileError) as error:
        raise InputError("cannot be read as a label map", path=file, hint="Correct the setting label_maps.") from error
    if labels.ndim != 3 or not brain_of(labels).any():
        raise InputError("is not a 3-D map of FreeSurfer's labels", path=file, hint="Correct the setting label_maps.")
    return image, labels


@dataclass(frozen=True)
class Sources:
    """The sources of examples: healthy volumes and head label maps, only of the given contrasts.

    Label maps, which can provide any contrast, keep their share.
    """

    healthy: Sequence[Healthy]
    labels: Sequence[NDArray[np.int16]] = ()
    contrasts: Collection[str] = CONTRASTS


@dataclass(frozen=True)
class Scene:
    """What an example is made of, all (96, 96, 80): a scan scaled to [0, 1], its brain mask and its lesions.

    `headroom` is how far the scan lay above 1 (`imaging.intensity.headroom`). `usable` (N,) are indices of axial
    slices. The reconstruction gets `seed` and, unless empty, only these `levels`.
    """

    x: Array
    mask: Mask
    truth: Mask
    usable: NDArray[np.int64]
    seed: int = 0
    levels: tuple[int, ...] = ()
    headroom: Array | float = 0.0


class SceneMaker:
    """Makes numbered scenes: a healthy volume, lesions, scanner effects, scaling. It needs no network.

    A share `one_level` of the scenes is reconstructed from one of the `levels` alone.
    """

    def __init__(
        self,
        sources: Sources,
        preprocess: PreprocessConfig,
        seed: int,
        levels: Sequence[int] = (),
        one_level: float = 0.0,
    ) -> None:
        self.contrasts, self.levels, self.one_level = sources.contrasts, levels, one_level
        self.real = {kind: [h for h in sources.healthy if h.kind == kind] for kind in CONTRASTS}
        self.labels, self.preprocess, self.seed = sources.labels, preprocess, seed

    def _healthy(self, rng: np.random.Generator) -> Healthy:
        have = {kind: bool(scans) for kind, scans in self.real.items()} | {LABELS: bool(self.labels)}
        wanted = {*self.contrasts, LABELS}
        kinds = [k for k in SHARES if have[k.split()[0]] and k.split()[-1] in wanted]
        share = np.array([SHARES[k] for k in kinds])
        origin = str(rng.choice(kinds, p=share / share.sum()))
        if origin == LABELS:
            kind = str(rng.choice([k for k in CONTRASTS if k in self.contrasts]))
            labels = self.labels[int(rng.integers(len(self.labels)))]
            data = from_labels(labels, kind, rng)
            return Healthy(data, data > 0, brain_slices(data > 0), kind, anatomy.of_labels(labels))
        pool = self.real[origin.split()[0]]
        one = pool[rng.integers(len(pool))]
        if origin.startswith(AS):
            kind = origin.removeprefix(AS)
            known = one.anatomy or anatomy.of_scan(one.data, one.mask, one.kind)
            return replace(one, data=volume_from_t1(one.data, one.mask, known, kind, rng), kind=kind)
        return one

    def draw(self, number: int) -> Scene:
        """The scene with this number; it depends only on number and seed."""
        rng = np.random.default_rng([self.seed, number])
        one = self._healthy(rng)
        data, mask, known = one.data, one.mask, one.anatomy
        if rng.random() < 0.5:
            data, mask, known = data[::-1], mask[::-1], known and known.mirrored()
        allowed = np.zeros_like(mask)
        allowed[:, :, one.usable] = True
        x, truth = paste_lesions(np.ascontiguousarray(data), mask, one.kind, rng, allowed, known)
        return self.degraded(x, mask, truth, one.usable, rng)

    def degraded(self, x: Array, mask: Mask, truth: Mask, usable: NDArray[np.int64], rng: np.random.Generator) -> Scene:
        """The scene of a volume x (96, 96, 80) with its lesions, after scanner effects and scaling.

        `usable` (N,) are indices of axial slices.
        """
        x, mask = degrade(x, mask, rng)
        scaled, above = (f(x, mask, self.preprocess) for f in (intensity.scale, intensity.headroom))
        seed, levels = int(rng.integers(2**31)), tuple[int, ...]()
        if rng.random() < self.one_level:
            levels = (int(rng.choice(self.levels)),)
        return Scene(scaled, mask, truth, usable, seed, levels, above)
