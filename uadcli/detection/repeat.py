"""A detection repeated with other noise: the uncertainty of each voxel, and how much the findings move."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from uadcli.arrays import Array
from uadcli.config import DetectConfig
from uadcli.data.prepare import Prepared
from uadcli.errors import UsageError
from uadcli.model import scores
from uadcli.scoring import stability
from uadcli.scoring.healthy_reference import PREFIX

if TYPE_CHECKING:
    from uadcli.reconstruction.reconstructors import Method, Progress
    from uadcli.weights.weights import Weights

UNCERTAINTY_REPEATS = 4  # beside the map itself, at least, for the uncertainty
STRIDE = 1000  # between the seeds, since the Mahalanobis score takes the ten that follow each


@dataclass(frozen=True)
class Repeats:
    """The `uncertainty` (96, 96, 80), and the `stability` as the sidecar has it; None where it was not asked for."""

    uncertainty: Array | None = None
    stability: dict[str, Any] | None = None


def check(method: Method, kind: str) -> None:
    """Raises `UsageError` where another seed changes nothing: of zeros nobody should think that they are certain."""
    if method.draws and kind.removeprefix(PREFIX) != "intensity":
        return
    of = f"the reconstructions of {method.name} do" if not method.draws else f"the score {kind!r} does"
    what = f"{of} not depend on noise, so there is neither an uncertainty nor a stability"
    raise UsageError(what, hint="Leave out --stability and --save uncertainty, or choose another --method or --score.")


def repeat(
    loaded: Weights,
    x: Array,
    prepared: Prepared,
    first: Array,
    kind: str,
    threshold: float,
    config: DetectConfig,
    asked: int | None,
    uncertain: bool,
    device: str = "cpu",
    progress: Progress | None = None,
    contrast: str = "",
) -> Repeats:
    """Repeat reconstruction and score with other seeds and compare with the `first` map of the scaled scan x.

    `asked` is the number of repeats for the stability; None or 0 is none. The uncertainty takes these too, and more
    where they are fewer than four. Without either request nothing is done.
    """
    if not asked and not uncertain:
        return Repeats()
    count = max(asked or 0, UNCERTAINTY_REPEATS if uncertain else 0)
    seeds = [config.reconstruction.seed + STRIDE * i for i in range(count + 1)]
    maps = [first]
    for done, seed in enumerate(seeds[1:], start=1):
        again = dataclasses.replace(config, reconstruction=dataclasses.replace(config.reconstruction, seed=seed))
        recon = scores.reconstruct(loaded, x, prepared.mask, again.reconstruction, device)
        maps.append(scores.score(loaded, x, recon, prepared.mask, kind, again, device, contrast))
        if progress:
            progress(done, count)
    spread = stability.uncertainty(maps) if uncertain else None
    if not asked:
        return Repeats(spread)
    maps, seeds = maps[: asked + 1], seeds[: asked + 1]
    found = [scores.find(m, threshold, prepared, config) for m in maps]
    moved = stability.compare(
        maps,
        [labels > 0 for labels, _ in found],
        prepared.mask,
        [scores.flagged_ml(table, prepared) for _, table in found],
        [len(table) for _, table in found],
    )
    return Repeats(spread, {"seeds": seeds, **dataclasses.asdict(moved)})
