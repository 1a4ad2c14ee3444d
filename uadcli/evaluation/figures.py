"""Metrics of one map, and of methods over scans; what was not computed is None or NaN, never 0.

Figures of lesions (AUPRC, Dice, ...) exist for scans with a lesion, false volume for healthy scans. Rules: method 11.4.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uadcli.evaluation import statistics
from uadcli.evaluation.lesionwise import BIN_NAMES, compare_lesions, size_bin
from uadcli.evaluation.marking import Marking
from uadcli.evaluation.read import Labelled
from uadcli.evaluation.statistics import Estimate, Paired
from uadcli.running.stage import Progress, unseen
from uadcli.scoring import metrics

RECALLS = np.arange(101) / 100  # not np.linspace, which has 0.35 a last bit above 7/20
SPECIFICITIES = (90, 95)  # per cent
SCAN_LEVEL = (  # what ranks scans: the end of a metric's name, the figure, its description
    ("", "scan_score", "the sum of the map"),
    ("_volume", "found_ml", "the marked volume"),
    ("_strength", "strength", "the strongest finding"),
)


@dataclass(frozen=True)
class Figures:
    """The figures of one scan. Volumes in ml; `bins` counts lesions by size, as `lesionwise.BIN_NAMES`.

    `scan_score` is the sum of the map times the voxel volume (score x ml), independent of the field of view; `strength`
    that of the scan by the sidecar of its map.
    """

    truth_ml: float
    scan_score: float
    strength: float | None = None
    threshold: float | None = None
    extent: float | None = None
    found_ml: float | None = None
    auprc: float | None = None
    auroc: float | None = None
    dice: float | None = None
    precision: float | None = None
    recall: float | None = None
    best_dice_oracle: float | None = None
    best_threshold_oracle: float | None = None
    volume_error_ml: float | None = None
    volume_error_abs_ml: float | None = None
    lesions: int | None = None
    lesions_found: int | None = None
    lesion_sensitivity: float | None = None
    lesion_f1: float | None = None
    false_positives: int | None = None
    healthy_fp_ml: float | None = None
    truth_outside_mask_ml: float | None = None
    bins: tuple[int, ...] | None = None
    bins_found: tuple[int, ...] | None = None
    precision_at: NDArray[np.float64] | None = None  # at RECALLS

    @property
    def healthy(self) -> bool:
        """Whether there is no lesion voxel (inside the mask)."""
        return self.lesions is None


@dataclass(frozen=True)
class Result:
    """One scan under one method; methods are compared by the scan's name, the bootstrap draws subjects."""

    method: str
    scan: str
    subject: str
    figures: Figures


@dataclass(frozen=True)
class Metric:
    """A figure that is averaged over scans: its name in `Figures`, its description and unit."""

    name: str
    text: str
    unit: str = ""
    oracle: bool = False


PER_SCAN = (
    Metric("auprc", "AUPRC (average precision)"),
    Metric("auroc", "AUROC"),
    Metric("dice", "Dice at the threshold"),
    Metric("precision", "precision at the threshold"),
    Metric("recall", "recall at the threshold"),
    Metric("best_dice_oracle", "best Dice (oracle: each scan's threshold is chosen by its labels)", oracle=True),
    Metric("volume_error_ml", "volume error, marked minus true", "ml"),
    Metric("volume_error_abs_ml", "volume error, absolute", "ml"),
    Metric("lesion_sensitivity", "share of lesions detected"),
    Metric("lesion_f1", "lesion-wise F1"),
    Metric("false_positives", "false findings per scan", "count"),
    Metric("healthy_fp_ml", "false volume per healthy scan", "ml"),
)


@dataclass(frozen=True)
class Summary:
    """One metric of one method: mean over scans, or pooled if the text says so, with its interval over subjects."""

    method: str
    metric: str
    text: str
    unit: str
    oracle: bool
    estimate: Estimate
    median: float
    sd: float


@dataclass(frozen=True)
class Comparison:
    """Method a minus method b in one metric; `p_holm` is Wilcoxon's p corrected over the pairs of methods."""

    a: str
    b: str
    metric: str
    text: str
    unit: str
    oracle: bool
    paired: Paired
    p_holm: float


