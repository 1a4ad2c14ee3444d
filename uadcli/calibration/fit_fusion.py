"""The weights of combined scores, fitted on synthetic lesions in healthy scans.

No label of a scan takes part, at most masks as shapes of the synthetic lesions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from uadcli import contrasts
from uadcli.arrays import Array, Mask
from uadcli.config import DetectConfig
from uadcli.data.dataset import evenly
from uadcli.imaging import intensity
from uadcli.model.model import Model
from uadcli.model.subject import Subject
from uadcli.scoring import healthy_reference
from uadcli.scoring.calibration import Tail, rarity
from uadcli.scoring.fusion import ENOUGH, fused_scores
from uadcli.scoring.healthy_reference import Reference
from uadcli.scoring.metrics import average_precision
from uadcli.synthesis.lesions import paste_kind
from uadcli.training.judged_lesions import Pasted, paste
from uadcli.training.synthetic import Healthy

POWERS = (0.0, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.0)
TENTHS = 10  # what shares are counted in
KIND = "fusion-absolute"  # the lesions are of both signs
SEED, MOST = 40, 20  # scans
LESIONS = 40  # to be pasted: with a dozen the fit is a lottery; each scan gets from 2 to 7 times some, of few scans 2
FEWEST, OFTEN = 2, 7
WHITE_MATTER = ("dots", "sheet")  # kinds of lesions, of white-matter disease
# Of powers whose AUPRC is this near to the best, the smallest, and of shares the most even: synthetic lesions are what
# the learned score was trained on, and the gentler weight leaves more to the others in lesions that it does not know.
ALIKE, SHARES_ALIKE = 0.98, 0.9

Shares = tuple[float, ...]
Key = TypeVar("Key")


@dataclass(frozen=True)
class PastedScan:
    """A healthy scan, one of several by its `number`, with lesions: where the lesions can be seen and where they could
    have been, each (96, 96, 80)."""

    number: int
    subject: Subject
    truth: Mask
    allowed: Mask

    def precision(self, values: Array) -> float:
        """The AUPRC of a map where lesions could have been."""
        return average_precision(values[self.allowed], self.truth[self.allowed])

    def fused(self, powers: Sequence[float]) -> list[float]:
        """The AUPRC of the fused score r p^a, by its power a."""
        s = self.subject
        return [self.precision(m) for m in fused_scores(s.x, s.recon, s.probability, s.mask, KIND, powers)]


@dataclass(frozen=True)
class Part:
    """What a score that is joined is measured by: for each healthy scan the tail of the others, and their reference if
    it is held against one."""

    tails: Sequence[Tail]
    references: Sequence[Reference] | None = None

    def rarity(self, number: int, values: Array, mask: Mask) -> Array:
        """The rarity of a raw map among all healthy scans but the one with this number."""
        if self.references is not None:
            values = healthy_reference.z_score(values, self.references[number], mask)
        return rarity(values, self.tails[number])


def paste_all(
    model: Model, healthy: Sequence[Healthy], config: DetectConfig, shapes: Sequence[Path] = ()
) -> list[PastedScan]:
    """Scans with pasted lesions, reconstructed and scored; empty if no scan has room for a lesion.

    `healthy` are scans that were not trained on, of which up to 20, evenly chosen, get lesions from two to seven times
    each, so that there are about 40 where there are five scans or more. With `shapes`, masks in MNI space, each lesion
    has one of them; else they are made up like those that trained the learned score, which then does better than on
    others. Where lesions are bright, every second scan gets white-matter disease instead: many small ones, or sheets.
    """
    found, chosen = [], evenly(range(len(healthy)), MOST)
    draws = min(max(FEWEST, math.ceil(LESIONS / len(chosen))), OFTEN) if len(chosen) >= ENOUGH else FEWEST
    for number in chosen:
        one = healthy[number]
        for draw in range(draws):
            rng = np.random.default_rng([SEED, number, draw])
            disease = draw % 2 == 1 and one.anatomy is not None and contrasts.ALL[one.kind].lesions == "bright"
            pasted = _with_disease(one, rng, config) if disease else paste(one, rng, config.preprocess, shapes)
            if pasted is None:
                continue
            subject = Subject.of(model, pasted.x, one.mask, config, one.kind, pasted.z)
            subject.score("siamese")  # the network runs now, and once
            found.append(PastedScan(number, subject, pasted.truth, pasted.allowed))
    return found


def _with_disease(one: Healthy, rng: np.random.Generator, config: DetectConfig) -> Pasted | None:
    """White-matter disease pasted into the usable slices of a scan; None where nothing of it can be seen there."""
    allowed = np.zeros_like(one.mask)
    allowed[:, :, one.usable] = one.mask[:, :, one.usable]
    kind = str(rng.choice(WHITE_MATTER))
    x, truth = paste_kind(kind, one.data, one.mask, one.kind, rng, allowed, one.anatomy)
    truth &= allowed
    scaled = intensity.scale(x, one.mask, config.preprocess)
    return Pasted(scaled, intensity.robust_z(x, one.mask), truth, allowed) if truth.any() else None


def precision_by_power(scans: Sequence[PastedScan]) -> dict[float, float]:
    """The mean AUPRC of the fused score r p^a over scans, by a; empty if there is none."""
    found = [one.fused(POWERS) for one in scans]
    return dict(zip(POWERS, np.mean(found, axis=0).tolist(), strict=True)) if found else {}


def with_best_power(model: Model, precisions: dict[float, float]) -> Model:
    """The model with the best of the powers on their card, of like ones the smallest; unchanged if there is none."""
    if not precisions:
        return model
    power = min(_alike(precisions, ALIKE))
    return model.with_card(fusion_power=power)


def precision_by_shares(scans: Sequence[PastedScan], parts: Mapping[str, Part]) -> dict[Shares, float]:
    """The mean AUPRC of the weighted sum of rarities, by the shares of the `parts`, in tenths; empty without a scan.

    The scans with lesions are numbered as the healthy scans of the parts, none of which is held against itself.
    """
    tenths = itertools.product(range(TENTHS + 1), repeat=len(parts))
    shares = [tuple(n / TENTHS for n in one) for one in tenths if sum(one) == TENTHS]
    found = []
    for one in scans:
        of = one.subject
        rare = np.stack([part.rarity(one.number, of.raw(kind), of.mask)[one.allowed] for kind, part in parts.items()])
        truth = one.truth[one.allowed]
        found.append([average_precision(np.array(weights, np.float32) @ rare, truth) for weights in shares])
    return dict(zip(shares, np.mean(found, axis=0).tolist(), strict=True)) if found else {}


def best_shares(precisions: Mapping[Shares, float]) -> Shares | None:
    """The best of the shares, of like ones the most even; None if there are none."""
    if not precisions:
        return None
    alike = _alike(precisions, SHARES_ALIKE)
    return min(alike, key=lambda shares: (round(sum(one**2 for one in shares), 9), -precisions[shares]))


def _alike(precisions: Mapping[Key, float], least: float) -> list[Key]:
    """Those that have at least a part of the best one's AUPRC."""
    highest = max(precisions.values())
    return [one for one, value in precisions.items() if value >= least * highest]
