"""Thresholds from healthy scans only; lesion labels are used at most to leave slices out.

There are two rules: a quantile of the scores of healthy voxels, which sets the rate of false positives among them, and
a conformal one over whole scans. The second describes a scan by its strength, the highest threshold at which anything
in it would still be marked. If a new healthy scan is exchangeable with the n healthy ones, the probability that its
strength exceeds the k-th smallest of theirs is at most 1 - k / (n + 1), whatever the distribution (split conformal
prediction: Vovk et al. 2005; Lei et al. 2018).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from uadcli.errors import InputError
from uadcli.scoring.components import label_components

QUANTILE = 0.995
RATES = (0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0002, 0.0001)  # of false positives, kept with the weights

Maps = Iterable[tuple[NDArray[np.float32], NDArray[np.bool_]]]
Tail = Sequence[tuple[float, float]]


def healthy_quantile(maps: Maps, quantile: float = QUANTILE) -> float:
    """The quantile of the scores of all voxels inside the brain masks of healthy scans, pooled.

    `maps` yields (score, mask) pairs of equal shape. Raises `InputError` if there is no voxel.
    """
    return float(np.quantile(_pooled(maps), quantile))


def healthy_tail(maps: Maps) -> Tail:
    """Pairs (rate, threshold): that share of the pooled healthy voxels scores above the threshold.

    Raises `InputError` if there is no voxel.
    """
    values = np.sort(_pooled(maps)).astype(np.float64)
    return _tail_of(values, len(values))


def tails_of_the_others(maps: Maps, brains: Sequence[int] | None = None) -> list[Tail]:
    """For each pair (score, mask), the `healthy_tail` of all others. Raises `InputError` if these have no voxel.

    `brains` number the brain of each pair; all pairs of a brain are left out together. By default each has its own.
    """
    pairs = [score[mask] for score, mask in maps]
    numbers = list(range(len(pairs)) if brains is None else brains)
    of_brain: dict[int, list[NDArray[np.float32]]] = {}
    for number, values in zip(numbers, pairs, strict=True):
        of_brain.setdefault(number, []).append(values)
    tails = dict(zip(of_brain, _of_the_others([np.concatenate(parts) for parts in of_brain.values()]), strict=True))
    return [tails[number] for number in numbers]


def _of_the_others(each: Sequence[NDArray[np.float32]]) -> list[Tail]:
    """For the scores of each brain, the tail of all other brains."""
    total = sum(len(values) for values in each)
    # Only the highest values matter: keep twice as many as the largest rate needs, so that any scan can be left out.
    least = np.quantile(np.concatenate(each), 1 - 2 * RATES[0]) if total else 0.0
    high = [values[values > least] for values in each]
    result = list[Tail]()
    for i, own in enumerate(each):
        left, top = total - len(own), np.concatenate([*high[:i], *high[i + 1 :], high[i][:0]])
        if len(top) < RATES[0] * left + 2:
            top = _pooled((one, np.ones(one.shape, dtype=bool)) for one in (*each[:i], *each[i + 1 :]))
        result.append(_tail_of(np.sort(top).astype(np.float64), left))
    return result


def _tail_of(top: NDArray[np.float64], count: int) -> Tail:
    """The tail of `count` values whose highest are `top` (ascending); interpolated linearly, like `np.quantile`."""
    result = []
    for rate in RATES:
        part, place = math.modf((1 - rate) * (count - 1))
        below, above = (top[min(int(place) + i - count + len(top), len(top) - 1)] for i in (0, 1))
        result.append((rate, float(below + part * (above - below))))
    return result


def rate_threshold(tail: Tail, rate: float) -> float:
    """The threshold for a rate of false positives among healthy voxels, interpolated linearly in log(rate).

    Raises `InputError` for a rate outside the known ones.
    """
    known = sorted((math.log(one), value) for one, value in tail)
    low, high = math.exp(known[0][0]), math.exp(known[-1][0])
    if not low * (1 - 1e-9) <= rate <= high * (1 + 1e-9):
        raise InputError(
            f"the healthy voxels do not determine the threshold for a rate of {rate:g}",
            hint=f"Give one from {low:g} to {high:g}.",
        )
    return float(np.interp(math.log(rate), [at for at, _ in known], [value for _, value in known]))


def rarity(values: NDArray[np.float32], tail: Tail) -> NDArray[np.float32]:
    """-log10 of the share of healthy voxels with a higher score, for values of any shape; 0 for a score of 0.

    Linear in the score between the known rates of `tail` (`healthy_tail`), as in `rate_threshold`. Below the first rate
    it falls to 0 with the score; beyond the last it rises as over the last tenfold of rates. If several rates share a
    threshold, as for a clipped score, that score gets the largest of them, since so many voxels have it.
    """
    known = sorted((-math.log10(rate), value) for rate, value in tail)
    rates, levels = np.array([0.0, *(one for one, _ in known)]), np.array([0.0, *(value for _, value in known)])
    earlier = int(np.searchsorted(rates, rates[-1] - 1 - 1e-9))  # the first rate of the last tenfold
    rise = levels[-1] - levels[earlier]
    beyond = (rates[-1] - rates[earlier]) / rise if rise > 0 else 0.0  # a flat tail cannot be extrapolated
    rises = np.concatenate([[True], np.diff(levels) > 0])
    inner = np.interp(values, levels[rises], rates[rises])
    result = np.where(values > levels[-1], rates[-1] + (values - levels[-1]) * beyond, inner)
    return np.where(values > 0, result, 0).astype(np.float32)


def fdr_threshold(values: NDArray[np.float32], tail: Tail, share: float) -> float:
    """The threshold of the scores (N,) of a brain above which at most a `share` of voxels is expected to be healthy.

    Benjamini and Hochberg 1995 (J. R. Stat. Soc. B 57), on the rarity of each score among healthy voxels: the more of
    a brain is rare, the lower the threshold. The p-values of neighbours are positively dependent, for which the rule
    holds as well (Benjamini and Yekutieli 2001, Ann. Stat. 29). If no voxel passes, it is the highest score. Raises
    `InputError` if there is no voxel.
    """
    if not len(values):
        raise InputError("there is no voxel in the brain mask", hint="Check the scan and its brain mask.")
    high = np.sort(values)[::-1]
    rare = rarity(high, tail)
    allowed = np.log10(len(high) / (share * np.arange(1, len(high) + 1)))
    passing = np.flatnonzero(rare >= allowed)
    if not len(passing):
        return float(high[0])
    last = high[passing[-1]]  # this voxel is marked too, and only scores above the threshold are
    return float(np.nextafter(last, np.float32(-np.inf)))


def _pooled(maps: Maps) -> NDArray[np.float32]:
    pooled = [score[mask] for score, mask in maps]
    if not sum(len(values) for values in pooled):
        raise InputError("there is no healthy voxel to set a threshold from", hint="Give healthy scans.")
    return np.concatenate(pooled)


def strength(anomaly_map: NDArray[np.float32], min_volume_mm3: float, affine: NDArray[np.float64]) -> float:
    """The lowest threshold at which no component of a map (X, Y, Z) survives the filter of method 7, step 4.

    It is the score of a voxel, or 0 if nothing survives at any threshold. Components only shrink as the threshold
    rises, so the search bisects the sorted scores.
    """
    from scipy import ndimage

    for box in ndimage.find_objects((anomaly_map > 0).view(np.uint8)):  # one box, or none
        anomaly_map = anomaly_map[box]
    levels = np.unique(anomaly_map[anomaly_map > 0])
    low, high = -1, len(levels) - 1  # nothing is above the highest score; 0 is below the lowest
    while high - low > 1:
        middle = (low + high) // 2
        survives = label_components(anomaly_map > levels[middle], min_volume_mm3, affine)[1]
        low, high = (middle, high) if survives else (low, middle)
    if low < 0 and not label_components(anomaly_map > 0, min_volume_mm3, affine)[1]:
        return 0.0
    return float(levels[high])


def component_strengths(
    anomaly_map: NDArray[np.float32],
    labels: NDArray[np.uint8],
    count: int,
    min_volume_mm3: float,
    affine: NDArray[np.float64],
) -> list[float]:
    """The strength of each component 1 ... `count` of `labels` (X, Y, Z)."""
    from scipy import ndimage

    boxes = ndimage.find_objects(labels, max_label=count)
    return [
        strength(np.where(labels[box] == i, anomaly_map[box], np.float32(0)), min_volume_mm3, affine)
        for i, box in enumerate(boxes, start=1)
    ]


def conformal_threshold(strengths: Sequence[float], share: float) -> float:
    """The threshold above which at most a `share` of healthy scans has any finding, in expectation over the scans.

    The ceil((n + 1) (1 - share))-th smallest strength. Raises `InputError` if n scans are too few for such
    a small share: it needs 1 / share - 1 of them.
    """
    n = len(strengths)
    rank = math.ceil((n + 1) * (1 - share) - 1e-9)
    if rank > n:
        raise InputError(
            f"{n} healthy scans are too few for a share of {share:g}",
            hint=f"It needs {math.ceil(1 / share - 1 - 1e-9)}; or allow a larger share.",
        )
    return sorted(strengths)[rank - 1]


def interval_of_share(count: float, scans: int, level: float = 0.95) -> tuple[float, float]:
    """The interval in which the share of all healthy scans lies, given `count` of `scans` healthy scans.

    Clopper and Pearson 1934 (Biometrika 26): exact for scans drawn independently, and never too narrow. A `count` that
    is no whole number, of scans of which some copies count, is interpolated by the beta distribution.
    """
    from scipy.special import betaincinv

    rest, tail = scans - count, (1 - level) / 2
    low = float(betaincinv(count, rest + 1, tail)) if count > 0 else 0.0
    high = float(betaincinv(count + 1, rest, 1 - tail)) if rest > 0 else 1.0
    return low, high


def as_strong(strengths: Sequence[float], value: float) -> int:
    """How many healthy scans have a finding at least as strong; (that + 1) / (n + 1) is the conformal p-value."""
    return sum(s >= value for s in strengths)
