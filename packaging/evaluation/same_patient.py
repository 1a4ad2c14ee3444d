"""Measure how well two scans of one patient fit each other, and those of different patients.

    python packaging/evaluation/same_patient.py DATA [--cache FOLDER] [--every N]

For each patient of the development data with several contrasts, raw ones among them (with --every, each N-th of them),
every further scan of the patient, and of the next two patients, is registered to the FLAIR, or to the T2w of a patient
without one, as `uad detect --with` does. Prints overlap of the brain masks, similarity, and similarity of the mirrored
scan; if left and right were exchanged, the last two would be. The limits are in `uadcli.data.same_patient`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from development import cases

from uadcli import device
from uadcli.config import PreprocessConfig
from uadcli.data.prepare import Prepared, prepare_cached
from uadcli.data.same_patient import Alignment, align

RAW = ("tcga_raw/sub-FG6692", "mslub_raw/sub-01")


@dataclass(frozen=True)
class Patient:
    """A patient's name, the contrast and the prepared scan that come first, and the further scans by contrast."""

    name: str
    contrast: str
    first: Prepared
    further: dict[str, Prepared]


def patients(data: Path, cache: Path) -> Iterator[Patient]:
    """Every patient with several contrasts."""
    found: dict[str, dict[str, Path]] = {}
    for case in cases(data):
        found.setdefault(case.subject, {})[case.contrast] = case.scan
    for folder in RAW:
        for scan in sorted((data / folder / "anat").glob("*.nii.gz")):
            found.setdefault(f"{folder} raw", {})[scan.name.removesuffix(".nii.gz").rpartition("_")[2]] = scan
    for name, scans in found.items():
        order = [contrast for contrast in ("FLAIR", "T2w", "T1w") if contrast in scans]
        if len(order) > 1:
            first, *further = (prepare_cached(scans[one], PreprocessConfig(), cache) for one in order)
            yield Patient(name, order[0], first, dict(zip(order[1:], further, strict=True)))


def show(kind: str, of: Patient, contrast: str, one: Alignment) -> None:
    similarity, mirrored = ("n/a" if value is None else f"{value:.3f}" for value in (one.similarity, one.mirrored))
    print(
        f"| {kind} | {of.name} {of.contrast} | {contrast} | {one.mask_overlap:.3f} "
        f"| {similarity} | {mirrored} | {one.degrees:.1f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    parser.add_argument("--every", type=int, default=1)
    arguments = parser.parse_args()
    device.bound_threads(None)
    every = list(patients(arguments.data, arguments.cache))[:: arguments.every]
    print("| pair | patient | further scan | mask overlap | similarity | mirrored | rotation |")
    print("|---" * 7 + "|")
    start, count = time.perf_counter(), 0
    for place, one in enumerate(every):
        strange = [every[(place + n) % len(every)] for n in (1, 2)]
        for other in (one, *strange):
            for contrast, scan in other.further.items():
                show("same" if other is one else "different", one, contrast, align(one.first, scan))
                count += 1
    print(f"\n{(time.perf_counter() - start) / count:.1f} s for a pair")


if __name__ == "__main__":
    main()
