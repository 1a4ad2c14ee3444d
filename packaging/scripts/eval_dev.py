"""Evaluate the model that comes along on the development cases, beside the plain baseline of the same run.

    python packaging/scripts/eval_dev.py DATA [--weights FILE] [--tsv FILE]

For each dev case and score: AUPRC, Dice at the stored threshold (after the component filter) and best Dice (an oracle:
it uses the labels), on the scan's own grid. Baseline: intensity inside the brain (FLAIR, T2w) or darkness (T1w), mask
eroded, median 5x5x5, thresholded at its own 99.5th healthy percentile; all thresholds come from the healthy validation
scans only. For each healthy scan: the flagged volume; for the IXI scans, which set the T1w threshold, at a threshold
from the other four fifths of them (cross-fitted). Synthetic lesions: real stroke shapes, on which nothing was trained,
pasted into the IXI validation scans with a change of intensity of 20 to 60 %.
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
from uadcli.reconstruction.weights import Weights
from uadcli.run.calibrate import baseline_kind, baseline_map, calibrate_baseline, healthy_part
from uadcli.run.detect import to_native
from uadcli.run.development import Case, cases
from uadcli.run.prepare import Prepared, prepare_cached
from uadcli.run.score import find, flagged_ml, reconstruct, scores
from uadcli.scoring.calibration import healthy_quantile
from uadcli.scoring.metrics import average_precision, best_dice, dice

PLAIN = "plain"
CONFIG = DetectConfig()
FOLDS = 5


@dataclass(frozen=True)
class Row:
    """Figures of one score on one scan with lesions."""

    set: str
    subject: str
    score: str
    auprc: float
    dice: float
    best_dice: float


class Evaluation:
    """Everything a table needs: model, thresholds, cases."""

    def __init__(self, data: Path, cache: Path, loaded: Weights) -> None:
        self.data, self.cache, self.loaded = data, cache, loaded
        self.cases = cases(data)
        self.plain = calibrate_baseline([c for c in self.cases if c.part == "val"], cache, CONFIG)

    def kinds(self, contrast: str) -> list[str]:
        """The calibrated scores of a contrast, its default first."""
        default = self.loaded.card.scores[contrast]
        return sorted((k for k, v in self.loaded.card.thresholds.items() if contrast in v), key=lambda k: k != default)

    def threshold(self, kind: str, contrast: str) -> float:
        if kind == PLAIN:
            return self.plain.get(contrast, self.plain["FLAIR"])
        return self.loaded.card.thresholds[kind][contrast]

    def prepared(self, case: Case) -> Prepared:
        return prepare_cached(case.scan, CONFIG.preprocess, self.cache)

    def maps(self, prepared: Prepared, contrast: str, x: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """The map of every score of one scan; `x` replaces its scaled intensities."""
        x = prepared.scaled(CONFIG.preprocess) if x is None else x
        recon = reconstruct(self.loaded, x, prepared.mask, CONFIG.reconstruction)
        found = scores(self.loaded, x, recon, prepared.mask, self.kinds(contrast), CONFIG)
        return found | {PLAIN: baseline_map(prepared, baseline_kind(contrast), CONFIG, x)}

    def lesion_rows(self) -> list[Row]:
        rows = []
        for case in (c for c in self.cases if c.part == "dev" and c.lesions):
            prepared, scan = self.prepared(case), read_scan(case.scan)
            assert case.lesions is not None
            truth = read_scan(case.lesions, allow_empty=True).volume.data > 0
            name = f"{case.contrast} {'glioma' if case.source == 'tcga_lgg' else 'MSLUB 07'}"
            for kind, values in self.maps(prepared, case.contrast).items():
                native = to_native(values, scan, prepared, 1)
                labels, _ = find(values, self.threshold(kind, case.contrast), prepared, CONFIG)
                marked = to_native((labels > 0).astype(np.float32), scan, prepared, 1) >= 0.5
                figures = average_precision(native, truth), dice(marked, truth), best_dice(native, truth)[0]
                rows.append(Row(name, case.subject, kind, *figures))
                show(rows[-1])
        return rows

    def synthetic_rows(self) -> list[Row]:
        shapes = sorted((self.data / "lesion_shapes").glob("*.nii.gz"))
        rows = []
        for i, case in enumerate(c for c in self.cases if c.part == "val" and c.contrast == "T1w"):
            prepared, pasted, number = self.prepared(case), None, i
            while pasted is None:
                pasted = synthetic(prepared, prepared.scaled(CONFIG.preprocess), shapes[number % len(shapes)], number)
                number += 20
            x, truth = pasted
            for kind, values in self.maps(prepared, "T1w", x).items():
                labels, _ = find(values, self.threshold(kind, "T1w"), prepared, CONFIG)
                figures = average_precision(values, truth), dice(labels > 0, truth), best_dice(values, truth)[0]
                rows.append(Row("T1w synthetic in IXI val", case.subject, kind, *figures))
                show(rows[-1])
        return rows

    def healthy_volumes(self) -> dict[tuple[str, str], list[float]]:
        """Flagged ml by (set, score); the IXI scans at a threshold that they had no part in."""
        volumes: dict[tuple[str, str], list[float]] = {}
        calibrating: dict[str, list[tuple[Prepared, np.ndarray, np.ndarray]]] = {}
        for case in (c for c in self.cases if c.part == "healthy" or (c.part == "val" and c.contrast == "T1w")):
            prepared = self.prepared(case)
            for kind, values in self.maps(prepared, case.contrast).items():
                if case.part == "val":
                    calibrating.setdefault(kind, []).append((prepared, values, healthy_part(case, prepared)))
                    continue
                _, table = find(values, self.threshold(kind, case.contrast), prepared, CONFIG)
                name = f"{case.source} {case.contrast}"
                volumes.setdefault((name, kind), []).append(flagged_ml(table, prepared))
        for kind, scans in calibrating.items():
            for i, (prepared, values, _) in enumerate(scans):
                others = [(v, part) for j, (_, v, part) in enumerate(scans) if j % FOLDS != i % FOLDS]
                _, table = find(values, healthy_quantile(others), prepared, CONFIG)
                volumes.setdefault(("ixi_t1 T1w, cross-fitted", kind), []).append(flagged_ml(table, prepared))
        return volumes


def show(row: Row) -> None:
    print(
        "\t".join(f"{v:.3f}" if isinstance(v, float) else v for v in asdict(row).values()), file=sys.stderr, flush=True
    )


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


def lesion_table(rows: list[Row], loaded: Weights) -> None:
    print("\n| set | scans | score | AUPRC mean | median | Dice mean | median | best Dice (oracle) mean | median |")
    print("|---" * 9 + "|")
    for name, kind in dict.fromkeys((r.set, r.score) for r in rows):
        chosen = [r for r in rows if (r.set, r.score) == (name, kind)]
        default = kind == loaded.card.scores[name.split()[0]]
        cells = []
        for column in ("auprc", "dice", "best_dice"):
            values = [getattr(r, column) for r in chosen]
            cells += [f"{np.nanmean(values):.3f}", f"{np.nanmedian(values):.3f}"]
        print(f"| {name} | {len(chosen)} | {f'**{kind}**' if default else kind} | " + " | ".join(cells) + " |")


def healthy_table(volumes: dict[tuple[str, str], list[float]]) -> None:
    print("\n| healthy set | scans | score | median flagged ml | mean | above 10 ml |\n|---|---|---|---|---|---|")
    for (name, kind), values in sorted(volumes.items()):
        above = sum(v > 10 for v in values)
        print(f"| {name} | {len(values)} | {kind} | {np.median(values):.2f} | {np.mean(values):.2f} | {above} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights")
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    parser.add_argument("--tsv", type=Path)
    arguments = parser.parse_args()
    device.bound_threads(None)
    loaded = weights.load(*weights.find(arguments.weights))
    start = time.perf_counter()
    evaluation = Evaluation(arguments.data, arguments.cache, loaded)
    rows = evaluation.lesion_rows() + evaluation.synthetic_rows()
    lesion_table(rows, loaded)
    healthy_table(evaluation.healthy_volumes())
    print(f"\n{time.perf_counter() - start:.0f} s, {loaded.card.name} sha256 {loaded.sha256[:12]}")
    if arguments.tsv:
        with arguments.tsv.open("w", newline="") as stream:
            writer = csv.writer(stream, delimiter="\t")
            writer.writerow(asdict(rows[0]))
            writer.writerows(list(asdict(r).values()) for r in rows)


if __name__ == "__main__":
    main()
