"""The development scans and their roles. `data/README.md` in the data folder describes the layout."""

from __future__ import annotations

import csv
from pathlib import Path

from uadcli.config import PreprocessConfig
from uadcli.data.dataset import Case, prepare_all
from uadcli.errors import InputError, UsageError
from uadcli.weights.card import ModelCard

HELD_OUT_FLAIR = 6  # TCGA-LGG patients held out of training: their tumour-free slices set thresholds

MSLESSEG = ("sub-P18", "sub-P39")


def cases(data: Path) -> list[Case]:
    """Every case of the data folder, in a fixed order. Raises `InputError` if the folder is not laid out so."""
    if not (data / "ixi_t1" / "participants.tsv").exists():
        raise InputError("has no ixi_t1/participants.tsv", path=data, hint="Give the folder of development data.")
    found = [_case(data, "ixi_t1", s, part, "T1w") for s, part in _participants(data / "ixi_t1")]
    patients = _participants(data / "tcga_lgg")
    held_out = [s for s, part in patients if part == "train"][:: max(1, 26 // HELD_OUT_FLAIR)][:HELD_OUT_FLAIR]
    for subject, part in patients:
        part = "val" if subject in held_out else part
        found.append(_case(data, "tcga_lgg", subject, part, "FLAIR"))
        if part == "dev":
            found.append(_case(data, "tcga_lgg", subject, part, "T1w"))
    found += [_case(data, "mslub_mni", "sub-07", "dev", c, "desc-brain_") for c in ("FLAIR", "T2w", "T1w")]
    found += [_case(data, "mslesseg_mni", s, "dev", c, "desc-brain_") for s in MSLESSEG for c in ("FLAIR", "T1w")]
    found.append(_case(data, "tcga_t2w", "sub-DU7294", "dev", "T2w", "desc-brain_"))
    found.append(_case(data, "stroke_t2w", "sub-CT01", "dev", "T2w"))
    oasis = sorted(p.name for p in (data / "oasis_t1_stripped").glob("sub-*"))
    found += [_case(data, "oasis_t1_stripped", s, "healthy", "T1w", "desc-brain_") for s in oasis]
    found += [_case(data, "kirby21", "sub-113", "healthy", c, "desc-brain_") for c in ("T2w", "FLAIR")]
    other = sorted(p.name for p in (data / "healthy_other").glob("sub-*"))
    found += [_case(data, "healthy_other", s, "healthy", "T1w") for s in other]
    found.append(_case(data, "healthy_other", "sub-allineate", "healthy", "T2w"))
    return found


def refuse_other_preparation(card: ModelCard) -> None:
    """Raises `UsageError` for a model of scans that are not prepared by `PreprocessConfig()`, as all are here."""
    if card.curvature_flow:
        raise UsageError("the development scripts do not smooth scans by curvature flow, as these weights need")
    if card.scaling != "percentile":
        raise UsageError(f"the development scripts scale scans by percentiles, these weights need {card.scaling}")


def _participants(folder: Path) -> list[tuple[str, str]]:
    with (folder / "participants.tsv").open(newline="") as stream:
        return sorted((row["participant_id"], row["split"]) for row in csv.DictReader(stream, delimiter="\t"))


def _case(data: Path, source: str, subject: str, part: str, contrast: str, entity: str = "") -> Case:
    folder = data / source / subject / "anat"
    lesions = folder / f"{subject}_label-lesion_mask.nii.gz"
    scan = folder / f"{subject}_{entity}{contrast}.nii.gz"
    return Case(subject, source, part, contrast, scan, lesions if lesions.exists() else None)


def main() -> None:
    """Fill the cache with all prepared cases."""
    import argparse
    from itertools import zip_longest

    from uadcli.console import Reporter

    parser = argparse.ArgumentParser(description=__doc__, epilog=main.__doc__, usage="development.py DATA CACHE")
    parser.add_argument("data", type=Path)
    parser.add_argument("cache", type=Path)
    arguments = parser.parse_args()
    data, cache = arguments.data, arguments.cache
    order = {"train": 0, "val": 1, "dev": 2, "healthy": 3}
    todo = sorted(cases(data), key=lambda c: order[c.part])
    flair, other = [c for c in todo if c.contrast == "FLAIR"], [c for c in todo if c.contrast != "FLAIR"]
    todo = sorted((c for pair in zip_longest(flair, other) for c in pair if c), key=lambda c: order[c.part])
    for case, fault in prepare_all(todo, cache, PreprocessConfig()).items():
        Reporter().warn(f"{case.subject} {case.contrast}: {fault}")


if __name__ == "__main__":
    main()
