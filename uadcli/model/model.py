"""A model in use: its networks, built once, and its statistics of healthy scans by score and contrast."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from uadcli.arrays import Array, Mask
from uadcli.config import ReconstructionConfig
from uadcli.errors import UsageError, WeightsError
from uadcli.imaging import template
from uadcli.imaging.slices import from_slices, occupied, to_slices
from uadcli.scoring import fusion, scores
from uadcli.scoring import healthy_reference as reference
from uadcli.scoring import scanner_drift as drift
from uadcli.scoring.calibration import Tail
from uadcli.scoring.healthy_reference import Reference
from uadcli.scoring.scores.base import FeaturePairs

if TYPE_CHECKING:
    from uadcli.reconstruction.model import Network
    from uadcli.reconstruction.reconstructors import Method, Progress
    from uadcli.scoring.siamese import SiameseUNet
    from uadcli.weights.card import ModelCard
    from uadcli.weights.weights import Weights

# reconstructions for the Mahalanobis score, which differ only by their noise, and the one level of it (method 4)
DRAWS, DRAW_LEVEL = 10, 500


@dataclass(frozen=True)
class Adaptation:
    """What adapts a model: by which way (`model.ways`), from how many healthy scans, and their digest, if from any.

    `drift` (96, 96, 80), if any, is added to its reconstructions; `network`, if any, replaces that of the weights.
    """

    way: str
    scans: int | None = None
    sha256: str | None = None
    drift: Array | None = dataclasses.field(default=None, repr=False)
    network: Network | None = dataclasses.field(default=None, repr=False)


class Part(NamedTuple):
    """One of the scores that a joined score is made of."""

    name: str
    tail: Tail
    share: float


@dataclass(frozen=True, eq=False)
class Model:
    """Weights on a torch device. Networks are built once."""

    weights: Weights
    device: str = "cpu"
    adaptation: Adaptation | None = None

    @property
    def card(self) -> ModelCard:
        return self.weights.card

    @property
    def path(self) -> Path:
        return self.weights.path

    @property
    def sha256(self) -> str:
        return self.weights.sha256

    @property
    def network(self) -> Network:
        """The network of the reconstruction, adapted if the model is."""
        adapted = self.adaptation.network if self.adaptation else None
        return self.weights.model if adapted is None else adapted

    @property
    def trained_method(self) -> str:
        """The method that the network was trained for."""
        return self.network.config.method

    @cached_property
    def score_network(self) -> SiameseUNet:
        """The network of the score `siamese`. Raises `WeightsError` if the weights have none."""
        from uadcli.scoring.siamese import SiameseUNet

        sizes = self.card.score_network
        if sizes is None:
            raise WeightsError(
                "has no network for the score 'siamese'", path=self.path, hint="Choose another --score or --weights."
            )
        network = SiameseUNet(sizes)
        network.load_state_dict(self.weights.score_state)
        return network.eval()

    def with_card(self, **changes: Any) -> Model:
        """The same networks with other entries of the card."""
        card = dataclasses.replace(self.card, **changes)
        return dataclasses.replace(self, weights=dataclasses.replace(self.weights, card=card))

    def method(self, config: ReconstructionConfig) -> Method:
        """The reconstruction method: that of the settings, otherwise the one that the model was trained for.

        Raises `WeightsError` if the model cannot be used with it.
        """
        from uadcli.reconstruction.reconstructors import choose

        return choose(config.method, self.trained_method, self.path)

    def levels(self, config: ReconstructionConfig) -> tuple[int, ...]:
        """The noise levels: those of the settings, otherwise those stored with the weights."""
        return config.levels or self.card.levels

    def card_by(self, config: ReconstructionConfig) -> ModelCard:
        """The card for the method of the settings (`card_for`)."""
        return card_for(self.card, self.trained_method, self.method(config).name)

    def reconstruct(
        self, x: Array, mask: Mask, config: ReconstructionConfig, progress: Progress | None = None
    ) -> Array:
        """The pseudo-healthy volume of a scaled scan x (96, 96, 80) in [0, 1]; 0 outside the brain mask.

        A model adapted by the mean residual adds it. Raises `WeightsError` if the model cannot be used with
        the method.
        """
        method, slices, indices = self.method(config), to_slices(x), occupied(mask)
        settings = dataclasses.replace(config, levels=self.levels(config))
        recon = np.zeros_like(slices)
        reconstructor = method.reconstructor(self.network, settings, self.device, progress)
        recon[indices] = reconstructor(slices[indices], indices.tolist())
        healthy = np.where(mask, from_slices(recon), 0).astype(np.float32)
        known = self.adaptation.drift if self.adaptation else None
        return healthy if known is None else drift.added(healthy, known, mask)

    def worst_perturbation(self, x: Array, mask: Mask, config: ReconstructionConfig) -> tuple[Array, float]:
        """The change (96, 96, 80) of a scan within its noise that moves the residual most, and that noise.

        At the middle noise level alone; see `reconstruction.instability`. Both in units of the scaled scan.
        """
        from uadcli.reconstruction import instability

        levels = sorted(self.levels(config))
        slices, brain, indices = to_slices(x), to_slices(mask), occupied(mask)
        noise = instability.noise_of(slices[indices], brain[indices])
        change = np.zeros_like(slices)
        if noise > 0:
            ascent = instability.Ascent(noise, levels[len(levels) // 2], config.seed)
            network = self.network.to(self.device)
            found = instability.worst_perturbation(network, slices[indices], indices.tolist(), brain[indices], ascent)
            change[indices] = found
        return from_slices(change), noise

    def draws(self, x: Array, mask: Mask, config: ReconstructionConfig) -> Array:
        """Reconstructions (10, 96, 96, 80) at one level that differ only by their noise (method 4).

        Raises `UsageError` for a method without noise.
        """
        method = self.method(config)
        if not method.draws:
            raise UsageError(
                f"the reconstructions of {method.name} do not differ by their noise, so there is no score "
                "'mahalanobis'",
                hint="Choose another --score or --method.",
            )
        settings = [dataclasses.replace(config, levels=(DRAW_LEVEL,), seed=config.seed + i) for i in range(DRAWS)]
        return np.stack([self.reconstruct(x, mask, one) for one in settings])

    def slice_scores(self, x: Array, recon: Array, mask: Mask) -> dict[int, float] | None:
        """The method's own score of each axial slice by its index (z of the model's grid), from 0; None if it has none.

        `x` and `recon` are volumes (96, 96, 80) in [0, 1], 0 outside the brain mask.
        """
        from uadcli.reconstruction.reconstructors import find

        score = find(self.trained_method).slice_score
        if score is None:
            return None
        indices = occupied(mask)
        found = score(self.network, to_slices(x)[indices], to_slices(recon)[indices])
        return dict(zip(indices.tolist(), found.tolist(), strict=True))

    def features(self, x: Array, recon: Array, mask: Mask, size: int) -> Iterator[FeaturePairs]:
        """The network's features of scan and reconstruction, both (96, 96, 80) in [0, 1], for `Evidence.features`.

        In batches of `size` axial slices. Both have the condition of the scan, so that only what they show differs.
        Raises `UsageError` if the network has no feature maps.
        """
        import torch

        network, indices = self.network.eval().to(self.device), occupied(mask)
        scan, healthy = to_slices(x), to_slices(recon)
        for start in range(0, len(indices), size):
            part = indices[start : start + size]
            a, b = (torch.from_numpy(stack[part][:, None]).to(self.device) for stack in (scan, healthy))
            with torch.inference_mode():
                condition = network.encode(a)
                pairs = list(zip(network.features(a, condition), network.features(b, condition), strict=True))
            if not pairs:
                what = f"the network of {self.trained_method} has no feature maps to compare"
                raise UsageError(what, hint="Choose another --score.")
            yield part, pairs

    def check(self, score: str, contrast: str, config: ReconstructionConfig) -> None:
        """Raises `UsageError` if there is no such score, or if it needs statistics of healthy scans that the model does
        not have for the contrast and method."""
        kind = scores.find(score)
        if kind.normalised and not kind.joined:
            self.reference(scores.base_of(score), contrast, config)
        for part in parts_of(self.card_by(config), score, contrast):
            self.check(part.name, contrast, config)

    def reference(self, score: str, contrast: str, config: ReconstructionConfig) -> Reference:
        """The healthy reference of a plain score in a contrast.

        Raises `UsageError` if the model has none, or was not trained for the method of the settings.
        """
        known = None
        if self.method(config).name == self.trained_method:
            known = reference.from_state(self.weights.reference_state, score, contrast)
        if known is None:
            raise UsageError(
                f"{self.card.name} has no healthy reference for the score {scores.Z + score!r} "
                f"in {contrast or 'this contrast'}",
                hint="Choose another --score or --weights; `uad calibrate` makes one from healthy scans.",
            )
        return known


def load(path: Path, sha256: str | None = None, device: str = "cpu") -> Model:
    """The model in a weight file, on a torch device. Raises `WeightsError` as `weights.load`."""
    from uadcli.weights import weights

    return Model(weights.load(path, sha256), device)


def check_network(card: ModelCard, score: str, path: Path) -> None:
    """Raises `WeightsError` for a score that needs a network that the weights do not have."""
    if card.siamese is None and scores.find(score).learned:
        raise WeightsError(
            f"has no network for the score {score!r}", path=path, hint="Choose another --score or --weights."
        )


def card_for(card: ModelCard, trained: str, method: str) -> ModelCard:
    """The card, without statistics of healthy scans if the weights are used with another method than they were trained
    for."""
    if method == trained:
        return card
    return dataclasses.replace(card, name=f"{card.name} by {method}", thresholds={}, strengths={}, tails={})


def shares_of(card: ModelCard, contrast: str) -> Mapping[str, float]:
    """The scores combined by `fisher` in a contrast, and the share of each."""
    return card.shares.get(contrast, {})


def prior_of(card: ModelCard) -> Array | float:
    """The prior (96, 96, 80) of `fisher` by the odds of a card (`fusion.prior`); 0 if it makes no difference."""
    odds = card.odds_outside_white_matter
    return 0.0 if odds == 1 else fusion.prior(odds, template.white_matter())


def parts_of(card: ModelCard, score: str, contrast: str) -> list[Part]:
    """The scores that a joined score is made of, with their healthy tails and shares; empty for any other score.

    Raises `UsageError` if the card does not have them.
    """
    if not scores.find(score).joined:
        return []
    shares = shares_of(card, contrast)
    found = [Part(n, tail, share) for n, share in shares.items() if (tail := card.tail_of(n, contrast))]
    if not shares or len(found) < len(shares):
        raise UsageError(
            f"{card.name} has no score quantiles of healthy {contrast or 'scans'} for the score {score!r}",
            hint="Choose another --score or --weights.",
        )
    return found
