"""Every method of the family: rebuilds by slice, learns on phantoms, and keeps what its paper promises."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from uadcli.config import (
    CONTRASTS,
    ModelConfig,
    ReconstructionConfig,
    TrainConfig,
    from_dict,
    to_dict,
)
from uadcli.errors import UsageError, WeightsError
from uadcli.reconstruction.augment import synthetic_lesions
from uadcli.reconstruction.model import Network
from uadcli.reconstruction.noise import NoiseBank, slice_noise
from uadcli.reconstruction.reconstructors import BY_NAME, build, choose, for_method
from uadcli.reconstruction.reconstructors.base import noisy_batch
from uadcli.reconstruction.reconstructors.dae import coarse_noise
from uadcli.reconstruction.reconstructors.diffuse import FusedReconstructor, suspect_region
from uadcli.reconstruction.reconstructors.maediff import HIDDEN, SIDE, SUB, hidden_parts
from uadcli.reconstruction.reconstructors.pddpm import (
    HALF,
    PATCH,
    PatchedDiffusion,
    PatchedReconstructor,
    boxes,
    inside,
    regions,
)
from uadcli.reconstruction.reconstructors.vae import latent_dissimilarity
from uadcli.reconstruction.schedule import add_noise, alpha_bar, reverse_step
from uadcli.settings import methods
from uadcli.training import reconstruction
from uadcli.training.examples.slices import SliceSet


def phantoms(count: int, seed: int) -> Tensor:
    """Heads of an ellipse of random size, with a darker rim and a dark middle of two ventricles, as uint8 slices."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(96) - 47.5, torch.arange(96) - 47.5, indexing="ij")
    radius = 34 + 8 * torch.rand(count, 1, 1, generator=generator)
    tone = 0.9 + 0.15 * torch.rand(count, 1, 1, generator=generator)
    distance = ((y / 1.1) ** 2 + (x * 1.1) ** 2).sqrt() / radius
    ventricle = ((x.abs() - 7) / 3.5) ** 2 + (y / 12) ** 2 < 1
    image = torch.where(distance < 0.85, 170.0, torch.where(distance < 1, 100.0, 0.0))
    image = torch.where(ventricle, torch.full_like(image, 40.0), image)
    return (image * tone).round().to(torch.uint8)


