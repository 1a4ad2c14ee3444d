"""Scans with the user's lesion masks: matching, checking, and resampling to the model's grid."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uadcli.arrays import Array
from uadcli.console import Reporter
from uadcli.data import dataset, matching
from uadcli.data.dataset import Case
from uadcli.data.healthy import brain_slices, lesions_on_grid
from uadcli.data.scans import Scans
from uadcli.errors import InputError, UadError
from uadcli.files import file_sha256
from uadcli.imaging.mask_file import read_labels, read_mask_file
from uadcli.imaging.volume import read_scan

LOST = "no lesion voxel of its mask is inside the brain on the model's grid"


@dataclass(frozen=True)
class LabelledScan:
    """A scan on the model's grid (96, 96, 80) with its brain and lesion masks.

    `data` is linear in the scan's intensities and unbounded (`Prepared.linear`); `usable` are the indices of slices
    with enough brain.
    """

    data: Array
    mask: NDArray[np.bool_]
    truth: NDArray[np.bool_]
    usable: NDArray[np.int64]


def find(data: Path, labels: Path, validation_share: float, reporter: Reporter) -> list[Case]:
    """Every scan below a folder, split as by `dataset.find`, with its mask from the folder `labels`, matched by name.

    Raises `InputError` if there is no scan, or if a scan has no mask or more than one.
    """
    cases = dataset.find(data, validation_share, reporter.info)
    masks, unused = matching.masks_of([case.scan for case in cases], data, labels)
    if unused:
        reporter.warn(f"{labels}: masks without a scan, not used: {matching.some([p.name for p in unused])}")
    return [dataclasses.replace(case, lesions=masks[case.scan]) for case in cases]


def check(cases: Sequence[Case], labels: Path) -> None:
    """Read every mask once.

    Raises `InputError` if one is not on its scan's grid, if all are empty, or those of all scans to train on, and if no
    scan can be read.
    """
    ill, faults = set[str](), list[UadError]()
    for case in cases:
        try:
            scan = read_scan(case.scan)
        except UadError as error:  # the preparation names it and leaves it out
            faults.append(error)
            continue
        if read_labels(_mask(case), scan, "the lesion mask", allow_empty=True).voxels.any():
            ill.add(case.part)
    if faults and len(faults) == len(cases):
        raise faults[0]
    if not ill:
        raise InputError("every mask is empty", path=labels, hint="To train on healthy scans only, leave --labels out.")
    if "train" not in ill:
        raise nothing_to_learn(labels)


def nothing_to_learn(labels: Path) -> InputError:
    """The error for labelled scans of which none of the training has a lesion."""
    return InputError("no usable scan to train on has a lesion", path=labels, hint="Give more labelled scans.")


def rows(usable: Mapping[Path, Case], scans: Scans, reporter: Reporter) -> dict[Path, dict[str, object]]:
    """The entries of `data.tsv` for the mask of each prepared scan: file, sha256, lesion voxels on the model's grid.

    A mask whose lesions all vanish there is a fault, since the scan is not healthy; it is reported.
    """
    result: dict[Path, dict[str, object]] = {}
    for case in usable.values():
        mask, prepared = _mask(case), scans.prepared(case.scan)
        count = int((lesions_on_grid(case, prepared) & prepared.mask).sum())
        row: dict[str, object] = {
            "lesions": mask.resolve(),
            "lesions_sha256": file_sha256(mask),
            "lesion_voxels": count,
        }
        found, _ = read_mask_file(mask, allow_empty=True)
        if not found.plain:
            reporter.info(f"{mask.name}: lesions are {found.taken}")
        if not count and found.voxels.any():
            reporter.warn(f"{case.scan}: left out: {LOST}")
            row |= {"lesion_voxels": "", "fault": LOST}
        result[case.scan] = row
    return result


def _mask(case: Case) -> Path:
    if case.lesions is None:
        raise InputError("has no mask", path=case.scan, hint="Give a healthy scan an empty mask.")
    return case.lesions


def load(cases: Sequence[Case], scans: Scans) -> list[LabelledScan]:
    """Prepared scans with their lesions."""
    result = []
    for case in cases:
        prepared = scans.prepared(case.scan)
        truth = lesions_on_grid(case, prepared) & prepared.mask
        result.append(LabelledScan(prepared.linear(scans.config), prepared.mask, truth, brain_slices(prepared.mask)))
    return result
