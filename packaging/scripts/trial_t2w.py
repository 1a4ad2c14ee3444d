"""Whether T2w made from healthy T1w can stand in for the healthy T2w that there is none of: a trial.

    python packaging/scripts/trial_t2w.py DATA [--cache .cache]

The IXI validation scans, turned into T2w by random curves of intensity as in the training, give healthy tails, the
healthy reference and so the score `fisher` for T2w. For each score: AUPRC, Dice at the rate of `auto` and at the
calibrated threshold, and best Dice (an oracle) on MSLUB 07 on its own grid, and the ml marked at both in the one
healthy T2w (Kirby 21). Beside them, as "shipped", the default of the model that comes along, whose thresholds are
those of FLAIR. One patient and one healthy scan: no more than a hint.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from development import Case, cases
from scenes import CONFIG, Scene, flagged, models, scenes

from uadcli import device
from uadcli.calibration.health import CALIBRATED, Calibration, Scored, take_in
from uadcli.data.healthy import healthy_part
from uadcli.data.prepare import prepare_cached
from uadcli.imaging import intensity
from uadcli.model.scores import find, raw_scores, reconstruct, scores
from uadcli.model.threshold import resolve
from uadcli.scoring import healthy_reference
from uadcli.scoring.metrics import average_precision, best_dice, dice
from uadcli.scoring.scores.fusion import FISHER
from uadcli.synthesis.contrast import volume_from_t1
from uadcli.weights.weights import Weights

CONTRAST, SEED = "T2w", 3


def made(loaded: Weights, healthy: list[Case], cache: Path) -> Iterator[dict[str, Scored]]:
    """The raw maps of every score, of healthy T1w scans turned into T2w."""
    rng = np.random.default_rng(SEED)
    for case in healthy:
        prepared = prepare_cached(case.scan, CONFIG.preprocess, cache)
        turned = volume_from_t1(prepared.scaled(CONFIG.preprocess), CONTRAST, rng)
        x, part = intensity.scale(turned, prepared.mask, CONFIG.preprocess), healthy_part(case, prepared)
        recon = reconstruct(loaded, x, prepared.mask, CONFIG.reconstruction)
        maps = raw_scores(loaded, x, recon, prepared.mask, CALIBRATED, CONFIG)
        yield {kind: Scored(prepared, values, part, whole=True) for kind, values in maps.items()}


def with_made_health(loaded: Weights, healthy: list[Case], cache: Path) -> Weights:
    """The weights with tails, thresholds and reference of T2w from what `made` gives."""
    each, found = list(made(loaded, healthy, cache)), Calibration()
    known = take_in(found, lambda kind: [one[kind] for one in each], CALIBRATED, CONTRAST, CONFIG)
    card = replace(loaded.card, thresholds=found.thresholds, tails=found.tails, strengths={})
    return replace(loaded, card=card, reference_state=healthy_reference.state_of(known))


def rows(name: str, kinds: Sequence[str], loaded: Weights, scene: Scene, healthy: Scene) -> Iterator[str]:
    """The lines of scores on the scan with lesions and on the healthy one."""
    ill, well = (
        scores(loaded, one.x, reconstruct(loaded, one.x, one.prepared.mask, CONFIG.reconstruction), one.prepared.mask,
               kinds, CONFIG, contrast=CONTRAST)
        for one in (scene, healthy)
    )  # fmt: skip
    for kind in kinds:
        marks, volumes = [], []
        for rule in ("rate", "calibrated"):
            limit = resolve(rule, loaded.card, kind, CONTRAST).value
            marks.append(f"{dice(scene.marked(find(ill[kind], limit, scene.prepared, CONFIG)[0]), scene.truth):.3f}")
            volumes.append(f"{flagged(well[kind], limit, healthy.prepared):.2f}")
        native = scene.on_grid(ill[kind])
        auprc, best = average_precision(native, scene.truth), best_dice(native, scene.truth)[0]
        yield f"| {' | '.join([name, kind, f'{auprc:.4f}', *marks, f'{best:.3f}', *volumes])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    arguments = parser.parse_args()
    device.bound_threads(None)
    loaded, found = models(None)[CONTRAST], cases(arguments.data)
    scene = next(s for s in scenes(arguments.data, arguments.cache, 1) if s.contrast == CONTRAST)
    case = next(c for c in found if c.contrast == CONTRAST and c.part == "healthy")
    prepared = prepare_cached(case.scan, CONFIG.preprocess, arguments.cache)
    x = prepared.scaled(CONFIG.preprocess)
    healthy = Scene(case.source, case.subject, CONTRAST, prepared, x, np.zeros(x.shape, dtype=bool), None)
    whole = [c for c in found if c.part == "val" and c.contrast == "T1w"]
    stood_in = with_made_health(loaded, whole, arguments.cache)
    print("| health | score | AUPRC | Dice, auto | calibrated | best Dice (oracle) | healthy ml, auto | calibrated |")
    print("|---" * 8 + "|")
    for line in rows("shipped", [loaded.card.scores[CONTRAST]], loaded, scene, healthy):
        print(line)
    for line in rows("made from T1w", (*CALIBRATED, FISHER), stood_in, scene, healthy):
        print(line)


if __name__ == "__main__":
    main()
