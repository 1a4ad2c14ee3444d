"""Fit the weights of joined contrasts on synthetic lesions that are pasted into all contrasts of a brain at once.

    python packaging/evaluation/fit_joint.py DATA [--cases 16] [--cache FOLDER] [--maps FOLDER]

The T1w scans are the IXI validation scans, which no network was trained on (the healthy reference of the T1w model
contains them). T2w and FLAIR of the same brain are made from each (`synthesis.contrast`). Every kind of lesion has the
same share of the cases; a lesion has one shape in all contrasts, and in each its intensities there
(`lesions.paste_together`). Each contrast is scored by its bundled model with the default score. For every set of
contrasts, weights in steps of .05, each at least .05, are compared by the mean AUPRC of the weighted mean rarity over
the cases: the figure that `join_dev.py` prints for patients. A likelihood would need probabilities, which a mean rarity
is not.

Prints the AUPRC of each contrast by kind of lesion; then for each set the best weights, the range of each weight within
.005 of the best AUPRC, and the AUPRC of cross-fitted weights (for each brain those that are best for the others) with
the difference from the best contrast alone, from equal weights and from the shipped ones, with paired 95 % intervals
over brains. `--maps` keeps the scored cases for another run.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from development import Case, cases
from joint_weights import HEADER, Shown, row
from scenes import CONFIG, models, named

from uadcli import device
from uadcli.arrays import Array, Mask
from uadcli.contrasts import FLAIR, T1W, T2W
from uadcli.data.prepare import prepare_cached
from uadcli.imaging import intensity
from uadcli.model.model import Model
from uadcli.model.subject import Subject
from uadcli.scoring.calibration import rarity
from uadcli.synthesis import anatomy
from uadcli.synthesis.contrast import volume_from_t1
from uadcli.synthesis.lesions import ANYWHERE, IN_TISSUE, Brain, paste_together

SEED = 19
SMALLEST = 20  # voxels of a case's lesions
KINDS = (*ANYWHERE, *IN_TISSUE)
CONTRASTS = (FLAIR.name, T1W.name, T2W.name)
SETS = [one for size in (2, 3) for one in itertools.combinations(CONTRASTS, size)]


def contrasts_of(case: Case, cache: Path, number: int) -> list[Brain]:
    """T1w of a healthy brain, and T2w and FLAIR made from it."""
    prepared = prepare_cached(case.scan, CONFIG.preprocess, cache)
    t1w, mask = prepared.linear(CONFIG.preprocess), prepared.mask
    known = anatomy.of_scan(t1w, mask, T1W.name)
    brains = [Brain(t1w, mask, T1W.name, None, known)]
    for i, contrast in enumerate((T2W.name, FLAIR.name)):
        made = volume_from_t1(t1w, mask, known, contrast, np.random.default_rng([SEED, 1, number, i]))
        brains.append(Brain(made, mask, contrast, None, known))
    return brains


def with_lesions(brains: Sequence[Brain], kind: str, number: int) -> tuple[list[Array], Mask]:
    """The contrasts with lesions of one kind that at least one of them shows, drawn until they are large enough."""
    for attempt in itertools.count():
        pasted, truth = paste_together(kind, brains, np.random.default_rng([SEED, 2, number, attempt]))
        if truth.sum() >= SMALLEST:
            return pasted, truth
    raise AssertionError("unreachable")


def rare(model: Model, x: Array, mask: Mask, contrast: str) -> Array:
    """The rarity (V,) of the default score at the voxels of the mask."""
    kind = model.card.scores[contrast]
    scaled = intensity.scale(x, mask, CONFIG.preprocess)
    score = Subject.of(model, scaled, mask, CONFIG, contrast, x).score(kind)
    return rarity(score[mask], model.card.tail_of(kind, contrast))


def shown(data: Path, cache: Path, count: int, maps: Path | None) -> Iterator[Shown]:
    """The cases: brains and kinds of lesions in turn."""
    healthy, loaded = [c for c in cases(data) if c.part == "val" and c.contrast == T1W.name], models(None)
    print(named(loaded), file=sys.stderr)
    for number in range(count):
        case, kind = healthy[number % len(healthy)], KINDS[number % len(KINDS)]
        kept = maps / f"{number}-{case.subject}-{kind}.npz" if maps else None
        if kept is not None and kept.exists():
            with np.load(kept) as one:
                yield Shown(case.subject, kind, {name: one[name] for name in CONTRASTS}, one["truth"])
            continue
        brains = contrasts_of(case, cache, number)
        pasted, truth = with_lesions(brains, kind, number)
        mask = brains[0].mask
        found = {
            one.contrast: rare(loaded[one.contrast], x, mask, one.contrast)
            for one, x in zip(brains, pasted, strict=True)
        }
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(kept, truth=truth[mask], **found)  # type: ignore[arg-type]  # numpy's own stub
        yield Shown(case.subject, kind, found, truth[mask])


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cases", type=int, default=16)
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    parser.add_argument("--maps", type=Path, metavar="FOLDER", help="keep the scored cases here, and use those here")
    arguments = parser.parse_args()
    device.bound_threads(None)
    brains = list(shown(arguments.data, arguments.cache, arguments.cases, arguments.maps))
    print(f"| lesions | cases | {' | '.join(CONTRASTS)} |\n{'|---' * (2 + len(CONTRASTS))}|")
    for kind in dict.fromkeys(one.kind for one in brains):
        own = [one for one in brains if one.kind == kind]
        cells = [f"{np.mean([one.auprc({name: 1.0}) for one in own]):.3f}" for name in CONTRASTS]
        print(f"| {kind} | {len(own)} | {' | '.join(cells)} |")
    print(f"\n{HEADER}")
    for chosen in SETS:
        print(row(chosen, brains), flush=True)


if __name__ == "__main__":
    main()
