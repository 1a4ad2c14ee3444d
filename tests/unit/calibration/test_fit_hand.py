"""HAND as a model's out-of-distribution check: trained on healthy phantoms, kept with the weights, used by a scan."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import cohort
import numpy as np
import pytest
import torch

from uadcli.calibration import fit_hand
from uadcli.config import CONTRASTS, PreprocessConfig, SiameseConfig
from uadcli.data.dataset import Case
from uadcli.data.healthy import brain_slices
from uadcli.errors import InputError, WeightsError
from uadcli.imaging import intensity, template
from uadcli.imaging.slices import GRID_SHAPE
from uadcli.model import hand, out_of_distribution
from uadcli.model.hand import HandGate
from uadcli.model.model import Model
from uadcli.reconstruction.hand import Hand
from uadcli.scoring.out_of_distribution import MARGIN, Gate
from uadcli.settings.training import HAND, MAHALANOBIS
from uadcli.synthesis.wrong import wrong
from uadcli.training.examples.synthetic import Healthy, Sources
from uadcli.weights import weights

pytestmark = pytest.mark.xdist_group("hand")  # one process for what its tests share

CONFIG = PreprocessConfig(strip="none")
MASK = template.on_grid("mni_brain_mask") > 0
SLICES = brain_slices(MASK)


def brain(seed: int) -> np.ndarray:
    return intensity.scale(cohort.head(seed).astype(np.float32), MASK, CONFIG)


def healthy(seed: int) -> Healthy:
    return Healthy(intensity.linear(cohort.head(seed).astype(np.float32), MASK, CONFIG), MASK, SLICES, "T1w")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """The network is too small for more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def fitted() -> HandGate:
    """Trained for a few steps, in which it has learned what is unlike these brains."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_hand, "SCENES", 8)
        patch.setattr(fit_hand, "BATCH", 8)
        taught = fit_hand.examples(Sources([healthy(seed) for seed in range(6)]), "T1w", CONFIG)
        network = fit_hand.train(taught, 120)
    return hand.gate(network, [(brain(seed), SLICES) for seed in range(20, 26)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return cohort.base(tmp_path / "base", cohort.TINY, SiameseConfig(channels=(8, 16)))


def with_check(folder: Path, state: dict[str, torch.Tensor]) -> weights.Weights:
    """Written and read again with another check."""
    before = weights.load(folder / "base.safetensors")
    weights.save(folder / "other.safetensors", before.model, before.card, before.score_state, state)
    return weights.load(folder / "other.safetensors")


def test_it_separates_healthy_brains_from_wrong_inputs(fitted: HandGate) -> None:
    good = [fitted.score(brain(seed), SLICES) for seed in range(40, 44)]
    spoilt = [wrong(brain(seed), MASK, np.random.default_rng(seed)) for seed in range(40, 48)]
    bad = [fitted.score(intensity.scale(one, MASK, CONFIG), SLICES) for one in spoilt]
    assert max(good) <= fitted.limit
    assert 2 * fitted.limit < min(bad)


def test_the_limit_is_a_margin_beyond_the_farthest_held_out_scan(fitted: HandGate) -> None:
    scores = [fitted.score(brain(seed), SLICES) for seed in range(20, 26)]
    assert fitted.limit == pytest.approx(MARGIN * max(scores), rel=1e-3)
    assert np.mean(scores) == pytest.approx(0, abs=1e-3)  # below 0 are those more typical than the mean
    with pytest.raises(InputError, match="different held-out"):
        hand.gate(fitted.network, [(brain(20), SLICES)])
    with pytest.raises(InputError, match="different held-out"):
        hand.gate(fitted.network, [(brain(20), SLICES)] * 2)


def test_a_training_is_always_the_same() -> None:
    generator = torch.Generator().manual_seed(2)
    known, unknown = (torch.rand((9, 1, 48, 48), generator=generator).half() for _ in range(2))
    state = torch.get_rng_state()
    one, other = (fit_hand.train(fit_hand.Taught(known, unknown), 2).state_dict() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_saved_and_loaded_it_is_the_same(fitted: HandGate, folder: Path) -> None:
    loaded = with_check(folder, out_of_distribution.state_of({"T1w": fitted}))
    again = out_of_distribution.gate_of(loaded.gate_state, "T1w")
    assert isinstance(again, HandGate)
    x = brain(50)
    assert again.score(x, SLICES) == fitted.score(x, SLICES)
    assert again.limit == pytest.approx(fitted.limit)
    found = out_of_distribution.measure(Model(loaded), x, MASK, "T1w")
    assert (found.value, found.check, found.beyond) == (fitted.score(x, SLICES), HAND, False)
    assert out_of_distribution.measure(Model(loaded), x, np.zeros_like(MASK), "T1w").beyond is True
    assert out_of_distribution.measure(Model(loaded), x, MASK, "FLAIR").check is None


def test_a_model_without_encoder_has_it_too(fitted: HandGate, folder: Path) -> None:
    from uadcli.reconstruction.model import ConditionedDiffusion

    loaded = with_check(folder, out_of_distribution.state_of({"T1w": fitted}))
    plain = ConditionedDiffusion(dataclasses.replace(cohort.TINY, conditioned=False))
    found = out_of_distribution.measure(Model(dataclasses.replace(loaded, model=plain)), brain(50), MASK, "T1w")
    assert found.beyond is False


def test_a_damaged_check_is_refused(folder: Path, fitted: HandGate) -> None:
    good = out_of_distribution.state_of({"T1w": fitted})
    for change, say in (
        ({"T1w.centre": torch.zeros(3)}, "has other sizes"),
        ({"T1w.hand.places": torch.zeros(1, 9, 64)}, "has other sizes"),
        ({"T1w.mean": torch.zeros(GRID_SHAPE[2], 4)}, "has other sizes"),
        ({"T1w.spread": torch.tensor([1.0, 0.0])}, "has no spread"),
    ):
        with pytest.raises(WeightsError, match=say):
            with_check(folder, good | change)
    with pytest.raises(WeightsError, match="incomplete"):
        with_check(folder, {name: value for name, value in good.items() if name != "T1w.hand.places"})


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_the_bundled_model_of_each_contrast_has_the_check_of_its_encoder(contrast: str) -> None:
    loaded = weights.load(*weights.find(None, contrast))
    assert isinstance(out_of_distribution.gate_of(loaded.gate_state, contrast), Gate)


def test_other_contrasts_are_unknown_if_they_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Maker(fit_hand.SceneMaker):
        def __init__(self, sources: Sources, *rest: object) -> None:
            super().__init__(sources, *rest)  # type: ignore[arg-type]
            asked.append(tuple(sources.contrasts))

    monkeypatch.setattr(fit_hand, "SceneMaker", Maker)
    monkeypatch.setattr(fit_hand, "SCENES", 1)
    made = fit_hand.examples(Sources([healthy(1)]), "T1w", CONFIG)
    assert asked == [("T1w",), ("T2w", "FLAIR")]
    assert made.known.shape[1:] == made.unknown.shape[1:] == (1, 48, 48)
    flair = [dataclasses.replace(healthy(1), kind="FLAIR")]
    without = fit_hand.examples(Sources(flair), "FLAIR", CONFIG)  # from FLAIR alone none can be made
    assert len(without.unknown) == len(made.unknown)


def test_it_needs_enough_scans_of_a_contrast() -> None:
    training = [Case(str(i), "s", "train", "T1w", Path(str(i))) for i in range(9)]
    held = [Case(str(i), "s", "val", "T1w", Path(str(i))) for i in range(10, 15)]
    assert fit_hand.fit_hand(training, held, None, (), lambda text: None) == {}  # type: ignore[arg-type]


def test_it_is_small() -> None:
    assert sum(one.numel() for one in Hand().parameters()) < 130_000


def test_the_default_is_the_check_of_the_encoder() -> None:
    from uadcli.settings.training import Fitted

    assert Fitted().gate == MAHALANOBIS
