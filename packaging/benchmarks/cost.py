"""The cost of a detection over voxels and of a reconstruction over slices, at 1, 2, 4 and 8 times the input.

    python packaging/benchmarks/cost.py [--strip atlas]

Prints seconds and the exponent p of seconds ~ input^p. The scans are the template's head at growing resolution, up to
7 million voxels (1.1 mm); each is a `uad detect` of its own, whose fixed part (imports, the model's grid) is included.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import compare
import nibabel as nib
import numpy as np
import reference

from uadcli.config import preset
from uadcli.imaging import template
from uadcli.imaging.geometry import resample
from uadcli.reconstruction.model import ConditionedDiffusion

TIMES = (1, 2, 4, 8)
FEWEST_VOXELS, FEWEST_SLICES = 0.85e6, 9


def head(voxels: float, folder: Path) -> Path:
    """The template's head with about that many voxels."""
    source = template.head()
    factor = (voxels / source.data.size) ** (1 / 3)
    x, y, z = (round(n * factor) for n in source.shape)
    affine = source.affine @ np.diag([1 / factor, 1 / factor, 1 / factor, 1])
    path = folder / f"sub-{round(voxels / 1000)}k_T1w.nii.gz"
    nib.Nifti1Image(resample(source.data, source.affine, (x, y, z), affine).astype(np.int16), affine).to_filename(path)
    return path


def over_voxels(strip: str = "atlas", times: tuple[int, ...] = TIMES, fewest: float = FEWEST_VOXELS) -> list[float]:
    """The seconds of `uad detect` at each multiple."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        for factor in times:
            scan = head(factor * fewest, Path(name))
            command = [sys.executable, "-m", "uadcli", "detect", str(scan), "-o", f"{name}/m.nii.gz", "--strip", strip]
            start = time.perf_counter()
            subprocess.run([*command, "--overwrite", "-q"], check=True, stdout=subprocess.DEVNULL)
            found.append(time.perf_counter() - start)
    return found


def over_slices(model: ConditionedDiffusion | None = None, times: tuple[int, ...] = TIMES) -> list[float]:
    """The seconds of a reconstruction with its map, of the small network at one level, at each multiple; best of 3."""
    network, found = model or ConditionedDiffusion(preset("small")).eval(), []
    for factor in times:
        given = reference.volume(factor * FEWEST_SLICES)
        runs = [reference.ours(network, given, reference.LEVELS[:1], "cpu")[1] for _ in range(3)]
        found.append(min(sum(steps.values()) for steps in runs))
    return found


def measured(strip: str) -> dict[str, dict[str, float]]:
    """`seconds` by row, and `exponents` by what grows."""
    rows, exponents = dict[str, float](), dict[str, float]()
    for name, took in (("voxels", over_voxels(strip)), ("slices", over_slices())):
        rows |= {f"cost over {name}, {factor}x": value for factor, value in zip(TIMES, took, strict=True)}
        exponents[name] = compare.exponent([float(factor) for factor in TIMES], took)
    return {"seconds": rows, "exponents": exponents}


def in_words(found: dict[str, dict[str, float]]) -> str:
    """One row for each, and the exponents."""
    lines = [f"| {name} | {value:.2f} |" for name, value in found["seconds"].items()]
    ends = [f"cost over {name}: exponent {value:.2f}" for name, value in found["exponents"].items()]
    return "\n".join(["| input | seconds |", "|---|---|", *lines, "", *ends])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strip", default="atlas", choices=("atlas", "hd-bet"))
    print(in_words(measured(parser.parse_args().strip)))


if __name__ == "__main__":
    main()
