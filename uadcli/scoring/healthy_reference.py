"""The healthy reference: the score of healthy scans at each place of the template, and how far a scan deviates from it.

Cortex and the rims of the ventricles differ from any reconstruction even in healthy scans; where healthy scans score
high or vary much, a high score means little. The reference consists of healthy scans only; a scan that is part of it is
compared with the others (`cross_fitted`).

In a scan from another scanner the residual is larger everywhere, because contrast and noise differ. The absolute
residual is therefore compared on the scan's own scale, in units of a percentile of the scan, which a lesion of usual
size hardly changes. (Half of a bright residual is 0, so it has no such scale.) The robust z already has the scan's own
scale; there the deviations from the reference are given in units of such a percentile of the deviations.

Folds and rims still deviate more in a scan from another scanner, on both sides of the brain. So where the spread of a
scan's deviations, their quantile `Score.spread`, exceeds that of healthy scans, its deviations are divided by the
ratio. A lesion raises it as well; on one side it does not raise the spread of the smaller deviation of each two
opposite places. The lower of the two ratios counts, so only disease that is alike on both sides loses strength by it.
The spread is that of all deviations, also where they do not count (`Reference.places`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadcli.arrays import Array, Mask
from uadcli.errors import InputError
from uadcli.scoring import coarse_grid

Coarse = NDArray[np.float64]

# Erosion of the brain mask for residuals that are compared with the reference (other residuals: 3). The reference
# accounts for the rim of the brain, and a wider erosion would remove cortex.
EROSION = 1
SIGMA = 1.0  # of the Gaussian over the blocks, as folds differ between brains
SPREAD = 0.99  # quantile of the deviations of a scan that is their spread, unless a score has another
SMALLEST = 1e-12  # deviation where healthy scans do not vary
KNOWN = 0.5  # scans (smoothed count) needed at a place; elsewhere the nearest such place is used


@dataclass(frozen=True)
class Reference:
    """Mean and standard deviation of a score over healthy scans, each (X / 2, Y / 2, Z / 2), on blocks of 4 mm.

    With a `quantile` above 0, they are in units of that quantile of each scan. With one below 0, deviations of a scan
    are in units of that quantile (0.75 for -0.75) of its own deviations. `spread` is the mean, over healthy scans that
    are compared with the others, of the two spreads of their deviations (`_spreads`), which are their quantile `width`;
    None if it is not known. `places` is how far deviations count at each place, from 0 to 1; None: everywhere.
    """

    mean: Array
    deviation: Array
    quantile: float = 0.0
    spread: tuple[float, float] | None = None
    width: float = SPREAD
    places: Array | None = None

    def within(self, places: Mask) -> Reference:
        """The same reference, with deviations that count only at these places (X, Y, Z)."""
        return replace(self, places=coarse_grid.means(places).astype(np.float32))


@dataclass(frozen=True)
class _Sums:
    """By place: the number of scans, and the sums of their scores and squared scores."""

    count: Coarse
    total: Coarse
    squares: Coarse

    def less(self, other: _Sums) -> _Sums:
        return _Sums(self.count - other.count, self.total - other.total, self.squares - other.squares)


def fit(
    maps: Sequence[tuple[Array, Mask]],
    quantile: float = 0.0,
    brains: Sequence[int] | None = None,
    others: Sequence[Reference] | None = None,
    width: float | None = None,
) -> Reference:
    """The reference from pairs (score, healthy part), each (X, Y, Z) with even sides; `quantile` and `width` as in
    `Reference` (None: `SPREAD`).

    `brains` number the brain of each pair; by default each has its own. `others` is the result of `of_the_others`, if
    known. Raises `InputError` if there are too few healthy scans, or one has no scale.
    """
    known = _reference(_all([_sums(*pair, quantile) for pair in maps]), quantile)
    if quantile <= 0 or len(set(_numbers(maps, brains))) < 2:
        return known
    spread = (others or of_the_others(maps, quantile, brains, width))[0].spread
    return replace(known, spread=spread, width=width or SPREAD)


def of_the_others(
    maps: Sequence[tuple[Array, Mask]],
    quantile: float = 0.0,
    brains: Sequence[int] | None = None,
    width: float | None = None,
) -> list[Reference]:
    """For each pair of `fit`, the reference from all others. Raises `InputError` if there are no others.

    `brains` number the brain of each pair; all pairs of a brain are left out together. By default each has its own.
    """
    numbers = _numbers(maps, brains)
    of_brain: dict[int, list[_Sums]] = {}
    for number, pair in zip(numbers, maps, strict=True):
        of_brain.setdefault(number, []).append(_sums(*pair, quantile))
    sums = {number: _all(each) for number, each in of_brain.items()}
    total = _all(list(sums.values()))
    known = {number: _reference(total.less(one), quantile) for number, one in sums.items()}
    if quantile <= 0:  # a score in units of the deviations needs no other measure of them
        return [known[number] for number in numbers]
    each = zip(numbers, maps, strict=True)
    deviations = [(z_score(values, known[n], part), part) for n, (values, part) in each]
    width = width or SPREAD
    own, mirrored = np.mean([_spreads(*pair, width) for pair in deviations], axis=0)
    return [replace(known[number], spread=(float(own), float(mirrored)), width=width) for number in numbers]


def cross_fitted(
    maps: Sequence[tuple[Array, Mask]],
    masks: Sequence[Mask],
    quantile: float = 0.0,
    brains: Sequence[int] | None = None,
    width: float | None = None,
) -> list[Array]:
    """`z_score` (X, Y, Z) of each map inside its brain mask, against the reference of the others; see `of_the_others`.

    Raises `InputError` if there are no others.
    """
    known = of_the_others(maps, quantile, brains, width)
    return [z_score(values, one, mask) for (values, _), one, mask in zip(maps, known, masks, strict=True)]


def _numbers(maps: Sequence[Any], brains: Sequence[int] | None) -> Sequence[int]:
    return range(len(maps)) if brains is None else brains


def z_score(values: Array, known: Reference, mask: Mask) -> Array:
    """How many healthy standard deviations a score (X, Y, Z) is above the healthy mean; 0 below and outside the mask.

    Deviations are at least the median deviation inside the mask, so that quiet places do not exaggerate. Raises
    `InputError` if the scan has no scale of its own, but the score is in units of it.
    """
    mean, deviation = _at_places(known, mask)
    z = (_scaled(values, mask, known.quantile) - mean) / deviation
    above = np.where(mask, np.maximum(z, 0), 0).astype(np.float32)
    return _counted(above / np.float32(_own_unit(above, known, mask)), known)


def signed(values: Array, known: Reference, mask: Mask) -> tuple[Array, Array]:
    """`z_score` (X, Y, Z) without its cut at 0, and its slope: how much it changes with the score of a voxel.

    Both are 0 outside the mask. Raises as `z_score`.
    """
    mean, deviation = _at_places(known, mask)
    z = (_scaled(values, mask, known.quantile) - mean) / deviation
    slope = 1 / deviation / _scale(values, mask, known.quantile)
    unit = _own_unit(np.where(mask, np.maximum(z, 0), 0), known, mask)
    deviations, slopes = (_counted(np.where(mask, one / unit, 0).astype(np.float32), known) for one in (z, slope))
    return deviations, slopes


def _counted(deviations: Array, known: Reference) -> Array:
    """The deviations (X, Y, Z) as far as they count at their places."""
    if known.places is None:
        return deviations
    return np.asarray(deviations * coarse_grid.enlarged(known.places, deviations.shape), dtype=np.float32)


def _own_unit(above: Array, known: Reference, mask: Mask) -> float:
    """The unit of the deviations of a scan, from those above the healthy mean (X, Y, Z)."""
    if known.spread is None:
        return _scale(above, mask, -known.quantile)
    ratios = (one / healthy for one, healthy in zip(_spreads(above, mask, known.width), known.spread, strict=True))
    return max(min(ratios), 1.0)


def _spreads(above: Array, mask: Mask, width: float = SPREAD) -> tuple[float, float]:
    """The quantile `width` of deviations (X, Y, Z), and that of the smaller one of each two opposite places.

    The middle along X is that of the brain. If no two places are opposite, both are the first.
    """
    own, both = _unit(above, mask, width), mask & mask[::-1]
    return own, _unit(np.minimum(above, above[::-1]), both, width) if both.any() else own


def _at_places(known: Reference, mask: Mask) -> tuple[Array, Array]:
    """Mean and deviation of a reference at each place, (X, Y, Z) as the mask; deviations at least the median in it."""
    mean, deviation = (coarse_grid.enlarged(part, mask.shape) for part in (known.mean, known.deviation))
    floor = float(np.median(deviation[mask])) if mask.any() else 1.0
    return mean, np.maximum(deviation, max(floor, SMALLEST))


def state_of(references: dict[tuple[str, str], Reference]) -> dict[str, Any]:
    """References by (score, contrast) as float16 tensors for a weight file."""
    import torch

    parts = {
        f"{kind}.{contrast}.{name}": value
        for (kind, contrast), one in references.items()
        for name, value in (("mean", one.mean), ("deviation", one.deviation), ("places", one.places))
        if value is not None
    }
    scales = {
        f"{kind}.{contrast}.{name}": value
        for (kind, contrast), one in references.items()
        for name, value in (("quantile", one.quantile), ("spread", one.spread), ("width", one.width))
        if value and (name, value) != ("width", SPREAD)
    }
    state = {name: torch.from_numpy(value).half() for name, value in parts.items()}
    return state | {name: torch.tensor(value, dtype=torch.float32) for name, value in scales.items()}


def from_state(state: dict[str, Any], kind: str, contrast: str) -> Reference | None:
    """The reference of a score and contrast in a weight file; None if there is none."""
    names = [f"{kind}.{contrast}.{name}" for name in ("mean", "deviation")]
    if not all(name in state for name in names):
        return None
    mean, deviation = (state[name].float().numpy() for name in names)
    # only of scores with their own scale; of the spread, earlier models do not know
    quantile, spread, width = (state.get(f"{kind}.{contrast}.{name}") for name in ("quantile", "spread", "width"))
    own_scale = 0.0 if quantile is None else float(quantile)
    spreads = None if spread is None else (float(spread[0]), float(spread[1]))
    known = Reference(mean, deviation, own_scale, spreads, SPREAD if width is None else float(width))
    places = state.get(f"{kind}.{contrast}.places")
    return known if places is None else replace(known, places=places.float().numpy())


def _scaled(values: Array, inside: Mask, quantile: float) -> Array:
    """The score in units of its quantile inside a mask; unchanged for a quantile of 0 or below."""
    if quantile <= 0 or not inside.any():
        return values
    return values / np.float32(_scale(values, inside, quantile))


def _scale(values: Array, inside: Mask, quantile: float) -> float:
    """The `_unit` of a scan. Raises `InputError` if more of it than the quantile is 0, but not all: it has none then.

    Divided by next to nothing, the rest would be enormous in the scan, and in a reference that it is part of.
    """
    unit = _unit(values, inside, quantile)
    if unit <= SMALLEST and (values[inside] > 0).any():
        what = "the score is 0 in most of the brain mask, so it has no scale to be compared on with healthy scans"
        raise InputError(what, hint="Check the brain mask, or choose another score.")
    return unit


def _unit(values: Array, inside: Mask, quantile: float) -> float:
    """The quantile of a score inside a mask that is its unit; 1 for a quantile of 0 or below."""
    if quantile <= 0 or not inside.any():
        return 1.0
    return max(float(np.quantile(values[inside], quantile)), SMALLEST)


def _sums(values: Array, part: Mask, quantile: float) -> _Sums:
    kept = np.where(part, _scaled(values, part, quantile), 0).astype(np.float64)
    return _Sums(*(coarse_grid.smoothed(one, SIGMA) for one in (part, kept, kept**2)))


def _all(each: Sequence[_Sums]) -> _Sums:
    names = ("count", "total", "squares")
    return _Sums(*(np.asarray(np.sum([getattr(one, name) for one in each], axis=0)) for name in names))


def _reference(sums: _Sums, quantile: float) -> Reference:
    from scipy import ndimage

    known = np.asarray(sums.count) > KNOWN
    if not known.any():
        raise InputError("too few healthy scans for a healthy reference", hint="Give two or more.")
    count = np.where(known, sums.count, 1)
    mean = sums.total / count
    deviation = np.sqrt(np.maximum(sums.squares / count - mean**2, 0))
    nearest = tuple(ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True))
    return Reference(mean[nearest].astype(np.float32), deviation[nearest].astype(np.float32), quantile)
