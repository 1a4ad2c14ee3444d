"""Compare the joined contrasts of each development patient with every contrast by itself.

    python packaging/evaluation/join_dev.py DATA [--cache FOLDER] [--every N] [--tsv FILE]
        [--contrasts T2w,T1w] [--other FLAIR=0.8,T1w=0.2]...

The patients with lesions and several contrasts: 14 gliomas (T1w and FLAIR, one with T2w), MSLUB 07 (T1w, T2w and
FLAIR), MSLesSeg P18 and P39 (T1w and FLAIR); with --contrasts the patients with the first of these and at least one
other, by these alone. A scan that `uad detect` would refuse as that of another person is left out. Each contrast is
scored by its bundled model with the default score and marked at `auto`; the joined evidence is that of `uad detect
FLAIR --with ...`, on the grid of the FLAIR, or of the first of --contrasts. Prints AUPRC and Dice at `auto` by patient,
and the volume that is marked, in all and in slices without lesion; then means, and mean differences of the joined map
with paired 95 % intervals over patients. Healthy with two contrasts (Kirby 113): the volume marked. With `--other`, as
often as wanted, the evidence of patients with exactly these contrasts is joined by other weights as well, and compared
like a contrast.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from development import Case, cases
from joint_weights import parsed
from scenes import CONFIG, chosen, models, named, subject_of, write_tsv

from uadcli import device
from uadcli.config import CONTRASTS
from uadcli.data import same_patient
from uadcli.data.healthy import healthy_part
from uadcli.data.prepare import Prepared, common_scale, prepare_cached
from uadcli.detection import joined
from uadcli.evaluation.statistics import paired
from uadcli.imaging import geometry
from uadcli.imaging.slices import GRID_AFFINE
from uadcli.imaging.volume import read_scan
from uadcli.model import joint, own_grid
from uadcli.model.components import find, volume_ml
from uadcli.model.joint import Evidence, Weights
from uadcli.model.model import Model
from uadcli.model.threshold import Threshold, resolve
from uadcli.scoring.calibration import rarity
from uadcli.scoring.metrics import average_precision, dice
from uadcli.settings.threshold import ThresholdRule

SAME_PEOPLE = {"tcga_t2w": "tcga_lgg"}  # data sets of scans of the same people
JOINED, AUTO = "joined", ThresholdRule("auto")


@dataclass(frozen=True)
class Row:
    """Figures of one contrast of a patient, or of all joined; NaN without a lesion."""

    source: str
    subject: str
    contrast: str
    auprc: float
    dice: float  # at `auto`
    marked_ml: float
    false_ml: float  # of it, in slices without lesion


def person(source: str, subject: str) -> tuple[str, str]:
    """The person of a scan: the same in two data sets if these are of the same people."""
    return SAME_PEOPLE.get(source, source), subject


def patients(data: Path, contrasts: Sequence[str], every: int) -> list[list[Case]]:
    """The scans of each patient with the first of the contrasts and another of them, the first contrast first."""
    found: dict[tuple[str, str], list[Case]] = {}
    for case in cases(data):
        if case.part in ("dev", "healthy") and case.contrast in contrasts:
            found.setdefault(person(case.source, case.subject), []).append(case)
    several = [one for one in found.values() if len(one) > 1 and any(case.contrast == contrasts[0] for case in one)]
    return [sorted(one, key=lambda case: contrasts.index(case.contrast)) for one in several[::every]]


@dataclass(frozen=True)
class Scored:
    """Map and rarity of a scan on the model's grid, its threshold, and both on its own grid if that is finer."""

    values: np.ndarray
    rare: np.ndarray
    used: Threshold
    own: np.ndarray | None = None
    own_rare: np.ndarray | None = None


def scored(case: Case, prepared: Prepared, model: Model) -> Scored:
    """The map of the default score, its rarity among healthy voxels, and the threshold `auto`."""
    kind, contrast = model.card.scores[case.contrast], case.contrast
    scan, tail = read_scan(case.scan), model.card.tail_of(kind, contrast)
    subject = subject_of(model, prepared, contrast)
    values = subject.score(kind)
    used = resolve(AUTO, model.card, kind, contrast)
    assert isinstance(used, Threshold)
    own = own_grid.own_map(subject, kind, common_scale(scan.volume)[0].volume, prepared)
    return Scored(values, rarity(values, tail), used, own, None if own is None else rarity(own, tail))


def row(case: Case, contrast: str, prepared: Prepared, found: Scored) -> Row:
    """The figures of a map on the grid of a scan."""
    used, scan = found.used, read_scan(case.scan)
    labels, table = find(found.values, used.value, prepared, CONFIG, used.extent)
    ml, voxel = volume_ml(table, prepared), np.prod(geometry.spacing(GRID_AFFINE)) * prepared.jacobian
    false_ml = float(((labels > 0) & healthy_part(case, prepared)).sum() * voxel / 1e3)
    if case.lesions is None:
        return Row(case.source, case.subject, contrast, np.nan, np.nan, ml, false_ml)
    truth = read_scan(case.lesions, allow_empty=True).volume.data > 0
    native, marked = own_grid.on_scan(found.values, labels, found.own, used.lowest, scan, prepared)
    return Row(case.source, case.subject, contrast, average_precision(native, truth), dice(marked, truth), ml, false_ml)


