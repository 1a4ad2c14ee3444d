"""Fitting the weights of combined scores on synthetic lesions in healthy scans.

No lesion labels of scans are used, except optionally as shapes of the synthetic lesions.
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
from uadcli.running.stage import Progress, unseen
from uadcli.scoring import healthy_reference
from uadcli.scoring.calibration import Tail, rarity
from uadcli.scoring.fusion import ENOUGH, NORM, fused_scores, joined_rarity
from uadcli.scoring.healthy_reference import Reference
from uadcli.scoring.metrics import average_precision
from uadcli.synthesis.lesions import Brain, paste_kind
from uadcli.training.examples.pasted_lesions import Pasted, paste
from uadcli.training.examples.synthetic import Healthy

POWERS = (0.0, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.0)
TENTHS = 10  # shares are multiples of 1 / TENTHS
KIND = "fusion-absolute"  # absolute, as the lesions have both signs
SEED, MOST = 40, 20  # scans
LESIONS = 40  # to paste: a dozen is too few for a stable fit; each scan gets lesions 2 to 7 times, 2 if there are few
FEWEST, OFTEN = 2, 7
WHITE_MATTER = ("dots", "sheet")  # kinds of lesions, of white-matter disease
# Among powers with nearly the best AUPRC the smallest is chosen, among shares those nearest to the contrast's own:
# synthetic lesions favour the learned score, which was trained on them, and a smaller weight leaves more to the others
# for unknown lesions.
ALIKE, SHARES_ALIKE = 0.98, 0.9

Shares = tuple[float, ...]
Key = TypeVar("Key")


@dataclass(frozen=True)
class PastedScan:
    """A healthy scan (`number` among several) with pasted lesions.

    `truth` is the mask of visible lesions, `allowed` the region for them, each (96, 96, 80).
    """

    number: int
    subject: Subject
    truth: Mask
    allowed: Mask

    def precision(self, values: Array) -> float:
        """The AUPRC of a map (96, 96, 80) in the allowed region; NaN without a lesion there."""
        return average_precision(values[self.allowed], self.truth[self.allowed])

    def fused(self, powers: Sequence[float]) -> list[float]:
        """The AUPRC of the fused score r p^a, by its power a."""
        s = self.subject
        return [self.precision(m) for m in fused_scores(s.x, s.recon, s.probability, s.mask, KIND, powers)]


@dataclass(frozen=True)
class Part:
    """For each healthy scan, the tail of the others under a score and, if it is normalised, their reference."""

    tails: Sequence[Tail]
    references: Sequence[Reference] | None = None

    def rarity(self, number: int, values: Array, mask: Mask) -> Array:
        """The rarity (96, 96, 80), -log10 of a share, of a raw map among the healthy scans without this one."""
        if self.references is not None:
            values = healthy_reference.z_score(values, self.references[number], mask)
        return rarity(values, self.tails[number])


def paste_all(
    model: Model,
    healthy: Sequence[Healthy],
    config: DetectConfig,
    shapes: Sequence[Path] = (),
    progress: Progress = unseen,
) -> list[PastedScan]:
    """Scans with pasted lesions, reconstructed and scored; empty if no scan has room for a lesion.

    Up to 20 of the `healthy` scans, which were not trained on, are chosen evenly and get lesions two to seven times
    each, about 40 in total if there are at least five scans. With `shapes` (masks in MNI space) each lesion has one of
    them; otherwise they are synthetic, like those that trained the learned score, which favours it. In contrasts with
    bright lesions, every second draw is white-matter disease instead: many small lesions, or sheets.
    """
    found, chosen = [], evenly(range(len(healthy)), MOST)
    draws = min(max(FEWEST, math.ceil(LESIONS / len(chosen))), OFTEN) if len(chosen) >= ENOUGH else FEWEST
    for done, number in enumerate(chosen):
        one = healthy[number]
        for draw in range(draws):
            progress(done * draws + draw, len(chosen) * draws)
            rng = np.random.default_rng([SEED, number, draw])
            disease = draw % 2 == 1 and one.anatomy is not None and contrasts.ALL[one.kind].lesions == "bright"
            pasted = _with_disease(one, rng, config) if disease else paste(one, rng, config.preprocess, shapes)
            if pasted is None:
                continue
            subject = Subject.of(model, pasted.x, one.mask, config, one.kind, pasted.unclipped)
            subject.score("siamese")  # runs the network once, now
            found.append(PastedScan(number, subject, pasted.truth, pasted.allowed))
    return found


def _with_disease(one: Healthy, rng: np.random.Generator, config: DetectConfig) -> Pasted | None:
    """White-matter disease pasted into the usable slices of a scan; None if nothing of it is visible."""
    allowed = np.zeros_like(one.mask)
    allowed[:, :, one.usable] = one.mask[:, :, one.usable]
    kind = str(rng.choice(WHITE_MATTER))
    x, truth = paste_kind(kind, Brain(one.data, one.mask, one.kind, allowed, one.anatomy), rng)
    truth &= allowed
    return Pasted(intensity.scale(x, one.mask, config.preprocess), x, truth, allowed) if truth.any() else None


def precision_by_power(scans: Sequence[PastedScan]) -> dict[float, float]:
    """The mean AUPRC of the fused score r p^a over scans, by a; empty if there is none."""
    found = [one.fused(POWERS) for one in scans]
    return dict(zip(POWERS, np.mean(found, axis=0).tolist(), strict=True)) if found else {}


def with_best_power(model: Model, precisions: dict[float, float]) -> Model:
    """The model with the best power in its card (the smallest of similar ones); unchanged if there is none."""
    if not precisions:
        return model
    power = min(_alike(precisions, ALIKE))
    return model.with_card(fusion_power=power)


def precision_by_shares(scans: Sequence[PastedScan], parts: Mapping[str, Part]) -> dict[Shares, float]:
    """The mean AUPRC of `fisher` (`fusion.fisher_score`) by shares of the `parts`, in tenths; empty without a scan.

    Scans with lesions have the numbers of the healthy scans of the parts, so that none is compared with itself.
    """
    tenths = itertools.product(range(TENTHS + 1), repeat=len(parts))
    shares = [tuple(n / TENTHS for n in one) for one in tenths if sum(one) == TENTHS]
    found = []
    for one in scans:
        of = one.subject
        rare = np.stack([part.rarity(one.number, of.raw(kind), of.mask)[one.allowed] for kind, part in parts.items()])
        truth, raised = one.truth[one.allowed], rare**NORM
        likely = np.broadcast_to(of.likely, of.mask.shape)[one.allowed]
        joined = (joined_rarity(np.array(weights, np.float32) @ raised, likely) for weights in shares)
        found.append([average_precision(values, truth) for values in joined])
    return dict(zip(shares, np.mean(found, axis=0).tolist(), strict=True)) if found else {}


def best_shares(precisions: Mapping[Shares, float], usual: Shares) -> Shares | None:
    """The shares nearest to the `usual` ones among those nearly as good as the best; None if there are none.

    The usual ones stay unless synthetic lesions are clearly against them.
    """
    if not precisions:
        return None
    alike = _alike(precisions, SHARES_ALIKE)
    return min(alike, key=lambda shares: (round(math.dist(shares, usual), 9), -precisions[shares]))


def _alike(precisions: Mapping[Key, float], least: float) -> list[Key]:
    """The keys with at least the share `least` of the best AUPRC."""
    highest = max(precisions.values())
    return [one for one, value in precisions.items() if value >= least * highest]
