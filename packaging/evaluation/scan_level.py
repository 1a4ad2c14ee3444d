"""How well the strength of a scan, and its place on the severity axis, separate patients from healthy scans.

    python packaging/evaluation/scan_level.py DATA [--cache CACHE] [--weights FILE]

For each contrast with at least two healthy scans: AUROC over scans of the default score's strength (which orders scans
like the share of healthy scans as strong), also with the healthy scans of other scanners alone, and the sensitivity at
90 and 95 % specificity, with intervals over subjects. Patients are all development cases with lesions on their own
scans. Healthy are the IXI validation scans, each compared with the reference of the other ones; healthy scans of other
scanners; and the tumour-free slices of patients who were held out of training, which also set the FLAIR thresholds. The
severity axis is fitted to lesions pasted into the held-out healthy scans, for each of these into the others; "joined"
is the sum of strength and severity, each as robust deviation from the held-out healthy scans. A second table shows how
the severity of held-out brains grows with pasted lesions: how many of these raise it at each step of their contrast,
the rank correlation of the rise with the load, and the AUROC of brains with pasted lesions against the same without.
Then the strengths themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from development import cases
from scenes import CONFIG, cross_fitted, models, named, options, reference_scans, subject_of
from severity_axis import Severities, number, severities

from uadcli import device
from uadcli.arrays import SD_PER_MAD
from uadcli.calibration.health import HealthyScan
from uadcli.data.dataset import Case
from uadcli.data.healthy import healthy_part
from uadcli.data.prepare import prepare_cached
from uadcli.evaluation.statistics import Estimate, auroc_over_scans, sensitivity_at
from uadcli.model.components import strength_of
from uadcli.model.model import Model, shares_of
from uadcli.scoring.fusion import FISHER

SPECIFICITIES = (0.90, 0.95)


@dataclass(frozen=True)
class Strength:
    """The strength of one scan."""

    case: Case
    value: float

    @property
    def group(self) -> str:
        """The name of its data set."""
        return self.case.source

    @property
    def sick(self) -> bool:
        return is_sick(self.case)


def is_sick(case: Case) -> bool:
    """Whether a case is a patient with lesions; of patients held out of training only healthy slices are used."""
    return case.part == "dev" and case.lesions is not None


def strengths(data: Path, cache: Path, model: Model, contrast: str) -> Iterator[Strength]:
    """The strength of every development scan of a contrast by its default score."""
    score = model.card.scores[contrast]
    reference: list[Case] = []
    for case in (c for c in cases(data) if c.contrast == contrast):
        sick = is_sick(case)
        if case.part == "val" and case.source == "ixi_t1":
            reference.append(case)
        elif sick or case.part in ("healthy", "val"):
            prepared = prepare_cached(case.scan, CONFIG.preprocess, cache)
            values = subject_of(model, prepared, contrast).score(score)
            if not sick:
                values = np.where(healthy_part(case, prepared), values, 0)
            yield Strength(case, strength_of(values, prepared, CONFIG))
    if reference:
        yield from _cross_fitted(reference, reference_scans(model, data, cache), model, contrast)


def _cross_fitted(
    reference: list[Case], versions: list[HealthyScan], model: Model, contrast: str
) -> Iterator[Strength]:
    """The scans that the model's healthy reference is made of, each compared with the others."""
    score, shares = model.card.scores[contrast], shares_of(model.card, contrast)
    kinds = list(shares) if score == FISHER else [score]
    maps = {kind: [one.scored(kind) for one in versions] for kind in kinds}
    scans = cross_fitted(maps, model.card, contrast)[score]
    for case, one in zip(reference, scans[: len(reference)], strict=True):
        yield Strength(case, strength_of(one.values, one.prepared, CONFIG))


def _text(found: Estimate) -> str:
    return "not determined" if np.isnan(found.value) else f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def deviations(values: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """Values (N,) as robust deviations from those of the held-out healthy scans, a mask (N,)."""
    known = values[held_out]
    middle = np.median(known)
    return np.asarray((values - middle) / (SD_PER_MAD * np.median(np.abs(known - middle))))


def against_other_scanners(values: np.ndarray, found: list[Strength], subjects: list[str]) -> Estimate:
    """The AUROC with only those healthy scans whose scanners neither references nor thresholds know.

    What it is lower by than that of all is owed to the scanner and not to lesions. NaN with fewer than two such scans.
    """
    own = [i for i, one in enumerate(found) if one.sick or one.case.part == "healthy"]
    healthy = sum(not found[i].sick for i in own)
    if healthy < 2:
        return Estimate(np.nan, np.nan, np.nan, len(own), healthy)
    return auroc_over_scans(values[own], [found[i].sick for i in own], [subjects[i] for i in own])


def rows(found: list[Strength], severity: Severities | None) -> Iterator[tuple[str, np.ndarray]]:
    """The strengths, the severities and both joined; the strengths alone without severities."""
    strength = np.array([one.value for one in found])
    yield "strength", strength
    if severity is not None:
        axis = np.array([number(severity.of[one.case]) for one in found])
        held_out = np.array([one.case.part == "val" for one in found])
        yield "severity", axis
        yield "joined", deviations(strength, held_out) + deviations(axis, held_out)


def main() -> None:
    """Print the tables, and the strengths by data set."""
    given = options(__doc__).parse_args()
    device.bound_threads(None)
    loaded = models(given.weights)
    head = "| contrast | by | patients | healthy | AUROC | other scanners | sensitivity at 90 % | at 95 % |"
    print(f"{head}\n{'|---' * 8}|")
    every: list[tuple[str, Strength]] = []
    grown: list[str] = []
    for contrast, model in loaded.items():
        found = list(strengths(given.data, given.cache, model, contrast))
        every += [(contrast, one) for one in found]
        sick = [one.sick for one in found]
        if len(sick) - sum(sick) < 2:
            continue
        subjects = [f"{one.group} {one.case.subject}" for one in found]
        severity = severities([one.case for one in found], given.cache, model, contrast)
        grown += [f"| {contrast} | {severity.growth()} |"] if severity else []
        for name, values in rows(found, severity):
            by = f"{name} ({model.card.scores[contrast]})" if name == "strength" else name
            cells = [_text(auroc_over_scans(values, sick, subjects))]
            cells += [_text(against_other_scanners(values, found, subjects))]
            cells += [_text(sensitivity_at(specificity, values, sick, subjects)) for specificity in SPECIFICITIES]
            counts = f"{sum(sick)} | {len(sick) - sum(sick)}"
            print(f"| {contrast} | {by} | {counts} | {' | '.join(cells)} |", flush=True)
    print("\n| contrast | pasted lesions | rise at each step | rank correlation | AUROC |\n" + "|---" * 5 + "|")
    print("\n".join(grown))
    print("\n| contrast | data set | scans | strengths, sorted |\n|---|---|---|---|")
    for contrast, group, ill in dict.fromkeys((c, one.group, one.sick) for c, one in every):
        chosen = sorted(one.value for c, one in every if (c, one.group, one.sick) == (contrast, group, ill))
        name = f"{group}, {'patients' if ill else 'healthy'}"
        print(f"| {contrast} | {name} | {len(chosen)} | {', '.join(f'{value:.2f}' for value in chosen)} |")
    print(f"\n{named(loaded)}")


if __name__ == "__main__":
    main()
