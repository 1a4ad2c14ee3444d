"""Evaluate the model that comes along on the development cases, beside the plain baseline of the same run.

    python packaging/scripts/eval_dev.py DATA [--weights FILE] [--tsv FILE]

For each dev case and score: AUPRC, Dice at the stored threshold (after the component filter) and best Dice (an oracle:
it uses the labels), on the scan's own grid. Baseline: intensity inside the brain (FLAIR, T2w) or darkness (T1w), mask
eroded, median 5x5x5, thresholded at its own 99.5th healthy percentile; all thresholds come from the healthy validation
scans only. For each healthy scan: the flagged volume; for the IXI scans, which set the T1w threshold, at a threshold
from the other four fifths of them (cross-fitted). Where the weights know whole healthy scans (T1w), also Dice, and in
how many scans a lesion is touched, at the conformal threshold, above which at most 5 % of healthy scans have any; a
healthy scan of IXI is held against the other ones. Synthetic lesions: real stroke shapes, on which nothing was trained,
pasted into the IXI validation scans with a change of intensity of 20 to 60 %.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from scenes import CONFIG, scenes, write_tsv

from uadcli import device
from uadcli.reconstruction import weights
from uadcli.reconstruction.weights import Weights
from uadcli.run.calibrate import baseline_kind, baseline_map, calibrate_baseline, healthy_part
from uadcli.run.development import Case, cases
from uadcli.run.prepare import Prepared, prepare_cached
from uadcli.run.score import find, flagged_ml, reconstruct, scores, strength_of
from uadcli.run.threshold import SHARE
from uadcli.scoring.calibration import conformal_threshold, healthy_quantile
from uadcli.scoring.metrics import average_precision, best_dice, dice

PLAIN = "plain"
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
    conformal_dice: float  # NaN where there is no conformal threshold
    touched: bool  # whether any finding at that threshold touches a lesion


@dataclass
class Healthy:
    """Flagged ml of healthy scans at the calibrated threshold, and whether any finding is above the conformal one."""

    volumes: list[float] = field(default_factory=list)
    marked: list[bool] = field(default_factory=list)


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

    def conformal(self, kind: str, contrast: str) -> float:
        """The threshold that at most 5 % of healthy scans exceed; NaN where the weights know none."""
        strengths = self.loaded.card.strengths.get(kind, {}).get(contrast)
        return conformal_threshold(strengths, SHARE) if strengths else float("nan")

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
        for scene in scenes(self.data, self.cache):
            for kind, values in self.maps(scene.prepared, scene.contrast, scene.x).items():
                native, truth = scene.on_grid(values), scene.truth
                labels, _ = find(values, self.threshold(kind, scene.contrast), scene.prepared, CONFIG)
                overlap = dice(scene.marked(labels), truth)
                figures = average_precision(native, truth), overlap, best_dice(native, truth)[0]
                strict, touched = float("nan"), False
                if np.isfinite(limit := self.conformal(kind, scene.contrast)):
                    labels, _ = find(values, limit, scene.prepared, CONFIG)
                    marked = scene.marked(labels)
                    strict, touched = dice(marked, truth), bool((marked & truth).any())
                rows.append(Row(scene.set, scene.subject, kind, *figures, strict, touched))
                show(rows[-1])
        return rows

    def healthy(self) -> dict[tuple[str, str], Healthy]:
        """Healthy scans by (set, score); the IXI scans at thresholds that they had no part in."""
        result: dict[tuple[str, str], Healthy] = {}
        calibrating: dict[str, list[tuple[Prepared, np.ndarray, np.ndarray]]] = {}
        for case in (c for c in self.cases if c.part == "healthy" or (c.part == "val" and c.contrast == "T1w")):
            prepared = self.prepared(case)
            for kind, values in self.maps(prepared, case.contrast).items():
                if case.part == "val":
                    calibrating.setdefault(kind, []).append((prepared, values, healthy_part(case, prepared)))
                    continue
                _, table = find(values, self.threshold(kind, case.contrast), prepared, CONFIG)
                one = result.setdefault((f"{case.source} {case.contrast}", kind), Healthy())
                one.volumes.append(flagged_ml(table, prepared))
                if np.isfinite(limit := self.conformal(kind, case.contrast)):
                    one.marked.append(strength_of(values, prepared, CONFIG) > limit)
        for kind, scans in calibrating.items():
            strengths = [strength_of(values, prepared, CONFIG) for prepared, values, _ in scans]
            one = result.setdefault(("ixi_t1 T1w, cross-fitted", kind), Healthy())
            for i, (prepared, values, _) in enumerate(scans):
                others = [(v, part) for j, (_, v, part) in enumerate(scans) if j % FOLDS != i % FOLDS]
                _, table = find(values, healthy_quantile(others), prepared, CONFIG)
                one.volumes.append(flagged_ml(table, prepared))
                one.marked.append(strengths[i] > conformal_threshold(strengths[:i] + strengths[i + 1 :], SHARE))
        return result


def show(row: Row) -> None:
    print(
        "\t".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in asdict(row).values()),
        file=sys.stderr,
        flush=True,
    )


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


def conformal_table(rows: list[Row]) -> None:
    print("\n| set | scans | score | Dice mean | median | scans with a lesion touched |")
    print("|---" * 6 + "|")
    for name, kind in dict.fromkeys((r.set, r.score) for r in rows):
        chosen = [r for r in rows if (r.set, r.score) == (name, kind) and np.isfinite(r.conformal_dice)]
        if chosen:
            values = [r.conformal_dice for r in chosen]
            touched = sum(r.touched for r in chosen)
            print(f"| {name} | {len(chosen)} | {kind} | {np.mean(values):.3f} | {np.median(values):.3f} | {touched} |")


def healthy_table(healthy: dict[tuple[str, str], Healthy]) -> None:
    print("\n| healthy set | scans | score | median flagged ml | mean | above 10 ml | any finding, conformal |")
    print("|---" * 7 + "|")
    for (name, kind), one in sorted(healthy.items()):
        above, marked = sum(v > 10 for v in one.volumes), sum(one.marked) if one.marked else "n/a"
        middle, mean = np.median(one.volumes), np.mean(one.volumes)
        print(f"| {name} | {len(one.volumes)} | {kind} | {middle:.2f} | {mean:.2f} | {above} | {marked} |")


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
    rows = evaluation.lesion_rows()
    lesion_table(rows, loaded)
    print(f"\nAt the conformal threshold (at most {SHARE:.0%} of healthy scans with any finding):")
    conformal_table(rows)
    healthy_table(evaluation.healthy())
    print(f"\n{time.perf_counter() - start:.0f} s, {loaded.card.name} sha256 {loaded.sha256[:12]}")
    if arguments.tsv:
        write_tsv(arguments.tsv, rows)


if __name__ == "__main__":
    main()
