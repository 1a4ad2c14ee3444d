"""Synthetic lesions in healthy volumes with exact ground truth, from which the score network learns.

The kinds of lesions, and how often each is drawn in a contrast. No real lesions or lesion shapes are used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from uadcli import contrasts
from uadcli.arrays import Array, Mask
from uadcli.synthesis import masses, vascular, white_matter
from uadcli.synthesis.anatomy import Anatomy, levels
from uadcli.synthesis.random_fields import Random
from uadcli.synthesis.tissue import Kind, Tissue

NONE = 0.1  # share of volumes without a lesion
SECOND = 0.25  # share of the others with lesions of a second kind
ANYWHERE = MappingProxyType({"spots": masses.spots, "mass": masses.mass})
IN_TISSUE: Mapping[str, Kind] = MappingProxyType(
    {
        "dots": white_matter.dots,
        "sheet": white_matter.sheet,
        "oedema": white_matter.oedema,
        "lacunes": vascular.lacunes,
        "infarct": vascular.infarct,
        "bleeding": vascular.bleeding,
    }
)
SHARES = {  # of the kinds, by the sign of most lesions in a contrast
    "bright": {
        "mass": 0.3,
        "dots": 0.2,
        "sheet": 0.2,
        "infarct": 0.1,
        "spots": 0.08,
        "oedema": 0.05,
        "lacunes": 0.04,
        "bleeding": 0.03,
    },
    "dark": {
        "mass": 0.3,
        "infarct": 0.2,
        "spots": 0.15,
        "dots": 0.13,
        "lacunes": 0.08,
        "sheet": 0.06,
        "bleeding": 0.04,
        "oedema": 0.04,
    },
}
UNPLACED = {"mass": 0.6, "spots": 0.4}  # without an anatomy


def paste_lesions(
    x: Array, mask: Mask, contrast: str, rng: Random, allowed: Mask | None = None, anatomy: Anatomy | None = None
) -> tuple[Array, Mask]:
    """Paste lesions of up to two kinds into a healthy volume; returns it and the mask of visible lesions.

    x (X, Y, Z) is about [0, 1]; lesions are inside the brain `mask`. Their centres are drawn from `allowed`, but those
    of larger masses then move towards its middle, and may leave it (`masses.mass`). Without `anatomy` only kinds that
    can be anywhere are drawn. The result may exceed 1; it is scaled again later, like a scan with a lesion.
    """
    allowed = mask if allowed is None else mask & allowed
    nothing = np.zeros(x.shape, dtype=bool)
    if rng.random() < NONE or not allowed.any():
        return x, nothing
    usable = anatomy is not None and bool((anatomy.white & mask).any() and (anatomy.grey & mask).any())
    shares = SHARES[contrasts.ALL[contrast].lesions] if usable else UNPLACED
    kinds = rng.choice(list(shares), 1 + int(rng.random() < SECOND), replace=False, p=list(shares.values()))
    brain, truth = Brain(x, mask, contrast, allowed, anatomy), nothing
    for kind in kinds:
        pasted, new = paste_kind(str(kind), brain, rng)
        brain, truth = replace(brain, x=pasted), truth | new
    return brain.x, truth


@dataclass(frozen=True)
class Brain:
    """A volume x (X, Y, Z) of a contrast with its brain mask, where the centres of lesions are drawn (`allowed`,
    None: anywhere in the brain), its `anatomy`, if known, and the `guide` of `masses.mass`, if not itself."""

    x: Array
    mask: Mask
    contrast: str
    allowed: Mask | None = None
    anatomy: Anatomy | None = None
    guide: Array | None = None


def paste_kind(kind: str, brain: Brain, rng: Random) -> tuple[Array, Mask]:
    """Paste lesions of one kind, of `ANYWHERE` or, with an anatomy, of `IN_TISSUE`; returns volume and mask (X, Y, Z).

    Lesions of the tissue that could not be seen are not pasted. Raises `ValueError` without the anatomy they need.
    """
    x, mask, contrast, anatomy = brain.x, brain.mask, brain.contrast, brain.anatomy
    allowed = mask if brain.allowed is None else mask & brain.allowed
    if kind in ANYWHERE:
        return ANYWHERE[kind](x, mask, np.argwhere(allowed), contrast, rng, brain.guide)
    if anatomy is None:
        raise ValueError(f"lesions of the kind {kind!r} need an anatomy")
    tissue = Tissue(x, mask, contrast, allowed, anatomy, levels(x, mask, anatomy))
    changed, truth = IN_TISSUE[kind](tissue, rng)
    return (changed.x, truth) if truth.any() else (x, truth)  # what cannot be seen must not teach to overlook


def paste_together(kind: str, brains: Sequence[Brain], rng: Random) -> tuple[list[Array], Mask]:
    """Paste the same lesions of one kind into several contrasts of one brain; returns the volumes and one mask.

    `brains` have one mask and one anatomy. The lesions have the same places, shapes and severity in all contrasts, and
    in each the intensities of that contrast; the mask (X, Y, Z) is that of the lesions that are visible in at least one
    of them. Raises as `paste_kind`.
    """
    guide, seed = brains[0].x, int(rng.integers(2**63))
    pasted = [paste_kind(kind, replace(one, guide=guide), np.random.default_rng(seed)) for one in brains]
    return [x for x, _ in pasted], np.any([truth for _, truth in pasted], axis=0)
