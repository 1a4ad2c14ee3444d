"""How well the strength of a scan separates patients from healthy scans.

    python packaging/evaluation/scan_level.py DATA [--cache CACHE] [--weights FILE]

For each contrast with at least two healthy scans: AUROC over scans of the default score's strength (which orders scans
like the share of healthy scans as strong), and the sensitivity at 90 and 95 % specificity, with intervals over
subjects. Patients are all development cases with lesions on their own scans. Healthy are the IXI validation scans, each
compared with the reference of the other ones; healthy scans of other scanners; and the tumour-free slices of patients
who were held out of training, which also set the FLAIR thresholds. Then the strengths themselves.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from development import cases
from scenes import CONFIG, cross_fitted, models, named

from uadcli import device
from uadcli.calibration.health import Scored
from uadcli.data.dataset import Case
from uadcli.data.healthy import healthy_part
from uadcli.data.prepare import Prepared, prepare_cached
from uadcli.evaluation.statistics import Estimate, auroc_over_scans, sensitivity_at
from uadcli.model.components import strength_of
from uadcli.model.model import Model, shares_of
from uadcli.model.subject import Subject
from uadcli.scoring.fusion import FISHER

SPECIFICITIES = (0.90, 0.95)


@dataclass(frozen=True)
class Strength:
    """The strength of one scan; `group` names its data set."""

    group: str
    subject: str
    sick: bool
    value: float


def strengths(data: Path, cache: Path, model: Model, contrast: str) -> Iterator[Strength]:
    """The strength of every development scan of a contrast by its default score."""
    score = model.card.scores[contrast]
    reference: list[Case] = []
    for case in (c for c in cases(data) if c.contrast == contrast):
        sick = case.part == "dev" and case.lesions is not None
        if case.part == "val" and case.source == "ixi_t1":
            reference.append(case)
        elif sick or case.part in ("healthy", "val"):
            prepared = prepare_cached(case.scan, CONFIG.preprocess, cache)
            values = _subject(model, prepared, contrast).score(score)
            if not sick:
                values = np.where(healthy_part(case, prepared), values, 0)
            yield Strength(case.source, case.subject, sick, strength_of(values, prepared, CONFIG))
    yield from _cross_fitted(reference, cache, model, contrast)


def _subject(model: Model, prepared: Prepared, contrast: str) -> Subject:
    x = prepared.scaled(CONFIG.preprocess)
    return Subject.of(model, x, prepared.mask, CONFIG, contrast, prepared.robust_z())


def _cross_fitted(reference: list[Case], cache: Path, model: Model, contrast: str) -> Iterator[Strength]:
    """The scans that the model's healthy reference is made of, each compared with the others."""
    if not reference:
        return
    score, shares = model.card.scores[contrast], shares_of(model.card, contrast)
    kinds = list(shares) if score == FISHER else [score]
    maps: dict[str, list[Scored]] = {kind: [] for kind in kinds}
    for case in reference:
        prepared = prepare_cached(case.scan, CONFIG.preprocess, cache)
        subject, part = _subject(model, prepared, contrast), healthy_part(case, prepared)
        for kind in kinds:
            maps[kind].append(Scored(prepared, subject.raw(kind), part, whole=True))
    scans = cross_fitted(maps, shares)[score]
    for case, one in zip(reference, scans, strict=True):
        yield Strength(case.source, case.subject, False, strength_of(one.values, one.prepared, CONFIG))


def _text(found: Estimate) -> str:
    return "not determined" if np.isnan(found.value) else f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def main() -> None:
    """Print the table, and the strengths by data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    parser.add_argument("--weights")
    given = parser.parse_args()
    device.bound_threads(None)
    loaded = models(given.weights)
    print("| contrast | score | patients | healthy | AUROC | sensitivity at 90 % | at 95 % |\n" + "|---" * 7 + "|")
    every: list[tuple[str, Strength]] = []
    for contrast, model in loaded.items():
        found = list(strengths(given.data, given.cache, model, contrast))
        every += [(contrast, one) for one in found]
        values, sick = [one.value for one in found], [one.sick for one in found]
        if len(sick) - sum(sick) < 2:
            continue
        subjects = [f"{one.group} {one.subject}" for one in found]
        cells = [_text(auroc_over_scans(values, sick, subjects))]
        cells += [_text(sensitivity_at(specificity, values, sick, subjects)) for specificity in SPECIFICITIES]
        counts = f"{sum(sick)} | {len(sick) - sum(sick)}"
        print(f"| {contrast} | {model.card.scores[contrast]} | {counts} | {' | '.join(cells)} |", flush=True)
    print("\n| contrast | data set | scans | strengths, sorted |\n|---|---|---|---|")
    for contrast, group, sick in dict.fromkeys((c, one.group, one.sick) for c, one in every):
        chosen = sorted(one.value for c, one in every if (c, one.group, one.sick) == (contrast, group, sick))
        name = f"{group}, {'patients' if sick else 'healthy'}"
        print(f"| {contrast} | {name} | {len(chosen)} | {', '.join(f'{value:.2f}' for value in chosen)} |")
    print(f"\n{named(loaded)}")


if __name__ == "__main__":
    main()