def written(weights: Mapping[str, float]) -> str:
    """What the evidence joined by other weights is called: `joined, FLAIR=0.8,T1w=0.2`."""
    return f"{JOINED}, {','.join(f'{name}={weight:g}' for name, weight in weights.items())}"


def rows_of(
    patient: Sequence[Case], loaded: dict[str, Model], cache: Path, others: Sequence[Mapping[str, float]]
) -> Iterator[Row]:
    """The rows of one patient: each contrast, then all joined by the shipped weights, then by those of `others` that
    are of the patient's contrasts."""
    evidence, used, finest = list[Evidence](), dict[str, Threshold](), None
    first = prepare_cached(patient[0].scan, CONFIG.preprocess, cache)
    for case in patient:
        prepared = prepare_cached(case.scan, CONFIG.preprocess, cache)
        found = scored(case, prepared, loaded[case.contrast])
        yield row(case, case.contrast, prepared, found)
        if case is patient[0]:
            evidence.append(Evidence(case.contrast, found.rare, first.mask))
            finest = found.own_rare
        else:
            place = same_patient.align(first, prepared)
            if refused := same_patient.fault(place, patient[0].scan.name):
                print(f"{case.scan.name} {refused}", file=sys.stderr)
                continue
            evidence.append(Evidence(case.contrast, place.brought(found.rare), place.brought_mask(prepared.mask)))
        used[case.contrast] = found.used
    if len(used) == 1:
        return
    scan, tables = read_scan(patient[0].scan), dict[str, Weights | None]({JOINED: None})
    tables |= {written(one): {frozenset(one): one} for one in others if set(one) == set(used)}
    for name, table in tables.items():
        values = joint.joined(evidence, first.mask, table)
        finer = None if finest is None else joined.on_own_grid(finest, evidence, scan, first, table)
        yield row(patient[0], name, first, Scored(values, values, joint.threshold(AUTO, used, table), finer))


def summary(rows: Sequence[Row]) -> None:
    """Print means, and differences of the joined map from each contrast and from the best contrast of all."""
    table = {(*person(r.source, r.subject), r.contrast): r for r in rows if np.isfinite(r.auprc)}
    together = [r for r in table.values() if r.contrast == JOINED]
    contrasts = dict.fromkeys(r.contrast for r in table.values() if r.contrast != JOINED)
    figures = {"auprc": "AUPRC", "dice": "Dice", "false_ml": "ml in slices without lesion"}
    head = " | ".join(f"{name}, joined | alone | difference (95 %)" for name in figures.values())
    print(f"\n| joined minus | patients | {head} | Dice lower in |\n{'|---' * 12}|")
    for contrast in contrasts:
        pairs = [(r, table[key]) for r in together if (key := (*person(r.source, r.subject), contrast)) in table]
        cells = [str(len(pairs))]
        for figure in figures:
            a, b = (np.array([getattr(pair[i], figure) for pair in pairs]) for i in (0, 1))
            gap = paired(a, b, [pair[0].subject for pair in pairs]).difference
            cells += [f"{a.mean():.3f}", f"{b.mean():.3f}", f"{gap.value:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})"]
        lower = [b.dice - a.dice for a, b in pairs if a.dice < b.dice]
        cells.append(f"{len(lower)}, by at most {max(lower, default=0):.3f}")
        print(f"| {contrast} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    parser.add_argument("--every", type=int, default=1, help="each N-th patient only")
    parser.add_argument("--contrasts", default="FLAIR,T2w,T1w", help="by commas; the first gives the grid")
    parser.add_argument("--tsv", type=Path)
    parser.add_argument("--other", type=parsed, action="append", default=[], metavar="CONTRAST=WEIGHT,...")
    arguments = parser.parse_args()
    device.bound_threads(None)
    loaded, rows = models(None), list[Row]()
    print("| set | patient | contrast | AUPRC | Dice, auto | marked (ml) | without lesion |\n" + "|---" * 7 + "|")
    for patient in patients(arguments.data, chosen(arguments.contrasts, CONTRASTS), arguments.every):
        for one in rows_of(patient, loaded, arguments.cache, arguments.other):
            rows.append(one)
            cells = [f"{v:.3f}" if isinstance(v, float) else str(v) for v in asdict(one).values()]
            print(f"| {' | '.join(cells)} |", flush=True)
    summary(rows)
    print(f"\n{named(loaded)}", file=sys.stderr)
    if arguments.tsv:
        write_tsv(arguments.tsv, rows)


if __name__ == "__main__":
    main()
