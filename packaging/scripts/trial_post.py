"""What smoothing and a healthy reference do for the scores: a trial on the dev cases and the healthy validation scans.

    python packaging/scripts/trial_post.py DATA [--weights FILE] [--contrast T1w] [--store FOLDER] [--synthetic]

For each way to treat a score: mean AUPRC on the glioma dev cases on the model's grid, or with --synthetic on stroke
shapes pasted into the healthy part of the validation scans, six into each; Dice there at several rates of false
positives among the healthy voxels of the validation scans (with --synthetic these are the same scans, without the
lesions); the median ml flagged in these, each at the 99.5th percentile of the other four fifths; and the median ml
flagged in healthy scans of other scanners at the same rates. "z" is the deviation from the healthy mean at the same
place of the template, in healthy standard deviations, both from validation scans smoothed by 4 mm; a validation scan
is never held against itself. "joined" is the score `fisher`, as the product makes it, with other shares of the learned
score, the residual and the intensity, and other erosions of what is held against health. --scales adds to it quantiles
of a scan's residual, in whose units that is held against health (0: as it is). --store keeps reconstructions and
probabilities.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from development import cases
from scenes import CONFIG, flagged, with_shape
from scipy import ndimage

from uadcli.data.dataset import Case
from uadcli.data.healthy import healthy_part, lesions_on_grid
from uadcli.data.prepare import Prepared, prepare_cached
from uadcli.model.scores import find, probability, reconstruct
from uadcli.scoring import healthy_reference as healthy
from uadcli.scoring.calibration import healthy_quantile, healthy_tail, rarity, tails_of_the_others
from uadcli.scoring.metrics import average_precision, dice
from uadcli.scoring.scores import fusion
from uadcli.scoring.scores.fusion import PARTS
from uadcli.scoring.scores.residual import anomaly_score, median_filter
from uadcli.scoring.scores.siamese import smooth_along_slices
from uadcli.weights import weights
from uadcli.weights.weights import Weights

FOLDS, PASTED = 5, 6
POWERS = (0.1, 0.2, 0.4, 0.7, 1.0)
# of the learned score, the residual held against health, and the intensity
SHARES = (
    *((0.0, 1.0, 0.0), (0.3, 0.7, 0.0), (0.5, 0.5, 0.0), (0.7, 0.3, 0.0), (1.0, 0.0, 0.0)),
    *((0.4, 0.4, 0.2), (0.4, 0.3, 0.3), (0.6, 0.2, 0.2)),
)
RATES = (0.005, 0.001, 0.0005, 0.0002)
Map = np.ndarray


@dataclass
class Scan:
    """A scan on the model's grid: healthy voxels (val) or lesion (dev), and what the scores are made of."""

    case: Case
    prepared: Prepared
    part: Map
    x: Map
    recon: Map
    p: Map
    counts: Map | None = None  # the voxels that are judged, else all


def load(case: Case, loaded: Weights, cache: Path, store: Path | None) -> Scan:
    prepared = prepare_cached(case.scan, CONFIG.preprocess, cache)
    x = prepared.scaled(CONFIG.preprocess)
    part = healthy_part(case, prepared) if case.part != "dev" else lesions_on_grid(case, prepared)
    kept = store / f"{loaded.sha256[:12]}-{case.subject}-{case.contrast}.npz" if store else None
    if kept and kept.exists():
        with np.load(kept) as arrays:
            return Scan(case, prepared, part, x, arrays["recon"].astype(np.float32), arrays["p"].astype(np.float32))
    recon = reconstruct(loaded, x, prepared.mask, CONFIG.reconstruction)
    p = probability(loaded, x, recon, prepared.mask, CONFIG)
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(kept, recon=recon, p=p)
    return Scan(case, prepared, part, x, recon, p)


def with_lesions(case: Case, loaded: Weights, data: Path, cache: Path) -> list[Scan]:
    """A validation scan with a stroke shape in its healthy part, `PASTED` times."""
    prepared, result = prepare_cached(case.scan, CONFIG.preprocess, cache), list[Scan]()
    counts, rng = healthy_part(case, prepared), np.random.default_rng([7, int(case.scan.stat().st_size)])
    for _ in range(PASTED):
        x, truth = with_shape(prepared, case.contrast, counts, data, rng)
        recon = reconstruct(loaded, x, prepared.mask, CONFIG.reconstruction)
        p = probability(loaded, x, recon, prepared.mask, CONFIG)
        result.append(Scan(case, prepared, truth, x, recon, p, counts))
    return result


