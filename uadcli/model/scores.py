"""Reconstruct a prepared scan and score it: the one place that joins reconstructor, score and post-processing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from uadcli.arrays import Array, Mask
from uadcli.config import SCORES, DetectConfig, ReconstructionConfig, SiameseConfig, from_dict
from uadcli.data.prepare import Prepared
from uadcli.errors import UsageError, WeightsError
from uadcli.imaging import template
from uadcli.imaging.slices import GRID_AFFINE, from_slices, occupied, to_slices
from uadcli.scoring import healthy_reference, scanner_drift
from uadcli.scoring.calibration import Tail, strength
from uadcli.scoring.components import Component, components
from uadcli.scoring.scores import fusion
from uadcli.scoring.scores.mahalanobis import mahalanobis_score
from uadcli.scoring.scores.residual import anomaly_score, postprocess
from uadcli.scoring.scores.ssim import ssim_score

if TYPE_CHECKING:
    from uadcli.reconstruction.reconstructors import Method, Progress
    from uadcli.scoring.healthy_reference import Reference
    from uadcli.weights.weights import ModelCard, Weights

SIAMESE, MAHALANOBIS = "siamese", "mahalanobis"
DRAWS, DRAW_LEVEL = 10, 500  # of the Mahalanobis score


def reconstruct(
    loaded: Weights,
    x: Array,
    mask: Mask,
    config: ReconstructionConfig,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Array:
    """The pseudo-healthy volume of a scaled scan x (96, 96, 80) in [0, 1]; 0 outside the brain mask.

    Weights that are adapted add the drift of the scanner. Raises `WeightsError` if they do not serve the method that
    the settings name.
    """
    method, slices, indices = method_of(loaded, config), to_slices(x), occupied(mask)
    settings = dataclasses.replace(config, levels=config.levels or loaded.card.levels)
    recon = np.zeros_like(slices)
    recon[indices] = method.reconstructor(loaded.model, settings, device, progress)(slices[indices], indices.tolist())
    rebuilt = np.where(mask, from_slices(recon), 0).astype(np.float32)
    return scanner_drift.added(rebuilt, loaded.adaptation.drift, mask) if loaded.adaptation else rebuilt


def method_of(loaded: Weights, config: ReconstructionConfig) -> Method:
    """The method that rebuilds: the one the settings name, else that of the weights.

    Raises `WeightsError` if the weights were not trained for it.
    """
    from uadcli.reconstruction.reconstructors import choose

    return choose(config.method, loaded.model.config.method, loaded.path)


def card_for(card: ModelCard, trained: str, method: str) -> ModelCard:
    """What weights that were `trained` for a method say of themselves by another: nothing of healthy scans."""
    if method == trained:
        return card
    return dataclasses.replace(card, name=f"{card.name} by {method}", thresholds={}, strengths={}, tails={})


def slice_scores(loaded: Weights, x: Array, recon: Array, mask: Mask) -> dict[int, float] | None:
    """How far apart the scan's and the reconstruction's encodings lie, by axial slice index; None but for the VAE."""
    from uadcli.reconstruction.reconstructors.vae import latent_dissimilarity

    if loaded.model.config.method != "vae":
        return None
    indices = occupied(mask)
    found = latent_dissimilarity(loaded.model, to_slices(x)[indices], to_slices(recon)[indices])
    return dict(zip(indices.tolist(), found.tolist(), strict=True))


def probability(
    loaded: Weights, x: Array, recon: Array, mask: Mask, config: DetectConfig, device: str = "cpu"
) -> Array:
    """The probability of abnormality (96, 96, 80) that the score network of the weights gives; 0 outside the mask."""
    from uadcli.scoring.scores.siamese import siamese_score

    network, size = siamese_network(loaded), config.reconstruction.batch_size
    stack = siamese_score(network, to_slices(x), to_slices(recon), occupied(mask), device, size)
    return np.where(mask, from_slices(stack), 0).astype(np.float32)


def learned_score(
    loaded: Weights, x: Array, recon: Array, mask: Mask, config: DetectConfig, device: str = "cpu"
) -> Array:
    """`probability`, smoothed over neighbouring slices as the weights say: the score `siamese`."""
    from uadcli.scoring.scores.siamese import smooth_along_slices

    raw = probability(loaded, x, recon, mask, config, device)
    return smooth_along_slices(raw, mask, loaded.card.along_slices)


def draws(loaded: Weights, x: Array, mask: Mask, config: ReconstructionConfig, device: str = "cpu") -> Array:
    """Reconstructions (10, 96, 96, 80) at one level that differ by their noise alone (method 4).

    Raises `UsageError` for a method without noise.
    """
    method = method_of(loaded, config)
    if not method.draws:
        raise UsageError(
            f"the reconstructions of {method.name} do not differ by their noise, so there is no score 'mahalanobis'",
            hint="Choose another --score or --method.",
        )
    settings = [dataclasses.replace(config, levels=(DRAW_LEVEL,), seed=config.seed + i) for i in range(DRAWS)]
    return np.stack([reconstruct(loaded, x, mask, one, device) for one in settings])


def siamese_network(loaded: Weights) -> Any:
    """The score network of the weights. Raises `WeightsError` if they have none."""
    from uadcli.scoring.scores.siamese import SiameseUNet

    if loaded.card.siamese is None:
        raise WeightsError(
            "has no network for the score 'siamese'", path=loaded.path, hint="Choose another --score or --weights."
        )
    sizes = {"mirror": False, **loaded.card.siamese}  # a card older than the mirror image does not name it
    network = SiameseUNet(from_dict(SiameseConfig, sizes))
    network.load_state_dict(loaded.score_state)
    return network.eval()


def score(
    loaded: Weights,
    x: Array,
    recon: Array,
    mask: Mask,
    kind: str,
    config: DetectConfig,
    device: str = "cpu",
    contrast: str = "",
) -> Array:
    """The anomaly map (96, 96, 80) of a scaled scan and its pseudo-healthy version, by the score `kind`; 0 outside.

    `contrast` is asked only by scores that are held against a healthy reference. Raises `UsageError` for an unknown
    kind, and for a reference that the weights do not have.
    """
    return scores(loaded, x, recon, mask, (kind,), config, device, contrast)[kind]


def scores(
    loaded: Weights,
    x: Array,
    recon: Array,
    mask: Mask,
    kinds: Sequence[str],
    config: DetectConfig,
    device: str = "cpu",
    contrast: str = "",
) -> dict[str, Array]:
    """The anomaly maps of several scores; the score network runs once for all. Raises as `score`."""
    for kind in kinds:
        check_health(loaded, kind, contrast, config)
    tails = tails_behind(loaded.card, fusion.FISHER, contrast) if fusion.FISHER in kinds else {}
    wanted = dict.fromkeys([*(kind for kind in kinds if kind != fusion.FISHER), *tails])
    found = raw_scores(loaded, x, recon, mask, list(wanted), config, device)
    for kind in (one for one in wanted if one.startswith(healthy_reference.PREFIX)):
        found[kind] = healthy_reference.z_score(found[kind], reference_of(loaded, kind, contrast, config), mask)
    if fusion.FISHER in kinds:
        shares = shares_of(loaded.card, contrast)
        parts = [(found[kind], tail, shares[kind]) for kind, tail in tails.items()]
        found[fusion.FISHER] = fusion.fisher_score(parts, mask)
    return {kind: found[kind] for kind in kinds}


def raw_scores(
    loaded: Weights,
    x: Array,
    recon: Array,
    mask: Mask,
    kinds: Sequence[str],
    config: DetectConfig,
    device: str = "cpu",
    known: Mapping[str, Array] | None = None,
) -> dict[str, Array]:
    """The maps of several scores as they are without the healthy scans of the weights: of `z-absolute` the residual
    that is held against its reference, with the erosion that this was made with. `known` has `costly_scores` that are
    there already. Raises `UsageError` for an unknown kind, and for `fisher`, which is made of such scores."""
    costly = costly_scores(loaded, x, recon, mask, kinds, config, device) if known is None else known
    eroded = dataclasses.replace(config.scoring, erosion=loaded.card.reference_erosion)
    behind = dataclasses.replace(config, scoring=eroded)
    return {
        kind: _score(loaded, x, recon, mask, name, config if kind == name else behind, costly)
        for kind, name in ((kind, kind.removeprefix(healthy_reference.PREFIX)) for kind in kinds)
    }


def costly_scores(
    loaded: Weights,
    x: Array,
    recon: Array,
    mask: Mask,
    kinds: Sequence[str],
    config: DetectConfig,
    device: str = "cpu",
) -> dict[str, Array]:
    """Of the scores behind `kinds` those that ask a network, each once: `siamese` and `mahalanobis`, raw."""
    plain, found = {kind.removeprefix(healthy_reference.PREFIX) for kind in kinds}, dict[str, Array]()
    if plain & {SIAMESE, *fusion.RESIDUALS}:
        found[SIAMESE] = learned_score(loaded, x, recon, mask, config, device)
    if MAHALANOBIS in plain:
        found[MAHALANOBIS] = mahalanobis_score(x, draws(loaded, x, mask, config.reconstruction, device), mask)
    return found


def shares_of(card: ModelCard, contrast: str) -> Mapping[str, float]:
    """What `fisher` is made of in a contrast, and the share of each."""
    return card.shares.get(contrast) or fusion.FIRST.get(contrast, {})


def tails_behind(card: ModelCard, kind: str, contrast: str) -> dict[str, Tail]:
    """The healthy tails of the scores that `fisher` is made of, by score; of any other score none.

    Raises `UsageError` if the card does not know them.
    """
    if kind != fusion.FISHER:
        return {}
    known = {part: card.tails.get(part, {}).get(contrast) for part in shares_of(card, contrast)}
    tails: dict[str, Tail] = {part: tail for part, tail in known.items() if tail}
    if not known or len(tails) < len(known):
        raise UsageError(
            f"{card.name} does not know how rare scores are in healthy {contrast or 'scans'}, for the score {kind!r}",
            hint="Choose another --score or --weights.",
        )
    return tails


def check_health(loaded: Weights, kind: str, contrast: str, config: DetectConfig) -> None:
    """Raises `UsageError` if a score asks for healthy scans of a contrast that the weights do not know, or know only
    by another method."""
    if kind.startswith(healthy_reference.PREFIX):
        reference_of(loaded, kind, contrast, config)
    card = card_for(loaded.card, loaded.model.config.method, method_of(loaded, config.reconstruction).name)
    for part in tails_behind(card, kind, contrast):
        check_health(loaded, part, contrast, config)


def reference_of(loaded: Weights, kind: str, contrast: str, config: DetectConfig) -> Reference:
    """The healthy reference behind the score `kind`, for example `z-absolute`.

    Raises `UsageError` if the weights have none for this contrast, or were not trained for the method at hand.
    """
    known = None
    if method_of(loaded, config.reconstruction).name == loaded.model.config.method:
        known = healthy_reference.from_state(
            loaded.reference_state, kind.removeprefix(healthy_reference.PREFIX), contrast
        )
    if known is None:
        raise UsageError(
            f"{loaded.card.name} has no healthy reference for the score {kind!r} in {contrast or 'this contrast'}",
            hint="Choose another --score or --weights; `uad calibrate` makes one from healthy scans.",
        )
    return known


def _score(
    loaded: Weights,
    x: Array,
    recon: Array,
    mask: Mask,
    kind: str,
    config: DetectConfig,
    costly: Mapping[str, Array],
) -> Array:
    if kind in costly:
        return costly[kind]
    if kind in fusion.RESIDUALS:
        return fusion.fused_score(x, recon, costly[SIAMESE], mask, kind, loaded.card.fusion_power)
    if kind == "ssim":
        return postprocess(ssim_score(x, recon, mask), mask, config.scoring)
    if kind == "intensity":
        return np.where(mask, x, 0).astype(np.float32)
    if kind not in SCORES:
        raise UsageError(f"there is no score {kind!r}", hint=f"The scores are {', '.join(SCORES)}.")
    return anomaly_score(x, recon, mask, kind, config.scoring)


def find(
    anomaly_map: Array, threshold: float, prepared: Prepared, config: DetectConfig
) -> tuple[NDArray[np.uint8], list[Component]]:
    """Labels and table of the components above the threshold; the smallest volume counts in the patient's space."""
    smallest = config.scoring.min_volume_mm3 / prepared.size_factor
    return components(anomaly_map, threshold, smallest, GRID_AFFINE, template.regions())


def flagged_ml(table: list[Component], prepared: Prepared) -> float:
    """The volume of all components in the patient's space."""
    return sum(c.volume_mm3 for c in table) * prepared.size_factor / 1e3


def strength_of(anomaly_map: Array, prepared: Prepared, config: DetectConfig) -> float:
    """The strength of a map (`scoring.calibration.strength`), with the component filter of `find`."""
    return strength(anomaly_map, config.scoring.min_volume_mm3 / prepared.size_factor, GRID_AFFINE)
