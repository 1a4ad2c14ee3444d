"""Measure the intensities of real T2w and FLAIR scans, as bands in which those of synthetic scans must lie.

    python packaging/evaluation/intensity_bands.py DATA tests/intensity_bands.toml

Of each real scan, scaled by the 1st and 99th percentile of the brain: the quantiles .5, .75 and .9, the share of the
brain above .7, and the median where the template has white matter. A band reaches from the smallest to the largest
value of all scans. T2w: every scan of DATA; FLAIR: the slices without tumour of the TCGA-LGG patients held out of
training, Kirby 21 and MSLUB 07. Prints one line per scan.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from development import cases

from uadcli.config import PreprocessConfig
from uadcli.data.healthy import healthy_part
from uadcli.data.prepare import prepare_cached
from uadcli.imaging import template

CONFIG = PreprocessConfig(strip="hd-bet", scaling="percentile")
QUANTILES, BRIGHT = (0.5, 0.75, 0.9), 0.7
NAMES = ("p50", "p75", "p90", "above_0.7", "white")


def figures(x: np.ndarray, part: np.ndarray) -> list[float]:
    """Quantiles, share of bright voxels and median of white matter of scaled intensities in a part of the brain.

    Both arrays are on the model's grid.
    """
    values, white = x[part], part & (template.on_grid("mni_tissue_dseg") == template.WHITE)
    return [*np.quantile(values, QUANTILES).tolist(), float((values > BRIGHT).mean()), float(np.median(x[white]))]


def real(data: Path, cache: Path) -> dict[str, dict[str, list[float]]]:
    """The figures of each real scan by contrast and name."""
    result: dict[str, dict[str, list[float]]] = {"T2w": {}, "FLAIR": {}}

    def add(contrast: str, name: str, x: np.ndarray, part: np.ndarray) -> None:
        result[contrast][name] = figures(x, part)
        print(contrast, name, *(f"{value:.3f}" for value in result[contrast][name]), flush=True)

    for scan in sorted(data.glob("*/sub-*/anat/*_T2w.nii.gz")):
        prepared = prepare_cached(scan, CONFIG, cache)
        add("T2w", f"{scan.parts[-4]} {scan.parts[-3]}", prepared.scaled(CONFIG), prepared.mask)
    for case in (c for c in cases(data) if c.contrast == "FLAIR"):
        if case.part == "val" or case.source in ("kirby21", "mslub_mni"):
            prepared = prepare_cached(case.scan, CONFIG, cache)
            part = healthy_part(case, prepared) if case.part == "val" else prepared.mask
            add("FLAIR", f"{case.source} {case.subject}", prepared.scaled(CONFIG), part)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("bands", type=Path)
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    arguments = parser.parse_args()
    lines = ["# Written by packaging/evaluation/intensity_bands.py: smallest and largest value over the real scans."]
    for contrast, scans in real(arguments.data, arguments.cache).items():
        low, high = np.min(list(scans.values()), axis=0), np.max(list(scans.values()), axis=0)
        lines += ["", f"[{contrast}]", f"scans = {len(scans)}"]
        lines += [f'"{n}" = [{a:.3f}, {b:.3f}]' for n, a, b in zip(NAMES, low, high, strict=True)]
    arguments.bands.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
