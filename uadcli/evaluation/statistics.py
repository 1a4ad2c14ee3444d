"""Confidence intervals over subjects and paired tests between methods.

All scans of a subject are drawn together, since they are not independent. Intervals are percentile intervals of the
bootstrap (Efron and Tibshirani 1993, chapter 13) and need at least two subjects; NaN counts as missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from uadcli.evaluation.options import RESAMPLES

PERMUTATIONS = 9999
LEVEL = 0.95
NAN = float("nan")
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval and the numbers of scans and subjects; NaN if undefined."""

    value: float
    low: float
    high: float
    scans: int
    subjects: int


@dataclass(frozen=True)
class Paired:
    """The mean difference over scans that two methods share, with the p-values of two two-sided tests over subjects."""

    difference: Estimate
    p_wilcoxon: float
    p_permutation: float


def mean(values: ArrayLike, subjects: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """The mean over scans; `values` and `subjects` have one entry per scan."""
    given = np.asarray(values, dtype=np.float64)
    kept = np.isfinite(given)
    return ratio(np.where(kept, given, 0), kept, subjects, resamples=resamples, seed=seed)


def ratio(
    above: ArrayLike, below: ArrayLike, subjects: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """The ratio of two sums over scans, such as lesions found over lesions; scans with 0 below are ignored."""
    kept = np.asarray(below, dtype=np.float64) > 0
    if not kept.any():
        return Estimate(NAN, NAN, NAN, 0, 0)
    upper, lower, count = _ratio_sums(above, below, subjects)
    low, high = _interval(_draws(upper, lower, resamples, seed)) if count > 1 else (NAN, NAN)
    return Estimate(float(upper.sum() / lower.sum()), low, high, int(kept.sum()), count)


def auroc_over_scans(
    scores: ArrayLike, sick: ArrayLike, subjects: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """How well a score per scan separates scans with a lesion from healthy ones; NaN unless there are both.

    Draws of subjects in which one group is missing are left out of the interval.
    """
    values, group = np.asarray(scores, dtype=np.float64), np.asarray(sick, dtype=bool)
    kept = np.isfinite(values)
    values, group, names = values[kept], group[kept], np.asarray(subjects)[kept]
    if group.all() or not group.any():
        return Estimate(NAN, NAN, NAN, len(values), len(set(names)))
    own, other = values[group][:, None], values[~group][None, :]
    won = (own > other) + 0.5 * (own == other)
    unique, code = np.unique(names, return_inverse=True)
    weights = _weights(len(unique), resamples, seed)[:, code]
    sick_weight, healthy_weight = weights[:, group], weights[:, ~group]
    pairs = sick_weight.sum(axis=1) * healthy_weight.sum(axis=1)
    valid = pairs > 0
    drawn = ((sick_weight @ won) * healthy_weight).sum(axis=1)[valid] / pairs[valid]
    low, high = _interval(drawn) if len(unique) > 1 else (NAN, NAN)
    return Estimate(float(won.mean()), low, high, len(values), len(unique))


def sensitivity_at(
    specificity: float,
    scores: ArrayLike,
    sick: ArrayLike,
    subjects: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """The share of scans with a lesion above the lowest score that at least `specificity` of healthy scans lie up to.

    In each draw of subjects, the healthy scans drawn set the score anew; draws in which one group is missing are left
    out. NaN with fewer than 1 / (1 - `specificity`) healthy scans, which do not determine it, or without lesions.
    """
    values, group = np.asarray(scores, dtype=np.float64), np.asarray(sick, dtype=bool)
    kept = np.isfinite(values)
    values, group, names = values[kept], group[kept], np.asarray(subjects)[kept]
    if not group.any() or (~group).sum() < 1 / (1 - specificity) - 1e-9:
        return Estimate(NAN, NAN, NAN, len(values), len(set(names)))
    unique, code = np.unique(names, return_inverse=True)
    weights = np.concatenate([np.ones((1, len(unique))), _weights(len(unique), resamples, seed)])[:, code]
    sick_weight, healthy_weight = weights[:, group], weights[:, ~group]
    valid = (sick_weight.sum(axis=1) > 0) & (healthy_weight.sum(axis=1) > 0)
    sick_weight, healthy_weight = sick_weight[valid], healthy_weight[valid]
    order = np.argsort(values[~group])
    below = healthy_weight[:, order].cumsum(axis=1)
    place = (below >= specificity * below[:, -1:] - 1e-9).argmax(axis=1)
    above = values[group][None, :] > values[~group][order][place][:, None]
    found = (sick_weight * above).sum(axis=1) / sick_weight.sum(axis=1)
    low, high = _interval(found[1:]) if len(unique) > 1 else (NAN, NAN)
    return Estimate(float(found[0]), low, high, len(values), len(unique))


def paired(a: ArrayLike, b: ArrayLike, subjects: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0) -> Paired:
    """The difference a - b of two methods over the scans for which both have a value, by a paired bootstrap.

    Both tests use each subject's mean difference: Wilcoxon's signed-rank test, NaN if no subject differs, and a
    permutation test of the mean that swaps the methods within subjects (exact if 2^n is small enough). There is no
    bootstrap p-value, which would be far too small for few subjects.
    """
    from scipy import stats

    gap = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    kept = np.isfinite(gap)
    difference = mean(gap, subjects, resamples=resamples, seed=seed)
    if difference.subjects < 2:
        return Paired(difference, NAN, NAN)
    total, count, _ = _ratio_sums(np.where(kept, gap, 0), kept, subjects)
    each = total / count
    wilcoxon = float(stats.wilcoxon(each).pvalue) if np.any(each != 0) else NAN
    swapped = stats.permutation_test(
        (each, np.zeros_like(each)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=PERMUTATIONS,
        random_state=np.random.default_rng(seed),
    )
    return Paired(difference, wilcoxon, float(swapped.pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for their number (Holm 1979); NaN stays NaN and does not count."""
    known = sorted((p, i) for i, p in enumerate(p_values) if np.isfinite(p))
    adjusted, highest = [NAN] * len(p_values), 0.0
    for rank, (p, i) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        adjusted[i] = highest
    return adjusted


def _ratio_sums(above: ArrayLike, below: ArrayLike, subjects: Sequence[str]) -> tuple[Values, Values, int]:
    """Both sums per subject, for subjects with a denominator above 0, and their number."""
    upper, lower = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    unique, code = np.unique(np.asarray(subjects)[lower > 0], return_inverse=True)
    sums = [np.bincount(code, part[lower > 0], len(unique)).astype(np.float64) for part in (upper, lower)]
    return sums[0], sums[1], len(unique)


def _weights(subjects: int, resamples: int, seed: int) -> Values:
    """How often each subject occurs in each draw with replacement, shape (resamples, subjects)."""
    chance = np.full(subjects, 1 / subjects)
    return np.random.default_rng(seed).multinomial(subjects, chance, size=resamples).astype(np.float64)


def _draws(above: Values, below: Values, resamples: int, seed: int) -> Values:
    weights = _weights(len(above), resamples, seed)
    return (weights @ above) / (weights @ below)


def _interval(drawn: Values) -> tuple[float, float]:
    """The percentile interval of the draws; NaN without any."""
    if not drawn.size:
        return NAN, NAN
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)