def fused(scan: Scan, kind: str, power: float, smooth: bool) -> Map:
    p = smooth_along_slices(scan.p, scan.prepared.mask) if smooth else scan.p
    return fusion.fused_score(scan.x, scan.recon, p, scan.prepared.mask, kind, power)


def ways(contrast: str) -> dict[str, Callable[[Scan], Map]]:
    """The maps to compare, by name."""
    fusing = "fusion-absolute" if contrast == "T1w" else "fusion-bright"
    kind = "absolute" if contrast == "T1w" else "bright-weighted"
    result: dict[str, Callable[[Scan], Map]] = {
        kind: lambda s: anomaly_score(s.x, s.recon, s.prepared.mask, kind, CONFIG.scoring),
        "siamese": lambda s: s.p,
        "siamese, median 3": lambda s: median_filter(s.p, 3),
        "siamese, median 5": lambda s: median_filter(s.p, 5),
        "siamese, slices 1": lambda s: smooth_along_slices(s.p, s.prepared.mask, 1.0),
        "siamese, slices 2": lambda s: smooth_along_slices(s.p, s.prepared.mask, 2.0),
    }
    for power in POWERS:
        for smooth in (False, True):
            name = f"{fusing}, power {power}{', slices 2' if smooth else ''}"
            result[name] = partial(fused, kind=fusing, power=power, smooth=smooth)
    return result


def reference(maps: list[tuple[Map, Map]], sigma: float = 2.0) -> tuple[Map, Map]:
    """Mean and deviation of healthy maps at each place, over the scans that have it inside their brain."""
    count = sum(ndimage.gaussian_filter(part.astype(np.float32), sigma) for _, part in maps) + 1e-3
    mean = sum(ndimage.gaussian_filter(np.where(part, m, 0), sigma) for m, part in maps) / count
    square = sum(ndimage.gaussian_filter(np.where(part, (m - mean) ** 2, 0), sigma) for m, part in maps) / count
    return mean, np.sqrt(square)


def against(own: Map, known: tuple[Map, Map], mask: Map) -> Map:
    mean, deviation = known
    floor = np.median(deviation[mask])
    return np.where(mask, np.maximum((own - mean) / np.maximum(deviation, floor), 0), 0).astype(np.float32)


Scored = list[tuple[Scan, Map]]


