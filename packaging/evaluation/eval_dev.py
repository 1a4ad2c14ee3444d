"""Evaluate the bundled models on the development cases, together with a baseline of plain intensity.

    python packaging/evaluation/eval_dev.py DATA [--weights FILE] [--tsv FILE] [--only fisher,z-]

Each contrast has its bundled model, or FILE if that covers it; --only selects scores by the beginning of their names.
Scores with a healthy reference (`z-...`, `fisher`) compare each IXI scan with the reference of the other scans, with
and without synthetic lesions (the healthy quantiles behind `fisher` include all scans). For each development case and
score, on the scan's own grid: AUPRC; Dice (after the component filter) at the threshold `auto` and at the calibrated
one, the 99.5th percentile of healthy voxels; best Dice (an oracle, which uses the labels); Dice at `auto` divided by
the best Dice of the same map; and whether a finding at `auto` touches a lesion. `auto` is the conformal threshold if
the weights have enough whole healthy scans (T1w), otherwise a strict rate of healthy voxels; findings extend to a
gentler rate. A separate table compares the rules for the default score of each contrast. Baseline: intensity inside the
brain (FLAIR, T2w) or darkness (T1w), with eroded mask and median 5x5x5 ("plain") or without both ("plain, raw"), with
thresholds by the same rules from the healthy validation scans. For each healthy scan: the volume marked; for the IXI
scans, which set the T1w thresholds, at thresholds from the other scans (calibrated: from the other four fifths;
conformal: from the other 19). Synthetic lesions: shapes of real strokes, not used in training, pasted into the IXI
validation scans with an intensity change of 20 to 60 %, before these are scaled. Finally the AUPRC
of the default scores and of `absolute`, averaged over the sets.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from baseline import PLAIN, RAW, baselines, calibrate_baseline, register
from development import Case, cases
from scenes import (
    CONFIG,
    SYNTHETIC,
    WithoutScan,
    cross_fitted,
    marked_volume,
    models,
    named,
    options,
    reference_scans,
    scenes,
    subject_of,
    write_tsv,
)

from uadcli import device
from uadcli.calibration.health import Scored
from uadcli.data.prepare import Prepared, prepare_cached
from uadcli.errors import UsageError
from uadcli.model.components import find, strength_of
from uadcli.model.model import Model, shares_of
from uadcli.model.subject import Subject
from uadcli.model.threshold import Basis, ScanThreshold, Threshold, resolve
from uadcli.scoring.calibration import conformal_threshold, healthy_quantile, healthy_tail, rate_threshold
from uadcli.scoring.fusion import FISHER
from uadcli.scoring.metrics import average_precision, best_dice, dice
from uadcli.settings.threshold import CONFORMAL_EXTENT, SHARE, ThresholdRule

RULES = ("auto", "calibrated", "rate", "conformal", "fdr")  # all of them for the default score, else the first two
FOLDS = 5


@dataclass(frozen=True)
class Row:
    """Figures of one score on one scan with lesions."""

    set: str
    subject: str
    score: str
    auprc: float
    auto_dice: float
    dice: float  # at the calibrated threshold
    best_dice: float
    touched: bool  # whether any finding at `auto` touches a lesion
    by_rule: dict[str, float]  # Dice by further rules

    @property
    def reached(self) -> float:
        """Dice at `auto` relative to the best Dice."""
        return self.auto_dice / self.best_dice if self.best_dice > 0 else np.nan


@dataclass
class Healthy:
    """The ml marked in healthy scans by the rule of the threshold."""

    by_rule: dict[str, list[float]] = field(default_factory=dict)

    def add(self, rule: str, ml: float) -> None:
        self.by_rule.setdefault(rule, []).append(ml)


class Evaluation:
    """Models, thresholds (also of the baseline) and cases for the tables."""

    def __init__(self, data: Path, cache: Path, loaded: dict[str, Model], only: str = "") -> None:
        self.data, self.cache, self.loaded, self.only = data, cache, loaded, only
        found = cases(data)
        self.cases = [c for c in found if c.contrast in loaded]
        register()
        lenders = {c: one.card.borrowed[c] for c, one in loaded.items() if c in one.card.borrowed}
        copies = {contrast: loaded[taker].card.degraded for taker, contrast in lenders.items()}
        copies |= {contrast: one.card.degraded for contrast, one in loaded.items()}
        healthy = [c for c in found if c.part == "val" and c.contrast in copies]
        plain = calibrate_baseline(healthy, cache, CONFIG, copies)
        for taker, giver in lenders.items():
            plain.lend(giver, taker)
        known = {name: getattr(plain, name) for name in ("thresholds", "tails", "strengths")}
        self.cards = {
            contrast: replace(one.card, **{name: getattr(one.card, name) | own for name, own in known.items()})
            for contrast, one in loaded.items()
        }

    def kinds(self, contrast: str) -> list[str]:
        """The calibrated scores of a contrast, its default first."""
        card = self.loaded[contrast].card
        default = card.scores[contrast]
        known = (k for k, v in card.thresholds.items() if contrast in v and k.startswith(tuple(self.only.split(","))))
        return sorted(known, key=lambda k: k != default)

    def thresholds(self, kind: str, contrast: str, values: np.ndarray, mask: np.ndarray) -> dict[str, Threshold]:
        """The threshold of a map by each rule that has one for its score."""
        card, result = self.cards[contrast], dict[str, Threshold]()
        for rule in RULES if kind == card.scores[contrast] else RULES[:2]:
            try:
                found = resolve(ThresholdRule.parse(rule), card, kind, contrast)
            except UsageError:
                if rule in RULES[:2]:
                    raise
                continue  # too few healthy scans for this rule: its cell stays empty
            result[rule] = found.of(values, mask) if isinstance(found, ScanThreshold) else found
        return result

    def prepared(self, case: Case) -> Prepared:
        return prepare_cached(case.scan, CONFIG.preprocess, self.cache)

    def maps(self, prepared: Prepared, subject: Subject, raw: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """The map of every score of a scan; only the scores `raw`, not normalised to healthy scans, if given."""
        kinds = self.kinds(subject.contrast)
        found = {kind: subject.raw(kind) for kind in raw} or {kind: subject.score(kind) for kind in kinds}
        return found | baselines(prepared, subject.contrast, CONFIG, subject.x)

    def lesion_rows(self) -> list[Row]:
        wanted = self.kinds("T1w") if "T1w" in self.loaded else []
        rows, weights_for = [], WithoutScan(self.loaded, self.data, self.cache, wanted)
        for scene in (s for s in scenes(self.data, self.cache) if s.contrast in self.loaded):
            brain = scene.prepared.mask
            subject = Subject.of(weights_for(scene), scene.x, brain, CONFIG, scene.contrast, scene.unclipped)
            for kind, values in self.maps(scene.prepared, subject).items():
                own, truth = scene.own_map(subject, kind), scene.truth
                native = scene.on_grid(values) if own is None else own
                marked = {}
                for rule, used in self.thresholds(kind, scene.contrast, values, brain).items():
                    labels, _ = find(values, used.value, scene.prepared, CONFIG, used.extent)
                    marked[rule] = scene.marked(labels, own, used.lowest)
                row = Row(
                    scene.set,
                    scene.subject,
                    kind,
                    auprc=average_precision(native, truth),
                    auto_dice=dice(marked["auto"], truth),
                    dice=dice(marked["calibrated"], truth),
                    best_dice=best_dice(native, truth)[0],
                    touched=bool((marked["auto"] & truth).any()),
                    by_rule={rule: dice(marked[rule], truth) for rule in RULES[2:] if rule in marked},
                )
                rows.append(row)
                show(row)
        return rows

    def healthy(self) -> dict[tuple[str, str], Healthy]:
        """Healthy scans by (set, score); the IXI scans at thresholds from the other scans."""
        result: dict[tuple[str, str], Healthy] = {}
        for case in (c for c in self.cases if c.part == "healthy"):
            prepared, model = self.prepared(case), self.loaded[case.contrast]
            subject = subject_of(model, prepared, case.contrast)
            for kind, values in self.maps(prepared, subject).items():
                one = result.setdefault((f"{case.source} {case.contrast}", kind), Healthy())
                for rule, used in self.thresholds(kind, case.contrast, values, prepared.mask).items():
                    one.add(rule, marked_volume(values, used, prepared))
        if "T1w" in self.loaded:
            result |= self.cross_fitted()
        return result

    def cross_fitted(self) -> dict[tuple[str, str], Healthy]:
        """The IXI scans that calibrate T1w, with reference and thresholds from the others, not from their copies."""
        model, result = self.loaded["T1w"], dict[tuple[str, str], Healthy]()
        shares = shares_of(model.card, "T1w")
        raw = [kind for kind in dict.fromkeys([*self.kinds("T1w"), *shares]) if kind != FISHER]
        calibrating: dict[str, list[Scored]] = {}
        for scan in reference_scans(model, self.data, self.cache):
            for kind, values in self.maps(scan.prepared, scan.subject, raw).items():
                one = Scored(scan.prepared, values, scan.part, whole=True, brain=scan.brain)
                calibrating.setdefault(kind, []).append(one)
        compared = cross_fitted(calibrating, model.card, "T1w")
        for kind, scans in ((kind, compared[kind]) for kind in [PLAIN, RAW, *self.kinds("T1w")]):
            strengths = [strength_of(s.values, s.prepared, CONFIG) for s in scans]
            marked = result.setdefault(("ixi_t1 T1w, cross-fitted", kind), Healthy())
            for i, scan in enumerate(scans[: len(scans) // (1 + model.card.degraded)]):
                strict = conformal_threshold([s for s, o in zip(strengths, scans, strict=True) if o.brain != i], SHARE)
                others = [(s.values, s.part) for s in scans if s.brain is not None and s.brain % FOLDS != i % FOLDS]
                extent = min(strict, rate_threshold(healthy_tail(others), CONFORMAL_EXTENT))
                for rule, used in (
                    ("auto", Threshold(strict, Basis("auto"), extent)),
                    ("conformal", Threshold(strict, Basis("conformal"))),
                    ("calibrated", Threshold(healthy_quantile(others), Basis("calibrated"))),
                ):
                    marked.add(rule, marked_volume(scan.values, used, scan.prepared))
        return result


def show(row: Row) -> None:
    print(
        "\t".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in asdict(row).values()),
        file=sys.stderr,
        flush=True,
    )


def lesion_table(rows: list[Row], loaded: dict[str, Model]) -> None:
    columns = {
        "auprc": "AUPRC",
        "auto_dice": "Dice, auto",
        "dice": "Dice, calibrated",
        "best_dice": "best Dice (oracle)",
        "reached": "Dice, auto / best Dice",
    }
    names = " | ".join(f"{title} mean | median" for title in columns.values())
    print(f"\n| set | scans | score | {names} | lesion touched, auto |")
    print("|---" * (2 * len(columns) + 4) + "|")
    for name, kind in dict.fromkeys((r.set, r.score) for r in rows):
        chosen = [r for r in rows if (r.set, r.score) == (name, kind)]
        contrast = name.split()[0]
        default = kind == loaded[contrast].card.scores[contrast]
        cells = []
        for column in columns:
            values = [getattr(r, column) for r in chosen]
            cells += [f"{np.nanmean(values):.3f}", f"{np.nanmedian(values):.3f}"]
        cells.append(str(sum(r.touched for r in chosen)))
        print(f"| {name} | {len(chosen)} | {f'**{kind}**' if default else kind} | " + " | ".join(cells) + " |")


def rule_table(rows: list[Row], healthy: dict[tuple[str, str], Healthy], loaded: dict[str, Model]) -> None:
    """Print, for the defaults, Dice by the rule of the threshold, and what healthy scans show at the same."""
    print(f"\n| set, by its default score | scans | {' | '.join(RULES)} |")
    print("|---" * (len(RULES) + 2) + "|")
    for name in dict.fromkeys(r.set for r in rows):
        default = loaded[name.split()[0]].card.scores[name.split()[0]]
        chosen = [r for r in rows if (r.set, r.score) == (name, default)]
        each = [{"auto": r.auto_dice, "calibrated": r.dice, **r.by_rule} for r in chosen]
        cells = [f"{np.mean([e[rule] for e in each]):.3f}" if rule in each[0] else "" for rule in RULES]
        print(f"| {name}: Dice | {len(chosen)} | {' | '.join(cells)} |")
    for (name, kind), one in sorted(healthy.items()):
        contrast = next(part for part in name.replace(",", "").split() if part in loaded)
        if kind == loaded[contrast].card.scores[contrast]:
            cells = [_volumes(one.by_rule.get(rule, [])) for rule in RULES]
            print(f"| {name}: ml, median / worst, scans with any | {len(one.by_rule['auto'])} | {' | '.join(cells)} |")


def _volumes(ml: list[float]) -> str:
    """Median, worst and number above 0; empty without a scan."""
    return f"{np.median(ml):.2f} / {np.max(ml):.2f}, {sum(v > 0 for v in ml)}" if ml else ""


def reached(rows: list[Row], loaded: dict[str, Model]) -> None:
    """Print Dice at `auto` relative to the best Dice, for the default scores, averaged over the sets."""
    sets = dict.fromkeys(r.set for r in rows)
    defaults = {name: loaded[name.split()[0]].card.scores[name.split()[0]] for name in sets}
    each = [np.nanmean([r.reached for r in rows if (r.set, r.score) == pair]) for pair in defaults.items()]
    print(f"\nDice at `auto` over best Dice of the same map, defaults, mean over {len(each)} sets: {np.mean(each):.3f}")


def gain(rows: list[Row], loaded: dict[str, Model]) -> None:
    """Print the mean AUPRC over the sets: of the default scores, and of `absolute`, the score of the paper."""
    sets = list(dict.fromkeys(r.set for r in rows))
    for title, chosen in (("dev sets", [s for s in sets if s != SYNTHETIC]), ("dev sets and synthetic lesions", sets)):
        means = []
        for wanted in ([loaded[s.split()[0]].card.scores[s.split()[0]] for s in chosen], ["absolute"] * len(chosen)):
            of_set = [[r.auprc for r in rows if (r.set, r.score) == pair] for pair in zip(chosen, wanted, strict=True)]
            means.append(np.mean([np.nanmean(values) for values in of_set]) if all(of_set) else np.nan)
        ours, paper = means
        if not np.isfinite(means).all():
            print(f"{title}: the gain was not computed, for want of the default or `absolute`")
        else:
            print(f"{title}: AUPRC {ours:.3f} by default, {paper:.3f} by absolute ({100 * (ours / paper - 1):+.0f} %)")


def healthy_table(healthy: dict[tuple[str, str], Healthy]) -> None:
    print(
        "\n| healthy set | scans | score | ml, auto: median | mean | worst | any "
        "| ml, calibrated: median | mean | worst |"
    )
    print("|---" * 10 + "|")
    for (name, kind), one in sorted(healthy.items()):
        cells = []
        for rule in RULES[:2]:
            volumes = one.by_rule[rule]
            cells += [f"{np.median(volumes):.2f}", f"{np.mean(volumes):.2f}", f"{np.max(volumes):.2f}"]
        cells.insert(3, str(sum(v > 0 for v in one.by_rule["auto"])))
        print(f"| {name} | {len(one.by_rule['auto'])} | {kind} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--tsv", type=Path)
    parser.add_argument("--only", default="", help="beginnings of score names, comma-separated")
    arguments = parser.parse_args()
    device.bound_threads(None)
    loaded = models(arguments.weights)
    start = time.perf_counter()
    evaluation = Evaluation(arguments.data, arguments.cache, loaded, arguments.only)
    rows = evaluation.lesion_rows()
    lesion_table(rows, loaded)
    healthy = evaluation.healthy()
    healthy_table(healthy)
    rule_table(rows, healthy, loaded)
    print()
    gain(rows, loaded)
    reached(rows, loaded)
    print(f"\n{time.perf_counter() - start:.0f} s, {named(loaded)}")
    if arguments.tsv:
        write_tsv(arguments.tsv, rows)


if __name__ == "__main__":
    main()
