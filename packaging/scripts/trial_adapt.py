"""Does adapting to a scanner help, as `--adapt` does it and in another way: on other scanners than the training's.

    python packaging/scripts/trial_adapt.py DATA [--steps 10] [--rank 2] [--cases 6] [--healthy 2]

"steps": the reconstruction takes a few steps on the scan at hand, with low-rank changes of the kernels of its up path
alone, on the voxels that the first pass calls normal (nine tenths of the brain, by the learned score); with --steps 0
this is left out. "drift": as `--adapt`, by the first --healthy other healthy scans of the set. For each set: mean
AUPRC on the model's grid, of the residual, the learned score and the default one, as it is and adapted, and the
difference for each scan; the default one not where the healthy reference that it is held against knows the scans
(IXI).
Healthy scans carry a pasted stroke shape, three times each. The IXI validation scans are of the scanner of the
training: what helps them as much does not adapt to a scanner. Then what is marked in the healthy scans as they are, at
the threshold `auto`, in ml of MNI space.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from development import Case, cases
from scenes import CONFIG, RESIDUAL, models, named, with_shape
from torch import Tensor, nn
from torch.nn.utils import parametrize

from uadcli import device
from uadcli.data.healthy import lesions_on_grid
from uadcli.data.prepare import Prepared, prepare_cached
from uadcli.imaging.slices import GRID_SHAPE, occupied, to_slices
from uadcli.model import threshold
from uadcli.model.scores import find, reconstruct, score, scores
from uadcli.reconstruction.noise import NoiseBank
from uadcli.scoring.metrics import average_precision
from uadcli.scoring.scanner_drift import added, drift, residual
from uadcli.weights.weights import Weights

NORMAL = 0.9  # of the brain's voxels count as normal
BATCH, RATE = 16, 1e-3
PASTED = 3  # lesions in turn in each healthy scan
Map = np.ndarray


class LowRank(nn.Module):
    """A kernel (O, I, k, k) and a change of it of low rank, which is 0 at first."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        rows, columns = weight.shape[0], weight[0].numel()
        self.left = nn.Parameter(torch.zeros(rows, rank))
        self.right = nn.Parameter(torch.randn(rank, columns, generator=torch.Generator().manual_seed(0)) / columns**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.left @ self.right).view_as(weight)


@dataclass(frozen=True)
class Subject:
    """A scan as it is judged: scaled, with one or several lesions to find in it, and without where they were pasted."""

    case: Case
    prepared: Prepared
    ill: list[tuple[Map, Map]]  # scan and truth
    healthy: Map | None

    @property
    def set(self) -> str:
        return f"{self.case.source} {self.case.contrast}"


def subjects(data: Path, cache: Path, count: int) -> Iterator[Subject]:
    """At most `count` scans of each dev set and of each healthy set."""
    seen = dict[tuple[str, str], int]()
    for case in (c for c in cases(data) if c.part != "train"):
        if case.part == "val" and case.lesions is not None:
            continue
        key = (case.source, case.contrast)
        number = seen[key] = seen.get(key, 0) + 1
        if number > count:
            continue
        prepared = prepare_cached(case.scan, CONFIG.preprocess, cache)
        x = prepared.scaled(CONFIG.preprocess)
        if case.lesions is not None:
            yield Subject(case, prepared, [(x, lesions_on_grid(case, prepared))], None)
            continue
        rng = np.random.default_rng([11, number])
        pasted = [with_shape(prepared, case.contrast, prepared.mask, data, rng) for _ in range(PASTED)]
        yield Subject(case, prepared, pasted, x)


def adapted(loaded: Weights, x: Map, normal: Map, steps: int, rank: int) -> Weights:
    """The weights after a few steps on the voxels of one scan that are called normal."""
    model = copy.deepcopy(loaded.model).requires_grad_(False)
    kernels = [m for m in (*model.unet.up.modules(), model.unet.out) if isinstance(m, nn.Conv2d)]
    for one in kernels:
        parametrize.register_parametrization(one, "weight", LowRank(one.weight, rank))
    learned = [p for p in model.parameters() if p.requires_grad]
    optimiser, generator = torch.optim.Adam(learned, lr=RATE), torch.Generator().manual_seed(0)
    usable = torch.from_numpy(occupied(normal))
    slices, parts = (torch.from_numpy(to_slices(v.astype(np.float32)))[:, None] for v in (x, normal))
    bank = NoiseBank()
    for _ in range(steps):
        index = usable[torch.randint(len(usable), (BATCH,), generator=generator)]
        clean, part = slices[index], parts[index]
        t = torch.randint(model.config.steps, (BATCH,), generator=generator)
        noise = bank.draw(BATCH, (clean.shape[2], clean.shape[3]), generator)
        loss = ((model(clean, t, noise) - clean).abs() * part).sum() / part.sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    for one in kernels:
        parametrize.remove_parametrizations(one, "weight")
    return replace(loaded, model=model.eval())


