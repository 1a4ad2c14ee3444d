"""The statistics that recognise contrasts and refuse other images, on real and synthetic images.

Usage: contrast_statistics.py DATA CACHE [--strip atlas] [--every 4]. Prints every misclassified scan, a table
of the lowest, median and highest values of each contrast, and how many synthetic images of other contrasts are
recognised as such; prepared scans are kept in CACHE.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from uadcli.arrays import Array
from uadcli.config import CONTRASTS, PreprocessConfig
from uadcli.contrasts import T1W
from uadcli.data.contrast import from_name
from uadcli.data.prepare import Prepared, prepare_cached
from uadcli.data.tissue_contrast import ContrastGuess
from uadcli.data.unsuitable import signs
from uadcli.errors import UadError
from uadcli.imaging.slices import GRID_SHAPE
from uadcli.imaging.volume import read_scan
from uadcli.synthesis.brains import CORTEX, CSF, DEEP, OTHER, OUTER, TISSUE, WHITE, brain_of
from uadcli.training.examples.synthetic import label_files, load_labels

FOLDERS = ("healthy_other", "kirby21", "mslesseg_mni", "mslub_mni", "mslub_raw", "oasis_t1_stripped", "stroke_t2w")
MORE = ("tcga_raw", "tcga_t2w", "wmh_flair", "tcga_lgg", "ixi_t1")
MADE = {  # fluid, cortex, deep grey matter, white matter, noise
    "proton density": (1.08, 1.0, 0.95, 0.82, 0.02),
    "proton density, fluid bright": (1.2, 1.0, 0.93, 0.8, 0.03),
    "proton density, fluid dark": (0.95, 1.0, 0.93, 0.8, 0.03),
    "T1 map, 3 T": (4000, 1400, 1200, 850, 40),
    "T1 map, 1.5 T": (3800, 1050, 900, 620, 40),
    "T2*": (1.4, 1.0, 0.85, 0.88, 0.03),
    "diffusion b0": (3.0, 1.0, 0.9, 0.85, 0.05),
    "diffusion coefficient": (3.0, 0.85, 0.8, 0.78, 0.05),
}


def scans(data: Path, every: int) -> Iterator[tuple[Path, str]]:
    """The scans with their contrast; of the large folder of T1w scans every `every`-th."""
    for folder in (*FOLDERS, *MORE):
        step = every if folder == "ixi_t1" else 1
        named = [(p, from_name(p)) for p in sorted((data / folder).rglob("*.nii.gz"))]
        yield from [(p, name) for p, name in named if name and p.name.endswith(f"_{name}.nii.gz")][::step]


def row(name: str, values: Sequence[float | None]) -> str:
    """One statistic of a contrast: lowest, median, highest of the scans that have it."""
    known = [value for value in values if value is not None] or [np.nan]
    low, middle, high = np.nanmin(known), np.nanmedian(known), np.nanmax(known)
    return f"  {name:16s} {low:9.3f} {middle:9.3f} {high:9.3f}"


def t1_map(prepared: Prepared) -> Prepared:
    """A map of T1 in ms that decreases with the intensity of a T1w scan."""
    level = prepared.data / np.percentile(prepared.data[prepared.mask], 99)
    times = np.clip(4200 * np.exp(-1.9 * level), 500, 4500)
    return dataclasses.replace(prepared, data=np.where(prepared.mask, times, 0).astype(np.float32))


def from_levels(labels: np.ndarray, levels: tuple[float, ...], seed: int) -> Prepared:
    """A brain with the given tissue intensities from a label map at 1 mm, on the model's 2 mm grid."""
    csf, cortex, deep, white, noise = levels
    of = {CSF: csf, OUTER: csf, CORTEX: cortex, DEEP: deep, WHITE: white, OTHER: (cortex + white) / 2}
    table = np.array([of[TISSUE.get(number, OTHER)] for number in range(int(labels.max()) + 1)], dtype=np.float32)
    brain = brain_of(labels)
    data = np.where(brain, table[labels] + np.random.default_rng(seed).normal(0, noise, labels.shape), 0)
    x, y, z = GRID_SHAPE

    def halved(volume: np.ndarray) -> Array:
        return np.asarray(volume.reshape(x, 2, y, 2, z, 2).mean(axis=(1, 3, 5)), dtype=np.float32)

    smooth, mask = halved(ndimage.gaussian_filter(data, 0.7)), halved(brain) >= 0.5
    return Prepared(np.where(mask, smooth, 0), mask, np.eye(4), "none", 1400.0, 0.0, 1.0, 1.0)


def made_up(data: Path, cache: Path) -> Iterator[str]:
    """How many synthetic images of each other contrast are recognised as not covered, one line each."""
    maps = load_labels(label_files(str(data / "labelmaps")), cache)
    for name, levels in MADE.items():
        found = [from_levels(labels, levels, seed).contrast() for seed, labels in enumerate(maps)]
        yield f"{name}, of label maps: {sum(bool(guess.other) for guess in found)} of {len(found)} not covered"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--strip", default="atlas")
    parser.add_argument("--every", type=int, default=4)
    given = parser.parse_args()
    config = PreprocessConfig(strip=given.strip)
    guesses: dict[str, list[ContrastGuess]] = {name: [] for name in CONTRASTS}
    files: dict[str, list[dict[str, float]]] = {name: [] for name in CONTRASTS}
    turned = []
    for path, name in scans(given.data, given.every):
        try:
            prepared = prepare_cached(path, config, given.cache)
            guess = prepared.contrast()
            files[name].append(dataclasses.asdict(signs(read_scan(path).volume)))
        except UadError as error:
            print(error, file=sys.stderr)
            continue
        guesses[name].append(guess)
        if name == T1W.name:
            turned.append(t1_map(prepared).contrast())
        if guess.other or (guess.contrast != name and not guess.doubtful):
            print(f"{path.name}: {name} is taken for {guess.other or guess.contrast}")
    for name, found in guesses.items():
        doubtful = sum(guess.doubtful for guess in found)
        right = sum(guess.contrast == name for guess in found)
        print(f"{name}: {len(found)} scans, {right} recognised, {doubtful} doubtful; lowest, median, highest")
        for field in (*dataclasses.asdict(found[0].statistics), "likeness", "inversion"):
            print(row(field, [getattr(guess.statistics, field) for guess in found]))
        for field in files[name][0]:
            print(row(field, [one[field] for one in files[name]]))
    print(f"T1 maps made from T1w scans: {sum(bool(guess.other) for guess in turned)} of {len(turned)} not covered")
    for line in made_up(given.data, given.cache):
        print(line)


if __name__ == "__main__":
    main()
