"""Evaluate the model that comes along on the development cases, beside the plain baseline of the same run.

    python packaging/scripts/eval_dev.py DATA [--weights FILE] [--tsv FILE]

For each dev case: AUPRC, Dice at the stored threshold (after the component filter) and best Dice (an oracle: it uses
the labels), on the scan's own grid. Baseline: intensity inside the brain (FLAIR, T2w) or darkness (T1w), eroded and
median-filtered likewise, thresholded at its own 99.5th healthy percentile; both thresholds come from the healthy
validation scans only. For each healthy scan: the flagged volume. Synthetic lesions: real stroke shapes pasted into the
IXI validation scans with a change of intensity of 20 to 60 %.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from uadcli import device
from uadcli.config import DetectConfig
from uadcli.imaging import geometry
from uadcli.imaging.slices import GRID_AFFINE, GRID_SHAPE
from uadcli.imaging.volume import read_scan
from uadcli.reconstruction import weights
from uadcli.run.calibrate import baseline_kind, baseline_map, calibrate_baseline, score_map
from uadcli.run.detect import to_native
from uadcli.run.development import Case, cases
from uadcli.run.prepare import Prepared, prepare_cached
from uadcli.scoring.components import components
from uadcli.scoring.metrics import average_precision, best_dice, dice

COLUMNS = ("set", "subject", "contrast", "auprc", "dice", "best_dice", "plain_auprc", "plain_dice", "plain_best_dice")


@dataclass(frozen=True)
class Row:
    """Figures of one scan with lesions."""

    set: str
    subject: str
    contrast: str
    auprc: float
    dice: float
    best_dice: float
    plain_auprc: float
    plain_dice: float
    plain_best_dice: float


def figures(score: np.ndarray, threshold: float, prepared: Prepared, case: Case) -> tuple[float, float, float]:
    """AUPRC, Dice at the threshold and best Dice, on the scan's own grid."""
    scan = read_scan(case.scan)
    truth = read_scan(case.lesions, allow_empty=True).volume.data > 0
    native = to_native(score, scan, prepared, 1)
    growth = abs(float(np.linalg.det(prepared.world_map[:3, :3])))
    labels, _ = components(score, threshold, DetectConfig().scoring.min_volume_mm3 / growth, GRID_AFFINE)
    found = to_native((labels > 0).astype(np.float32), scan, prepared, 1) >= 0.5
    return average_precision(native, truth), dice(found, truth), best_dice(native, truth)[0]


