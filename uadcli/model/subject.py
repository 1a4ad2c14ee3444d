"""One scan on the model's grid, and the evidence for its scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from uadcli import contrasts
from uadcli.arrays import Array, Mask
from uadcli.config import DetectConfig, ScoringConfig
from uadcli.errors import UsageError
from uadcli.imaging import intensity
from uadcli.imaging.slices import from_slices, occupied, to_slices
from uadcli.model.model import Model, Part, parts_of, prior_of
from uadcli.scoring import scores
from uadcli.scoring.healthy_reference import Reference
from uadcli.scoring.scores.base import FeaturePairs


@dataclass(frozen=True)
class Subject:
    """A scaled scan `x` (96, 96, 80) in [0, 1], its reconstruction and its brain mask, under a model and settings.

    `contrast` is needed only by scores that use healthy scans, or whether lesions are bright. `unclipped` is the scan
    before it was scaled, which clips it. The maps of costly scores are cached.
    """

    model: Model
    x: Array
    recon: Array
    mask: Mask
    config: DetectConfig
    contrast: str = ""
    kept: dict[str, Array] = field(default_factory=dict, repr=False)
    unclipped: Array | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls,
        model: Model,
        x: Array,
        mask: Mask,
        config: DetectConfig,
        contrast: str = "",
        unclipped: Array | None = None,
    ) -> Subject:
        """Reconstruct a scaled scan x (96, 96, 80). Raises as `Model.reconstruct`."""
        return cls(
            model, x, model.reconstruct(x, mask, config.reconstruction), mask, config, contrast, unclipped=unclipped
        )

    @property
    def robust_z(self) -> Array:
        """The unclipped scan (96, 96, 80) as robust z, negated in contrasts with dark lesions; computed once.

        Raises `UsageError` without unclipped scan or contrast.
        """
        if self.contrast not in contrasts.ALL:
            raise UsageError("this score needs the contrast of the scan", hint="Choose another score.")
        return -self._z if contrasts.ALL[self.contrast].lesions == "dark" else self._z

    @property
    def _z(self) -> Array:
        """The unclipped scan (96, 96, 80) as robust z; computed once. Raises `UsageError` if it is not known."""
        if "unclipped" not in self.kept:
            self.kept["unclipped"] = intensity.robust_z(self._known, self.mask)
        return self.kept["unclipped"]

    @property
    def _known(self) -> Array:
        """`unclipped`. Raises `UsageError` if it is not known."""
        if self.unclipped is None:
            what = "this score needs the unclipped intensities of a scan"
            raise UsageError(what, hint="Choose another score.")
        return self.unclipped

    @property
    def scoring(self) -> ScoringConfig:
        return self.config.scoring

    @property
    def reference_scoring(self) -> ScoringConfig:
        """The post-processing of maps that are compared with healthy scans: with the erosion of the card."""
        return dataclasses.replace(self.scoring, erosion=self.model.card.reference_erosion)

    @property
    def shaded(self) -> Array:
        """The reconstruction (96, 96, 80) with the shading of the scan, if the card says that references are so made.

        In [0, 1]; otherwise the reconstruction itself.
        """
        from uadcli.scoring.residual import shading

        if not self.model.card.without_shading:
            return self.recon
        return np.minimum(self.recon * shading(self.x, self.recon, self.mask), 1).astype(np.float32)

    @property
    def fusion_power(self) -> float:
        return self.model.card.fusion_power

    @property
    def likely(self) -> Array | float:
        return prior_of(self.model.card)

    @property
    def raw_probability(self) -> Array:
        """The probability of abnormality (96, 96, 80) slice by slice; 0 outside the mask.

        Raises `WeightsError` if the model has no score network, and `UsageError` if it needs the unclipped scan.
        """
        from uadcli.scoring.siamese import Runs, siamese_score

        model, indices, settings = self.model, occupied(self.mask), self.config.reconstruction
        x = self.x
        if model.score_network.config.headroom:
            x = x + intensity.headroom(self._known, self.mask, self.config.preprocess)
        slices, healthy = to_slices(x), to_slices(self.recon)
        runs = Runs(model.device, settings.batch_size, settings.arithmetic == "bf16")
        stack = siamese_score(model.score_network, slices, healthy, indices, runs)
        return np.where(self.mask, from_slices(stack), 0).astype(np.float32)

    @property
    def probability(self) -> Array:
        """`raw_probability` (96, 96, 80), smoothed over neighbouring slices and guided by the edges of the scan, as the
        card says; computed once."""
        from uadcli.scoring.siamese import guided_filter, smooth_along_slices

        if "probability" not in self.kept:
            card = self.model.card
            smooth = smooth_along_slices(self.raw_probability, self.mask, card.along_slices)
            if card.guide_radius:
                smooth = guided_filter(smooth, self._z, self.mask, card.guide_radius)
            self.kept["probability"] = smooth
        return self.kept["probability"]

    def changed(self, change: Array) -> Subject:
        """The same scan with `change` (96, 96, 80) added to its scaled intensities, reconstructed anew.

        The unclipped intensities change as much, by their ratio to the scaled ones where neither is clipped.
        """
        x, unclipped = np.clip(self.x + change, 0, 1), self.unclipped
        if unclipped is not None:
            inner = self.mask & (self.x > 0) & (self.x < 1)
            spread = float(np.std(self.x[inner])) if inner.any() else 0.0
            unclipped = unclipped + change * np.float32(np.std(unclipped[inner]) / spread if spread else 0.0)
        return Subject.of(self.model, x, self.mask, self.config, self.contrast, unclipped)

    @property
    def draws(self) -> Array:
        """Reconstructions (n, 96, 96, 80) that differ only by their noise; not cached, because they are large."""
        return self.model.draws(self.x, self.mask, self.config.reconstruction)

    @property
    def features(self) -> Iterator[FeaturePairs]:
        """The network's features of scan and reconstruction; see `Model.features`."""
        return self.model.features(self.x, self.recon, self.mask, self.config.reconstruction.batch_size)

    def score(self, name: str) -> Array:
        """The anomaly map (96, 96, 80) of a score; 0 outside the brain.

        Raises `UsageError` for an unknown score, and for healthy scans that the model does not know.
        """
        kind = scores.find(name)
        if name not in self.kept:
            found = kind.compute(self)
            if not kind.costly:
                return found
            self.kept[name] = found
        return self.kept[name]

    def raw(self, name: str) -> Array:
        """The map (96, 96, 80) of a score before it is normalised to healthy scans: what a reference is made from.

        Of a score `z-NAME` this is the map of `Score.behind` if NAME has one, otherwise NAME with the erosion of the
        healthy references.
        """
        if not name.startswith(scores.Z):
            return self.score(name)
        plain = scores.find(scores.base_of(name))
        if plain.behind:
            return plain.behind(self)
        config = dataclasses.replace(self.config, scoring=self.reference_scoring)
        return dataclasses.replace(self, config=config).score(plain.name)

    def reference(self, name: str) -> Reference:
        """The healthy reference of a plain score. Raises `UsageError` if the model has none."""
        return self.model.reference(name, self.contrast, self.config.reconstruction)

    def parts(self, name: str) -> Sequence[Part]:
        """The parts of a joined score. Raises `UsageError` if the model does not know their healthy tails."""
        return parts_of(self.model.card, name, self.contrast)
