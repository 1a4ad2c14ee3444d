"""How a change of the preparation moves brain masks and registrations of twenty real heads, and how long it takes.

    python packaging/evaluation/heads.py DATA FOLDER

DATA contains the development data. The first run writes masks and registrations to FOLDER; a later one, of another
version, prints for each head the Dice of its brain mask with the one there, by how many mm the registration moves the
points of the brain, and the seconds of brain mask and registration, of wall and of processor time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from uadcli import device
from uadcli.arrays import Affine
from uadcli.config import PreprocessConfig
from uadcli.data.prepare import Prepared, Stripped, prepare
from uadcli.imaging import template
from uadcli.imaging.geometry import apply
from uadcli.imaging.volume import read_scan
from uadcli.scoring.metrics import dice

HEADS = (
    "healthy_other/*/anat/*.nii.gz",
    "tcga_raw/*/anat/*_[FT][L2]*.nii.gz",
    "tcga_lgg/sub-CS4941/anat/*_FLAIR.nii.gz",
    "tcga_lgg/sub-HT7475/anat/*_FLAIR.nii.gz",
    "ixi_t1/sub-IXI01[23]/anat/*.nii.gz",
    "mslub_raw/*/anat/*.nii.gz",
    "stroke_t2w/sub-CT01/anat/*_T2w.nii.gz",
    "wmh_flair/*/anat/*.nii.gz",
)


class Clock:
    """The seconds of each stage of a preparation: wall time, and processor time of all threads."""

    def __init__(self) -> None:
        self.seconds: dict[str, tuple[float, float]] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one stage."""
        wall, processor = time.perf_counter(), time.process_time()
        yield
        self.seconds[name] = time.perf_counter() - wall, time.process_time() - processor

    def in_words(self, name: str) -> str:
        """The seconds of a stage as text."""
        return " / ".join(f"{value:.1f}" for value in self.seconds[name])


def moved_mm(one: Affine, other: Affine) -> float:
    """The largest distance in mm between the images of a point of the template's brain under two affines (4x4)."""
    points = apply(template.head().affine, np.argwhere(template.brain_mask()).astype(float))
    return float(np.linalg.norm(apply(one, points) - apply(other, points), axis=1).max())


def compared(file: Path, prepared: Prepared, stripped: Stripped) -> str:
    """Dice and movement against the result of another version in `file`, which is written if it does not exist."""
    if not file.exists():
        np.savez_compressed(file, mask=stripped.brain, world_map=prepared.world_map)
        return "written | written"
    with np.load(file) as before:
        return f"{dice(before['mask'], stripped.brain):.5f} | {moved_mm(before['world_map'], prepared.world_map):.2f}"


def main() -> None:
    """Print a row for each head."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    device.bound_threads()
    print("| head | Dice | moved mm | brain mask, s (wall / processor) | registration, s |\n|---|---|---|---|---|")
    for path in (path for pattern in HEADS for path in sorted(arguments.data.glob(pattern))):
        clock = Clock()
        prepared, stripped = prepare(read_scan(path), PreprocessConfig(), stage=clock.stage)
        result = compared(arguments.folder / f"{path.name}.npz", prepared, stripped)
        print(
            f"| {path.name} | {result} | {clock.in_words('brain mask')} | {clock.in_words('registration')} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
