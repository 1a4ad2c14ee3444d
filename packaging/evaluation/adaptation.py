"""Does `uad detect --adapt` help on scanners other than those of the training scans, and by which `--adapt-by`?

    python packaging/evaluation/adaptation.py DATA [--cases 6] [--lesions 3] [--healthy 2] [--sets SOURCE ...]

Adapts with the first --healthy other healthy scans of a set, for FLAIR of gliomas with the tumour-free slices of as
many patients of the training part, and by low-rank steps on the scan itself everywhere. Prints for each set the mean
AUPRC on the model's grid of the residual, the learned score and the default score, without adaptation and by each
way, and the difference per scan; not of the default score for IXI, whose scans made the healthy reference. Healthy
scans get a pasted stroke shape, --lesions different ones in turn. The IXI validation scans come from the training
scanner, so a gain there would not be adaptation to a scanner. Also prints the ml of MNI space marked at the threshold
`auto` in the healthy scans without lesion, and the seconds that each way takes.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from development import Case, cases
from scenes import CONFIG, RESIDUAL, models, named, options, with_shape

from uadcli import device
from uadcli.data.healthy import healthy_part, lesions_on_grid
from uadcli.data.prepare import Prepared, prepare_cached
from uadcli.model import threshold, ways
from uadcli.model.components import find
from uadcli.model.model import Model
from uadcli.model.subject import Subject
from uadcli.model.ways.base import Learnt
from uadcli.scoring.metrics import average_precision
from uadcli.settings.threshold import ThresholdRule

AS_IT_IS = "as it is"
Map = np.ndarray


@dataclass(frozen=True)
class Judged:
    """A scaled scan, with one or several lesions to find, and without them if they were pasted."""

    case: Case
    prepared: Prepared
    ill: list[tuple[Map, Map, Map]]  # scan, its robust z, and truth
    healthy: Map | None

    @property
    def set(self) -> str:
        return f"{self.case.source} {self.case.contrast}"


def subjects(asked: argparse.Namespace, contrasts: set[str]) -> Iterator[Judged]:
    """At most `--cases` scans of each development set and each healthy set, of those asked for."""
    data, cache, count = asked.data, asked.cache, asked.cases
    seen = dict[tuple[str, str], int]()
    for case in (c for c in cases(data) if c.part != "train" and c.contrast in contrasts):
        if asked.sets and case.source not in asked.sets:
            continue
        if case.part == "val" and case.lesions is not None:
            continue
        key = (case.source, case.contrast)
        number = seen[key] = seen.get(key, 0) + 1
        if number > count:
            continue
        prepared = prepare_cached(case.scan, CONFIG.preprocess, cache)
        x = prepared.scaled(CONFIG.preprocess)
        if case.lesions is not None:
            yield Judged(case, prepared, [(x, prepared.data, lesions_on_grid(case, prepared))], None)
            continue
        rng = np.random.default_rng([11, number])
        pasted = [with_shape(prepared, case.contrast, prepared.mask, data, rng) for _ in range(asked.lesions)]
        yield Judged(case, prepared, pasted, x)


KNOWN = "ixi_t1"  # the source of the scans in the healthy reference for T1w
LEARNED = {"T1w": "siamese", "FLAIR": "fusion-absolute", "T2w": "fusion-absolute"}


def learned_and_default(one: Judged, model: Model) -> list[str]:
    """The scores to evaluate in addition to the residual."""
    own = [] if one.case.source == KNOWN else [model.card.scores[one.case.contrast]]
    return list(dict.fromkeys([LEARNED[one.case.contrast], *own]))


def volume_ml(one: Judged, model: Model, kind: str, subject: Subject) -> float:
    """The ml that a score marks in a healthy scan at the threshold `auto`."""
    values = subject.score(kind)
    used = threshold.resolve(ThresholdRule("auto"), model.card, kind, one.case.contrast)
    if isinstance(used, threshold.ScanThreshold):
        used = used.of(values, one.prepared.mask)
    _, table = find(values, used.value, one.prepared, CONFIG, used.extent)
    return sum(c.volume_mm3 for c in table) / 1e3


@dataclass
class Adapter:
    """Adapted models by the name of the way; what healthy scans teach is kept, and the seconds are noted."""

    learnt: dict[tuple[str, Path], Learnt] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def by_healthy(self, model: Model, healthy: list[tuple[Path, Map, Map]]) -> Iterator[tuple[str, Model]]:
        """The models adapted to the scanner of some healthy scans, each with its path and its mask."""
        for name, way in ways.BY_HEALTHY_SCANS.items():
            for path, x, mask in healthy:
                if (name, path) not in self.learnt:
                    start = time.perf_counter()
                    self.learnt[name, path] = way.learn(model, x, mask, CONFIG.reconstruction)
                    self.seconds[name].append(time.perf_counter() - start)
            yield name, replace(model, adaptation=way.adaptation(model, [self.learnt[name, h[0]] for h in healthy]))

    def by_scan(self, model: Model, x: Map, mask: Map) -> Iterator[tuple[str, Model]]:
        """The models adapted to a scan by itself."""
        for name, way in ways.BY_SCAN.items():
            start = time.perf_counter()
            adapted = replace(model, adaptation=way.adaptation(model, x, mask, CONFIG.reconstruction))
            self.seconds[name].append(time.perf_counter() - start)
            yield name, adapted


def healthy_of(one: Judged, everyone: list[Judged], asked: argparse.Namespace) -> list[tuple[Path, Map, Map]]:
    """The healthy scans of the scanner of a scan, but for itself; empty if there are too few."""
    same = [o for o in everyone if o.set == one.set and o.case.scan != one.case.scan]
    found = [(o.case.scan, o.healthy, o.prepared.mask) for o in same if o.healthy is not None]
    if one.case.source == "tcga_lgg":
        train = [c for c in cases(asked.data) if c.part == "train" and (c.source, c.contrast) == ("tcga_lgg", "FLAIR")]
        for case in train[: asked.healthy] if one.case.contrast == "FLAIR" else []:
            prepared = prepare_cached(case.scan, CONFIG.preprocess, asked.cache)
            part = healthy_part(case, prepared)
            found.append((case.scan, np.where(part, prepared.scaled(CONFIG.preprocess), 0).astype(np.float32), part))
    return found[: asked.healthy] if len(found) >= asked.healthy else []


@dataclass
class Results:
    """AUPRC by set, score, way and subject; ml by set, score, way, one for each healthy scan."""

    auprc: dict[tuple[str, str], dict[str, dict[str, list[float]]]] = field(default_factory=dict)
    marked: dict[tuple[str, str], dict[str, list[float]]] = field(default_factory=dict)

    def judge(self, one: Judged, number: int, way: str, model: Model) -> None:
        """Score a scan with a lesion by an adapted or unadapted model."""
        contrast, (x, unclipped, truth) = one.case.contrast, one.ill[number]
        subject = Subject.of(model, x, one.prepared.mask, CONFIG, contrast, unclipped)
        for kind in dict.fromkeys([RESIDUAL[contrast], *learned_and_default(one, model)]):
            by_scan = self.auprc.setdefault((one.set, kind), {}).setdefault(way, {})
            by_scan.setdefault(one.case.subject, []).append(average_precision(subject.score(kind), truth))

    def mark(self, one: Judged, way: str, model: Model) -> None:
        """Measure what is marked in a healthy scan."""
        assert one.healthy is not None
        of = one.prepared
        subject = Subject.of(model, one.healthy, of.mask, CONFIG, one.case.contrast, of.data)
        for kind in learned_and_default(one, model):
            by_way = self.marked.setdefault((one.set, kind), {})
            by_way.setdefault(way, []).append(volume_ml(one, model, kind, subject))

    def print(self) -> None:
        """Both tables, the ways side by side."""
        print(
            "| set | score | adapted by | scans | AUPRC as it is | adapted | difference by scan |\n" + "|---" * 7 + "|"
        )
        for (name, kind), by_way in sorted(self.auprc.items()):
            before = {who: float(np.mean(v)) for who, v in by_way[AS_IT_IS].items()}
            for way, by_scan in by_way.items():
                after = {who: float(np.mean(v)) for who, v in by_scan.items()}
                if way != AS_IT_IS:
                    each = ", ".join(f"{after[who] - before[who]:+.3f}" for who in after)
                    means = " | ".join(f"{np.mean([of[who] for who in after]):.3f}" for of in (before, after))
                    print(f"| {name} | {kind} | {way} | {len(after)} | {means} | {each} |")
        print("\n| set | score | adapted by | healthy scans | ml marked, mean | by scan |\n" + "|---" * 6 + "|")
        for (name, kind), ml in sorted(self.marked.items()):
            for way, values in ml.items():
                each = ", ".join(f"{value:.1f}" for value in values)
                print(f"| {name} | {kind} | {way} | {len(values)} | {np.mean(values):.1f} | {each} |")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--cases", type=int, default=6, help="scans of each set")
    parser.add_argument("--lesions", type=int, default=3, help="pasted in turn into each healthy scan")
    parser.add_argument("--healthy", type=int, default=2, help="scans to adapt with")
    parser.add_argument("--sets", nargs="*", help="only these sources")
    parser.add_argument("--contrasts", nargs="*", default=list(LEARNED), help="only these")
    asked = parser.parse_args()
    device.bound_threads(None)
    loaded, adapter, results = models(asked.weights), Adapter(), Results()
    everyone = list(subjects(asked, set(loaded) & set(asked.contrasts)))
    for one in everyone:
        model, mask = loaded[one.case.contrast], one.prepared.mask
        healthy = healthy_of(one, everyone, asked)
        to_scanner = dict(adapter.by_healthy(model, healthy)) if healthy else {}
        for number, (x, *_) in enumerate(one.ill):
            for way, used in [(AS_IT_IS, model), *to_scanner.items(), *adapter.by_scan(model, x, mask)]:
                results.judge(one, number, way, used)
        if one.healthy is not None:
            for way, used in [(AS_IT_IS, model), *to_scanner.items(), *adapter.by_scan(model, one.healthy, mask)]:
                results.mark(one, way, used)
    results.print()
    spent = ", ".join(f"{way} {np.mean(seconds):.0f} s" for way, seconds in adapter.seconds.items())
    print(f"\nby {asked.healthy} healthy scans; per scan that teaches: {spent}; {named(loaded)}")


if __name__ == "__main__":
    main()
