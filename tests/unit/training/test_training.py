"""Training: resumes bit for bit, survives a bad loss, and learns on phantoms."""

from __future__ import annotations

import math
import signal
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from states import same

from uadcli.config import (
    CONTRASTS,
    ModelConfig,
    PreprocessConfig,
    ReconstructionConfig,
    TrainConfig,
    TrainingConfig,
    training_preset,
)
from uadcli.console import Reporter
from uadcli.errors import InputError, OutputError, UadError, UsageError
from uadcli.imaging.slices import GRID_AFFINE
from uadcli.reconstruction.augment import augment, blur, ghost, synthetic_lesions
from uadcli.reconstruction.noise import NoiseBank, SharedNoise, simplex_noise
from uadcli.reconstruction.reconstructors import BY_NAME, for_method
from uadcli.settings import methods
from uadcli.synthesis.contrast import from_t1
from uadcli.training import checkpoint, log
from uadcli.training.devices import fabric
from uadcli.training.examples.pasted_lesions import lesion_set, shape_files
from uadcli.training.examples.slices import SliceSet, Split
from uadcli.training.examples.synthetic import Healthy
from uadcli.training.learner import learning_rate, move_average
from uadcli.training.log import read_log
from uadcli.training.loop import Validation
from uadcli.training.reconstruction import Job, Trainer, fit, work
from uadcli.training.run import bounded
from uadcli.training.train import train

SETTINGS = TrainConfig(steps=10, batch_size=4, checkpoint_every=5, warmup=2)


