"""Build the map of brain regions in `uadcli/imaging/templates` from head label maps, by majority vote.

    python packaging/models/make_regions.py LABELMAPS [--cache .cache]

LABELMAPS contains `*_dseg.nii.gz` with FreeSurfer's numbers. Each head is registered to the template by an affine, as
scans are, and votes with the eight 1 mm voxels in each voxel of the model's grid. The name with the most votes wins; 0
is what FreeSurfer counts to no structure of the brain (above all the fluid around it), which votes as well. The table
next to the map says how reliable each name is: `agreement` is the mean share of votes for the winner, `left_out` the
mean share of voxels named correctly when each head is named by the others.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
from make_templates import OUT, write_packed

from uadcli.imaging.slices import GRID_AFFINE
from uadcli.training.examples.synthetic import load_labels

# name without side, and FreeSurfer's numbers on the left and right; ventricles include their inferior parts
PAIRS = (
    ("cerebral cortex", (3,), (42,)),
    ("cerebral white matter", (2,), (41,)),
    ("lateral ventricle", (4, 5), (43, 44)),
    ("thalamus", (10,), (49,)),
    ("caudate", (11,), (50,)),
    ("putamen", (12,), (51,)),
    ("pallidum", (13,), (52,)),
    ("hippocampus", (17,), (53,)),
    ("amygdala", (18,), (54,)),
    ("accumbens", (26,), (58,)),
    ("ventral diencephalon", (28,), (60,)),
    ("cerebellar cortex", (8,), (47,)),
    ("cerebellar white matter", (7,), (46,)),
)
MIDLINE = (("third ventricle", (14,)), ("fourth ventricle", (15,)), ("brainstem", (16,)))
SIDES = ("left", "right")
Votes = np.ndarray  # (region, X, Y, Z), 0 to 8


def regions() -> list[tuple[str, tuple[int, ...]]]:
    """Names with FreeSurfer's numbers; in the map they are numbered from 1."""
    sided = [(f"{s} {name}", numbers) for name, *both in PAIRS for s, numbers in zip(SIDES, both, strict=True)]
    return sided + list(MIDLINE)


def votes_of(labels: np.ndarray, named: list[tuple[str, tuple[int, ...]]]) -> Votes:
    """How many of the eight 1 mm voxels in each voxel belong to each region in one head; 0 is no region."""
    table = np.zeros(int(labels.max()) + 1, dtype=np.uint8)
    for index, (_, numbers) in enumerate(named, start=1):
        table[[n for n in numbers if n < len(table)]] = index
    index = table[labels]
    x, y, z = (n // 2 for n in labels.shape)
    blocks = index.reshape(x, 2, y, 2, z, 2)
    return np.stack([(blocks == i).sum(axis=(1, 3, 5), dtype=np.uint8) for i in range(len(named) + 1)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labelmaps", type=Path)
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    arguments = parser.parse_args()
    named = regions()
    heads = load_labels(sorted(arguments.labelmaps.glob("*_dseg.nii.gz")), arguments.cache)
    each = [votes_of(labels, named) for labels in heads]
    total = np.sum(each, axis=0, dtype=np.uint16)
    atlas = total.argmax(axis=0).astype(np.uint8)
    agreement = total.max(axis=0) / (8 * len(heads))
    right, asked = np.zeros(len(named) + 1), np.zeros(len(named) + 1)
    for votes in each:
        by_others, own = (total - votes).argmax(axis=0), votes.argmax(axis=0)
        asked += np.bincount(by_others.ravel(), minlength=len(named) + 1)
        right += np.bincount(by_others[by_others == own].ravel(), minlength=len(named) + 1)
    image = nib.Nifti1Image(atlas, GRID_AFFINE)
    image.set_sform(GRID_AFFINE, 4)
    image.set_qform(GRID_AFFINE, 4)
    image.header["descrip"] = b"regions, from SynthSeg labels (Apache-2.0)"
    write_packed(OUT / "mni_regions_dseg.nii.xz", image)
    lines = ["index\tname\tvolume_ml\tagreement\tleft_out"]
    for index, (name, _) in enumerate(named, start=1):
        here = atlas == index
        shares = f"{agreement[here].mean():.2f}\t{right[index] / asked[index]:.2f}"
        lines.append(f"{index}\t{name}\t{here.sum() * 0.008:.1f}\t{shares}")
    (OUT / "mni_regions_dseg.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()
