"""Measure how well two scans of one patient fit each other, and those of different patients.

    python packaging/evaluation/same_patient.py DATA [--cache FOLDER] [--every N]

For each patient of the development data with several contrasts (with --every, each N-th of them), every further scan
of the patient, and of the next patient, is registered to the FLAIR as `uad detect --with` does. Prints overlap of the
brain masks, similarity, and similarity of the mirrored scan; if left and right were exchanged, the last two would be.
The limits are in `uadcli.data.same_patient`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

from development import cases

from uadcli import device
from uadcli.config import PreprocessConfig
from uadcli.data.prepare import Prepared, prepare_cached
from uadcli.data.same_patient import Alignment, align


def patients(data: Path, cache: Path) -> Iterator[tuple[str, Prepared, dict[str, Prepared]]]:
    """Name, prepared FLAIR and prepared further scans of every patient that has them."""
    found: dict[tuple[str, str], dict[str, Path]] = {}
    for case in cases(data):
        found.setdefault((case.source, case.subject), {})[case.contrast] = case.scan
    for (_, subject), scans in found.items():
        if "FLAIR" in scans and len(scans) > 1:
            made = {name: prepare_cached(scan, PreprocessConfig(), cache) for name, scan in scans.items()}
            yield subject, made.pop("FLAIR"), made


def show(kind: str, subject: str, contrast: str, one: Alignment) -> None:
    print(
        f"| {kind} | {subject} | {contrast} | {one.mask_overlap:.3f} | {one.similarity:.3f} | {one.mirrored:.3f} "
        f"| {one.degrees:.1f} |",
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
    for (subject, first, further), (_, _, strange) in zip(every, [*every[1:], every[0]], strict=True):
        for contrast, other in further.items():
            show("same", subject, contrast, align(first, other))
            count += 1
        for contrast, other in strange.items():
            show("different", subject, contrast, align(first, other))
            count += 1
    print(f"\n{(time.perf_counter() - start) / count:.1f} s for a pair")


if __name__ == "__main__":
    main()