@pytest.fixture
def slices() -> SliceSet:
    """Discs of random size and brightness with a darker rim: what a slice is at its simplest."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(96) - 47.5, torch.arange(96) - 47.5, indexing="ij")
    radius = 25 + 15 * torch.rand(40, 1, 1, generator=generator)
    distance = (y**2 + x**2).sqrt() / radius
    image = torch.where(distance < 0.8, 200, torch.where(distance < 1, 120, 0)).to(torch.uint8)
    return SliceSet(image, torch.arange(40) % 2 * CONTRASTS.index("FLAIR"))


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_resuming_after_five_steps_equals_ten_steps(
    slices: SliceSet, tiny: ModelConfig, tmp_path: Path, norm: str
) -> None:
    """Weights, average, optimiser, schedule, sampler and random state, bit for bit."""
    model = replace(tiny, encoder=replace(tiny.encoder, norm=norm))
    whole = Trainer(model, SETTINGS)
    losses = [whole.step(slices) for _ in range(10)]
    half = Trainer(model, SETTINGS)
    first = [half.step(slices) for _ in range(5)]
    half.save(tmp_path / "c.pt")
    again = Trainer.load(tmp_path / "c.pt")
    assert first + [again.step(slices) for _ in range(5)] == losses
    assert same(whole.model.state_dict(), again.model.state_dict())
    assert same(whole.average.state_dict(), again.average.state_dict())
    assert same(whole.state(), again.state())
    assert torch.equal(slices.draw(9, whole.generator), slices.draw(9, again.generator))


def test_slices_for_some_contrasts_alone(slices: SliceSet) -> None:
    """T1w slices, code 0, and FLAIR ones; without T1w among the contrasts, every T1w slice is turned."""
    index, generator = torch.arange(20), torch.Generator().manual_seed(0)
    only_t1 = slices.only(("T1w",))
    assert len(only_t1.slices) == 20
    assert torch.equal(only_t1.batch(index, generator), only_t1.at(index))
    others = slices.only(("FLAIR", "T2w"))
    assert len(others.slices) == len(slices.slices)
    turned = (others.batch(torch.arange(40), generator) != others.at(torch.arange(40))).flatten(1).any(1)
    assert torch.equal(turned, others.contrast == 0)
    assert slices.only(("T1w", "FLAIR", "T2w")).made == pytest.approx(slices.made)
    assert slices.only(("T1w", "FLAIR")).made == pytest.approx((0, slices.made[1]))
    for asked in (("T1w",), ("T1w", "FLAIR"), ("FLAIR", "T1w")):
        with pytest.raises(UsageError, match="no slices for T1w"):
            SliceSet(slices.slices, torch.full((40,), CONTRASTS.index("FLAIR"))).only(asked)


def test_fit_writes_log_and_checkpoint_and_goes_on(slices: SliceSet, tiny: ModelConfig, tmp_path: Path) -> None:
    fit(Trainer(tiny, SETTINGS), Split(slices, slices), tmp_path, Reporter(silent=True))
    rows = [line.split(",") for line in (tmp_path / "log.csv").read_text().splitlines()]
    assert rows[0] == ["step", "loss", "validation", "auprc", "slices_per_s", "seconds_left", "skipped"]
    assert [row[0] for row in rows[1:]] == ["5", "10"]
    assert all(float(cell) >= 0 for row in rows[1:] for cell in row if cell)
    assert [row[3] for row in rows[1:]] == ["", ""]  # no lesions, no number
    more = Trainer.load(tmp_path / "last.pt", steps=15)
    fit(more, Split(slices, slices), tmp_path, Reporter(silent=True))
    assert more.done == 15
    assert [p.name for p in tmp_path.glob("*.safetensors")] == ["last-0000015.safetensors"]


def test_the_tensors_are_safetensors_and_the_state_holds_no_code(
    slices: SliceSet, tiny: ModelConfig, tmp_path: Path
) -> None:
    trainer = Trainer(tiny, SETTINGS)
    trainer.step(slices)
    trainer.save(tmp_path / "last.pt")
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    tensors = load_file(tmp_path / state["tensors"])
    assert {name.split("/")[0] for name in tensors} == {"model", "average"}
    assert "model" not in state


def test_half_a_checkpoint_is_an_error_of_one_line(tiny: ModelConfig, tmp_path: Path) -> None:
    Trainer(tiny, SETTINGS).save(tmp_path / "last.pt")
    next(tmp_path.glob("*.safetensors")).write_bytes(b"cut")
    with pytest.raises(InputError, match="not a complete checkpoint"):
        Trainer.load(tmp_path / "last.pt")


@pytest.mark.parametrize(("sent", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_writes_a_checkpoint_after_the_step_at_hand(
    slices: SliceSet,
    tiny: ModelConfig,
    tmp_path: Path,
    sent: signal.Signals,
    error: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, trainer = Trainer(tiny, SETTINGS), Trainer(tiny, SETTINGS)
    fit(whole, Split(slices, slices), tmp_path / "whole", Reporter(silent=True))
    step = trainer.step

    def interrupted(data: SliceSet) -> float:
        if trainer.done == 6:
            signal.raise_signal(sent)
        return step(data)

    monkeypatch.setattr(trainer, "step", interrupted)
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with pytest.raises(error):
            fit(trainer, Split(slices, slices), tmp_path / "parts", Reporter(silent=True))
    finally:
        signal.signal(signal.SIGTERM, before)
    again = Trainer.load(tmp_path / "parts" / "last.pt")
    assert again.done == 7
    fit(again, Split(slices, slices), tmp_path / "parts", Reporter(silent=True))
    assert same(whole.model.state_dict(), again.model.state_dict())
    assert same(whole.state(), again.state())


def test_a_loss_that_is_not_finite_changes_nothing_and_ends_after_ten(
    slices: SliceSet, tiny: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(tiny, SETTINGS)
    before = [p.clone() for p in trainer.model.parameters()]
    monkeypatch.setattr(trainer, "_loss", lambda _: torch.tensor(float("nan")))
    for _ in range(9):
        trainer.step(slices)
    with pytest.raises(UadError, match="not finite"):
        trainer.step(slices)
    assert trainer.bad_steps == 10
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))


@pytest.mark.parametrize(("done", "moved"), [(1, 9 / 11), (8990, 0.001)])
def test_the_average_moves_faster_in_the_first_steps(done: int, moved: float) -> None:
    average, model = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    expected = average.weight + moved * (model.weight - average.weight)
    move_average(average, model, 0.999, done)
    assert torch.allclose(average.weight, expected, atol=1e-6)


def test_the_rate_warms_up_and_falls_to_a_fiftieth() -> None:
    assert [learning_rate(done, 100, 4) for done in (0, 3, 4)] == pytest.approx([0.25, 1, 1])
    assert learning_rate(52, 100, 4) == pytest.approx(0.51)
    assert learning_rate(99, 100, 4) == pytest.approx(0.02, abs=0.001)


def test_a_gradient_that_is_not_finite_changes_nothing(
    slices: SliceSet, tiny: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sqrt at 0: the loss is finite, its gradient is not."""
    trainer = Trainer(tiny, SETTINGS)
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    monkeypatch.setattr(trainer, "_loss", lambda _: sum((0 * p).sum() for p in trainer.model.parameters()).sqrt())
    assert math.isnan(trainer.step(slices))
    assert (trainer.skipped, trainer.done) == (1, 1)
    assert same(before, trainer.model.state_dict())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_bad_values_leave_the_statistics_of_a_batch_norm_alone(slices: SliceSet, tiny: ModelConfig, bad: float) -> None:
    """The network sees the batch before its loss can be refused."""
    trainer = Trainer(replace(tiny, encoder=replace(tiny.encoder, norm="batch")), SETTINGS)
    trainer.step(slices)
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    assert any("running_mean" in name for name in before)
    clean = slices.at(slices.spread(4))
    clean[0, 0, 40:50, 40:50] = bad
    assert math.isnan(trainer.descend(trainer._loss(clean)))
    assert same(before, trainer.model.state_dict())