KNOWN = "ixi_t1"  # the source of the scans that the healthy reference of T1w knows
LEARNED = {"T1w": "siamese", "FLAIR": "fusion-absolute", "T2w": "fusion-absolute"}


def learned_and_default(one: Subject, weights: Weights) -> list[str]:
    """The scores to judge beside the residual."""
    own = [] if one.case.source == KNOWN else [weights.card.scores[one.case.contrast]]
    return list(dict.fromkeys([LEARNED[one.case.contrast], *own]))


def marked_ml(one: Subject, recon: Map, weights: Weights, kind: str) -> float:
    """What a score marks in a healthy scan at the threshold `auto`."""
    contrast, card, mask = one.case.contrast, weights.card, one.prepared.mask
    values = score(weights, one.healthy, recon, mask, kind, CONFIG, contrast=contrast)
    _, table = find(values, threshold.resolve("auto", card, kind, contrast).value, one.prepared, CONFIG)
    return sum(c.volume_mm3 for c in table) / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rank", type=int, default=2)
    parser.add_argument("--cases", type=int, default=6)
    parser.add_argument("--healthy", type=int, default=2, help="scans that a drift comes from")
    parser.add_argument("--weights")
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    arguments = parser.parse_args()
    device.bound_threads(None)
    loaded = models(arguments.weights)
    everyone = [s for s in subjects(arguments.data, arguments.cache, arguments.cases) if s.case.contrast in loaded]
    found: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    marked: dict[tuple[str, str], list[list[float]]] = {}

    def judge(way: str, one: Subject, number: int, recon: Map, weights: Weights) -> dict[str, Map]:
        contrast, (x, truth) = one.case.contrast, one.ill[number]
        kinds = list(dict.fromkeys([RESIDUAL[contrast], *learned_and_default(one, weights)]))
        values = scores(weights, x, recon, one.prepared.mask, kinds, CONFIG, contrast=contrast)
        for kind, one_map in values.items():
            by_scan = found.setdefault((one.set, kind, way), {})
            by_scan.setdefault(one.case.subject, []).append(average_precision(one_map, truth))
        return values

    for one in everyone:
        weights, mask, known = loaded[one.case.contrast], one.prepared.mask, None
        same = [o for o in everyone if o.set == one.set and o is not one]
        others = [(o.healthy, o.prepared.mask) for o in same if o.healthy is not None][: arguments.healthy]
        if len(others) == arguments.healthy:
            known = drift(
                [residual(h, reconstruct(weights, h, m, CONFIG.reconstruction), m) for h, m in others], GRID_SHAPE
            )
        for number, (x, _) in enumerate(one.ill):
            recon = reconstruct(weights, x, mask, CONFIG.reconstruction)
            learned = judge("as it is", one, number, recon, weights)[LEARNED[one.case.contrast]]
            if known is not None:
                judge("drift", one, number, added(recon, known, mask), weights)
            if not arguments.steps:
                continue
            normal = mask & (learned <= np.quantile(learned[mask], NORMAL))
            after = adapted(weights, x, normal, arguments.steps, arguments.rank)
            judge("steps", one, number, reconstruct(after, x, mask, CONFIG.reconstruction), after)
        if one.healthy is not None and known is not None:
            recon = reconstruct(weights, one.healthy, mask, CONFIG.reconstruction)
            for kind in learned_and_default(one, weights):
                pair = [marked_ml(one, r, weights, kind) for r in (recon, added(recon, known, mask))]
                marked.setdefault((one.set, kind), []).append(pair)
    print("| set | score | adapted | scans | AUPRC as it is | adapted | difference by scan |\n" + "|---" * 7 + "|")
    for (name, kind, way), by_scan in sorted(found.items()):
        if way != "as it is":
            before = [float(np.mean(v)) for v in found[name, kind, "as it is"].values()]
            after_ = [float(np.mean(v)) for v in by_scan.values()]
            each = ", ".join(f"{b - a:+.3f}" for a, b in zip(before, after_, strict=True))
            cells = f"{len(before)} | {np.mean(before):.3f} | {np.mean(after_):.3f} | {each}"
            print(f"| {name} | {kind} | {way} | {cells} |")
    print("\n| set | score | healthy scans | ml marked as it is | adapted | by scan |\n" + "|---" * 6 + "|")
    for (name, kind), pairs in sorted(marked.items()):
        each = ", ".join(f"{a:.1f} to {b:.1f}" for a, b in pairs)
        means = " | ".join(f"{value:.1f}" for value in np.mean(pairs, axis=0))
        print(f"| {name} | {kind} | {len(pairs)} | {means} | {each} |")
    steps = f"{arguments.steps} steps of {BATCH} slices, rank {arguments.rank}"
    print(f"\ndrift by {arguments.healthy} scans; {steps}; {named(loaded)}")


if __name__ == "__main__":
    main()
