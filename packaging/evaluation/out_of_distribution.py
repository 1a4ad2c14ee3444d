"""Which scans the out-of-distribution check flags: healthy ones, patients, and wrong inputs.

    python packaging/evaluation/out_of_distribution.py DATA [--cache .cache] [--weights FILE] [--hand]

Uses the check stored in the weights: training scans set the distribution, held-out healthy scans (IXI val; the
tumour-free slices of 6 TCGA-LGG patients) the limit, so none of the held-out scans can exceed it; for T2w both are
synthetic. A contrast without a check has no rows. Wrong inputs are made from the whole held-out scans, for T2w from the
real healthy ones. With --hand, HAND is trained on the same scans, as `uad calibrate --gate hand` does, and stands next
to it. At the end: how well each check separates the other good scans from wrong inputs (AUROC), whatever its limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from development import Case, cases
from scenes import models, named, options
from scipy import ndimage

from uadcli import device
from uadcli.calibration.fit_hand import fit_hand
from uadcli.config import DetectConfig
from uadcli.console import Reporter
from uadcli.data.prepare import Prepared, prepare_cached
from uadcli.data.scans import Scans
from uadcli.model.model import Model
from uadcli.model.out_of_distribution import gate_of, measure, state_of
from uadcli.scoring.out_of_distribution import MARGIN
from uadcli.settings.training import HAND, MAHALANOBIS
from uadcli.training.examples.synthetic import label_files, load_labels

CONFIG = DetectConfig().preprocess
TAKEN_FOR = " taken for "
GOOD = ("healthy", "glioma", "stroke", "multiple sclerosis")  # names of `kind`


def wrong(x: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """Make a wrong input from a scaled scan (96, 96, 80)."""
    shuffled = np.zeros_like(x)
    shuffled[mask] = rng.permutation(x[mask])
    rim = mask & ~ndimage.binary_erosion(mask, iterations=2)
    ct = np.where(x < 0.2, 0.25, 0.55 - 0.1 * x) + rng.normal(0, 0.03, x.shape)  # flat brain, dark fluid, bright bone
    yield "noise in the brain mask", np.where(mask, rng.random(x.shape), 0)
    yield "voxels shuffled", shuffled
    yield "contrast inverted", np.where(mask, 1 - x, 0)
    yield "CT-like", np.where(mask, np.clip(np.where(rim, 1, ct), 0, 1), 0)
    yield "spine-like", np.where(mask, spine(mask), 0)
    yield "constant", np.where(mask, 0.6, 0)
    yield "upside down", x[:, :, ::-1]
    yield "front to back", x[:, ::-1]
    yield "turned by 90 degrees", np.rot90(x, axes=(0, 1))
    yield "blurred, 14 mm", np.where(mask, ndimage.gaussian_filter(x, 3), 0)
    yield "left to right (not wrong in itself)", x[::-1]


def spine(mask: np.ndarray) -> np.ndarray:
    """A spine (vertebrae with darker discs, a bright canal, muscle), stretched over the brain as by a registration."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in mask.shape), indexing="ij")
    body = (np.abs(x) < 0.35) & (np.abs(y - 0.15) < 0.3)
    disc = np.mod(z * 6, 1) < 0.25
    canal = (np.abs(x) < 0.15) & (np.abs(y + 0.3) < 0.12)
    return np.select([canal, body & disc, body], [0.9, 0.2, 0.7], 0.35).astype(np.float32)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--hand", action="store_true", help="also train HAND, in some minutes")
    arguments = parser.parse_args()
    device.bound_threads(None)
    loaded, every = models(arguments.weights), cases(arguments.data)
    checks = {MAHALANOBIS: {c: one for c, one in loaded.items() if gate_of(one.weights.gate_state, c) is not None}}
    if arguments.hand:
        checks[HAND] = with_hand(checks[MAHALANOBIS], every, arguments.data, arguments.cache)
    found: dict[tuple[str, str], list[list[float]]] = {}
    spoilt = {c: "val" if any(one.part == "val" for one in every if one.contrast == c) else "healthy" for c in loaded}
    judged = [c for c in checks[MAHALANOBIS] if all(c in of for of in checks.values())]
    for case in (c for c in every if c.part != "train"):
        prepared = prepare_cached(case.scan, CONFIG, arguments.cache)
        for contrast in judged:
            for name, x in inputs(case, prepared, contrast, case.part == spoilt[contrast]):
                found.setdefault((contrast, name), []).append(
                    [ratio(of[contrast], x, contrast) for of in checks.values()]
                )
    report(found, list(checks))
    print(f"\nmargin {MARGIN}; {named(loaded)}")


