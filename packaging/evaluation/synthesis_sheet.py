"""Draw synthetic healthy T2w and FLAIR next to real ones, and synthetic lesions, for visual comparison.

    python packaging/evaluation/synthesis_sheet.py DATA weights/synthesis.png

First rows, one per contrast: made from a label map, made from a T1w scan of IXI (validation part), and the real scans
of Kirby 21 (healthy) and MSLUB 07 (a patient), all stripped, at 2 mm, scaled by percentiles; one axial slice of each.
Last row: kinds of synthetic lesions in a FLAIR made from a label map. Prints the median intensity of CSF, grey and
white matter where the template's tissue probability is at least 90 %.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from development import cases
from matplotlib.axes import Axes

from uadcli.config import PreprocessConfig
from uadcli.data.prepare import Prepared, prepare_cached
from uadcli.imaging.geometry import resample
from uadcli.imaging.intensity import scale
from uadcli.imaging.slices import GRID_AFFINE, GRID_SHAPE
from uadcli.imaging.volume import read_scan
from uadcli.synthesis.anatomy import of_labels, of_scan
from uadcli.synthesis.brains import from_labels
from uadcli.synthesis.contrast import volume_from_t1
from uadcli.synthesis.lesions import Brain, paste_kind
from uadcli.training.examples.synthetic import label_files, load_labels

SLICE = 44  # of 80: through the ventricles
TISSUES = ("CSF", "GM", "WM")
REAL = {"kirby21": "real (Kirby 21)", "mslub_mni": "real (MSLUB 07)"}
KINDS, MOST, SEED = ("dots", "sheet", "lacunes", "infarct"), 15_000, 3  # largest lesion in voxels


def tissue_maps(data: Path) -> dict[str, np.ndarray]:
    """Where the template's tissue maps are certain, on the model's grid."""
    result = {}
    for name in TISSUES:
        file = next((data / "templates").glob(f"*{name}*probseg*.nii.gz"))
        volume = read_scan(file).volume
        result[name] = resample(volume.data, volume.affine, GRID_SHAPE, GRID_AFFINE) > 0.9
    return result


def made(t1w: Prepared, labels: np.ndarray, contrast: str, config: PreprocessConfig) -> dict[str, np.ndarray]:
    """Scaled synthetic volumes of a contrast, by their source."""
    x = t1w.linear(config)
    anatomy = of_scan(x, t1w.mask, "T1w")
    turned = volume_from_t1(x, t1w.mask, anatomy, contrast, np.random.default_rng(SEED))
    direct = from_labels(labels, contrast, np.random.default_rng(SEED))
    return {"label map": scale(direct, direct > 0, config), "T1w scan": scale(turned, t1w.mask, config)}


def lesions(labels: np.ndarray, config: PreprocessConfig) -> dict[str, np.ndarray]:
    """Scaled FLAIR volumes made from a label map, with lesions, by their kind."""
    healthy, anatomy = from_labels(labels, "FLAIR", np.random.default_rng(SEED)), of_labels(labels)
    result = {}
    for kind in KINDS:
        pasted = (
            paste_kind(kind, Brain(healthy, healthy > 0, "FLAIR", anatomy=anatomy), np.random.default_rng(number))
            for number in range(40)
        )
        x, _ = max(pasted, key=lambda one: one[1][:, :, SLICE].sum() * (one[1].sum() < MOST))
        result[kind] = scale(x, healthy > 0, config)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    arguments = parser.parse_args()
    config, tissues, found = PreprocessConfig(), tissue_maps(arguments.data), cases(arguments.data)
    labels = load_labels(label_files(str(arguments.data / "labelmaps"))[:1], arguments.cache)[0]
    t1w = next(c for c in found if c.source == "ixi_t1" and c.part == "val").scan
    prepared = prepare_cached(t1w, config, arguments.cache)
    figure, axes = plt.subplots(3, 4, figsize=(11, 10.2), facecolor="#101010")
    print("| contrast | made from | " + " | ".join(TISSUES) + " |\n|---|---|---|---|---|")
    for row, contrast in zip(axes, ("T2w", "FLAIR"), strict=False):
        columns = made(prepared, labels, contrast, config)
        for source, title in REAL.items():
            real = next(c for c in found if c.source == source and c.contrast == contrast)
            columns[title] = prepare_cached(real.scan, config, arguments.cache).scaled(config)
        for panel, (name, x) in zip(row, columns.items(), strict=True):
            show(panel, x, f"{contrast}, {name}")
            medians = [np.median(x[tissues[t] & (x > 0)]) for t in TISSUES]
            print(f"| {contrast} | {name} | " + " | ".join(f"{m:.2f}" for m in medians) + " |", flush=True)
    for panel, (kind, x) in zip(axes[2], lesions(labels, config).items(), strict=True):
        show(panel, x, f"FLAIR, synthetic {kind}")
    figure.text(0.02, 0.01, "Research use only, not a medical device.", color="#9a9a9a", fontsize=8)
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    figure.savefig(arguments.picture, dpi=70, facecolor="#101010")


def show(panel: Axes, x: np.ndarray, title: str) -> None:
    """One axial slice of a scaled volume."""
    panel.imshow(np.rot90(x[:, :, SLICE]), cmap="gray", vmin=0, vmax=1)
    panel.set_title(title, color="#e0e0e0", fontsize=10)
    panel.axis("off")


if __name__ == "__main__":
    main()
