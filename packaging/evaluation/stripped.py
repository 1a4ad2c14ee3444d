"""How well whole heads and skull-stripped scans are distinguished.

    python packaging/evaluation/stripped.py DATA [EVERY]

DATA contains the development data; every EVERY-th of its heads is used (5). Each head is cropped to its upper 100, 120,
140 and 160 mm, with air set to 0 or another constant, by a threshold or as a filled outline. Stripped scans are used
whole, without their upper or lower third, z-scored with the background among or below the values, and with a dark
cavity of 40 ml. Prints a row for each wrong decision, and the counts.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uadcli.imaging import skullstrip
from uadcli.imaging.geometry import spacing
from uadcli.imaging.levels import levelled
from uadcli.imaging.volume import Volume, read_scan

HEADS = ("ixi_t1", "tcga_lgg", "healthy_other", "mslub_raw", "tcga_raw", "stroke_t2w/sub-CT01", "wmh_flair")
STRIPPED = ("oasis_t1_stripped", "mslub_mni", "kirby21", "mslesseg_mni", "tcga_t2w", "stroke_t2w/sub-M2208")
COVERAGES_MM = (100, 120, 140, 160)
CAVITY_ML = 40


def scans(data: Path, folders: tuple[str, ...]) -> list[Path]:
    """The scans of some folders, without masks."""
    found = [path for folder in folders for path in sorted((data / folder).rglob("*.nii.gz"))]
    return [path for path in found if path.name.endswith(("_T1w.nii.gz", "_T2w.nii.gz", "_FLAIR.nii.gz"))]


def thinned(volume: Volume) -> Volume:
    """Fewer voxels along fine axes, which do not affect the decision."""
    steps = [max(1, int(2.01 // size)) for size in spacing(volume.affine)]
    data = np.ascontiguousarray(volume.data[:: steps[0], :: steps[1], :: steps[2]])
    return Volume(data, volume.affine @ np.diag([*map(float, steps), 1.0]))


def head_variants(volume: Volume) -> Iterator[tuple[str, Volume]]:
    """The upper part of a head, with constant air."""
    size, data = spacing(volume.affine), volume.data
    solid = ndimage.binary_opening(data > 0.08 * np.percentile(data, 99))
    filled = skullstrip.fill(skullstrip.largest_component(ndimage.binary_closing(np.pad(solid, 3), iterations=3)))
    top = int(np.flatnonzero(solid.sum((0, 1)) * size[0] * size[1] > 500).max())
    for coverage in COVERAGES_MM:
        low = max(0, int(top + 3 - coverage / size[2]))
        for name, body in (("threshold", solid), ("outline", filled[3:-3, 3:-3, 3:-3] | solid)):
            for air in (0.0, -1024.0):
                yield f"{coverage} mm, {name}, air {air:g}", Volume(np.where(body, data, air)[..., low:], volume.affine)


def brain_variants(volume: Volume) -> Iterator[tuple[str, Volume]]:
    """Variants of a stripped scan: as stored by other programs, and cut by the field of view."""
    data, third = volume.data, volume.shape[2] // 3
    inside = skullstrip.largest_component(levelled(volume).foreground)
    z = (data - data[inside].mean()) / data[inside].std()
    yield "whole", volume
    yield "without the lower third", Volume(data[..., third:], volume.affine)
    yield "without the upper third", Volume(data[..., :-third], volume.affine)
    yield "z-scored, background 0", Volume(np.where(inside, z, 0), volume.affine)
    yield "z-scored, background -10", Volume(np.where(inside, z, -10), volume.affine)
    yield "with a cavity", Volume(np.where(_cavity(inside, volume), data[inside].min(), data), volume.affine)


def _cavity(inside: NDArray[np.bool_], volume: Volume) -> NDArray[np.bool_]:
    size = spacing(volume.affine)
    depth = ndimage.distance_transform_edt(inside, sampling=size)
    left = np.indices(inside.shape)[0] < np.median(np.nonzero(inside)[0])
    centre = np.argwhere((depth > 20) & (depth < 24) & left)
    apart = (np.stack(np.indices(inside.shape), -1) - centre[len(centre) // 2]) * size
    return np.linalg.norm(apart, axis=-1) < (CAVITY_ML * 1000 * 3 / (4 * np.pi)) ** (1 / 3)


def main(data: Path, every: int) -> None:
    """Print the wrong decisions, and a count."""
    count: Counter[str] = Counter()
    for kind, folders, variants, step in (
        ("head", HEADS, head_variants, every),
        ("brain", STRIPPED, brain_variants, 1),
    ):
        for path in scans(data, folders)[::step]:
            for name, volume in variants(thinned(read_scan(path).volume)):
                wrong = skullstrip.looks_stripped(levelled(volume)) != (kind == "brain")
                count[kind] += 1
                count[f"{kind} wrong"] += wrong
                if wrong:
                    print(f"| {path.name} | {name} |", flush=True)
    for kind in ("head", "brain"):
        print(f"{kind}: {count[f'{kind} wrong']} of {count[kind]} wrong")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("every", type=int, nargs="?", default=5)
    arguments = parser.parse_args()
    main(arguments.data, arguments.every)
