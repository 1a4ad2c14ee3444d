"""The healthy references of normalised scores, as each score needs them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from uadcli.arrays import Array
from uadcli.imaging import template
from uadcli.scoring import healthy_reference, scores
from uadcli.scoring.healthy_reference import Reference

Pair = tuple[Array, NDArray[np.bool_]]  # a map and the healthy part of its scan


def of_the_others(pairs: Sequence[Pair], score: scores.Score, brains: Sequence[int]) -> list[Reference]:
    """For each map (96, 96, 80) of a score, not yet normalised, the reference from those of other brains.

    `brains` number the brain of each. Raises `InputError` if there are no others.
    """
    known = healthy_reference.of_the_others(pairs, score.own_scale, brains, score.spread)
    return [_placed(one, score) for one in known]


def of_all(pairs: Sequence[Pair], score: scores.Score, brains: Sequence[int], others: Sequence[Reference]) -> Reference:
    """The reference from all of them; `others` are those of `of_the_others`. Raises `InputError` for too few."""
    return _placed(healthy_reference.fit(pairs, score.own_scale, brains, others, score.spread), score)


def _placed(known: Reference, score: scores.Score) -> Reference:
    """The reference with the places where deviations of the score count."""
    return known.within(template.tissue()) if score.in_tissue else known
