"""Compare the joined contrasts of each development patient with every contrast by itself.

    python packaging/evaluation/join_dev.py DATA [--cache FOLDER] [--every N] [--tsv FILE]

The patients with lesions and several contrasts: 14 gliomas (T1w and FLAIR), MSLUB 07 (T1w, T2w and FLAIR), MSLesSeg P18
and P39 (T1w and FLAIR). Each contrast is scored by its bundled model with the default score and marked at `auto`; the
joined evidence is that of `uad detect FLAIR --with ...`, on the grid of the FLAIR. Prints AUPRC and Dice at `auto` by
patient, the mean of each contrast, and the mean difference of the joined map with a paired 95 % interval over patients.
Healthy with two contrasts (Kirby 113): the volume marked.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from development import Case, cases
from scenes import CONFIG, models, named, write_tsv

from uadcli import device
from uadcli.data.prepare import Prepared, prepare_cached, to_native
from uadcli.data.same_patient import align
from uadcli.evaluation.statistics import paired
from uadcli.imaging.volume import read_scan
from uadcli.model import joint
from uadcli.model.components import find, volume_ml
from uadcli.model.joint import Evidence
from uadcli.model.model import Model
from uadcli.model.subject import Subject
from uadcli.model.threshold import Threshold, resolve
from uadcli.scoring.calibration import rarity
from uadcli.scoring.metrics import average_precision, dice
from uadcli.settings.threshold import ThresholdRule

FIRST, JOINED, AUTO = "FLAIR", "joined", ThresholdRule("auto")


@dataclass(frozen=True)
class Row:
    """Figures of one contrast of a patient, or of all joined; NaN without a lesion."""

    source: str
    subject: str
    contrast: str
    auprc: float
    dice: float  # at `auto`
    marked_ml: float


def patients(data: Path, every: int) -> list[list[Case]]:
    """The scans of each patient with FLAIR and another contrast, the FLAIR first."""
    found: dict[tuple[str, str], list[Case]] = {}
    for case in cases(data):
        if case.part in ("dev", "healthy"):
            found.setdefault((case.source, case.subject), []).append(case)
    several = [one for one in found.values() if len(one) > 1 and any(case.contrast == FIRST for case in one)]
    return [sorted(one, key=lambda case: case.contrast != FIRST) for one in several[::every]]


def scored(prepared: Prepared, model: Model, contrast: str) -> tuple[np.ndarray, np.ndarray, Threshold]:
    """The map of the default score, its rarity among healthy voxels, and the threshold `auto`."""
    kind = model.card.scores[contrast]
    x = prepared.scaled(CONFIG.preprocess)
    values = Subject.of(model, x, prepared.mask, CONFIG, contrast, prepared.robust_z()).score(kind)
    used = resolve(AUTO, model.card, kind, contrast)
    assert isinstance(used, Threshold)
    return values, rarity(values, model.card.tail_of(kind, contrast)), used


def row(case: Case, contrast: str, prepared: Prepared, values: np.ndarray, used: Threshold) -> Row:
    """The figures of a map on the grid of a scan."""
    marked, table = find(values, used.value, prepared, CONFIG, used.extent)
    ml = volume_ml(table, prepared)
    if case.lesions is None:
        return Row(case.source, case.subject, contrast, np.nan, np.nan, ml)
    scan, truth = read_scan(case.scan), read_scan(case.lesions, allow_empty=True).volume.data > 0
    own = to_native((marked > 0).astype(np.float32), scan, prepared, 1) >= 0.5
    precision = average_precision(to_native(values, scan, prepared, 1), truth)
    return Row(case.source, case.subject, contrast, precision, dice(own, truth), ml)


def rows_of(patient: Sequence[Case], loaded: dict[str, Model], cache: Path) -> Iterator[Row]:
    """The rows of one patient: each contrast, then all joined."""
    evidence, own = list[Evidence](), dict[str, Threshold]()
    first = prepare_cached(patient[0].scan, CONFIG.preprocess, cache)
    for case in patient:
        prepared = prepare_cached(case.scan, CONFIG.preprocess, cache)
        values, rare, own[case.contrast] = scored(prepared, loaded[case.contrast], case.contrast)
        yield row(case, case.contrast, prepared, values, own[case.contrast])
        if case is patient[0]:
            evidence.append(Evidence(case.contrast, rare, first.mask))
            continue
        place = align(first, prepared)
        evidence.append(Evidence(case.contrast, place.brought(rare), place.brought_mask(prepared.mask)))
    yield row(patient[0], JOINED, first, joint.joined(evidence, first.mask), joint.threshold(AUTO, own))


def summary(rows: Sequence[Row]) -> None:
    """Print means, and differences of the joined map from each contrast and from the best contrast of all."""
    table = {(r.source, r.subject, r.contrast): r for r in rows if np.isfinite(r.auprc)}
    together = [r for r in table.values() if r.contrast == JOINED]
    contrasts = dict.fromkeys(r.contrast for r in table.values() if r.contrast != JOINED)
    print(
        "\n| joined minus | patients | AUPRC, joined | alone | difference (95 %) | Dice, joined | alone | difference |"
    )
    print("|---" * 8 + "|")
    for contrast in contrasts:
        pairs = [
            (r, table[r.source, r.subject, contrast]) for r in together if (r.source, r.subject, contrast) in table
        ]
        cells = [str(len(pairs))]
        for figure in ("auprc", "dice"):
            a, b = (np.array([getattr(pair[i], figure) for pair in pairs]) for i in (0, 1))
            gap = paired(a, b, [pair[0].subject for pair in pairs]).difference
            cells += [f"{a.mean():.3f}", f"{b.mean():.3f}", f"{gap.value:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})"]
        print(f"| {contrast} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    parser.add_argument("--every", type=int, default=1, help="each N-th patient only")
    parser.add_argument("--tsv", type=Path)
    arguments = parser.parse_args()
    device.bound_threads(None)
    loaded, rows = models(None), list[Row]()
    print("| set | patient | contrast | AUPRC | Dice, auto | marked (ml) |\n|---|---|---|---|---|---|")
    for patient in patients(arguments.data, arguments.every):
        for one in rows_of(patient, loaded, arguments.cache):
            rows.append(one)
            cells = [f"{v:.3f}" if isinstance(v, float) else str(v) for v in asdict(one).values()]
            print(f"| {' | '.join(cells)} |", flush=True)
    summary(rows)
    print(f"\n{named(loaded)}", file=sys.stderr)
    if arguments.tsv:
        write_tsv(arguments.tsv, rows)


if __name__ == "__main__":
    main()
