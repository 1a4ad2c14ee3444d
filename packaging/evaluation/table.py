"""Methods x scores on the development cases and on synthetic lesions, in one run.

    python packaging/evaluation/table.py DATA --steps 1000
    python packaging/evaluation/table.py DATA --steps 4 --methods dae,vae --scores absolute --cases 1     # a quick test

Every method is trained from scratch on the same slices, with the `small` sizes and the same number of steps;
checkpoints are kept in --run, and more steps continue from them. `diffuse` uses the network of `cddpm`; `arsdm` is
`cddpm` trained with `train.adaptive_weight` and a `train.refinement` of 0.1 (packaging/docs/train.md). Also evaluates
the bundled model with the scores of its card, of the `z-` scores only those in `fisher`. `mahalanobis` needs ten
reconstructions of one level each; to save time it is computed only for methods with one pass per level, and not for
`arsdm`. AUPRC is on each scan's own grid (synthetic lesions: on the model's grid), averaged over scans; "mean" gives
every set the same weight; "gain" is that mean relative to `cddpm` with `absolute`, the score of the paper (erosion 3,
median 5), in this run. Seconds per scan are for reconstruction and score. Labels choose nothing: AUPRC needs no
threshold.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from baseline import baseline_map
from development import cases
from scenes import CONFIG, Scene, WithoutScan, chosen, models, named, options, scenes, write_tsv

from uadcli import contrasts, device
from uadcli.config import TrainConfig, preset
from uadcli.console import Reporter
from uadcli.data.scans import Scans
from uadcli.errors import UsageError
from uadcli.model.model import Model, shares_of
from uadcli.model.subject import Subject
from uadcli.reconstruction.reconstructors import BY_NAME, for_method
from uadcli.scoring import scores
from uadcli.scoring.fusion import FISHER
from uadcli.scoring.metrics import average_precision, best_dice
from uadcli.training import checkpoint
from uadcli.training.examples.slices import Split, load_slices
from uadcli.training.reconstruction import Trainer, fit
from uadcli.weights.card import ModelCard
from uadcli.weights.weights import Weights

SCORES = ("absolute", "bright-weighted", "ssim", "features", "mahalanobis")  # methods without their own training
REFERENCE = ("cddpm", "absolute")
MANY_PASSES = ("pddpm", "maediff", "diffuse")  # several patches or steps per level
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {  # other trainings of a method, with their settings
    "arsdm": ("cddpm", {"adaptive_weight": True, "refinement": 0.1})
}


@dataclass(frozen=True)
class Row:
    """One score of one method on one scan."""

    method: str
    score: str
    set: str
    subject: str
    auprc: float
    best_dice_oracle: float
    seconds: float


def trained(arguments: argparse.Namespace, methods: list[str], of: ModelCard) -> dict[str, Model]:
    """A network for each method, trained for the requested steps or from its checkpoint; cards derive from `of`."""
    reporter, found, result = Reporter(), cases(arguments.data), dict[str, Model]()
    slices = load_slices([c for c in found if c.part == "train"], Scans(arguments.cache, CONFIG.preprocess))
    validation = load_slices([c for c in found if c.part == "val"][:8], Scans(arguments.cache, CONFIG.preprocess))
    for name in dict.fromkeys("cddpm" if m == "diffuse" else m for m in methods):
        reporter.info(f"training {name}")
        method, settings = VARIANTS.get(name, (name, {}))
        folder = arguments.run / name
        if kept := checkpoint.find(folder):
            trainer = Trainer.load(kept, steps=arguments.steps)
            if trainer.done > arguments.steps:
                raise UsageError(
                    f"{folder} has {trainer.done} steps already", hint="Give more --steps, or another --run."
                )
        else:
            trainer = Trainer(for_method(preset("small"), method), TrainConfig(steps=arguments.steps, **settings))
        fit(trainer, Split(slices, validation), folder, reporter)
        card = dataclasses.replace(
            of, name=name, levels=BY_NAME[method].levels, siamese=None, thresholds={}, steps=trainer.done
        )
        result[name] = Model(Weights(trainer.average, card, folder, ""))
    return result


def figures(scene: Scene, values: np.ndarray) -> tuple[float, float]:
    """AUPRC and best Dice (an oracle) of a map on the model's grid."""
    on_grid = scene.on_grid(values)
    return average_precision(on_grid, scene.truth), best_dice(on_grid, scene.truth)[0]


def rows_of(scene: Scene, label: str, model: Model, method: str, kinds: list[str]) -> Iterator[Row]:
    """A row for each score of one method on one scan."""
    config = dataclasses.replace(CONFIG, reconstruction=dataclasses.replace(CONFIG.reconstruction, method=method))
    start = time.perf_counter()
    subject = Subject.of(model, scene.x, scene.prepared.mask, config, scene.contrast, scene.unclipped)
    rebuilt = time.perf_counter() - start
    for kind in kinds:
        if kind == "mahalanobis" and (label in (*MANY_PASSES, *VARIANTS) or not BY_NAME[method].draws):
            continue
        start = time.perf_counter()
        values = subject.score(kind)
        seconds = rebuilt + time.perf_counter() - start
        yield Row(label, kind, scene.set, scene.subject, *figures(scene, values), seconds)


