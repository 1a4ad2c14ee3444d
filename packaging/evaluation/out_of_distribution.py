"""Which scans the out-of-distribution check flags: healthy ones, patients, and wrong inputs.

    python packaging/evaluation/out_of_distribution.py DATA [--cache .cache] [--weights FILE]

Uses the check stored in the weights: training scans set the distribution, held-out healthy scans (IXI val; the
tumour-free slices of 6 TCGA-LGG patients) the limit, so none of the held-out scans can exceed it. A contrast without a
check has no rows. Wrong inputs are made from the whole held-out scans.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from development import Case, cases
from scenes import models, named
from scipy import ndimage

from uadcli import device
from uadcli.config import DetectConfig
from uadcli.data.healthy import brain_slices
from uadcli.data.prepare import prepare_cached
from uadcli.model.out_of_distribution import gate_of, vectors
from uadcli.scoring.out_of_distribution import MARGIN, distance

CONFIG = DetectConfig().preprocess


def wrong(x: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """Make a wrong input from a scaled scan (96, 96, 80)."""
    shuffled = np.zeros_like(x)
    shuffled[mask] = rng.permutation(x[mask])
    rim = mask & ~ndimage.binary_erosion(mask, iterations=2)
    ct = np.where(x < 0.2, 0.25, 0.55 - 0.1 * x) + rng.normal(0, 0.03, x.shape)  # flat brain, dark fluid, bright bone
    yield "noise in the brain mask", np.where(mask, rng.random(x.shape), 0)
    yield "voxels shuffled", shuffled
    yield "contrast inverted", np.where(mask, 1 - x, 0)
    yield "CT-like", np.where(mask, np.clip(np.where(rim, 1, ct), 0, 1), 0)
    yield "spine-like", np.where(mask, spine(mask), 0)
    yield "constant", np.where(mask, 0.6, 0)
    yield "upside down", x[:, :, ::-1]
    yield "front to back", x[:, ::-1]
    yield "turned by 90 degrees", np.rot90(x, axes=(0, 1))
    yield "blurred, 14 mm", np.where(mask, ndimage.gaussian_filter(x, 3), 0)
    yield "left to right (not wrong in itself)", x[::-1]


def spine(mask: np.ndarray) -> np.ndarray:
    """A spine (vertebrae with darker discs, a bright canal, muscle), stretched over the brain as by a registration."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in mask.shape), indexing="ij")
    body = (np.abs(x) < 0.35) & (np.abs(y - 0.15) < 0.3)
    disc = np.mod(z * 6, 1) < 0.25
    canal = (np.abs(x) < 0.15) & (np.abs(y + 0.3) < 0.12)
    return np.select([canal, body & disc, body], [0.9, 0.2, 0.7], 0.35).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    parser.add_argument("--weights")
    arguments = parser.parse_args()
    device.bound_threads(None)
    loaded = models(arguments.weights)
    every = cases(arguments.data)
    gates = {c: known for c, one in loaded.items() if (known := gate_of(one.weights.gate_state, c)) is not None}
    found: dict[tuple[str, str], list[float]] = {}

    def note(contrast: str, name: str, x: np.ndarray) -> None:
        x = np.ascontiguousarray(x, dtype=np.float32)
        slices = brain_slices(x > 0)
        one = gates[contrast]
        model = loaded[contrast].network
        value = distance(one.mean, one.whitening, (vectors(model, x, slices), slices)) if len(slices) else None
        found.setdefault((contrast, name), []).append(np.inf if value is None else value)

    for case in (c for c in every if c.part != "train"):
        prepared = prepare_cached(case.scan, CONFIG, arguments.cache)
        x = prepared.scaled(CONFIG)
        for contrast in gates:
            if contrast == case.contrast:
                note(contrast, kind(case), x)
            else:
                note(contrast, f"{case.contrast} taken for {contrast}", x)
        if case.part == "val":
            rng = np.random.default_rng(int(case.scan.stat().st_size))
            for name, other in wrong(x, prepared.mask, rng) if case.contrast in gates else ():
                note(case.contrast, name, other)
    print("| gate | input | scans | distance / limit, median | range | beyond |\n|---|---|---|---|---|---|")
    for contrast, one in gates.items():
        for (of, name), values in found.items():
            if of == contrast:
                ratio = np.array(values) / one.limit
                spread = f"{np.median(ratio):.2f} | {ratio.min():.2f} to {ratio.max():.2f}"
                print(f"| {contrast} | {name} | {len(ratio)} | {spread} | {(ratio > 1).sum()} of {len(ratio)} |")
    limits = {contrast: round(one.limit, 3) for contrast, one in gates.items()}
    print(f"\nlimits {limits}, margin {MARGIN}; {named(loaded)}")


def kind(case: Case) -> str:
    """The row of a proper scan."""
    sick = {"tcga_lgg": "glioma patients", "tcga_t2w": "glioma patients", "stroke_t2w": "stroke"}
    sick |= dict.fromkeys(("mslub_mni", "mslesseg_mni"), "multiple sclerosis")
    if case.part == "val":
        return "healthy, held out" if case.lesions is None else "glioma patients, held out (whole scans)"
    return sick.get(case.source, f"healthy, other scanner ({case.source})")


if __name__ == "__main__":
    main()