def scan_figures(case: Labelled, marking: Marking) -> Figures:
    """Compare a map, all scores finite, with the truth on the same grid.

    The findings of the case are marked, otherwise the voxels as `marking` says. With a mask only its voxels count. A
    scan with an empty truth is healthy.
    """
    scores, truth, affine, mask = case.scores, case.truth, case.affine, case.mask
    voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1e3
    inside = np.ones(truth.shape, dtype=bool) if mask is None else mask
    lesion = truth & inside
    known: dict[str, object] = {"strength": marking.strength}
    if mask is not None:
        known["truth_outside_mask_ml"] = int((truth & ~inside).sum()) * voxel_ml
    found = marking.mark(scores, inside, affine) if case.found is None else case.found & inside
    if found is not None:
        known |= {"threshold": marking.threshold, "extent": marking.extent, "found_ml": int(found.sum()) * voxel_ml}
    figures = {
        "truth_ml": int(lesion.sum()) * voxel_ml,
        "scan_score": float(scores[inside].sum(dtype=np.float64)) * voxel_ml,
        **known,
        **(_with_lesions(scores, lesion, inside, found, affine) if lesion.any() else _healthy(lesion, found, affine)),
    }
    return Figures(**figures)  # type: ignore[arg-type]


def _with_lesions(
    scores: NDArray[np.float32],
    lesion: NDArray[np.bool_],
    inside: NDArray[np.bool_],
    found: NDArray[np.bool_] | None,
    affine: NDArray[np.float64],
) -> dict[str, object]:
    curve = metrics.curve(scores[inside], lesion[inside])
    best, at = curve.best_dice
    lesions = compare_lesions(np.zeros_like(lesion) if found is None else found, lesion, affine)
    where = [size_bin(volume) for volume in lesions.volumes_ml]
    values: dict[str, object] = {
        "auprc": curve.average_precision,
        "auroc": None if math.isnan(curve.auroc) else curve.auroc,
        "best_dice_oracle": best,
        "best_threshold_oracle": at,
        "precision_at": curve.precision_at(RECALLS),
        "lesions": len(where),
        "bins": tuple(where.count(i) for i in range(len(BIN_NAMES))),
    }
    if found is None:
        return values
    hits = [bin_ for bin_, hit in zip(where, lesions.found, strict=True) if hit]
    error = (int(found.sum()) - int(lesion.sum())) * abs(float(np.linalg.det(affine[:3, :3]))) / 1e3
    precision = metrics.precision(found, lesion)
    return values | {
        "dice": metrics.dice(found, lesion),
        "precision": None if math.isnan(precision) else precision,
        "recall": metrics.recall(found, lesion),
        "volume_error_ml": error,
        "volume_error_abs_ml": abs(error),
        "lesions_found": len(hits),
        "lesion_sensitivity": lesions.sensitivity,
        "lesion_f1": lesions.f1,
        "false_positives": lesions.false_positives,
        "bins_found": tuple(hits.count(i) for i in range(len(BIN_NAMES))),
    }


def _healthy(
    lesion: NDArray[np.bool_], found: NDArray[np.bool_] | None, affine: NDArray[np.float64]
) -> dict[str, object]:
    if found is None:
        return {}
    volume = int(found.sum()) * abs(float(np.linalg.det(affine[:3, :3]))) / 1e3
    return {"healthy_fp_ml": volume, "false_positives": compare_lesions(found, lesion, affine).false_positives}


def methods(results: Sequence[Result]) -> list[str]:
    """The methods, in the order of their first result."""
    return list(dict.fromkeys(r.method for r in results))


def summarise(results: Sequence[Result], *, resamples: int, seed: int, progress: Progress = unseen) -> list[Summary]:
    """Every metric of every method; NaN for metrics without a value."""
    rows, names = list[Summary](), methods(results)
    for done, name in enumerate(names):
        progress(done, len(names))
        rows += _summarise_one(name, results, resamples, seed)
    return rows