def test_ten_bad_losses_end_the_run_with_the_network_before_them(
    slices: SliceSet, tiny: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(tiny, replace(SETTINGS, steps=50))
    loss = trainer._loss
    monkeypatch.setattr(trainer, "_loss", lambda x: loss(x) * (math.nan if trainer.done in {1, *range(6, 99)} else 1))
    with pytest.raises(UadError, match="not finite"):
        fit(trainer, Split(slices, slices), tmp_path, Reporter(silent=True))
    kept = Trainer.load(tmp_path / "last.pt")
    assert (kept.done, kept.skipped, kept.bad_steps) == (16, 11, 0)
    assert all(bool(p.isfinite().all()) for p in kept.model.parameters())


def test_a_new_run_begins_with_another_model(tiny: ModelConfig) -> None:
    one, two = Trainer(tiny, SETTINGS), Trainer(tiny, TrainConfig(seed=1))
    two.start_from(one.average.state_dict())
    for a, b in zip(one.model.parameters(), two.average.parameters(), strict=True):
        assert torch.equal(a, b)
    assert two.done == 0


@pytest.mark.slow
def test_training_lowers_the_validation_loss(slices: SliceSet, tiny: ModelConfig) -> None:
    trainer = Trainer(tiny, TrainConfig(steps=30, batch_size=4, warmup=5, learning_rate=4e-3, ema=0.9))
    before = trainer.error(slices, 16)
    for _ in range(30):
        trainer.step(slices)
    assert trainer.error(slices, 16) < 0.5 * before


def test_synthetic_lesions_stay_in_the_brain_and_where_their_weight_is(slices: SliceSet) -> None:
    x = slices.slices[:16].float().div(255)[:, None]
    y, weight = synthetic_lesions(x, NoiseBank(8, 100, 0), torch.Generator().manual_seed(3))
    assert float(weight[x == 0].max()) == 0
    assert torch.equal(y[weight == 0], x[weight == 0])
    assert (weight.flatten(1).max(1).values > 0.5).sum() >= 14
    assert float((y - x).abs()[weight > 0.5].mean()) > 0.05
    assert float(y.min()) >= 0
    assert float(y.max()) <= 1


def test_augmentation_keeps_background_and_range(slices: SliceSet) -> None:
    x = slices.slices[:8].float().div(255)[:, None]
    y = augment(x, torch.Generator().manual_seed(0))
    assert y.shape == x.shape
    assert float(y[..., 0, 0].abs().max()) == 0
    assert 0 <= float(y.min()) <= float(y.max()) <= 1
    assert not torch.equal(x, y)


def test_slices_of_turned_volumes_take_the_place_of_t1w_ones(slices: SliceSet) -> None:
    code = CONTRASTS.index("T1w")
    t1w = SliceSet(
        slices.slices, torch.full((40,), code), (0.6, 0.4), {"T2w": slices.slices // 2, "FLAIR": slices.slices // 4}
    )
    index = torch.arange(40)
    ratio = t1w.batch(index, torch.Generator().manual_seed(0)).sum(dim=(1, 2, 3)) / t1w.at(index).sum(dim=(1, 2, 3))
    assert set(ratio.mul(4).round().int().tolist()) == {1, 2}
    alone = t1w.only(["FLAIR"])
    assert set(alone.turned) == {"FLAIR"}
    assert torch.equal(
        alone.batch(index, torch.Generator().manual_seed(0)), (slices.slices // 4).float().div(255)[:, None]
    )


@pytest.mark.parametrize("kind", ["T2w", "FLAIR"])
def test_made_contrasts_keep_the_physical_order_of_tissues(kind: str) -> None:
    tissue = torch.tensor([0.0, 0.12, 0.5, 0.82]).view(1, 1, 1, 4).repeat(64, 1, 1, 1)
    y = from_t1(tissue, kind, torch.Generator().manual_seed(0)).squeeze().mean(dim=0)
    none, csf, grey, white = y.tolist()
    assert none == 0
    assert grey > white
    assert (csf > grey) if kind == "T2w" else (csf < white)


def test_noise_for_training_is_a_window_of_a_map_turned_flipped_and_signed() -> None:
    """Each drawn map is found in the bank, by the sixteen ways of laying it."""
    bank = NoiseBank(2, 8, 0)
    maps = [simplex_noise((8, 8), np.random.SeedSequence([0, i])) for i in range(2)]
    ways = []
    for one in maps:
        for top in range(3):
            for left in range(3):
                window = one[top : top + 6, left : left + 6]
                for k in range(4):
                    turned = np.rot90(window, k)
                    ways += [turned, -turned, turned[:, ::-1], -turned[:, ::-1]]
    drawn = bank.draw(40, (6, 6), torch.Generator().manual_seed(0))[:, 0].numpy()
    found = [min(range(len(ways)), key=lambda i: np.abs(ways[i] - one).max()) for one in drawn]
    assert all(np.array_equal(ways[i], one) for i, one in zip(found, drawn, strict=True))
    assert len(set(found)) > 20


def test_the_best_checkpoint_has_the_highest_auprc(
    slices: SliceSet, tiny: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(tiny, replace(SETTINGS, steps=4, checkpoint_every=1))
    monkeypatch.setattr(trainer, "step", lambda _: trainer.descend(next(trainer.model.parameters()).square().mean()))
    values = iter([0.2, 0.5, 0.4, 0.5])
    monkeypatch.setattr(trainer, "validate", lambda *_: Validation(0.1, next(values)))
    fit(trainer, Split(slices, slices), tmp_path, Reporter(silent=True))
    best, last = (checkpoint.read(tmp_path / name) for name in ("best.pt", "last.pt"))
    assert (best["done"], best["best"]) == (2, 0.5)
    assert (last["done"], last["best"]) == (4, 0.5)
    assert checkpoint.find(tmp_path, checkpoint.BEST) == tmp_path / "best.pt"


def test_a_page_that_cannot_be_written_does_not_cost_the_checkpoint(
    slices: SliceSet, tiny: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OutputError("cannot be written: No space left on device")

    settings = replace(SETTINGS, steps=1)
    with monkeypatch.context() as patch:
        patch.setattr(log, "write_page", full)
        with pytest.raises(OutputError, match="No space left"):
            fit(Trainer(tiny, settings), Split(slices, slices), tmp_path, Reporter(silent=True))
    trainer = Trainer.load(tmp_path / "last.pt")
    assert trainer.done == 1
    fit(trainer, Split(slices, slices), tmp_path, Reporter(silent=True))
    assert (tmp_path / "report.html").exists()


@pytest.mark.parametrize("name", [checkpoint.BEST, checkpoint.LAST])
@pytest.mark.parametrize("written", [False, True])
def test_a_run_that_dies_around_a_checkpoint_ends_with_the_same_files(
    slices: SliceSet, tiny: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, written: bool
) -> None:
    monkeypatch.setattr(Trainer, "validate", lambda self, *_: Validation(0.1, self.done / 100))

    def run(folder: Path) -> Trainer:
        found = checkpoint.find(folder)
        trainer = Trainer.load(found) if found else Trainer(tiny, SETTINGS)
        fit(trainer, Split(slices, slices), folder, Reporter(silent=True))
        return trainer

    def files(folder: Path) -> dict[str, bytes]:
        kept = (path for path in folder.rglob("*") if path.suffix in (".pt", ".safetensors", ".png"))
        return {str(path.relative_to(folder)): path.read_bytes() for path in kept}

    whole, save = run(tmp_path / "whole"), Trainer.save

    def dying(self: Trainer, path: Path) -> None:
        if path.name != name or self.done != SETTINGS.steps or written:
            save(self, path)
        if path.name == name and self.done == SETTINGS.steps:
            raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save", dying)
        with pytest.raises(InterruptedError):
            run(tmp_path / "dead")
    assert same(run(tmp_path / "dead").state(), whole.state())
    assert files(tmp_path / "dead") == files(tmp_path / "whole")
    assert [row["step"] for row in read_log(tmp_path / "dead" / "log.csv")] == [5, 10]


def head(seed: int) -> Healthy:
    """A ball of two tissues on the model's grid."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (96, 96, 80)), indexing="ij")
    distance = np.sqrt(x**2 + y**2 + z**2)
    data = np.where(distance < 0.5, 0.8, np.where(distance < 0.8, 0.5, 0)).astype(np.float32)
    data += np.random.default_rng(seed).normal(0, 0.02, data.shape).astype(np.float32) * (data > 0)
    return Healthy(data, data > 0, np.arange(20, 60), "FLAIR")


def test_the_set_of_lesions_is_fixed_and_known_and_in_the_brain() -> None:
    volumes = [head(0), head(1)]
    one, two = lesion_set(volumes, PreprocessConfig()), lesion_set(volumes, PreprocessConfig())
    assert one is not None
    assert two is not None
    for name in ("slices", "truth", "brain"):
        assert np.array_equal(getattr(one, name), getattr(two, name))
    assert one.slices.shape == (12, 96, 96)
    assert not (one.truth & ~one.brain).any()
    ill = one.truth.any(axis=(1, 2))
    assert 4 <= ill.sum() <= 8
    assert lesion_set([replace(volumes[0], usable=np.array([0, 1]))], PreprocessConfig()) is None


def test_lesions_of_given_shapes(tmp_path: Path) -> None:
    """A box in MNI space, as a mask of 1 mm, is where the lesions of the set are."""
    mask = np.zeros((192, 192, 160), dtype=np.uint8)
    mask[80:100, 90:110, 76:96] = 1
    fine = GRID_AFFINE @ np.diag([0.5, 0.5, 0.5, 1.0])
    fine[:3, 3] = GRID_AFFINE[:3, 3] - 0.5
    nib.Nifti1Image(mask, fine).to_filename(tmp_path / "box.nii.gz")
    found = lesion_set([head(0), head(1)], PreprocessConfig(), shape_files(str(tmp_path)))
    assert found is not None
    assert found.truth.any(axis=0).sum() > 60  # of the 100 pixels of the box
    where = np.argwhere(found.truth.any(axis=0))  # rows are y, columns x
    assert (where.min(axis=0) >= (45, 40)).all()
    assert (where.max(axis=0) < (55, 50)).all()
    assert shape_files("") == []
    with pytest.raises(InputError, match="no lesion masks"):
        train(tmp_path, tmp_path / "run", TrainingConfig(lesion_shapes="nothing"), reporter=Reporter())
    assert not (tmp_path / "run").exists()


def test_validation_prefers_networks_that_remove_lesions(tiny: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    lesions = lesion_set([head(0)], PreprocessConfig())
    assert lesions is not None
    trainer = Trainer(tiny, SETTINGS)
    known = torch.from_numpy(lesions.slices).float().div(255)[:, None]
    mean = known.flatten(1).median(1).values.view(-1, 1, 1, 1)
    removes = torch.where(torch.from_numpy(lesions.truth)[:, None], mean, -1.0)

    class Stands(torch.nn.Module):
        """Gives back what it is shown, but for lesions where it is told to remove them."""

        config, encoder = tiny, None

        def __init__(self, remove: bool) -> None:
            super().__init__()
            self.remove = remove

        def forward(self, x: torch.Tensor, *_: object) -> torch.Tensor:
            without = removes[torch.cdist(x.flatten(1), known.flatten(1)).argmin(1)]
            return torch.where(without >= 0, without, x) if self.remove else x * 0.99

    def judged(remove: bool) -> float:
        monkeypatch.setattr(trainer, "average", Stands(remove))
        return trainer.auprc(lesions)

    assert judged(True) > 0.9 > 0.5 > judged(False)


@pytest.mark.parametrize("method", methods.NAMES)
def test_a_network_is_judged_by_the_reconstruction_of_its_method(method: str, tiny: ModelConfig) -> None:
    """Also where a method rebuilds patch by patch, and the network alone gives back what is outside its patch."""
    torch.manual_seed(0)
    trainer = Trainer(for_method(tiny, method), SETTINGS)
    clean = torch.rand(2, 1, 96, 96)
    made = trainer.reconstructed(clean)
    assert torch.equal(made, trainer.reconstructed(clean))
    settings = ReconstructionConfig(BY_NAME[method].levels, 5)
    again = BY_NAME[method].reconstructor(trainer.average, settings, "cpu", None)(clean[:, 0].numpy(), range(2))
    assert np.allclose(made[:, 0].numpy(), again, atol=1e-5)
    if method == "diffuse":  # leaves alone what it does not suspect
        return
    for row, column in ((0, 0), (0, 48), (48, 0), (48, 48)):
        part = (slice(None), 0, slice(row, row + 48), slice(column, column + 48))
        assert ((made[part] - clean[part]).abs() > 0.1).float().flatten(1).mean(1).min() > 0.5


def test_start_weights_are_evaluated_at_their_own_noise_levels(
    slices: SliceSet, tiny: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[tuple[int, ...]] = set()

    def noted(trainer: Trainer, clean: torch.Tensor) -> torch.Tensor:
        seen.add(trainer.levels)
        return clean

    monkeypatch.setattr(Trainer, "reconstructed", noted)
    settings = replace(SETTINGS, steps=1)
    for levels, expected in (((250,), (250,)), ((), (250, 500, 750))):
        seen.clear()
        job = Job(tiny, settings, Split(slices, slices), tmp_path / str(levels), levels=levels)
        work(fabric(0), job, Reporter(silent=True))
        assert seen == {expected}


def test_blur_spreads_and_keeps_the_sum() -> None:
    x = torch.zeros(4, 1, 33, 33)
    x[..., 16, 16] = 1
    y = blur(x, torch.Generator().manual_seed(0))
    assert torch.allclose(y.sum(dim=(1, 2, 3)), torch.ones(4), atol=1e-4)
    assert len({round(float(v), 4) for v in y[..., 16, 16].flatten()}) > 1  # each slice has its own
    assert torch.allclose(y, y.transpose(2, 3), atol=1e-6)


def test_ghosts_lie_along_one_axis_and_keep_the_mean() -> None:
    x = torch.full((8, 1, 96, 96), 0.5)
    x[:, :, 44:52, 44:52] = 0.6
    y = ghost(x, torch.Generator().manual_seed(0))
    assert torch.allclose(y.mean(dim=(1, 2, 3)), x.mean(dim=(1, 2, 3)), atol=1e-5)
    change = (y - x).abs()
    beside = change[:, 0, :40, :40].amax(dim=(1, 2))  # neither above nor beside the square
    along = change.amax(dim=(1, 2, 3))
    assert float(beside.max()) < 1e-5
    assert float(along.min()) > 1e-3


def test_shared_noise_is_one_true_map_for_the_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    one, two = (SharedNoise().draw(3, (24, 24), generator) for _ in range(2))
    assert torch.equal(one[0], one[2])
    assert not torch.equal(one[0], two[0])


def test_the_reference_profile_is_the_published_one() -> None:
    train = training_preset("reference").train
    assert (train.steps, train.batch_size, train.learning_rate, train.ema) == (13200, 32, 1e-4, 0.0)
    assert (train.lesion_probability, train.clip, train.shared_noise) == (0.0, 0.0, True)


def test_without_average_schedule_and_clipping_the_average_is_the_network(slices: SliceSet, tiny: ModelConfig) -> None:
    config = replace(training_preset("reference").train, batch_size=2)
    model = replace(tiny, encoder=replace(tiny.encoder, norm="batch"))
    trainer = Trainer(model, config)
    trainer.step(slices)
    trainer.step(slices)
    assert trainer.optimiser.param_groups[0]["lr"] == 1e-4
    assert same(trainer.model.state_dict(), trainer.average.state_dict())


def test_epochs_and_the_largest_number_of_steps() -> None:
    config = TrainingConfig(train=TrainConfig(epochs=2.5, batch_size=16))
    assert bounded(config, 1000).train.steps == 157
    capped = bounded(replace(config, max_steps=50), 1000)
    assert (capped.train.steps, capped.siamese.steps, capped.pretrain.steps) == (50, 50, 0)
    assert bounded(TrainingConfig(), 1000) == TrainingConfig()
