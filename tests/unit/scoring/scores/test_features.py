"""The score `features`: angles between what the network sees in scan and reconstruction, at several scales."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from uadcli.config import DetectConfig, EncoderConfig, ModelConfig, ScoringConfig
from uadcli.errors import UsageError
from uadcli.imaging.slices import GRID_SHAPE
from uadcli.model.model import Model
from uadcli.model.subject import Subject
from uadcli.reconstruction.model import Network
from uadcli.reconstruction.reconstructors import BY_NAME, build, for_method
from uadcli.scoring.scores.features import dissimilarity

SLAB = slice(38, 42)
PLAIN = DetectConfig(scoring=ScoringConfig(erosion=0, median=1))


def maps(*channels: float, side: int = 2) -> torch.Tensor:
    """Constant feature maps (1, C, side, side)."""
    return torch.tensor(channels).view(1, -1, 1, 1).expand(1, -1, side, side)


def test_it_is_one_minus_the_cosine_averaged_over_scales() -> None:
    east, north, west = maps(1.0, 0.0), maps(0.0, 3.0), maps(-2.0, 0.0)
    for other, expected in ((east, 0), (5 * east, 0), (north, 1), (west, 2)):
        assert dissimilarity([(east, other)], (4, 4)).numpy() == pytest.approx(np.full((1, 4, 4), expected), abs=1e-6)
    coarse = maps(1.0, 0.0, side=1), maps(0.0, 1.0, side=1)
    both = dissimilarity([(east, west), coarse], (6, 6))
    assert both.numpy() == pytest.approx(np.full((1, 6, 6), (2 + 1) / 2), abs=1e-6)


def subject(method: str, config: ModelConfig, changed: slice | None) -> Subject:
    """A textured slab, and a reconstruction that lacks a bright square of it, by an untrained network of a method."""
    torch.manual_seed(0)
    card = SimpleNamespace(reference_erosion=3, without_shading=False)
    network = build(for_method(config, method))
    model = Model(SimpleNamespace(card=card, model=network))  # type: ignore[arg-type]
    mask = np.zeros(GRID_SHAPE, dtype=bool)
    mask[8:88, 8:88, SLAB] = True
    recon = np.where(mask, np.random.default_rng(0).uniform(0.3, 0.6, GRID_SHAPE), 0).astype(np.float32)
    x = recon.copy()
    if changed:
        x[changed, changed, 39:41] = 0.95
    return Subject(model, x, recon, mask, PLAIN)


@pytest.mark.parametrize("method", BY_NAME)
def test_equal_images_score_nothing(method: str, tiny: ModelConfig) -> None:
    assert np.abs(subject(method, tiny, None).score("features")).max() < 1e-5


@pytest.mark.parametrize("method", ["cddpm", "ddpm", "pddpm", "dae"])
def test_a_change_scores_where_it_is(method: str, tiny: ModelConfig) -> None:
    found = subject(method, tiny, slice(24, 36)).score("features")
    assert max(found[..., 38].max(), found[..., 41].max()) < 1e-5
    assert found[26:34, 26:34, 39:41].mean() > 20 * found[60:80, 60:80, 39:41].mean()


def test_both_are_seen_under_the_condition_of_the_scan(tiny: ModelConfig) -> None:
    """Otherwise a lesion, which changes the condition, would change the features of the whole slice."""
    one = subject("cddpm", tiny, slice(24, 36))
    network = one.model.network
    pairs = next(one.features)[1]
    scan, healthy = (torch.from_numpy(v.transpose(2, 1, 0)[SLAB][:, None].copy()) for v in (one.x, one.recon))
    with torch.inference_mode():
        expected = network.features(healthy, network.encode(scan))
    for (_, found), known in zip(pairs, expected, strict=True):
        assert torch.allclose(found, known, atol=1e-5)


def test_the_scales_are_the_levels_of_the_down_path(tiny: ModelConfig) -> None:
    x = torch.rand(1, 1, 96, 96)
    network = build(for_method(tiny, "ddpm"))
    assert [one.shape[2] for one in network.features(x)] == [48, 24]
    stages = ModelConfig(unet=tiny.unet, encoder=EncoderConfig(blocks=(1, 2, 1), width=4, condition=16, norm="group"))
    vae = build(for_method(stages, "vae"))
    assert [tuple(one.shape[1:]) for one in vae.features(x)] == [(16, 24, 24), (32, 12, 12), (64, 6, 6)]
    assert torch.equal(vae.down.head(vae.features(x)[-1].mean(dim=(2, 3))), vae.down(x))  # type: ignore[attr-defined]


def test_a_network_without_feature_maps_is_refused(tiny: ModelConfig) -> None:
    one = subject("dae", tiny, None)
    network = Network()
    network.config = one.model.network.config
    network.encode = lambda x0: None  # type: ignore[method-assign]
    bare = Model(SimpleNamespace(card=one.model.card, model=network))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="the network of dae has no feature maps"):
        Subject(bare, one.x, one.recon, one.mask, PLAIN).score("features")
