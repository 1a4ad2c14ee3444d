"""Weights of joined contrasts: those that a table of cases supports, and how they are written on a command line."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from uadcli.arrays import Array, Mask
from uadcli.config import CONTRASTS
from uadcli.evaluation.statistics import paired
from uadcli.model import joint
from uadcli.scoring.metrics import average_precision

STEPS, NEAR = 20, 0.005
HEADER = (
    "| contrasts | best weights | within .005 of the best | AUPRC | cross-fitted "
    "| best alone, difference | equal, difference | shipped, difference |\n" + "|---" * 8 + "|"
)
Weights = tuple[float, ...]  # of the contrasts of a set


@dataclass(frozen=True)
class Shown:
    """A brain with lesions: the rarity (V,) of each contrast at the voxels of its mask, and which are lesion (V,)."""

    subject: str
    kind: str
    rare: dict[str, Array]
    truth: Mask

    def auprc(self, weights: dict[str, float]) -> float:
        """The AUPRC of the weighted mean rarity, as in `model.joint.joined`."""
        together = np.sum([weight * self.rare[name] for name, weight in weights.items()], axis=0)
        return average_precision(together.astype(np.float32), self.truth)


def grid(size: int, steps: int = STEPS) -> list[Weights]:
    """Weights of `size` contrasts, multiples of 1 / steps above 0 that add up to 1."""
    parts = itertools.product(range(1, steps), repeat=size - 1)
    return [(*(p / steps for p in part), (steps - sum(part)) / steps) for part in parts if sum(part) < steps]


def cross_fitted(figures: np.ndarray, subjects: Sequence[str]) -> np.ndarray:
    """The figures (N,) of cases under the weights that are best on average for the cases of all other subjects.

    `figures` (W, N) are those of each case under each of the weights.
    """
    names = np.asarray(subjects)
    best = {one: int(figures[:, names != one].mean(axis=1).argmax()) for one in set(subjects)}
    return np.array([figures[best[name], i] for i, name in enumerate(subjects)])


def row(chosen: Sequence[str], brains: Sequence[Shown]) -> str:
    """The row of a set of contrasts."""
    tried, subjects = grid(len(chosen)), [one.subject for one in brains]

    def auprc(weights: Sequence[float]) -> np.ndarray:
        return np.array([one.auprc(dict(zip(chosen, weights, strict=True))) for one in brains])

    figures = np.array([auprc(weights) for weights in tried])
    means = figures.mean(axis=1)
    best, near = tried[int(means.argmax())], np.array(tried)[means >= means.max() - NEAR]
    ranges = [f"{low:.2f} to {high:.2f}" for low, high in zip(near.min(axis=0), near.max(axis=0), strict=True)]
    fitted, shipped = cross_fitted(figures, subjects), joint.weights_of(chosen)
    alone = {name: np.array([one.auprc({name: 1.0}) for one in brains]) for name in chosen}
    first = max(alone, key=lambda name: float(alone[name].mean()))
    cells = [f"{', '.join(chosen)}", ", ".join(f"{w:.2f}" for w in best), ", ".join(ranges)]
    cells += [f"{means.max():.3f}", f"{fitted.mean():.3f}"]
    for name, other in (
        (f"{first} ", alone[first]),
        ("", auprc([1 / len(chosen)] * len(chosen))),
        (f"{', '.join(f'{shipped[c]:.2f}' for c in chosen)}: ", auprc([shipped[c] for c in chosen])),
    ):
        gap = paired(fitted, other, subjects).difference
        cells.append(f"{name}{other.mean():.3f}, {gap.value:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})")
    return f"| {' | '.join(cells)} |"


def parsed(text: str) -> dict[str, float]:
    """The weights of a set of contrasts: `FLAIR=0.8,T1w=0.2`. Raises `ArgumentTypeError`."""
    try:
        found = {name: float(value) for name, value in (one.split("=") for one in text.split(","))}
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not like FLAIR=0.8,T1w=0.2") from error
    if not set(found) <= set(CONTRASTS) or min(found.values()) < 0 or not any(found.values()):
        raise argparse.ArgumentTypeError(f"{text!r} is not of contrasts ({', '.join(CONTRASTS)}) and their weights")
    return found
