"""The statistics by which a contrast is recognised and other images are refused, over real scans.

Usage: contrast_statistics.py DATA CACHE [--strip atlas] [--every 4]. Prints a table of each contrast's lowest,
median and highest values, and every scan that is judged wrongly; prepared scans are kept in CACHE.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from uadcli.config import CONTRASTS, PreprocessConfig
from uadcli.data.contrast import from_name
from uadcli.data.prepare import prepare_cached
from uadcli.data.tissue_contrast import ContrastGuess
from uadcli.data.unsuitable import signs
from uadcli.errors import UadError
from uadcli.imaging.volume import read_scan

FOLDERS = ("healthy_other", "kirby21", "mslesseg_mni", "mslub_mni", "mslub_raw", "oasis_t1_stripped", "stroke_t2w")
MORE = ("tcga_raw", "tcga_t2w", "wmh_flair", "tcga_lgg", "ixi_t1")


def scans(data: Path, every: int) -> Iterator[tuple[Path, str]]:
    """The scans with their contrast; of the large folder of T1w scans one in `every`."""
    for folder in (*FOLDERS, *MORE):
        step = every if folder == "ixi_t1" else 1
        named = [(p, from_name(p)) for p in sorted((data / folder).rglob("*.nii.gz"))]
        yield from [(p, name) for p, name in named if name and p.name.endswith(f"_{name}.nii.gz")][::step]


def row(name: str, values: list[float]) -> str:
    """One statistic of a contrast: lowest, median, highest."""
    low, middle, high = np.nanmin(values), np.nanmedian(values), np.nanmax(values)
    return f"  {name:16s} {low:9.3f} {middle:9.3f} {high:9.3f}"


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
    for path, name in scans(given.data, given.every):
        try:
            guess = prepare_cached(path, config, given.cache).contrast()
            files[name].append(dataclasses.asdict(signs(read_scan(path).volume)))
        except UadError as error:
            print(error, file=sys.stderr)
            continue
        guesses[name].append(guess)
        if guess.other or (guess.contrast != name and not guess.doubtful):
            print(f"{path.name}: {name} is taken for {guess.other or guess.contrast}")
    for name, found in guesses.items():
        doubtful = sum(guess.doubtful for guess in found)
        right = sum(guess.contrast == name for guess in found)
        print(f"{name}: {len(found)} scans, {right} recognised, {doubtful} doubtful; lowest, median, highest")
        for field in (*dataclasses.asdict(found[0].statistics), "likeness"):
            print(row(field, [getattr(guess.statistics, field) for guess in found]))
        for field in files[name][0]:
            print(row(field, [one[field] for one in files[name]]))


if __name__ == "__main__":
    main()