def compare(
    scene: Scene, networks: dict[str, Model], bundled: Model | None, methods: list[str], kinds: list[str]
) -> list[Row]:
    """Every row of one scan."""
    rows: list[Row] = []
    for method in methods:
        network = networks["cddpm" if method == "diffuse" else method]
        rows += rows_of(scene, method, network, VARIANTS.get(method, (method, {}))[0], kinds)
    if bundled:
        own = dict.fromkeys([*kinds, *shown_of(bundled.card, scene.contrast)])
        found = list(rows_of(scene, "bundled", bundled, bundled.trained_method, list(own)))
        default = bundled.card.scores[scene.contrast]
        rows += found + [dataclasses.replace(row, score="default") for row in found if row.score == default]
    values = baseline_map(scene.prepared, contrasts.ALL[scene.contrast].lesions, CONFIG, scene.x)
    rows.append(Row("plain", "intensity", scene.set, scene.subject, *figures(scene, values), float("nan")))
    return rows


def shown_of(card: ModelCard, contrast: str) -> list[str]:
    """The calibrated scores of a contrast; of the normalised ones only the parts of `fisher`, to save time."""
    shares = shares_of(card, contrast)
    return [k for k, v in card.thresholds.items() if contrast in v and (not k.startswith(scores.Z) or k in shares)]


def table(rows: list[Row]) -> str:
    """The table in Markdown: a row for each pair; columns for each set, their mean, the gain, and seconds."""
    sets, pairs = list(dict.fromkeys(r.set for r in rows)), list(dict.fromkeys((r.method, r.score) for r in rows))
    of_pair = {(p, s): [r.auprc for r in rows if (r.method, r.score, r.set) == (*p, s)] for p in pairs for s in sets}
    # a score missing for a contrast has no mean over the sets, and comes last
    means = {p: [float(np.mean(of_pair[p, s])) if of_pair[p, s] else np.nan for s in sets] for p in pairs}
    reference = np.mean(means[REFERENCE]) if REFERENCE in means else np.nan
    lines = [
        f"| method | score | {' | '.join(sets)} | mean | gain | seconds |",
        "|---" * (len(sets) + 5) + "|",
    ]
    for pair in sorted(pairs, key=lambda p: float(np.nan_to_num(-np.mean(means[p]), nan=1))):
        mean, seconds = np.mean(means[pair]), np.mean([r.seconds for r in rows if (r.method, r.score) == pair])
        cells = " | ".join(shown(v, ".3f") for v in [*means[pair], mean])
        gain = shown(100 * (mean / reference - 1), "+.0f", " %")
        lines.append(f"| {pair[0]} | {pair[1]} | {cells} | {gain} | {shown(seconds, '.1f')} |")
    return "\n".join(lines)


def shown(value: float, form: str, unit: str = "") -> str:
    """A number as text, `n/a` if missing."""
    return f"{value:{form}}{unit}" if np.isfinite(value) else "n/a"


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--steps", type=int, default=1000, help="of the training of each method")
    parser.add_argument("--methods", default=",".join((*BY_NAME, *VARIANTS)))
    parser.add_argument("--scores", default=",".join(SCORES))
    parser.add_argument("--cases", type=int, default=1000, help="scans of each set at most")
    parser.add_argument("--run", type=Path, default=Path("runs/table"))
    parser.add_argument("--tsv", type=Path)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    threads = device.bound_threads(arguments.threads)
    methods, kinds = chosen(arguments.methods, (*BY_NAME, *VARIANTS)), chosen(arguments.scores, SCORES)
    bundled = models(arguments.weights)
    networks, rows = trained(arguments, methods, next(iter(bundled.values())).card), list[Row]()
    weights_for = WithoutScan(bundled, arguments.data, arguments.cache, (FISHER,))
    for scene in scenes(arguments.data, arguments.cache, arguments.cases):
        known = weights_for(scene) if scene.contrast in bundled else None
        rows += compare(scene, networks, known, methods, kinds)
        print(f"{scene.set}\t{scene.subject}", file=sys.stderr, flush=True)
    print(table(rows))
    counts = {s: len({r.subject for r in rows if r.set == s}) for s in dict.fromkeys(r.set for r in rows)}
    scans = ", ".join(f"{n} {s}" for s, n in counts.items())
    print(f"\n{arguments.steps} steps each, {threads} threads; bundled: {named(bundled)}; scans: {scans}")
    if arguments.tsv:
        write_tsv(arguments.tsv, rows)


if __name__ == "__main__":
    main()
