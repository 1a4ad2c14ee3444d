"""Thresholds of a model's scores, from healthy scans only."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from uadcli.arrays import Array
from uadcli.calibration import fit_fusion
from uadcli.calibration import references as references_of
from uadcli.calibration.fit_fusion import Part, PastedScan
from uadcli.calibration.references import Pair
from uadcli.config import DetectConfig
from uadcli.data.dataset import Case
from uadcli.data.healthy import healthy_part
from uadcli.data.prepare import Prepared, prepare_cached
from uadcli.data.scans import brains_of
from uadcli.model.components import strength_of
from uadcli.model.model import Model, prior_of
from uadcli.model.subject import Subject
from uadcli.running.stage import Progress, unseen
from uadcli.scoring import fusion, healthy_reference, scores
from uadcli.scoring.calibration import Tail, healthy_quantile, healthy_tail, tails_of_the_others
from uadcli.scoring.healthy_reference import Reference
from uadcli.synthesis.scanner import degrade

References = dict[tuple[str, str], Reference]  # by score and contrast
Found = dict[fit_fusion.Shares, float]  # the AUPRC on pasted lesions
SEED = 77  # of the degraded copies
T = TypeVar("T")


@dataclass
class Calibration:
    """Statistics of healthy scans by score and contrast.

    The 99.5th percentile of healthy voxels, thresholds for other rates of false positives, strengths of whole healthy
    scans, the shares of `fisher`, and borrowed thresholds. The fields are those of `ModelCard`, except
    `precision_by_shares`: the AUPRC on pasted lesions from which the shares were chosen.
    """

    thresholds: dict[str, dict[str, float]] = field(default_factory=dict)
    tails: dict[str, dict[str, list[tuple[float, float]]]] = field(default_factory=dict)
    strengths: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    shares: dict[str, dict[str, float]] = field(default_factory=dict)
    borrowed: dict[str, str] = field(default_factory=dict)
    precision_by_shares: dict[str, dict[str, float]] = field(default_factory=dict)

    def add(self, kind: str, contrast: str, scans: Sequence[Scored], config: DetectConfig) -> None:
        """Add the healthy scans of a contrast under a score."""
        maps = [(one.values, one.part) for one in scans]
        self.thresholds.setdefault(kind, {})[contrast] = healthy_quantile(maps)
        self.tails.setdefault(kind, {})[contrast] = list(healthy_tail(maps))
        whole = [strength_of(one.values, one.prepared, config) for one in scans if one.whole]
        if whole:
            self.strengths.setdefault(kind, {})[contrast] = whole

    def lend(self, giver: str, taker: str) -> None:
        """Copy the thresholds of a contrast to one without healthy scans (and thus without healthy reference)."""
        self.borrowed[taker] = giver
        for kind in (one for one in self.thresholds if not scores.find(one).normalised):
            self.thresholds[kind][taker] = self.thresholds[kind][giver]
            self.tails[kind][taker] = self.tails[kind][giver]


@dataclass(frozen=True)
class Scored:
    """The map of a validation scan, and the voxels that count as healthy: the whole brain if `whole`.

    Copies and other sessions of a scan share its number in `brain`; without a number a scan has neither.
    """

    prepared: Prepared
    values: Array
    part: NDArray[np.bool_]
    whole: bool
    brain: int | None = None


@dataclass(frozen=True)
class Cohort:
    """The healthy scans of a calibration, prepared in the folder `cache`, and masks with `shapes` of lesions, if any.

    `held_out` scans set the thresholds, with `degraded` copies of each as from other scanners; those of the `training`
    join the reference of scores without a network.
    """

    held_out: Sequence[Case]
    training: Sequence[Case]
    cache: Path
    shapes: Sequence[Path] = ()
    degraded: int = 0


@dataclass(frozen=True)
class OfContrast:
    """The healthy scans of a contrast: their raw maps `under` a score, one score at a time, copies after all scans.

    `by_shares` knows how well shares of the parts of `fisher` do, if anything. `more` are raw maps of further healthy
    scans by score, for its reference alone. `likely` is the prior in `fisher` (`fusion.prior`).
    """

    contrast: str
    under: Callable[[str], list[Scored]]
    by_shares: Callable[[Mapping[str, Part]], Found] | None = None
    more: Sequence[Mapping[str, Pair]] = ()
    likely: Array | float = 0.0


def calibrate(
    model: Model,
    cohort: Cohort,
    config: DetectConfig,
    kinds: Sequence[str] | None = None,
    pasted: Mapping[str, Sequence[PastedScan]] | None = None,
    progress: Progress = unseen,
) -> tuple[Calibration, References]:
    """Calibrate several scores of a model, by default all, on the healthy brain of the held-out scans.

    Scores that need a network that the model does not have are left out. Returns as well, for contrasts with scans of
    at least two brains, the healthy references of normalised scores, which are calibrated with each scan compared with
    the others, those of other brains (`data.scans.brains_of`). `fisher` is calibrated if all its parts are, each scan
    with the tails of the others (whose reference includes it). The shares of its parts are fitted on lesions `pasted`
    into the held-out scans of a contrast, numbered in their order, if there are any. The healthy parts of the training
    scans join the references of scores without a network, which no training changes. Degraded copies count like scans,
    and are left out with their scan wherever it is compared with the others.
    """
    if kinds is None:
        draws, learned = model.method(config.reconstruction).draws, model.card.siamese is not None
        every = {kind: scores.find(kind) for kind in calibrated()}
        kinds = [kind for kind, one in every.items() if (draws or not one.draws) and (learned or not one.learned)]
    result, references, done = Calibration(), References(), itertools.count()
    known = {case.contrast for case in cohort.held_out}
    once_and_by_score = (1 + len(kinds)) * len(versions(cohort.held_out, cohort.degraded))
    total = once_and_by_score + sum(case.contrast in known for case in cohort.training)

    def each(cases: Sequence[T]) -> Iterator[T]:
        for case in cases:
            progress(next(done), total)
            yield case

    likely = prior_of(model.card)
    for contrast, cases in by_contrast(cohort.held_out):
        numbered, of = versions(cases, cohort.degraded), brains_of(cases)
        scored = (HealthyScan.of(model, *one, cohort.cache, config) for one in each(numbered))
        healthy = [replace(one, brain=of[one.brain]) for one in scored]

        def under(kind: str, scans: Sequence[HealthyScan] = healthy) -> list[Scored]:
            return [one.scored(kind) for one in each(scans)]

        def by_shares(parts: Mapping[str, Part], own: Sequence[PastedScan] = (pasted or {}).get(contrast, ())) -> Found:
            return fit_fusion.precision_by_shares(own, parts)

        further = [case for case in cohort.training if case.contrast == contrast]
        more = [_without_network(model, case, cohort.cache, config) for case in each(further)]
        references |= take_in(result, OfContrast(contrast, under, by_shares, more, likely), kinds, config)
    return result, references


def calibrated() -> list[str]:
    """The scores that are calibrated directly; joined ones are calibrated if all their parts are."""
    return [name for name in scores.names() if not scores.find(name).joined]


@dataclass(frozen=True)
class HealthyScan:
    """A reconstructed validation scan, and the part of it that counts as healthy; `brain` as in `Scored`."""

    prepared: Prepared
    subject: Subject
    part: NDArray[np.bool_]
    whole: bool
    brain: int

    @classmethod
    def of(cls, model: Model, case: Case, number: int, copy: int, cache: Path, config: DetectConfig) -> HealthyScan:
        """The scan with this number, or its degraded copy with the number `copy` from 1, reconstructed."""
        prepared, part = version_of(case, number, copy, cache, config)
        x = prepared.scaled(config.preprocess)
        subject = Subject.of(model, x, prepared.mask, config, case.contrast, prepared.data)
        return cls(prepared, subject, part, is_whole(case), number)

    def scored(self, kind: str) -> Scored:
        """The map of a score before it is normalised to healthy scans."""
        return Scored(self.prepared, self.subject.raw(kind), self.part, self.whole, self.brain)


def versions(cases: Sequence[Case], degraded: int) -> list[tuple[Case, int, int]]:
    """Scans, numbered in their order, then as many `degraded` copies of each: the arguments of `version_of`."""
    return [(case, number, copy) for copy in range(1 + degraded) for number, case in enumerate(cases)]


def version_of(
    case: Case, number: int, copy: int, cache: Path, config: DetectConfig
) -> tuple[Prepared, NDArray[np.bool_]]:
    """The prepared scan with this number and its healthy part; or its degraded copy with the number `copy` from 1."""
    prepared = prepare_cached(case.scan, config.preprocess, cache)
    part = healthy_part(case, prepared)
    if not copy:
        return prepared, part
    rng = np.random.default_rng([SEED, number, copy])
    data, mask = degrade(prepared.linear(config.preprocess), prepared.mask, rng)
    return replace(prepared, data=data, mask=mask), part & mask


def _without_network(model: Model, case: Case, cache: Path, config: DetectConfig) -> dict[str, Pair]:
    """The raw maps of a scan that need no network, by normalised score, with the healthy part of the scan."""
    prepared = prepare_cached(case.scan, config.preprocess, cache)
    x, part = prepared.scaled(config.preprocess), healthy_part(case, prepared)
    subject = Subject(model, x, x, prepared.mask, config, case.contrast, unclipped=prepared.data)
    plain = [name for name in scores.plain() if not scores.find(name).noise]
    return {scores.Z + name: (subject.raw(scores.Z + name), part) for name in plain}


def is_whole(case: Case) -> bool:
    """Whether the whole brain of a scan counts as healthy; of patients only slices without lesion do."""
    return case.lesions is None


def by_contrast(validation: Sequence[Case]) -> Iterator[tuple[str, list[Case]]]:
    """The scans of each contrast, in alphabetical order of the contrasts."""
    for contrast in sorted({c.contrast for c in validation}):
        yield contrast, [c for c in validation if c.contrast == contrast]


def take_in(result: Calibration, healthy: OfContrast, kinds: Sequence[str], config: DetectConfig) -> References:
    """Calibrate scores of a contrast with healthy scans, and `fisher` if all its parts are among them, with the best
    known shares. Returns the references.
    """
    contrast = healthy.contrast
    shares, others = fusion.PARTS[contrast], dict[str, list[Reference]]()
    references, parts = References(), dict[str, list[Scored]]()
    for kind in kinds:
        scans = healthy.under(kind)
        if kind.startswith(scores.Z):
            if len({*_brains(scans)}) < 2:  # without other brains there is nothing to compare with
                continue
            further = [one[kind] for one in healthy.more if kind in one]
            pairs, score = [*((one.values, one.part) for one in scans), *further], scores.find(kind)
            brains = [*_brains(scans), *range(len(scans), len(pairs))]
            known = references_of.of_the_others(pairs, score, brains)[: len(scans)]
            references[scores.base_of(kind), contrast] = references_of.of_all(pairs, score, brains, known)
            others[kind] = known if kind in shares else []
            scans = [_compared(one, own) for one, own in zip(scans, known, strict=True)]
        result.add(kind, contrast, scans, config)
        if kind in shares:
            parts[kind] = scans
    if len(parts) == len(shares):
        behind = {kind: Part(_tails_of_the_others(parts[kind]), others.get(kind)) for kind in shares}
        found = healthy.by_shares(behind) if healthy.by_shares else Found()
        if best := fit_fusion.best_shares(found, tuple(shares.values())):
            shares = dict(zip(shares, best, strict=True))
            result.precision_by_shares[contrast] = {" ".join(map(str, one)): value for one, value in found.items()}
        result.shares[contrast] = dict(shares)
        tails = {kind: one.tails for kind, one in behind.items()}
        result.add(fusion.FISHER, contrast, joined(parts, shares, healthy.likely, tails), config)
    return references


def joined(
    scans: Mapping[str, list[Scored]],
    shares: Mapping[str, float],
    likely: Array | float,
    tails: Mapping[str, Sequence[Tail]] | None = None,
) -> list[Scored]:
    """The same scans under the score `fisher`, from their maps under its parts, its prior (`fusion.prior`) and the
    tails of the other scans, which may be known already."""
    tails = tails or {part: _tails_of_the_others(scans[part]) for part in shares}
    result = list[Scored]()
    for i, one in enumerate(scans[next(iter(shares))]):
        parts = [(scans[part][i].values, tails[part][i], share) for part, share in shares.items()]
        result.append(replace(one, values=fusion.fisher_score(parts, one.prepared.mask, likely)))
    return result


def _tails_of_the_others(scans: Sequence[Scored]) -> list[Tail]:
    return tails_of_the_others([(one.values, one.part) for one in scans], _brains(scans))


def _brains(scans: Sequence[Scored]) -> list[int]:
    """The number of each scan's brain: below the number of scans."""
    return [i if one.brain is None else one.brain for i, one in enumerate(scans)]


def compared_with_others(scans: Sequence[Scored], score: scores.Score) -> list[Scored]:
    """The same scans with deviations from the reference of the others, on the scale of the score."""
    known = references_of.of_the_others([(one.values, one.part) for one in scans], score, _brains(scans))
    return [_compared(one, own) for one, own in zip(scans, known, strict=True)]


def _compared(one: Scored, known: Reference) -> Scored:
    return replace(one, values=healthy_reference.z_score(one.values, known, one.prepared.mask))
