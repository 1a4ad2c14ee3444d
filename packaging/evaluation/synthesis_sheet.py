"""Draw synthetic healthy T2w and FLAIR beside the one real healthy T2w and FLAIR: a check by eye for the model card.

    python packaging/evaluation/synthesis_sheet.py DATA weights/synthesis.png

Columns: from a label map, from a T1w scan of IXI (validation part), and the real scan of Kirby 21, all stripped, at
2 mm; one axial slice of each. Prints the median intensity of grey and white matter and CSF in units of the 1st to 99th
percentile, where the template's tissue maps say so with 90 %; label maps are registered to it for that.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from development import cases

from uadcli.config import PreprocessConfig
from uadcli.console import Reporter
from uadcli.data.prepare import prepare, prepare_cached
from uadcli.imaging.geometry import resample
from uadcli.imaging.slices import GRID_AFFINE, GRID_SHAPE
from uadcli.imaging.volume import read_scan
from uadcli.synthesis.synth import SynthOptions, synth

SLICE = 44  # of 80: through the ventricles
TISSUES = ("CSF", "GM", "WM")


def tissue_maps(data: Path) -> dict[str, np.ndarray]:
    """Where the template is sure of a tissue, on the model's grid."""
    result = {}
    for name in TISSUES:
        file = next((data / "templates").glob(f"*{name}*probseg*.nii.gz"))
        volume = read_scan(file).volume
        result[name] = resample(volume.data, volume.affine, GRID_SHAPE, GRID_AFFINE) > 0.9
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    arguments = parser.parse_args()
    config, tissues = PreprocessConfig(), tissue_maps(arguments.data)
    found = cases(arguments.data)
    labels = sorted((arguments.data / "labelmaps").glob("*_dseg.nii.gz"))[0]
    t1 = next(c for c in found if c.source == "ixi_t1" and c.part == "val").scan
    figure, axes = plt.subplots(2, 3, figsize=(9, 7.4), facecolor="#101010")
    print("| contrast | made from | " + " | ".join(TISSUES) + " |\n|---|---|---|---|---|")
    for row, contrast in zip(axes, ("T2w", "FLAIR"), strict=True):
        real = next(c for c in found if c.source == "kirby21" and c.contrast == contrast)
        columns = {"real (Kirby 21)": prepare_cached(real.scan, config, arguments.cache).scaled(config)}
        for name, source in (("T1w scan", t1), ("label map", labels)):
            with tempfile.TemporaryDirectory() as folder, Reporter(silent=True) as reporter:
                made = synth(source, Path(folder) / "v.nii.gz", SynthOptions(contrast, seed=1), reporter)
                scan = read_scan(made)
                same = np.allclose(scan.volume.affine, GRID_AFFINE)
                columns[name] = scan.volume.data if same else prepare(scan, config)[0].scaled(config)
        for panel, name in zip(row, reversed(columns), strict=True):
            panel.imshow(np.rot90(columns[name][:, :, SLICE]), cmap="gray", vmin=0, vmax=1)
            panel.set_title(f"{contrast}, {name}", color="#e0e0e0", fontsize=10)
            panel.axis("off")
            medians = [np.median(columns[name][tissues[t] & (columns[name] > 0)]) for t in TISSUES]
            print(f"| {contrast} | {name} | " + " | ".join(f"{m:.2f}" for m in medians) + " |", flush=True)
    figure.text(0.02, 0.01, "Research use only, not a medical device.", color="#9a9a9a", fontsize=8)
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    figure.savefig(arguments.picture, dpi=80, facecolor="#101010")


if __name__ == "__main__":
    main()