def joined(
    contrast: str, scans: dict[str, list[Scan]], pasted: bool, only: str, scales: list[float]
) -> Iterator[tuple[str, list[Scored]]]:
    """The score `fisher` with other shares, erosions and scales, where the name has `only` in it: name, then the maps
    of each group of scans. With lesions `pasted` into the validation scans, these are held against the others, too."""
    groups = list(scans.values())
    learned = [[smooth_along_slices(s.p, s.prepared.mask) for s in group] for group in groups]
    intensity = [[np.where(s.prepared.mask, s.x, 0).astype(np.float32) for s in group] for group in groups]
    for erosion, scale in product((1, 3), scales):
        chosen = {share: name for share in SHARES if only in (name := name_of(share, erosion, scale))}
        if not chosen:
            continue
        deviations = against_health(contrast, groups, erosion, pasted, scale)
        rare = []
        for maps in (learned, deviations, intensity):
            pairs = [(m, s.part) for m, s in zip(maps[1], scans["val"], strict=True)]
            whole, others = healthy_tail(pairs), tails_of_the_others(pairs)
            dev = [others[i // PASTED] if pasted else whole for i in range(len(maps[0]))]
            tails = dev, others, [whole] * len(maps[2])
            rare.append([list(map(rarity, group, known)) for group, known in zip(maps, tails, strict=True)])
        for share, name in chosen.items():
            groups_of = zip(groups, *rare, strict=True)
            yield name, [[(s, summed(share, *r)) for s, *r in zip(*g, strict=True)] for g in groups_of]


def summed(shares: tuple[float, ...], *maps: Map) -> Map:
    """The weighted sum of maps."""
    return np.tensordot(np.array(shares, np.float32), np.stack(maps), 1)


def name_of(share: tuple[float, ...], erosion: int, scale: float) -> str:
    return f"joined, shares {' '.join(map(str, share))}, erosion {erosion}, scale {scale:g}"


def against_health(
    contrast: str, groups: list[list[Scan]], erosion: int, pasted: bool, scale: float
) -> list[list[Map]]:
    """The residual in healthy deviations, as the product has it, for dev, val and others."""
    settings, kind = replace(CONFIG.scoring, erosion=erosion), list(PARTS[contrast])[1].removeprefix(healthy.PREFIX)
    own = [[anomaly_score(s.x, s.recon, s.prepared.mask, kind, settings) for s in group] for group in groups]
    pairs = [(values, s.part) for values, s in zip(own[1], groups[1], strict=True)]
    whole, others = healthy.fit(pairs, scale), healthy.of_the_others(pairs, scale)
    dev = [others[i // PASTED] if pasted else whole for i in range(len(own[0]))]
    return [
        [healthy.z_score(v, known, s.prepared.mask) for v, known, s in zip(*one, strict=True)]
        for one in zip(own, (dev, others, [whole] * len(own[2])), groups, strict=True)
    ]


def judged(scan: Scan, values: Map) -> tuple[Map, Map]:
    """Map and truth where they count."""
    return (values, scan.part) if scan.counts is None else (values[scan.counts], scan.part[scan.counts])


def figures(dev: Scored, val: Scored, others: Scored) -> str:
    """The cells of a row."""
    auprc = np.mean([average_precision(*judged(s, m)) for s, m in dev])
    limits = [healthy_quantile([(m, s.part) for s, m in val], 1 - rate) for rate in RATES]
    overlaps = [np.mean([dice(*judged(s, find(m, one, s.prepared, CONFIG)[0] > 0)) for s, m in dev]) for one in limits]
    own = []
    for i, (scan, values) in enumerate(val):
        limit = healthy_quantile([(m, s.part) for j, (s, m) in enumerate(val) if j % FOLDS != i % FOLDS])
        own.append(flagged(values * scan.part, limit, scan.prepared))
    elsewhere = [np.median([flagged(m, one, s.prepared) for s, m in others]) for one in limits]
    dices, volumes = " / ".join(f"{v:.3f}" for v in overlaps), " / ".join(f"{v:.1f}" for v in elsewhere)
    return f"{auprc:.3f} | {dices} | {np.median(own):.1f} | {volumes} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights")
    parser.add_argument("--contrast", default="T1w")
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    parser.add_argument("--store", type=Path)
    parser.add_argument("--synthetic", action="store_true")
    parser.add_argument("--only", default="", help="ways whose name has this in it")
    parser.add_argument("--scales", type=float, nargs="+", help="quantiles; else as the product has it")
    arguments = parser.parse_args()
    loaded = weights.load(*weights.find(arguments.weights, arguments.contrast))
    chosen = [c for c in cases(arguments.data) if c.contrast == arguments.contrast]
    dev = [c for c in chosen if c.part == "dev" and c.source == "tcga_lgg" and not arguments.synthetic]
    scans = {
        part: [load(c, loaded, arguments.cache, arguments.store) for c in group]
        for part, group in {
            "dev": dev,
            "val": [c for c in chosen if c.part == "val"],
            "others": [c for c in chosen if c.part == "healthy"],
        }.items()
    }
    if arguments.synthetic:
        held_out = [c for c in chosen if c.part == "val"]
        scans["dev"] = [s for c in held_out for s in with_lesions(c, loaded, arguments.data, arguments.cache)]
    rates = " / ".join(f"{rate:g}" for rate in RATES)
    print(f"{arguments.contrast}: {', '.join(f'{len(group)} {part}' for part, group in scans.items())}\n")
    print(f"| score | AUPRC | Dice at {rates} | val ml | others' ml at {rates} |")
    print("|---" * 5 + "|")
    scales = arguments.scales or [healthy.own_scale(list(PARTS[arguments.contrast])[1])]
    for name, maps_of in joined(arguments.contrast, scans, arguments.synthetic, arguments.only, scales):
        print(f"| {name} | {figures(*maps_of)}", flush=True)
    for name, way in ((n, w) for n, w in ways(arguments.contrast).items() if arguments.only in n):
        maps = {part: [(s, way(s)) for s in group] for part, group in scans.items()}
        print(f"| {name} | {figures(maps['dev'], maps['val'], maps['others'])}", flush=True)
        pairs = [(m, s.part) for s, m in maps["val"]]
        known = reference(pairs)
        folds = [reference([pair for j, pair in enumerate(pairs) if j % FOLDS != k]) for k in range(FOLDS)]
        z = {part: [(s, against(m, known, s.prepared.mask)) for s, m in maps[part]] for part in ("dev", "others")}
        if arguments.synthetic:  # the lesions are in the very scans of the reference
            z["dev"] = [
                (s, against(m, folds[i // PASTED % FOLDS], s.prepared.mask)) for i, (s, m) in enumerate(maps["dev"])
            ]
        z["val"] = [(s, against(m, folds[i % FOLDS], s.prepared.mask)) for i, (s, m) in enumerate(maps["val"])]
        print(f"| {name}, z | {figures(z['dev'], z['val'], z['others'])}", flush=True)


if __name__ == "__main__":
    main()
