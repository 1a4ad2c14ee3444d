"""Does `uad detect --adapt` help on scanners other than those of the training scans?

    python packaging/evaluation/adaptation.py DATA [--cases 6] [--healthy 2]

Adapts with the first --healthy other healthy scans of a set. Prints for each set the mean AUPRC on the model's grid of
the residual, the learned score and the default score, with and without adaptation, and the difference per scan; not of
the default score for IXI, whose scans made the healthy reference. Healthy scans get a pasted stroke shape, three
different ones in turn. The IXI validation scans come from the training scanner, so a gain there would not be adaptation
to a scanner. Also prints the ml of MNI space marked at the threshold `auto` in the healthy scans without lesion.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from development import Case, cases
from scenes import CONFIG, RESIDUAL, models, named, with_shape

from uadcli import device
from uadcli.data.healthy import lesions_on_grid
from uadcli.data.prepare import Prepared, prepare_cached
from uadcli.imaging.slices import GRID_SHAPE
from uadcli.model import threshold
from uadcli.model.components import find
from uadcli.model.model import Model
from uadcli.model.subject import Subject
from uadcli.scoring.metrics import average_precision
from uadcli.scoring.scanner_drift import added, drift, residual
from uadcli.settings.threshold import ThresholdRule

PASTED = 3  # different lesions in turn in each healthy scan
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


def subjects(data: Path, cache: Path, count: int) -> Iterator[Judged]:
    """At most `count` scans of each development set and each healthy set."""
    seen = dict[tuple[str, str], int]()
    for case in (c for c in cases(data) if c.part != "train"):
        if case.part == "val" and case.lesions is not None:
            continue
        key = (case.source, case.contrast)
        number = seen[key] = seen.get(key, 0) + 1
        if number > count:
            continue
        prepared = prepare_cached(case.scan, CONFIG.preprocess, cache)
        x = prepared.scaled(CONFIG.preprocess)
        if case.lesions is not None:
            yield Judged(case, prepared, [(x, prepared.robust_z(), lesions_on_grid(case, prepared))], None)
            continue
        rng = np.random.default_rng([11, number])
        pasted = [with_shape(prepared, case.contrast, prepared.mask, data, rng) for _ in range(PASTED)]
        yield Judged(case, prepared, pasted, x)


KNOWN = "ixi_t1"  # the source of the scans in the healthy reference for T1w
LEARNED = {"T1w": "siamese", "FLAIR": "fusion-absolute", "T2w": "fusion-absolute"}


def learned_and_default(one: Judged, model: Model) -> list[str]:
    """The scores to evaluate in addition to the residual."""
    own = [] if one.case.source == KNOWN else [model.card.scores[one.case.contrast]]
    return list(dict.fromkeys([LEARNED[one.case.contrast], *own]))


def volume_ml(one: Judged, recon: Map, model: Model, kind: str) -> float:
    """The ml that a score marks in a healthy scan at the threshold `auto`."""
    contrast, card = one.case.contrast, model.card
    z = one.prepared.robust_z()
    values = Subject(model, one.healthy, recon, one.prepared.mask, CONFIG, contrast, z=z).score(kind)
    used = threshold.resolve(ThresholdRule("auto"), card, kind, contrast)
    if isinstance(used, threshold.ScanThreshold):
        used = used.of(values, one.prepared.mask)
    _, table = find(values, used.value, one.prepared, CONFIG, used.extent)
    return sum(c.volume_mm3 for c in table) / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cases", type=int, default=6)
    parser.add_argument("--healthy", type=int, default=2, help="scans to adapt with")
    parser.add_argument("--weights")
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    arguments = parser.parse_args()
    device.bound_threads(None)
    loaded = models(arguments.weights)
    everyone = [s for s in subjects(arguments.data, arguments.cache, arguments.cases) if s.case.contrast in loaded]
    found: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    marked: dict[tuple[str, str], list[list[float]]] = {}

    def judge(way: str, one: Judged, number: int, recon: Map, model: Model) -> dict[str, Map]:
        contrast, (x, z, truth) = one.case.contrast, one.ill[number]
        kinds = list(dict.fromkeys([RESIDUAL[contrast], *learned_and_default(one, model)]))
        subject = Subject(model, x, recon, one.prepared.mask, CONFIG, contrast, z=z)
        values = {kind: subject.score(kind) for kind in kinds}
        for kind, one_map in values.items():
            by_scan = found.setdefault((one.set, kind, way), {})
            by_scan.setdefault(one.case.subject, []).append(average_precision(one_map, truth))
        return values

    for one in everyone:
        model, mask, known = loaded[one.case.contrast], one.prepared.mask, None
        same = [o for o in everyone if o.set == one.set and o is not one]
        others = [(o.healthy, o.prepared.mask) for o in same if o.healthy is not None][: arguments.healthy]
        if len(others) == arguments.healthy:
            known = drift(
                [residual(h, model.reconstruct(h, m, CONFIG.reconstruction), m) for h, m in others], GRID_SHAPE
            )
        for number, (x, *_) in enumerate(one.ill):
            recon = model.reconstruct(x, mask, CONFIG.reconstruction)
            judge("as it is", one, number, recon, model)
            if known is not None:
                judge("drift", one, number, added(recon, known, mask), model)
        if one.healthy is not None and known is not None:
            recon = model.reconstruct(one.healthy, mask, CONFIG.reconstruction)
            for kind in learned_and_default(one, model):
                pair = [volume_ml(one, r, model, kind) for r in (recon, added(recon, known, mask))]
                marked.setdefault((one.set, kind), []).append(pair)
    print("| set | score | adapted | scans | AUPRC as it is | adapted | difference by scan |\n" + "|---" * 7 + "|")
    for (name, kind, way), by_scan in sorted(found.items()):
        if way != "as it is":
            before = [float(np.mean(v)) for v in found[name, kind, "as it is"].values()]
            after_ = [float(np.mean(v)) for v in by_scan.values()]
            each = ", ".join(f"{b - a:+.3f}" for a, b in zip(before, after_, strict=True))
            cells = f"{len(before)} | {np.mean(before):.3f} | {np.mean(after_):.3f} | {each}"
            print(f"| {name} | {kind} | {way} | {cells} |")
    print("\n| set | score | healthy scans | ml marked as it is | adapted | by scan |\n" + "|---" * 6 + "|")
    for (name, kind), pairs in sorted(marked.items()):
        each = ", ".join(f"{a:.1f} to {b:.1f}" for a, b in pairs)
        means = " | ".join(f"{value:.1f}" for value in np.mean(pairs, axis=0))
        print(f"| {name} | {kind} | {len(pairs)} | {means} | {each} |")
    print(f"\ndrift by {arguments.healthy} scans; {named(loaded)}")


if __name__ == "__main__":
    main()