def _summarise_one(method: str, results: Sequence[Result], resamples: int, seed: int) -> list[Summary]:
    own = [r for r in results if r.method == method]
    subjects, figures = [r.subject for r in own], [r.figures for r in own]
    rows = []
    for metric in PER_SCAN:
        values = _values(figures, metric.name)
        estimate = statistics.mean(values, subjects, resamples=resamples, seed=seed)
        kept = values[np.isfinite(values)]
        median = float(np.median(kept)) if kept.size else math.nan
        sd = float(np.std(kept, ddof=1)) if kept.size > 1 else math.nan
        rows.append(Summary(method, metric.name, metric.text, metric.unit, metric.oracle, estimate, median, sd))

    def pooled(name: str, text: str, estimate: Estimate) -> None:
        rows.append(Summary(method, name, text, "", False, estimate, math.nan, math.nan))

    counted = [f.bins_found is not None for f in figures]
    lesions = np.array([f.bins if f.bins and ok else (0,) * 4 for f, ok in zip(figures, counted, strict=True)])
    found = np.array([f.bins_found or (0,) * 4 for f in figures])
    names = [
        ("sensitivity_all", "share of lesions detected, pooled over scans"),
        *((f"sensitivity_{b}", b) for b in BIN_NAMES),
    ]
    columns = [(found.sum(axis=1), lesions.sum(axis=1)), *zip(found.T, lesions.T, strict=True)]
    for (name, text), (above, below) in zip(names, columns, strict=True):
        words = text if name == "sensitivity_all" else f"part of the lesions of {text} ml found, pooled"
        pooled(name, words, statistics.ratio(above, below, subjects, resamples=resamples, seed=seed))
    sick = [not f.healthy for f in figures]
    for end, field, by in SCAN_LEVEL:
        values, drawn = _values(figures, field), {"resamples": resamples, "seed": seed}
        auroc = statistics.auroc_over_scans(values, sick, subjects, **drawn)
        pooled(f"scan_auroc{end}", f"scan-level AUROC, by {by}", auroc)
        for percent in SPECIFICITIES:
            sensitivity = statistics.sensitivity_at(percent / 100, values, sick, subjects, **drawn)
            text = f"scan-level sensitivity at {percent} % specificity, by {by}"
            pooled(f"scan_sensitivity_{percent}{end}", text, sensitivity)
    return rows


def compare(results: Sequence[Result], *, resamples: int, seed: int, progress: Progress = unseen) -> list[Comparison]:
    """Each pair of methods in each metric that is averaged over scans, on the scans that both have."""
    by_method = {name: {r.scan: r for r in results if r.method == name} for name in methods(results)}
    rows: list[Comparison] = []
    for done, metric in enumerate(PER_SCAN):
        progress(done, len(PER_SCAN))
        tests = []
        for a, b in itertools.combinations(by_method, 2):
            shared = [scan for scan in by_method[a] if scan in by_method[b]]
            own, other = (_values([by_method[m][s].figures for s in shared], metric.name) for m in (a, b))
            subjects = [by_method[a][scan].subject for scan in shared]
            tests.append((a, b, statistics.paired(own, other, subjects, resamples=resamples, seed=seed)))
        corrected = statistics.holm([paired.p_wilcoxon for _, _, paired in tests])
        rows += [
            Comparison(a, b, metric.name, metric.text, metric.unit, metric.oracle, paired, p)
            for (a, b, paired), p in zip(tests, corrected, strict=True)
        ]
    return rows


def mean_curve(results: Sequence[Result]) -> NDArray[np.float64] | None:
    """The precision (101,) at RECALLS, averaged over the scans with lesions; None if there is none."""
    curves = [r.figures.precision_at for r in results if r.figures.precision_at is not None]
    return np.mean(curves, axis=0) if curves else None


def _values(figures: Sequence[Figures], name: str) -> NDArray[np.float64]:
    """One figure of all scans, NaN where it was not computed."""
    return np.array([math.nan if getattr(f, name) is None else float(getattr(f, name)) for f in figures])
