"""Time single functions on whole volumes, and the start of the command line; fail if one exceeds its limit.

    python packaging/benchmarks/functions.py

Measures processor time, up to three times in case other programs interfere. The limits allow for a slow machine.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import ndimage

from uadcli.config import ScoringConfig
from uadcli.evaluation.figures import scan_figures
from uadcli.evaluation.marking import Marking
from uadcli.evaluation.read import Labelled
from uadcli.report.preview import Overlay, render_overlay
from uadcli.scoring.components import components
from uadcli.scoring.mahalanobis import mahalanobis_score
from uadcli.scoring.metrics import curve
from uadcli.scoring.residual import postprocess
from uadcli.scoring.ssim import ssim_score

RNG = np.random.default_rng(0)
GRID, FINE, LARGE = (96, 96, 80), (182, 218, 182), (256, 256, 256)


def random(*shape: int) -> np.ndarray:
    """Uniform values in [0, 1)."""
    return RNG.random(shape, dtype=np.float32)


def box(shape: tuple[int, ...], *sides: tuple[int, int]) -> np.ndarray:
    """A mask that is true between the given sides."""
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(*side) for side in sides)] = True
    return mask


def functions(folder: Path) -> dict[str, tuple[float, Callable[[], object]]]:
    """The limit in seconds and the call, by name."""
    x, recon, draws = random(*GRID), random(*GRID), random(10, *GRID)
    brain = box(GRID, (14, 82), (6, 90), (2, 74))
    lesion, fine, large = box(FINE, (80, 110), (90, 130), (70, 100)), random(*FINE), np.zeros(LARGE, dtype=np.float32)
    large[40:220, 40:220, 40:220] = ndimage.zoom(random(45, 45, 45), 4, order=1)
    scores = np.where(random(*FINE) < 0.3, 0, fine + np.float32(0.3) * lesion).astype(np.float32)
    head = box(FINE, (20, 160), (20, 200), (10, 160))

    def picture() -> None:
        marked = np.where(lesion, np.float32(0.8), np.float32(0))
        render_overlay(folder / "a.png", Overlay(fine, marked, lesion, head, np.eye(4), 0.5, "scan.nii.gz"))

    return {
        "post-processing, 2 mm": (5, lambda: postprocess(x, brain, ScoringConfig())),
        "SSIM score, 2 mm": (2, lambda: ssim_score(x, recon, brain)),
        "Mahalanobis score of 10 draws, 2 mm": (2, lambda: mahalanobis_score(x, draws, brain)),
        "components, 256^3": (6, lambda: components(large, 0.8, 64, np.eye(4))),
        "precision and recall, 1 mm": (3, lambda: curve(fine, lesion)),
        "all figures of a scan, 1 mm": (
            3,
            lambda: scan_figures(Labelled(scores, np.eye(4), lesion, None, (), ()), Marking(0.98, 8)),
        ),
        "picture, 1 mm": (8, picture),
        "uad --help": (0.4, lambda: start("--help")),
        "uad --version": (0.4, lambda: start("--version")),
        "uad train --smoke, one thread": (120, lambda: start("train", "--smoke", "--threads", "1")),
    }


def start(*arguments: str) -> None:
    """Run a command that needs no file."""
    subprocess.run([sys.executable, "-m", "uadcli", *arguments], capture_output=True, check=True)


def seconds(call: Callable[[], object], limit: float) -> float:
    """Processor time of a call and its child processes: the first under the limit, or the best of three."""
    found: list[float] = []
    while len(found) < 3 and (not found or found[-1] >= limit):
        before = os.times()
        call()
        found.append(sum(os.times()[:4]) - sum(before[:4]))
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    begun, slow = time.perf_counter(), []
    print("| | seconds | limit |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, (limit, call) in functions(Path(folder)).items():
            took = seconds(call, limit)
            print(f"| {name} | {took:.2f} | {limit:g} |", flush=True)
            slow += [name] if took >= limit else []
    print(f"\n{time.perf_counter() - begun:.0f} s")
    if slow:
        raise SystemExit(f"over the limit: {', '.join(slow)}")


if __name__ == "__main__":
    main()