def synthetic(prepared: Prepared, x: np.ndarray, shape_file: Path, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Paste a stroke shape (MNI space) into a scaled scan, brighter or darker by 20 to 60 %; None if too small."""
    image = nib.load(shape_file)
    shape = geometry.resample(
        (np.asarray(image.dataobj) > 0).astype(np.float32), image.affine, GRID_SHAPE, GRID_AFFINE, antialias=True
    )
    truth = (shape >= 0.5) & prepared.mask
    if truth.sum() < 20:
        return None
    rng = np.random.default_rng(seed)
    change = rng.uniform(0.2, 0.6) * rng.choice([-1, 1])
    return np.clip(x * (1 + change * shape * prepared.mask), 0, 1).astype(np.float32), truth


def flagged_ml(score: np.ndarray, threshold: float, prepared: Prepared) -> float:
    """Flagged volume in the patient's space, after the component filter."""
    growth = abs(float(np.linalg.det(prepared.world_map[:3, :3])))
    _, table = components(score, threshold, DetectConfig().scoring.min_volume_mm3 / growth, GRID_AFFINE)
    return sum(c.volume_mm3 for c in table) * growth / 1e3


def summary(name: str, rows: list[Row]) -> None:
    if not rows:
        return
    for label, pick in (("mean", np.nanmean), ("median", np.nanmedian)):
        cells = [f"{pick([getattr(r, c) for r in rows]):.3f}" for c in COLUMNS[3:]]
        print(f"| {name} | {len(rows)} | {label} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights")
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    parser.add_argument("--tsv", type=Path)
    arguments = parser.parse_args()
    device.bound_threads(None)
    config = DetectConfig()
    loaded = weights.load(*weights.find(arguments.weights))
    card = loaded.card
    found = cases(arguments.data)
    plain = calibrate_baseline([c for c in found if c.part == "val"], arguments.cache, config)
    start = time.perf_counter()
    rows: list[Row] = []
    for case in (c for c in found if c.part == "dev" and c.lesions and c.contrast in card.contrasts):
        prepared = prepare_cached(case.scan, config.preprocess, arguments.cache)
        score = score_map(loaded, prepared, case.contrast, config)
        ours = figures(score, card.thresholds[case.contrast], prepared, case)
        base = baseline_map(prepared, baseline_kind(case.contrast), config)
        theirs = figures(base, plain.get(case.contrast, plain["FLAIR"]), prepared, case)
        rows.append(Row(case.source, case.subject, case.contrast, *ours, *theirs))
        print("\t".join(f"{v:.3f}" if isinstance(v, float) else v for v in asdict(rows[-1]).values()), file=sys.stderr)
    made = synthetic_rows(found, loaded, plain, arguments, config)
    print("\n| set | scans | | " + " | ".join(c.replace("_", " ") for c in COLUMNS[3:]) + " |")
    print("|---" * (len(COLUMNS)) + "|")
    for name, chosen in (
        ("FLAIR glioma", [r for r in rows if r.set == "tcga_lgg" and r.contrast == "FLAIR"]),
        ("T1w glioma", [r for r in rows if r.set == "tcga_lgg" and r.contrast == "T1w"]),
        *((f"{c} MSLUB 07", [r for r in rows if r.set == "mslub_mni" and r.contrast == c]) for c in card.contrasts),
        ("T1w synthetic in IXI val", made),
    ):
        summary(name, chosen)
    healthy_table(found, loaded, arguments, config)
    print(f"\n{time.perf_counter() - start:.0f} s, {loaded.card.name} sha256 {loaded.sha256[:12]}")
    if arguments.tsv:
        with arguments.tsv.open("w", newline="") as stream:
            writer = csv.writer(stream, delimiter="\t")
            writer.writerow(COLUMNS)
            writer.writerows(list(asdict(r).values()) for r in rows + made)


def synthetic_rows(found, loaded, plain, arguments, config) -> list[Row]:  # type: ignore[no-untyped-def]
    shapes = sorted((arguments.data / "lesion_shapes").glob("*.nii.gz"))
    rows = []
    for i, case in enumerate(c for c in found if c.part == "val" and c.contrast == "T1w"):
        prepared = prepare_cached(case.scan, config.preprocess, arguments.cache)
        pasted, number = None, i
        while pasted is None:
            pasted = synthetic(prepared, prepared.scaled(config.preprocess), shapes[number % len(shapes)], number)
            number += 20
        x, truth = pasted
        score = score_map(loaded, prepared, "T1w", config, x)
        base = baseline_map(prepared, baseline_kind("T1w"), config, x)
        values = []
        for volume, threshold in ((score, loaded.card.thresholds["T1w"]), (base, plain["T1w"])):
            values += [
                average_precision(volume, truth),
                dice(components(volume, threshold, 64, GRID_AFFINE)[0] > 0, truth),
                best_dice(volume, truth)[0],
            ]
        rows.append(Row("synthetic", case.subject, "T1w", *values))
    return rows


def healthy_table(found, loaded, arguments, config) -> None:  # type: ignore[no-untyped-def]
    print("\n| healthy set | scans | median flagged ml | mean | above 10 ml |\n|---|---|---|---|---|")
    chosen = [c for c in found if c.part == "healthy" or (c.part == "val" and c.contrast == "T1w")]
    for source, contrast in sorted({(c.source, c.contrast) for c in chosen}):
        volumes = []
        for case in (c for c in chosen if (c.source, c.contrast) == (source, contrast)):
            prepared = prepare_cached(case.scan, config.preprocess, arguments.cache)
            score = score_map(loaded, prepared, contrast, config)
            volumes.append(flagged_ml(score, loaded.card.thresholds[contrast], prepared))
        print(
            f"| {source} {contrast} | {len(volumes)} | {np.median(volumes):.2f} | {np.mean(volumes):.2f} | "
            f"{sum(v > 10 for v in volumes)} |"
        )


if __name__ == "__main__":
    main()
