"""How far maps in bf16 are from those in float32: Dice of the masks, and the largest difference of the scores.

    python packaging/evaluation/precision.py DATA [--cache CACHE] [--weights FILE]

For each scan of the development, validation and healthy sets, from the same brain mask on the model's grid: the map of
the default score with reconstruction and score in float32 and in bf16 (`--precision`), marked by `auto`. Printed by
contrast: scans, scans with a finding, lowest and median Dice of these, the largest difference of the scores in percent
of the scan's highest, and the seconds of both. A scan whose findings are in one of the two alone has Dice 0.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from development import cases
from scenes import CONFIG, models, named, options, subject_of

from uadcli import device
from uadcli.arrays import Array, Mask
from uadcli.data.dataset import Case
from uadcli.data.prepare import prepare_cached
from uadcli.imaging.slices import GRID_AFFINE
from uadcli.model import threshold
from uadcli.model.model import Model
from uadcli.model.threshold import Threshold
from uadcli.scoring.components import label_map
from uadcli.scoring.metrics import dice
from uadcli.settings.threshold import ThresholdRule

BF16 = dataclasses.replace(CONFIG, reconstruction=dataclasses.replace(CONFIG.reconstruction, arithmetic="bf16"))


@dataclass(frozen=True)
class Pair:
    """One scan in both arithmetics: Dice of the masks (None if both are empty), difference of the scores, seconds."""

    dice: float | None
    apart: float
    float32: float
    bf16: float


def pair_of(case: Case, model: Model, cache: Path) -> Pair:
    """The comparison of one scan."""
    prepared, score = prepare_cached(case.scan, CONFIG.preprocess, cache), model.card.scores[case.contrast]
    used = threshold.resolve(ThresholdRule.parse("auto"), model.card, score, case.contrast)
    assert isinstance(used, Threshold)
    maps, masks, seconds = list[Array](), list[Mask](), list[float]()
    for config in (CONFIG, BF16):
        start = time.perf_counter()
        maps.append(subject_of(model, prepared, case.contrast, config).score(score))
        seconds.append(time.perf_counter() - start)
        smallest = config.scoring.min_volume_mm3
        masks.append(label_map(maps[-1], used.value, smallest, GRID_AFFINE, used.extent)[0] > 0)
    found = dice(*masks) if masks[0].any() or masks[1].any() else None
    return Pair(found, float(np.abs(maps[0] - maps[1]).max() / maps[0].max()), *seconds)


def line(contrast: str, pairs: list[Pair]) -> str:
    """The row of a contrast."""
    found = [one.dice for one in pairs if one.dice is not None]
    agreement = f"{min(found):.4f} | {np.median(found):.4f}" if found else "n/a | n/a"
    apart = max(one.apart for one in pairs)
    seconds = f"{np.median([p.float32 for p in pairs]):.1f} | {np.median([p.bf16 for p in pairs]):.1f}"
    return f"| {contrast} | {len(pairs)} | {len(found)} | {agreement} | {100 * apart:.1f} % | {seconds} |"


def main() -> None:
    """Print the table."""
    given = options(__doc__).parse_args()
    device.bound_threads(None)
    loaded = models(given.weights)
    titles = "contrast | scans | with findings | lowest Dice | median | scores apart | s, float32 | s, bf16"
    print(f"| {titles} |\n{'|---' * 8}|")
    known = [case for case in cases(given.data) if case.part != "train"]
    for contrast, model in loaded.items():
        pairs = [pair_of(case, model, given.cache) for case in known if case.contrast == contrast]
        print(line(contrast, pairs), flush=True)
    print(f"\n{named(loaded)}")


if __name__ == "__main__":
    main()
