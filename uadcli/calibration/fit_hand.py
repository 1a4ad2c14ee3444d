"""Training of HAND (`reconstruction.hand`) on a model's healthy scans, and its limit from held-out ones.

In-distribution are the training scans, also with synthetic lesions and effects of other scanners, and brains made of
label maps: neither a patient nor another scanner is a wrong input. Out-of-distribution are wrong inputs made of these
scans, and synthetic scans of the other contrasts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uadcli.arrays import Array
from uadcli.config import CONTRASTS, PreprocessConfig
from uadcli.contrasts import T1W
from uadcli.data.dataset import Case, evenly
from uadcli.data.scans import Scans
from uadcli.imaging import intensity
from uadcli.imaging.slices import to_slices
from uadcli.model import hand
from uadcli.model.hand import HandGate
from uadcli.model.out_of_distribution import enough
from uadcli.reconstruction.hand import Hand, loss, shrunk
from uadcli.running.stage import Part, Progress, unseen
from uadcli.synthesis.wrong import wrong
from uadcli.training.examples.synthetic import SceneMaker, Sources, load_healthy

SEED = 0
MOST_SCANS, SCENES, EVERY = 30, 40, 3  # training scans; synthetic ones of each side; of their slices every third
STEPS, BATCH, RATE, CLIP = 600, 32, 1e-3, 1.0


@dataclass(frozen=True)
class Taught:
    """Slices (N, 1, 48, 48) as float16 that the network learns: in-distribution and out-of-distribution."""

    known: Tensor
    unknown: Tensor


def fit_hand(
    training: Sequence[Case],
    held_out: Sequence[Case],
    scans: Scans,
    labels: Sequence[NDArray[np.int16]],
    note: Callable[[str], None],
) -> dict[str, HandGate]:
    """The check of each contrast with enough training and held-out scans. Raises as `prepare`.

    `labels` are head label maps as in `training.examples.synthetic`. Of patients, only slices without lesion are used.
    """
    gates = {}
    for contrast in enough(training, held_out):
        chosen = evenly([c for c in training if c.contrast == contrast], MOST_SCANS)
        sources = Sources(load_healthy(chosen, scans), labels)
        taught = examples(sources, contrast, scans.config, Part(note, f"making {contrast} example"))
        network = train(taught, STEPS, Part(note, "HAND: step"))
        healthy = [c for c in held_out if c.contrast == contrast]
        measured = ((scans.prepared(c.scan).scaled(scans.config), scans.healthy_slices(c)) for c in healthy)
        gates[contrast] = hand.gate(network, [one for one in measured if len(one[1])])
    return gates


def examples(sources: Sources, contrast: str, config: PreprocessConfig, progress: Progress = unseen) -> Taught:
    """The slices to learn from, made of healthy volumes of the contrast and of label maps; always the same ones."""
    known, unknown = list[Tensor](), list[Tensor]()
    total = len(sources.healthy) + SCENES
    for done, one in enumerate(sources.healthy):
        progress(done, total)
        rng = np.random.default_rng([SEED, done])
        x = intensity.scale(one.data, one.mask, config)
        known.append(_slices(x, one.usable))
        unknown += [_slices(intensity.scale(wrong(x, one.mask, rng), one.mask, config), one.usable) for _ in range(2)]
    for done, (of_known, of_unknown) in enumerate(_scenes(sources, contrast, config)):
        progress(len(sources.healthy) + done, total)
        known.append(of_known)
        unknown.append(of_unknown)
    return Taught(torch.cat(known), torch.cat(unknown))


def _scenes(sources: Sources, contrast: str, config: PreprocessConfig) -> Iterator[tuple[Tensor, Tensor]]:
    """Slices of synthetic scans with lesions, of the contrast and of the others.

    If no other can be made, which needs T1w scans or label maps, wrong inputs take their place.
    """
    others = [c for c in CONTRASTS if c != contrast]
    makers = [SceneMaker(Sources(sources.healthy, sources.labels, of), config, SEED) for of in ([contrast], others)]
    for number in range(SCENES):
        like = makers[0].draw(number)
        if sources.labels or contrast == T1W.name:
            unlike = makers[1].draw(number)
        else:
            x = wrong(like.x, like.mask, np.random.default_rng([SEED, number]))
            unlike = replace(like, x=intensity.scale(x, like.mask, config))
        yield _slices(like.x, like.usable), _slices(unlike.x, unlike.usable)


def _slices(x: Array, usable: NDArray[np.int64]) -> Tensor:
    """Every third usable slice of a scaled volume (96, 96, 80) as the network sees it, float16."""
    return shrunk(torch.from_numpy(to_slices(x)[usable[::EVERY]])).half()


def train(taught: Taught, steps: int, progress: Progress = unseen) -> Hand:
    """Train a new network for a number of steps; its parameters are rounded to float16, as they are stored."""
    generator = torch.Generator().manual_seed(SEED)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = Hand()
    optimiser = torch.optim.AdamW(network.parameters(), RATE)
    falling = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.05, steps)
    for done in range(steps):
        progress(done, steps)
        known, unknown = (_draw(one, generator) for one in (taught.known, taught.unknown))
        optimiser.zero_grad()
        loss(network, known, unknown).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimiser.step()
        falling.step()
    return network.half().float().eval()


def _draw(slices: Tensor, generator: torch.Generator) -> Tensor:
    return slices[torch.randint(len(slices), (BATCH,), generator=generator)].float()
