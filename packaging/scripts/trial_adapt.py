"""Does adapting to a scanner help: a trial of what `--adapt` would do, on scans of other scanners than the training's.

    python packaging/scripts/trial_adapt.py DATA [--steps 10] [--rank 2] [--cases 6]

"steps": the reconstruction takes a few steps on the scan at hand, with low-rank changes of the kernels of its up path
alone, on the voxels that the first pass calls normal (nine tenths of the brain, by the default score). "drift": the
mean signed residual of a few healthy scans of the same scanner at each place of the template, smoothed by 8 mm, is
added to the reconstruction; only OASIS has more than one scan, and each is held against the other two.
For each set: mean AUPRC on the model's grid of the residual and of the default score, and for healthy scans the ml at
the thresholds that `auto` takes. Healthy scans carry a pasted stroke shape for the AUPRC, as in `make eval-dev`.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scenes import CONFIG, flagged, models, named, synthetic
from scipy import ndimage
from torch import Tensor, nn
from torch.nn.utils import parametrize

from uadcli import device
from uadcli.imaging.slices import occupied, to_slices
from uadcli.reconstruction.noise import NoiseBank
from uadcli.reconstruction.weights import Weights
from uadcli.run.development import Case, cases
from uadcli.run.prepare import Prepared, prepare_cached
from uadcli.run.score import reconstruct, scores
from uadcli.run.threshold import resolve
from uadcli.run.training_data import lesions_on_grid
from uadcli.scoring.metrics import average_precision

RESIDUAL = {"T1w": "absolute", "FLAIR": "bright-weighted", "T2w": "bright-weighted"}
NORMAL = 0.9  # of the brain's voxels count as normal
BATCH, RATE = 16, 1e-3
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
    """A scan as it is judged: scaled, with its lesion, and without it where that was pasted."""

    case: Case
    prepared: Prepared
    x: Map
    truth: Map
    healthy: Map | None


def subjects(data: Path, cache: Path, count: int) -> Iterator[Subject]:
    """At most `count` scans of each dev set and of each healthy set of another scanner."""
    shapes, seen = sorted((data / "lesion_shapes").glob("*.nii.gz")), dict[tuple[str, str], int]()
    for case in (c for c in cases(data) if c.part in ("dev", "healthy")):
        key = (case.source, case.contrast)
        number = seen[key] = seen.get(key, 0) + 1
        if number > count:
            continue
        prepared = prepare_cached(case.scan, CONFIG.preprocess, cache)
        x = prepared.scaled(CONFIG.preprocess)
        if case.lesions is not None:
            yield Subject(case, prepared, x, lesions_on_grid(case, prepared), None)
            continue
        pasted = None
        while pasted is None:
            pasted = synthetic(prepared, x, shapes[number % len(shapes)], number)
            number += 20
        yield Subject(case, prepared, *pasted, x)


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


def drift(others: list[tuple[Map, Map, Map]]) -> Map:
    """The mean signed residual of healthy scans (scan, reconstruction, mask) at each place, smoothed by 8 mm."""
    known = sum(ndimage.gaussian_filter(mask.astype(np.float32), 4) for _, _, mask in others) + 1e-3
    mean: Map = sum(ndimage.gaussian_filter(np.where(mask, x - recon, 0), 4) for x, recon, mask in others) / known
    return mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rank", type=int, default=2)
    parser.add_argument("--cases", type=int, default=6)
    parser.add_argument("--weights")
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    arguments = parser.parse_args()
    device.bound_threads(None)
    loaded = models(arguments.weights)
    found: dict[tuple[str, str, str], tuple[list[float], list[float]]] = {}

    def judge(way: str, one: Subject, values: dict[str, Map], ill: bool) -> None:
        for kind, score in values.items():
            auprc, ml = found.setdefault((f"{one.case.source} {one.case.contrast}", kind, way), ([], []))
            if ill:
                auprc.append(average_precision(score, one.truth))
            else:
                limit = resolve("auto", loaded[one.case.contrast].card, kind, one.case.contrast).value
                ml.append(flagged(score, limit, one.prepared))

    everyone = [s for s in subjects(arguments.data, arguments.cache, arguments.cases) if s.case.contrast in loaded]
    rebuilt: dict[tuple[str, bool], Map] = {}
    for one in everyone:
        weights, contrast, mask = loaded[one.case.contrast], one.case.contrast, one.prepared.mask
        kinds = (RESIDUAL[contrast], weights.card.scores[contrast])
        for ill, x in ((True, one.x), (False, one.healthy)):
            if x is None:
                continue
            recon = reconstruct(weights, x, mask, CONFIG.reconstruction)
            rebuilt[str(one.case.scan), ill] = recon
            first = scores(weights, x, recon, mask, kinds, CONFIG)
            judge("as it is", one, first, ill)
            default = first[kinds[1]]
            normal = mask & (default <= np.quantile(default[mask], NORMAL))
            after = adapted(weights, x, normal, arguments.steps, arguments.rank)
            recon = reconstruct(after, x, mask, CONFIG.reconstruction)
            judge("steps", one, scores(after, x, recon, mask, kinds, CONFIG), ill)
    for one in everyone:
        same = [o for o in everyone if o.case.source == one.case.source and o.case.contrast == one.case.contrast]
        others = [o for o in same if o is not one and o.healthy is not None]
        if len(others) < 2:
            continue
        weights, mask = loaded[one.case.contrast], one.prepared.mask
        kinds = (RESIDUAL[one.case.contrast], weights.card.scores[one.case.contrast])
        known = drift([(o.healthy, rebuilt[str(o.case.scan), False], o.prepared.mask) for o in others])  # type: ignore[misc]
        for ill, x in ((True, one.x), (False, one.healthy)):
            recon = np.where(mask, np.clip(rebuilt[str(one.case.scan), ill] + known, 0, 1), 0).astype(np.float32)
            judge("drift", one, scores(weights, x, recon, mask, kinds, CONFIG), ill)  # type: ignore[arg-type]
    print("| set | score | adapted | scans | AUPRC, mean | healthy ml, mean |\n|---|---|---|---|---|---|")
    for (name, kind, way), (auprc, ml) in sorted(found.items()):
        volume = f"{np.mean(ml):.2f}" if ml else "n/a"
        print(f"| {name} | {kind} | {way} | {len(auprc)} | {np.mean(auprc):.3f} | {volume} |")
    print(f"\n{arguments.steps} steps of {BATCH} slices, rank {arguments.rank}; {named(loaded)}")


if __name__ == "__main__":
    main()
