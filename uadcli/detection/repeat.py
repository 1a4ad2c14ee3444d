"""Repeating a detection with other noise, or with the worst change within it: uncertainty, and what the findings do."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from uadcli.arrays import Array
from uadcli.data.prepare import Prepared
from uadcli.errors import UsageError
from uadcli.model.components import find, volume_ml
from uadcli.model.subject import Subject
from uadcli.model.threshold import Threshold
from uadcli.scoring import scores, stability

if TYPE_CHECKING:
    from uadcli.reconstruction.reconstructors import Method, Progress

UNCERTAINTY_REPEATS = 4  # at least, in addition to the map itself, for the uncertainty
STRIDE = 1000  # between the seeds, since the Mahalanobis score uses the ten following seeds


@dataclass(frozen=True)
class Repeats:
    """The `uncertainty` (96, 96, 80), and the `stability` for the sidecar; None if not requested."""

    uncertainty: Array | None = None
    stability: dict[str, Any] | None = None


@dataclass(frozen=True)
class Wanted:
    """The purpose of repeats: `stability` over a number of them (0: none), and `uncertainty` over at least four."""

    stability: int = 0
    uncertainty: bool = False

    @property
    def count(self) -> int:
        """The number of repeats, besides the map itself."""
        return max(self.stability, UNCERTAINTY_REPEATS if self.uncertainty else 0)


@dataclass(frozen=True)
class Found:
    """The first result: its map (96, 96, 80), the threshold, and the scan, in whose space volumes are measured."""

    anomaly_map: Array
    threshold: Threshold
    prepared: Prepared


def check(method: Method, score: str) -> None:
    """Raises `UsageError` if another seed changes nothing: zeros would be mistaken for certainty."""
    if method.draws and (not score or scores.find(score).noise):
        return
    of = f"the reconstructions of {method.name} do" if not method.draws else f"the score {score!r} does"
    what = f"{of} not depend on noise, so there is no uncertainty or stability"
    raise UsageError(what, hint="Leave out --stability and --save uncertainty, or choose another --method or --score.")


def repeat(subject: Subject, score: str, first: Found, wanted: Wanted, progress: Progress | None = None) -> Repeats:
    """Repeat reconstruction and score with other seeds and compare with the first map."""
    if not wanted.count:
        return Repeats()
    config, seed = subject.config, subject.config.reconstruction.seed
    seeds, maps = [seed + STRIDE * i for i in range(wanted.count + 1)], [first.anomaly_map]
    for done, one in enumerate(seeds[1:], start=1):
        again = dataclasses.replace(config, reconstruction=dataclasses.replace(config.reconstruction, seed=one))
        other = Subject.of(subject.model, subject.x, subject.mask, again, subject.contrast, subject.unclipped)
        maps.append(other.score(score))
        if progress:
            progress(done, wanted.count)
    spread = stability.uncertainty(maps) if wanted.uncertainty else None
    if not wanted.stability:
        return Repeats(spread)
    maps, seeds = maps[: wanted.stability + 1], seeds[: wanted.stability + 1]
    used = first.threshold
    found = [find(one, used.value, first.prepared, config, used.extent) for one in maps]
    moved = stability.compare(
        maps,
        [labels > 0 for labels, _ in found],
        subject.mask,
        [volume_ml(table, first.prepared) for _, table in found],
        [len(table) for _, table in found],
    )
    worst = worst_case(subject, score, first)
    return Repeats(spread, {"seeds": seeds, **dataclasses.asdict(moved), "worst_perturbation": worst})


def worst_case(subject: Subject, score: str, first: Found) -> dict[str, Any]:
    """How far map and volume move under the worst small perturbation that was found (`reconstruction.instability`).

    `noise` of the scan, in units of its scaled intensities, is the most that any voxel changes. `largest_change` and
    `mean_change` are of the score in the brain; `volume_ml` and `components` are without and with the perturbation.
    """
    change, noise = subject.model.worst_perturbation(subject.x, subject.mask, subject.config.reconstruction)
    used, maps = first.threshold, [first.anomaly_map, subject.changed(change).score(score)]
    found = [find(one, used.value, first.prepared, subject.config, used.extent) for one in maps]
    volumes, counts = [volume_ml(table, first.prepared) for _, table in found], [len(table) for _, table in found]
    moved = stability.compare(maps, [labels > 0 for labels, _ in found], subject.mask, volumes, counts)
    apart = np.abs(maps[1] - maps[0])[subject.mask]
    return {
        "noise": noise,
        "dice": moved.dice_mean,
        "correlation": moved.correlation_mean,
        "largest_change": float(apart.max()),
        "mean_change": float(apart.mean()),
        "volume_ml": volumes,
        "components": counts,
    }