def pasted(slices: np.ndarray, value: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slices with a disc of some intensity beside the middle, where it is, and the healthy tissue around it."""
    y, x = np.meshgrid(np.arange(96) - 40, np.arange(96) - 66, indexing="ij")
    distance = np.sqrt(x**2 + y**2)
    lesion = distance < 6
    around = (distance > 8) & (distance < 18)
    return np.where(lesion, np.float32(value), slices), lesion, around & (slices.min(axis=0) > 0)


@pytest.fixture(params=methods.NAMES)
def network(request: pytest.FixtureRequest, tiny: ModelConfig) -> Network:
    torch.manual_seed(0)
    model = build(for_method(tiny, request.param))
    with torch.no_grad():  # the zero-initialised layers would hide everything
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return model


def rebuild(model: Network, slices: np.ndarray, indices: list[int], **settings: object) -> np.ndarray:
    method = BY_NAME[model.config.method]
    config = ReconstructionConfig(**{"levels": method.levels, "batch_size": 8, **settings})  # type: ignore[arg-type]
    return method.reconstructor(model, config, "cpu", None)(slices, indices)


def test_every_name_is_a_method() -> None:
    assert tuple(BY_NAME) == methods.NAMES
    assert all(name == method.name for name, method in BY_NAME.items())


def test_neither_the_batch_nor_its_size_matters(network: Network) -> None:
    slices, indices = np.random.default_rng(0).random((3, 96, 96), dtype=np.float32), [20, 21, 22]
    close = 1e-4 if network.config.method == "diffuse" else 1e-5  # rounding adds up over its many steps
    levels = BY_NAME[network.config.method].levels[:2]
    together = rebuild(network, slices, indices, batch_size=64, seed=5, levels=levels)
    turned = rebuild(network, slices[::-1].copy(), indices[::-1], batch_size=1, seed=5, levels=levels)[::-1]
    assert np.abs(together - turned).max() < close
    alone = rebuild(network, slices[1:2], [21], batch_size=5, seed=5, levels=levels)
    assert np.abs(together[1] - alone[0]).max() < close
    assert together.std() > 0


def test_the_seed_counts_where_there_is_noise(network: Network) -> None:
    slices = np.random.default_rng(0).random((2, 96, 96), dtype=np.float32)
    levels = BY_NAME[network.config.method].levels[:1]
    one, same, other = (rebuild(network, slices, [3, 4], seed=seed, levels=levels) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert np.array_equal(one, other) != BY_NAME[network.config.method].draws


def test_empty_slices_stay_empty_and_progress_ends(network: Network) -> None:
    slices = np.random.default_rng(0).random((3, 96, 96), dtype=np.float32)
    slices[1] = 0
    method, told = BY_NAME[network.config.method], []
    config = ReconstructionConfig(method.levels[:1], 8)
    result = method.reconstructor(network, config, "cpu", lambda *step: told.append(step))(slices, [0, 1, 2])
    assert result.dtype == np.float32
    assert not result[1].any()
    assert result[0].any()
    assert told[-1][0] == told[-1][1]
    assert told == sorted(told)
    assert len({total for _, total in told}) == 1
    assert 0 <= result.min() <= result.max() <= 1


def test_the_loss_is_the_generators_alone(network: Network) -> None:
    clean = phantoms(4, 0).float().div(255)[:, None]
    bank, loss = NoiseBank(8, 100, 0), BY_NAME[network.config.method].loss
    values = [
        loss(network, clean, bank, torch.Generator().manual_seed(seed), TrainConfig()).item() for seed in (1, 1, 2)
    ]
    assert values[0] == values[1] != values[2]
    loss(network, clean, bank, torch.Generator().manual_seed(1), TrainConfig()).backward()
    trained = [p for p in network.parameters() if p.grad is not None and p.grad.any()]
    assert len(trained) > 0.8 * len(list(network.parameters()))


@pytest.mark.slow
@pytest.mark.parametrize("method", methods.NAMES)
def test_after_a_short_training_a_lesion_scores_higher_than_the_tissue_around(
    method: str, tiny: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconstruction, "NoiseBank", lambda seed: NoiseBank(24, 110, seed))
    data = SliceSet(phantoms(48, 1), torch.full((48,), CONTRASTS.index("FLAIR")))
    settings = TrainConfig(steps=80, batch_size=4, warmup=5, learning_rate=4e-3, ema=0.9, augment=False)
    trainer = reconstruction.Trainer(for_method(tiny, method), settings)
    if method == "diffuse":  # judged by its first pass: a second one leaves alone what it does not suspect yet
        trainer.method = dataclasses.replace(trainer.method, reconstructor=BY_NAME["cddpm"].reconstructor)
    before = trainer.error(data, 8)
    losses = [trainer.step(data) for _ in range(settings.steps)]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    assert trainer.error(data, 8) < before
    healthy = phantoms(3, 2).numpy().astype(np.float32) / 255
    for value in (1.0, 0.2):
        x, lesion, around = pasted(healthy, value)
        residual = np.abs(x - rebuild(trainer.average, x, [30, 40, 50]))
        assert residual[:, lesion].mean() > 1.5 * residual[:, around].mean(), value
    # A new network says 0.5 or about 0 everywhere, and may pass so far: a lesion of 0.4 is nearer to that than tissue.
    x, lesion, around = pasted(healthy, 0.4)
    plain = around & (healthy > 0.5).all(axis=0)
    new = reconstruction.Trainer(for_method(tiny, method), settings)
    for network, finds in ((trainer.average, True), (new.average, False)):
        residual = np.abs(x - rebuild(network, x, [30, 40, 50]))
        assert (residual[:, lesion].mean() > 1.2 * residual[:, plain].mean()) == finds


# --- pDDPM and MAEDiff


class Identity(PatchedDiffusion):
    """Gives the input back, and counts what goes through the network."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.seen = 0
        self.given: list[tuple[Tensor, Tensor | None]] = []

    def denoise(self, xt: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        self.seen += len(xt)
        return super().denoise(xt, t, condition)


@pytest.mark.parametrize("method", ["pddpm", "maediff"])
@pytest.mark.parametrize("overlap", [False, True])
def test_a_network_that_gives_back_its_input_gives_back_the_slices(
    method: str, overlap: bool, tiny: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = np.random.default_rng(1).random((3, 96, 96), dtype=np.float32)
    model = build(for_method(tiny, method))
    monkeypatch.setattr(model, "forward", lambda x0, *_: x0)
    assert np.array_equal(rebuild(model, slices, [1, 2, 3], overlap=overlap, levels=(250, 500)), slices)


def test_overlapping_patches_are_averaged_by_their_number(tiny: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that says which patch it sees: each pixel is the mean over the patches that cover it."""
    model = build(for_method(tiny, "pddpm"))
    grid = boxes((96, 96), HALF)
    names = {box: (i + 1) / 10 for i, box in enumerate(grid)}

    def name(x0: Tensor, t: Tensor, noise: Tensor, condition: None, region: Tensor, hidden: None) -> Tensor:
        rows, columns = (region.any(dim=d)[:, 0].float().argmax(dim=1).tolist() for d in (3, 2))
        values = [names[box] for box in zip(rows, columns, strict=True)]
        return torch.tensor(values).view(-1, 1, 1, 1) * torch.ones_like(x0)

    monkeypatch.setattr(model, "forward", name)
    result = rebuild(model, np.ones((1, 96, 96), dtype=np.float32), [0], overlap=True, levels=(500,))[0]
    for row, column in ((0, 0), (30, 5), (48, 48), (95, 60)):
        covering = [v for box, v in names.items() if 0 <= row - box[0] < PATCH and 0 <= column - box[1] < PATCH]
        assert result[row, column] == pytest.approx(np.mean(covering))


def test_patches_cost_at_most_four_point_two_times_the_ddpm(tiny: ModelConfig) -> None:
    """By arithmetic: slices that go through the network, each of the same size."""
    slices = np.random.default_rng(1).random((5, 96, 96), dtype=np.float32)
    patched = Identity(for_method(tiny, "pddpm"))
    batches: list[int] = []
    patched.unet.register_forward_hook(lambda *call: batches.append(len(call[1][0])))
    PatchedReconstructor(patched, ReconstructionConfig((500,), 64))(slices, range(5))
    plain: list[int] = []
    ddpm = build(for_method(tiny, "ddpm"))
    ddpm.unet.register_forward_hook(lambda *call: plain.append(len(call[1][0])))
    BY_NAME["ddpm"].reconstructor(ddpm, ReconstructionConfig((500,), 64), "cpu", None)(slices, range(5))
    assert sum(batches) <= 4.2 * sum(plain)
    assert batches == [20]  # all patches of all slices at once


def test_boxes_cover_the_slice_and_lie_in_it() -> None:
    for shape, stride, count in (((96, 96), PATCH, 4), ((96, 96), HALF, 9), ((110, 96), PATCH, 6)):
        covered = np.zeros(shape, dtype=int)
        for box in boxes(shape, stride):
            assert covered[inside(box)].shape == (PATCH, PATCH)
            covered[inside(box)] += 1
        assert covered.min() == 1
        assert len(boxes(shape, stride)) == count


def test_outside_the_patch_the_input_comes_back(tiny: ModelConfig) -> None:
    model = PatchedDiffusion(for_method(tiny, "pddpm"))
    x0, noise = torch.rand(4, 1, 96, 96), torch.randn(4, 1, 96, 96)
    region = regions([(0, 48)] * 4, x0)
    out = model(x0, torch.full((4,), 499), noise, None, region)
    assert torch.equal(out[~region], x0[~region])
    assert not torch.allclose(out[region], x0[region])


def test_hidden_parts_lie_in_the_patch_and_carry_no_signal(tiny: ModelConfig) -> None:
    model = PatchedDiffusion(for_method(tiny, "maediff"))
    like = torch.zeros(2, 1, 96, 96)
    chosen = [(0, 0), (24, 48)]
    ranks = torch.stack([torch.randperm(SIDE * SIDE) for _ in chosen])
    hidden, region = hidden_parts(ranks, chosen, like), regions(chosen, like)
    assert not (hidden & ~region).any()
    assert hidden.flatten(1).sum(dim=1).tolist() == [HIDDEN * SUB * SUB] * 2
    seen: list[Tensor] = []
    model.unet.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    t, noise = torch.tensor([249, 749]), torch.randn(2, 1, 96, 96)
    for x0 in (torch.zeros(2, 1, 96, 96), torch.ones(2, 1, 96, 96)):
        model(x0, t, noise, None, region, hidden)
    assert torch.equal(seen[0][hidden], seen[1][hidden])
    assert not torch.isclose(seen[0][~hidden], seen[1][~hidden]).any()
    weight = (1 - model.alpha_bar[t]).sqrt().view(-1, 1, 1, 1) * noise
    assert torch.allclose(seen[0][hidden], weight[hidden])


def test_hidden_parts_depend_on_seed_slice_level_and_patch(tiny: ModelConfig) -> None:
    make = BY_NAME["maediff"].reconstructor(build(for_method(tiny, "maediff")), ReconstructionConfig(), "cpu", None)
    like = torch.zeros(1, 1, 96, 96)
    one = make._hidden([(500, 3, (24, 24))], like)  # type: ignore[attr-defined]
    assert torch.equal(one, make._hidden([(500, 3, (24, 24))], like))  # type: ignore[attr-defined]
    for other in ((250, 3, (24, 24)), (500, 4, (24, 24))):
        assert not torch.equal(one, make._hidden([other], like))  # type: ignore[attr-defined]


# --- Dif-fuse


def test_a_ddim_step_from_the_known_slice_follows_its_noise() -> None:
    powers, x0, noise = alpha_bar(), torch.rand(2, 1, 8, 8) * 2 - 1, torch.randn(2, 1, 8, 8)
    xt = add_noise(x0, torch.tensor([499, 499]), noise, powers)
    there = reverse_step(xt, x0, torch.randn_like(x0), float(powers[499]), float(powers[299]), eta=0.0)
    assert torch.allclose(there, add_noise(x0, torch.tensor([299, 299]), noise, powers), atol=1e-5)
    assert torch.allclose(reverse_step(xt, x0, noise, float(powers[499]), 1.0, eta=1.0), x0)


def test_a_ddpm_step_keeps_the_variance_of_the_schedule() -> None:
    """From x_t of unit noise, x_s has the noise of level s, whatever eta."""
    powers, shape = alpha_bar(), (64, 1, 64, 64)
    generator = torch.Generator().manual_seed(0)
    x0, noise, fresh = torch.zeros(shape), *(torch.randn(shape, generator=generator) for _ in range(2))
    xt = add_noise(x0, torch.full((64,), 499), noise, powers)
    for eta in (0.0, 0.5, 1.0):
        xs = reverse_step(xt, x0, fresh, float(powers[499]), float(powers[299]), eta)
        assert float(xs.var()) == pytest.approx(1 - float(powers[299]), rel=0.02)
    assert float((xs * noise).mean()) < 0.9 * float(xs.std())  # some of the old noise is gone


def test_outside_the_region_the_slice_comes_back(tiny: ModelConfig) -> None:
    torch.manual_seed(0)
    model = build(for_method(tiny, "diffuse"))
    make = FusedReconstructor(model, ReconstructionConfig((250, 500, 750)))  # type: ignore[arg-type]
    x0, region = torch.rand(2, 1, 96, 96), torch.zeros(2, 1, 96, 96)
    region[:, :, 30:60, 30:60] = 1
    with torch.inference_mode():
        out = make.fuse(x0, region, [4, 5])
    assert torch.allclose(out[region == 0], x0[region == 0], atol=1e-4)
    assert torch.allclose(out[region == 1], torch.tensor(0.5), atol=1e-4)  # an untrained network says mid-grey


def test_every_step_inside_the_region_has_noise_of_its_own(tiny: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    make = FusedReconstructor(build(for_method(tiny, "diffuse")), ReconstructionConfig((500,)))  # type: ignore[arg-type]
    levels, noise = list[int](), make._noise
    monkeypatch.setattr(make, "_noise", lambda i, level, shape: levels.append(level) or noise(i, level, shape))
    with torch.inference_mode():
        make.fuse(torch.rand(1, 1, 96, 96), torch.ones(1, 1, 96, 96), [4])
    assert levels == [500, 400, 300, 200, 100]


def test_the_suspect_region_is_where_the_first_pass_differs() -> None:
    slices = phantoms(3, 5).numpy().astype(np.float32) / 255
    x, lesion, around = pasted(slices, 1.0)
    region = suspect_region(x, slices)
    assert (region[:, lesion] > 0.9).mean() > 0.9
    assert region[slices == 0].max() == 0 or (region[:, around] > 0).mean() < 0.5
    assert not suspect_region(slices, slices).any()
    assert 0 <= region.min() <= region.max() <= 1


# --- DAE, VAE


def test_coarse_noise_is_smooth_and_as_strong_as_said() -> None:
    field = coarse_noise(200, (96, 96), torch.Generator().manual_seed(0))
    assert field.shape == (200, 1, 96, 96)
    assert 0.1 < float(field.std()) < 0.2  # bilinear weights lower the cells' 0.2
    assert float((field[..., 1:] - field[..., :-1]).abs().max()) < 0.35
    assert float((field[:, :, 0, 0] * field[:, :, 40, 40]).mean().abs()) < 0.01


def test_the_dae_sees_noise_in_the_brain_alone(tiny: ModelConfig) -> None:
    model, seen = build(for_method(tiny, "dae")), []
    model.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    clean = phantoms(4, 0).float().div(255)[:, None]
    BY_NAME["dae"].loss(model, clean, NoiseBank(2, 100, 0), torch.Generator().manual_seed(0), TrainConfig())
    assert not seen[0][clean == 0].any()
    assert float((seen[0] - clean)[clean > 0].std()) > 0.1


def test_latent_dissimilarity_is_zero_for_the_same_and_not_for_others(tiny: ModelConfig) -> None:
    torch.manual_seed(0)
    model = build(for_method(tiny, "vae")).eval()
    slices = phantoms(5, 0).numpy().astype(np.float32) / 255
    x, _, _ = pasted(slices, 1.0)
    assert not latent_dissimilarity(model, slices, slices).any()
    scores = latent_dissimilarity(model, x, slices, batch_size=2)
    assert scores.shape == (5,)
    assert (scores > 0).all()
    assert np.allclose(scores[3:4], latent_dissimilarity(model, x[3:4], slices[3:4]), atol=1e-6)


# --- Synomaly


def test_each_stage_begins_where_the_last_one_ended(tiny: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    model, slices = build(for_method(tiny, "synomaly")), np.random.default_rng(1).random((2, 96, 96), dtype=np.float32)
    given: list[tuple[Tensor, Tensor, Tensor]] = []

    def closer_to_grey(x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        given.append((x0, t, noise))
        return 0.25 + 0.5 * x0

    monkeypatch.setattr(model, "forward", closer_to_grey)
    result, expected = rebuild(model, slices, [3, 4], seed=5), torch.from_numpy(slices)[:, None]
    for (x0, t, noise), level in zip(given, (200, 150, 100), strict=True):
        assert torch.equal(x0, expected)
        assert t.tolist() == [level - 1] * 2
        assert np.array_equal(noise.numpy(), slice_noise(5, [3, 4], level, (96, 96)))
        expected = 0.25 + 0.5 * x0
    assert np.array_equal(result, expected[:, 0].numpy())


def test_synomaly_learns_from_slices_with_up_to_three_anomalies(tiny: ModelConfig) -> None:
    """Draw by draw: what all diffusion models are trained on, and two more of the anomalies in it."""
    torch.manual_seed(0)
    model, seen = build(for_method(tiny, "synomaly")), []
    clean, bank = phantoms(8, 0).float().div(255)[:, None], NoiseBank(8, 100, 0)
    model.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    found, loss = torch.tensor(0.0), BY_NAME["synomaly"].loss
    for probability in (0.0, 1.0):
        config = TrainConfig(lesion_probability=probability)
        found = loss(model, clean, bank, torch.Generator().manual_seed(5), config)
    assert torch.equal(seen[0], clean)
    generator = torch.Generator().manual_seed(5)
    batch = noisy_batch(clean, model.config.steps, bank, generator, config)
    x, weight = batch.x, batch.weight
    for _ in range(2):
        x, where = synthetic_lesions(x, bank, generator)
        weight = torch.maximum(weight, where)
        torch.rand(len(x), generator=generator)  # who carries it
    assert int((seen[1] != clean).sum()) > 1.5 * int((batch.x != clean).sum())
    assert torch.equal(seen[1], x)
    error = (model(x, batch.t, batch.noise) - clean).abs()
    assert torch.equal(found, (error * (1 + config.lesion_weight * weight)).mean())


# --- which weights serve which method


def test_weights_serve_what_they_were_trained_for() -> None:
    assert choose("", "dae").name == "dae"
    assert choose("diffuse", "cddpm").name == "diffuse"
    for wanted, trained in (("dae", "cddpm"), ("cddpm", "ddpm"), ("cddpm", "diffuse"), ("pddpm", "maediff")):
        with pytest.raises(WeightsError, match=f"--method {wanted}") as caught:
            choose(wanted, trained, Path("w.safetensors"))
        assert "w.safetensors" in str(caught.value)


def test_configurations_without_a_method_are_cddpm_or_ddpm(tiny: ModelConfig) -> None:
    old = {key: value for key, value in to_dict(tiny).items() if key != "method"}
    assert from_dict(ModelConfig, old).method == "cddpm"
    assert from_dict(ModelConfig, old | {"conditioned": False}).method == "ddpm"
    assert not for_method(tiny, "ddpm").conditioned
    assert for_method(for_method(tiny, "ddpm"), "cddpm") == tiny
    with pytest.raises(UsageError, match="unknown method 'pdpm'"):
        dataclasses.replace(tiny, method="pdpm")  # type: ignore[arg-type]


def test_noise_of_a_batch_is_that_of_its_slices(network: Network) -> None:
    make = BY_NAME[network.config.method].reconstructor(network, ReconstructionConfig((500,), seed=3), "cpu", None)
    noise = make._noise([7, 9], 500, (96, 96))  # type: ignore[attr-defined]
    assert np.array_equal(noise.numpy()[1:], slice_noise(3, [9], 500, (96, 96)))


def test_the_cddpm_loss_is_the_published_one_heavier_in_anomalies(tiny: ModelConfig) -> None:
    """Draw by draw: anomalies, who carries them, steps, noise."""
    torch.manual_seed(0)
    model, config = build(tiny), TrainConfig(lesion_weight=3.0)
    clean, bank = phantoms(4, 0).float().div(255)[:, None], NoiseBank(8, 100, 0)
    found = BY_NAME["cddpm"].loss(model, clean, bank, torch.Generator().manual_seed(5), config)
    generator = torch.Generator().manual_seed(5)
    lesioned, weight = synthetic_lesions(clean, bank, generator)
    carries = (torch.rand(4, generator=generator) < config.lesion_probability).view(-1, 1, 1, 1)
    t = torch.randint(1000, (4,), generator=generator)
    noise = bank.draw(4, (96, 96), generator)
    error = (model(torch.where(carries, lesioned, clean), t, noise) - clean).abs()
    assert torch.equal(found, (error * (1 + 3.0 * weight * carries)).mean())


def test_a_patched_model_may_have_a_condition_as_well(tiny: ModelConfig) -> None:
    torch.manual_seed(0)
    model = build(dataclasses.replace(tiny, method="pddpm"))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    encoded: list[int] = []
    model.encoder.register_forward_hook(lambda *call: encoded.append(len(call[1][0])))  # type: ignore[union-attr]
    rebuild(model, np.random.default_rng(0).random((2, 96, 96), dtype=np.float32), [1, 2], levels=(250, 500))
    assert sum(encoded) == 2  # once for each slice, whatever the number of patches and levels


def test_slice_scores_and_cards_say_what_was_done() -> None:
    from uadcli.calibration.export import card_text
    from uadcli.config import TrainingConfig, preset
    from uadcli.detection import record
    from uadcli.weights.card import ModelCard

    assert record.slice_rows(None) is None
    assert record.slice_rows({0: 0.5, 40: 1.0}) == [
        {"z_mni_mm": -75.0, "value": 0.5},
        {"z_mni_mm": 5.0, "value": 1.0},
    ]
    card = ModelCard("m", "1", ("T1w",), {"T1w": "absolute"}, {}, "rule", (), "[0, 1]", "none", "CC0", 3)
    config = dataclasses.replace(TrainingConfig(), model=for_method(preset("small"), "dae"))
    assert "reconstruction: denoising autoencoder (DAE), 3 steps" in card_text(card, "d", config, {})