def with_hand(loaded: dict[str, Model], every: list[Case], data: Path, cache: Path) -> dict[str, Model]:
    """The same models with HAND as their check, trained on the training scans, with a limit from the held-out ones."""
    reporter = Reporter()
    training, held_out = ([c for c in every if c.part == part and c.contrast in loaded] for part in ("train", "val"))
    labels = load_labels(label_files(str(data / "labelmaps")), cache)
    with reporter.stage("HAND"):
        gates = fit_hand(training, held_out, Scans(cache, CONFIG), labels, reporter.note)
    states = {contrast: state_of({contrast: one}) for contrast, one in gates.items()}
    return {c: replace(loaded[c], weights=replace(loaded[c].weights, gate_state=own)) for c, own in states.items()}


def inputs(case: Case, prepared: Prepared, contrast: str, spoil: bool) -> Iterator[tuple[str, np.ndarray]]:
    """What the model of a contrast is given: a scan, and if asked for and of that contrast, wrong inputs made of it."""
    x = prepared.scaled(CONFIG)
    if contrast != case.contrast:
        yield f"{case.contrast}{TAKEN_FOR}{contrast}", x
        return
    yield kind(case), x
    if spoil:
        yield from wrong(x, prepared.mask, np.random.default_rng(int(case.scan.stat().st_size)))


def ratio(model: Model, x: np.ndarray, contrast: str) -> float:
    """The distance of a scan over the limit, infinite if it hardly overlaps with the training scans."""
    x = np.ascontiguousarray(x, dtype=np.float32)
    found = measure(model, x, x > 0, contrast)
    return np.inf if found.value is None or found.limit is None else found.value / found.limit


def report(found: dict[tuple[str, str], list[list[float]]], checks: list[str]) -> None:
    """Print a row for each model and input, and how well each check separates good scans from the others."""
    heads = [f"{check}: distance / limit, median | range | beyond" for check in checks]
    print(f"| gate | input | scans | {' | '.join(heads)} |\n|---|---|---|{'---|---|---|' * len(checks)}")
    for (of, name), values in sorted(found.items(), key=lambda item: item[0][0], reverse=True):
        cells = [
            f"{np.median(one):.2f} | {one.min():.2f} to {one.max():.2f} | {(one > 1).sum()} of {len(one)}"
            for one in np.array(values).T
        ]
        print(f"| {of} | {name} | {len(values)} | {' | '.join(cells)} |")
    print(f"\n| gate | good scans against | scans | {' | '.join(f'{check}: AUROC' for check in checks)} |")
    print(f"|---|---|---|{'---|' * len(checks)}")
    for of in dict.fromkeys(contrast for contrast, _ in found):
        for what, values, good in groups({name: v for (contrast, name), v in found.items() if contrast == of}):
            areas = [auroc(*pair) for pair in zip(np.array(values).T, np.array(good).T, strict=True)]
            print(f"| {of} | {what} | {len(good)} and {len(values)} | {' | '.join(f'{a:.3f}' for a in areas)} |")


def auroc(above: np.ndarray, below: np.ndarray) -> float:
    """The share of pairs in which the first is the larger; infinite ones are equal."""
    return float(((above[:, None] > below) + 0.5 * (above[:, None] == below)).mean())


def groups(rows: dict[str, list[list[float]]]) -> Iterator[tuple[str, list[list[float]], list[list[float]]]]:
    """Inputs of each kind that a check should flag, and the good scans that neither trained it nor set its limit."""
    good = [v for name, values in rows.items() if name.startswith(GOOD) and "held out" not in name for v in values]
    contrasts = [v for name, values in rows.items() if TAKEN_FOR in name for v in values]
    wrong_ones = [
        v
        for name, values in rows.items()
        if not (name.startswith(GOOD) or TAKEN_FOR in name or "not wrong" in name)
        for v in values
    ]
    yield "scans of other contrasts", contrasts, good
    yield "wrong inputs", wrong_ones, good


def kind(case: Case) -> str:
    """The row of a proper scan."""
    sick = {"tcga_lgg": "glioma patients", "tcga_t2w": "glioma patients", "stroke_t2w": "stroke"}
    sick |= dict.fromkeys(("mslub_mni", "mslesseg_mni"), "multiple sclerosis")
    if case.part == "val":
        return "healthy, held out" if case.lesions is None else "glioma patients, held out (whole scans)"
    return sick.get(case.source, f"healthy, other scanner ({case.source})")


if __name__ == "__main__":
    main()
