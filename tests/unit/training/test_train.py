"""`uad train` on a lab's own scans: what the model is for, which weights it begins with, what may change later."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import bundled
import cohort
import nibabel as nib
import numpy as np
import phantoms
import pytest
import torch

from uadcli.cli.app import main
from uadcli.config import (
    PreprocessConfig,
    PretrainConfig,
    SiameseConfig,
    TrainConfig,
    TrainingConfig,
    with_settings,
)
from uadcli.console import Reporter
from uadcli.data import dataset, prepare
from uadcli.data import scans as scans_module
from uadcli.data.dataset import Case
from uadcli.data.healthy import brain_slices, lesions_on_grid
from uadcli.data.scans import Scans
from uadcli.errors import InputError, OutputError, UsageError
from uadcli.imaging.slices import GRID_AFFINE, GRID_SHAPE
from uadcli.model.model import Model
from uadcli.running.temporary import mark
from uadcli.settings.training import Machine, Taught
from uadcli.training import run_folder, train
from uadcli.training.card import weights_of
from uadcli.training.examples.pool import Example, ExampleMaker
from uadcli.training.examples.slices import load_slices
from uadcli.training.examples.synthetic import Scene
from uadcli.training.reconstruction import Trainer
from uadcli.training.run import Networks, networks
from uadcli.training.score_network import SiameseTrainer
from uadcli.weights import weights

pytestmark = pytest.mark.xdist_group("own model")  # one process for what its tests share

ONE = Machine(workers=0)
SCORE = SiameseConfig(
    channels=(8, 16), mirror=False, headroom=False, batch_size=4, steps=2, warmup=1, pool=2, checkpoint_every=2
)  # as of weights of an earlier version
FROZEN = TrainConfig(steps=2, batch_size=4, warmup=1, learning_rate=0.0, checkpoint_every=2)
SETTINGS = TrainingConfig(
    preprocess=PreprocessConfig(strip="none"),
    model=cohort.TINY,
    pretrain=PretrainConfig(steps=5),
    train=FROZEN,
    siamese=dataclasses.replace(SCORE, channels=(16, 16), mirror=True, headroom=True, learning_rate=0.0),
)
NEW = dataclasses.replace(SETTINGS, pretrain=PretrainConfig())
OTHER = dataclasses.replace(cohort.TINY, unet=dataclasses.replace(cohort.TINY.unet, channels=16, head_channels=16))


def silent() -> Reporter:
    return Reporter(silent=True)


@pytest.fixture
def scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three healthy T1w scans of slabs, one of them held out; preparing and rebuilding them takes no time."""
    monkeypatch.setattr(Model, "reconstruct", lambda _, x, *rest: (0.9 * x).astype(np.float32))
    cohort.as_they_are(monkeypatch)
    return cohort.cohort(tmp_path / "own", dict.fromkeys("abc", False), {"c": "val"}, brain=cohort.slab)[0]


def begun(folder: Path, scans: Path, config: TrainingConfig, start: str | None = None) -> Path:
    train.train(scans, folder / "run", config, taught=Taught(weights=start), machine=ONE, reporter=silent())
    return folder / "run"


def resumed(run: Path, *more: str) -> int:
    """The exit code of the command, which makes its examples in this process."""
    return main(["train", "--resume", str(run), "--workers", "0", *more])


def test_a_training_begins_with_the_networks_of_weights(scans: Path, tmp_path: Path) -> None:
    base = cohort.base(tmp_path / "base", OTHER, SCORE, labelled_cases=2)
    run = begun(tmp_path, scans, SETTINGS, str(base))
    config, known = run_folder.read_run(run), weights.load(*weights.find(str(base)))
    assert (config.model, config.pretrain.steps) == (OTHER, 0)
    assert (config.siamese.channels, config.siamese.mirror) == (SCORE.channels, False)
    reconstruction, score = Trainer.load(run / "last.pt"), SiameseTrainer.load(run / "siamese" / "last.pt")
    assert (known.card.score_network.headroom, score.config.headroom) == (False, True)  # it is taught to see more
    for state, mine in ((known.model.state_dict(), reconstruction), (known.score_state, score)):
        own = mine.model.state_dict()  # the rate of learning is 0
        assert all(torch.equal(own[name], value) for name, value in state.items())
    card = weights_of(run, reconstruction, score).card
    assert card.training_data.startswith("2 T1w scans of the user, after base, sha256 ")
    assert known.card.licence in card.licence
    assert (card.steps, card.labelled_cases) == (known.card.steps + 2, 2)
    (base / "base.safetensors").unlink()  # the run has its own, also if it was stopped before the first checkpoint
    for kept in [*run.glob("*.pt"), *(run / "siamese").glob("*.pt")]:
        kept.unlink()
    train.resume(run, config, machine=ONE, reporter=silent())
    again = Trainer.load(run / "last.pt").model.state_dict()
    assert all(torch.equal(again[name], value) for name, value in known.model.state_dict().items())


def test_settings_that_weights_override_are_named(scans: Path, tmp_path: Path) -> None:
    base, said = cohort.base(tmp_path / "base", OTHER, SCORE), silent()
    train._beginning(scans, SETTINGS, str(base), said)
    for warning, name in zip(said.warnings, ("siamese.channels", "[model]", "pretrain.steps"), strict=True):
        assert name in warning
    said = silent()
    train._beginning(scans, TrainingConfig(), str(base), said)
    assert not said.warnings  # nothing was chosen


def test_start_networks_are_the_first_candidate(scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([0.5, 0.4, 0.3])  # before the first step, after two, after four
    monkeypatch.setattr(Trainer, "auprc", lambda *_: next(found))
    learned = iter([0.6, 0.5])
    monkeypatch.setattr(SiameseTrainer, "auprc", lambda *_: next(learned))
    base = cohort.base(tmp_path / "base", OTHER, SCORE)
    faster = dataclasses.replace(SETTINGS.siamese, learning_rate=0.01)
    config = dataclasses.replace(
        SETTINGS, train=dataclasses.replace(FROZEN, steps=4, learning_rate=0.01), siamese=faster
    )
    run = begun(tmp_path, scans, config, str(base))
    best, known = Trainer.load(run / "best.pt"), weights.load(*weights.find(str(base)))
    assert (best.done, best.best) == (0, 0.5)
    kept = best.average.state_dict()
    assert all(torch.equal(kept[name], value) for name, value in known.model.state_dict().items())
    assert Trainer.load(run / "last.pt").done == 4
    scorer = SiameseTrainer.load(run / "siamese" / "best.pt")
    assert (scorer.done, scorer.best) == (0, 0.6)
    kept = scorer.average.state_dict()
    assert all(torch.equal(kept[name], value) for name, value in known.score_state.items())


def test_the_card_says_when_the_start_networks_were_kept(scans: Path, tmp_path: Path) -> None:
    base = cohort.base(tmp_path / "base", OTHER, SCORE)
    still = dataclasses.replace(
        SETTINGS, train=dataclasses.replace(FROZEN, steps=0), siamese=dataclasses.replace(SETTINGS.siamese, steps=0)
    )
    run = begun(tmp_path, scans, still, str(base))
    card = weights_of(run, Trainer.load(run / "best.pt"), SiameseTrainer.load(run / "siamese/best.pt")).card
    assert card.score_network is not None
    assert not card.score_network.headroom  # it did not learn what lies there
    assert card.training_data.startswith("that of base, sha256 ")
    assert card.training_data.endswith("(made-up scans): no better networks were found on 2 T1w scans of the user")
    assert card.siamese is not None
    assert card.siamese["steps"] == SCORE.steps


@pytest.mark.parametrize("relative", [False, True])
def test_a_training_reads_and_hashes_a_prepared_scan_once(
    relative: bool, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once in the process that prepares it, here the stand-in of `prepare_all`, and once in that which trains."""
    read, hashed, looked = Counter[Path](), Counter[Path](), Counter[Path]()
    for module, name, count in (
        (prepare, "read_packed", read),
        (prepare.stored, "sha256", hashed),
        (scans_module, "healthy_slices", looked),
    ):
        real = getattr(module, name)

        def counted(first: Any, *rest: Any, real: Any = real, count: Any = count) -> Any:
            count[getattr(first, "scan", first).resolve()] += 1
            return real(first, *rest)

        monkeypatch.setattr(module, name, counted)
    monkeypatch.chdir(scans.parent)
    begun(tmp_path, Path(scans.name) if relative else scans, NEW)
    assert (sorted(read.values()), sorted(hashed.values()), sorted(looked.values())) == ([2] * 3, [2] * 3, [1] * 3)


def test_one_decision_says_which_networks_are_trained_kept_or_not_there(tmp_path: Path) -> None:
    none = dataclasses.replace(
        SETTINGS, train=dataclasses.replace(FROZEN, steps=0), siamese=dataclasses.replace(SCORE, steps=0)
    )
    path = cohort.base(tmp_path / "base", OTHER, SCORE)
    both = weights.load(*weights.find(str(path))).card
    alone = dataclasses.replace(both, siamese=None)
    assert networks(SETTINGS, None) == networks(SETTINGS, both) == Networks("trained", "trained")
    assert networks(none, both) == Networks("kept", "kept")
    assert networks(none, alone) == networks(none, None, begun=True) == Networks("kept", "none")
    by_epochs = dataclasses.replace(none, train=dataclasses.replace(none.train, epochs=1.0))
    assert networks(by_epochs, None) == Networks("trained", "none")
    with pytest.raises(UsageError, match=r"train\.steps must be at least 1"):
        networks(none, None)


def test_training_from_weights_reconstructs_with_their_noise_levels(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[tuple[int, ...]] = set()
    reconstructed = Trainer.reconstructed

    def noted(trainer: Trainer, clean: torch.Tensor) -> torch.Tensor:
        seen.add(trainer.levels)
        return reconstructed(trainer, clean)

    monkeypatch.setattr(Trainer, "reconstructed", noted)
    base = cohort.base(tmp_path / "base", OTHER, SCORE, levels=(250,))
    run = begun(tmp_path, scans, SETTINGS, str(base))
    assert seen == {(250,)}
    loaded = weights_of(run, Trainer.load(run / "last.pt"), SiameseTrainer.load(run / "siamese/last.pt"))
    assert loaded.card.levels == (250,)


def test_of_a_patient_the_slices_without_lesion_are_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Model, "reconstruct", lambda _, x, *rest: (0.9 * x).astype(np.float32))
    cohort.as_they_are(monkeypatch)
    scans, masks = cohort.cohort(
        tmp_path / "own", {"a": True, "b": False, "c": False, "d": True, "e": True, "f": True}, {"c": "val"}
    )
    (masks / "sub-f_label-lesion_mask.nii.gz").rename(scans / "sub-f_lesions_mask.nii.gz")
    (masks / "sub-b_label-lesion_mask.nii.gz").rename(scans / "sub-b_label-lesion_mask.nii.gz")  # empty: no patient
    for name in "ade":
        mask = f"sub-{name}_label-lesion_mask.nii.gz"
        (masks / mask).rename(scans / mask)
    image = nib.load(scans / "sub-d_label-lesion_mask.nii.gz")
    everywhere = np.ones(image.shape, np.int16)
    phantoms.save(scans / "sub-d_label-lesion_mask.nii.gz", everywhere, image.affine)
    phantoms.save(scans / "sub-e_label-lesion_mask.nii.gz", everywhere[:-4], image.affine)
    train.train(scans, tmp_path / "run", NEW, machine=ONE, reporter=Reporter())
    said = capsys.readouterr().err
    assert "sub-d_T1w.nii.gz: left out: it has no healthy slice" in said
    assert "sub-e_T1w.nii.gz: left out: the lesion mask is not on the scan's grid" in said
    assert "sub-f_T1w.nii.gz: left out: sub-f_lesions_mask.nii.gz may be its lesion mask" in said
    assert "1 scans have a lesion mask: their slices 6 mm from any lesion" in said
    (ill, well), run = (c for c in run_folder.usable_cases(tmp_path / "run") if c.part == "train"), tmp_path / "run"
    assert ill.lesions == (scans / "sub-a_label-lesion_mask.nii.gz").resolve()
    prepared = prepare.prepare_cached(ill.scan, NEW.preprocess, run / "cache")
    own, other = (load_slices([c], Scans(run / "cache", NEW.preprocess)).slices for c in (ill, well))
    touched = lesions_on_grid(ill, prepared).any(axis=(0, 1))
    near = [np.abs(np.flatnonzero(touched) - z).min() <= 3 for z in brain_slices(prepared.mask)]
    assert len(own) == near.count(False) < len(other) == len(near)
    card = weights_of(run, Trainer.load(run / "last.pt"), SiameseTrainer.load(run / "siamese/last.pt")).card
    assert card.training_data == (
        "1 T1w scans of the user, 1 T1w scans of the user, patients by their slices without lesion"
    )


def test_a_training_that_fails_to_start_leaves_nothing_behind(scans: Path, tmp_path: Path) -> None:
    base = cohort.base(tmp_path / "base", OTHER, SCORE)
    wrong = dataclasses.replace(SETTINGS, contrasts=("T2w",))  # of which none is held out
    with pytest.raises(InputError, match="no usable T2w scan in val"):
        begun(tmp_path, scans, wrong, str(base))
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    run_folder.write_rows(tmp_path / "run" / "data.tsv", [], {})  # of a run that was killed, as is the next
    (tmp_path / "run" / "start.safetensors").write_bytes(b"weights")
    run = begun(tmp_path, scans, NEW)
    assert not (run / "start.safetensors").exists()
    assert Trainer.load(run / "last.pt").model.config == cohort.TINY


@pytest.mark.parametrize(
    ("split", "contrasts", "what"),
    [
        ({}, (), "no usable T1w scan in val"),
        ({"a": "val", "b": "val"}, (), "no usable scan in train"),
        ({"a": "val"}, ("T1w",), None),
    ],
)
def test_too_few_scans_are_known_by_their_names(
    split: dict[str, str], contrasts: tuple[str, ...], what: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two scans, one of them FLAIR where the settings name a contrast: nothing is prepared, and nothing written."""
    monkeypatch.setattr(run_folder, "prepare_all", None)
    scans, _ = cohort.cohort(tmp_path / "own", dict.fromkeys("ab", False), split)
    if what is None:
        (scans / "sub-b_T1w.nii.gz").rename(scans / "sub-b_FLAIR.nii.gz")
    out, config = tmp_path / "new" / "run", dataclasses.replace(NEW, contrasts=contrasts)
    kind, said = (InputError, what) if what else (UsageError, "cannot provide")
    with pytest.raises(kind, match=said):
        train.train(scans, out, config, machine=ONE, reporter=silent())
    assert not out.parent.exists()


def test_scans_without_a_contrast_in_their_names_may_be_enough(tmp_path: Path) -> None:
    unnamed = [Case(name, "x", part, "", Path(name)) for name, part in (("a", "train"), ("b", "val"))]
    train.refuse_few(unnamed, dataclasses.replace(NEW, contrasts=("T2w",)), tmp_path)
    named = dataclasses.replace(unnamed[0], contrast="FLAIR")
    train.refuse_few([named, unnamed[1]], NEW, tmp_path)
    with pytest.raises(UsageError, match="cannot provide T2w: they are FLAIR"):
        train.refuse_few([named, unnamed[1]], dataclasses.replace(NEW, contrasts=("T2w",)), tmp_path)
    with pytest.raises(InputError, match="no usable T1w or T2w or FLAIR scan in val"):
        train.refuse_few(unnamed[:1], NEW, tmp_path)


def test_a_folder_with_other_files_is_no_place_for_a_run(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in scans.iterdir()}
    for more in ([], ["--check"]):
        assert main(["train", str(scans), "--out", str(scans), *more]) == 6
        assert "holds other files (" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in scans.iterdir()} == before
    foreign = tmp_path / "foreign"
    for name, content in (("data.tsv", "subject\tage\n"), ("cache/a.nii", ""), ("start.safetensors", "")):
        (foreign / name).parent.mkdir(parents=True)
        (foreign / name).write_text(content)
        with pytest.raises(OutputError, match="holds other files"):
            run_folder.refuse_taken(foreign)
        shutil.rmtree(foreign)


def test_a_folder_that_a_run_left_and_logs_are_no_obstacle(scans: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "cache").mkdir(parents=True)
    run_folder.write_rows(run / "data.tsv", [], {})
    hidden = f".{mark()}"  # of a process that was killed while writing
    for name in (".lock", "cache/1.npz", hidden, f"cache/{hidden}.npz", "reconstruction.safetensors", "a.log"):
        (run / name).touch()
    assert begun(tmp_path, scans, NEW) == run


def test_a_training_refused_after_the_preparation_leaves_the_prepared_scans(scans: Path, tmp_path: Path) -> None:
    (scans / "sub-c_T1w.nii.gz").write_bytes(b"broken")  # the only one for validation
    run = tmp_path / "run"
    for _ in range(2):
        with pytest.raises(InputError, match=r"own/scans: no usable T1w scan in val"):
            begun(tmp_path, scans, NEW)
        assert [path.name for path in run.iterdir()] == ["cache"]
        assert len(list((run / "cache").iterdir())) == 2
    shutil.rmtree(run)
    for path in scans.glob("*.nii.gz"):
        path.write_bytes(b"broken")
    with pytest.raises(InputError, match="no usable scan in train"):
        begun(tmp_path, scans, NEW)
    assert not run.exists()
    run.mkdir()
    with pytest.raises(InputError, match="no usable scan in train"):
        begun(tmp_path, scans, NEW)
    assert not list(run.iterdir())


def test_what_is_no_run_is_not_touched_when_it_is_resumed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run"):
        train.resume(tmp_path, NEW, machine=ONE, reporter=silent())
    assert not list(tmp_path.iterdir())


def test_training_from_weights_without_score_network_says_so(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = cohort.base(tmp_path / "base", OTHER, None)
    train.train(scans, tmp_path / "run", SETTINGS, taught=Taught(weights=str(base)), machine=ONE, reporter=Reporter())
    said = capsys.readouterr().err
    assert "base has no score network" in said
    assert "the settings [model] are ignored: base has its own" in said


@pytest.mark.parametrize(
    ("wanted", "contrasts", "made"),
    [((), ("T1w",), (0.0, 0.0)), (("T1w", "T2w"), ("T1w", "T2w"), (0.3, 0.0))],
)
def test_a_model_covers_the_contrasts_of_its_scans_or_of_the_settings(
    wanted: tuple[str, ...],
    contrasts: tuple[str, ...],
    made: tuple[float, float],
    scans: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turned = []
    step = Trainer.step

    def watched(self: Trainer, data: object) -> float:
        turned.append(data.made)  # type: ignore[attr-defined]
        return step(self, data)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "step", watched)
    run = begun(tmp_path, scans, dataclasses.replace(SETTINGS, contrasts=wanted, pretrain=PretrainConfig()))
    assert set(turned) == {made}
    reconstruction, score = Trainer.load(run / "last.pt"), SiameseTrainer.load(run / "siamese" / "last.pt")
    card = weights_of(run, reconstruction, score).card
    assert card.contrasts == contrasts
    assert card.guide_radius == max({"T1w": 2, "T2w": 3, "FLAIR": 4}[name] for name in contrasts)


def test_scans_of_neither_part_are_left_alone(scans: Path, tmp_path: Path) -> None:
    (scans / "participants.tsv").write_text("participant_id\tsplit\na\ttrain\nsub-b\ttest\nsub-c\tval\n")
    run = begun(tmp_path, scans, NEW)
    assert {(row["subject"], row["part"]) for row in run_folder.rows_of(run / "data.tsv")} == {
        ("sub-a", "train"),
        ("sub-c", "val"),
    }


def test_a_held_out_scan_under_a_second_name_is_not_trained_on(scans: Path, tmp_path: Path) -> None:
    held_out, other = (scans / f"sub-{name}_T1w.nii.gz" for name in "cb")
    other.write_bytes(held_out.read_bytes())
    with pytest.raises(InputError, match="no usable T1w scan in val"):
        begun(tmp_path, scans, NEW)


def test_a_contrast_that_the_scans_cannot_give_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort.as_they_are(monkeypatch)
    flair = cohort.cohort(tmp_path / "flair", dict.fromkeys("ab", False), {"b": "val"}, "FLAIR")[0]
    with pytest.raises(UsageError, match="cannot provide T1w: they are FLAIR"):
        begun(tmp_path, flair, dataclasses.replace(SETTINGS, contrasts=("T1w", "FLAIR")))
    assert not (tmp_path / "run" / "config.toml").exists()


def test_what_is_no_label_map_is_known_before_the_training(scans: Path, tmp_path: Path) -> None:
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "a.nii.gz").write_bytes(b"text")
    with pytest.raises(InputError, match="cannot be read as a label map"):
        begun(tmp_path, scans, dataclasses.replace(SETTINGS, label_maps=str(tmp_path / "maps")))
    assert not (tmp_path / "run" / "config.toml").exists()


def test_an_unknown_contrast_is_refused() -> None:
    assert with_settings(TrainingConfig(), ['contrasts=["FLAIR"]']).contrasts == ("FLAIR",)
    with pytest.raises(UsageError, match="'PET'"):
        with_settings(TrainingConfig(), ['contrasts=["PET"]'])


def test_a_folder_without_label_maps_is_known_before_the_scans_are_prepared(scans: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="label maps"):
        begun(tmp_path, scans, dataclasses.replace(SETTINGS, label_maps=str(tmp_path / "none")))
    assert not (tmp_path / "run").exists()


def test_only_steps_and_learning_rates_may_change_on_resume(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = begun(tmp_path, scans, NEW)
    text = (run / "config.toml").read_text()
    assert resumed(run, "--set", "train.batch_size=8") == 2
    assert "a run keeps its train.batch_size" in capsys.readouterr().err
    assert (run / "config.toml").read_text() == text
    before = Trainer.load(run / "last.pt").model.state_dict()
    assert resumed(run, "--set", "train.steps=4", "--set", "train.learning_rate=0.01") == 0
    capsys.readouterr()
    after = Trainer.load(run / "last.pt")
    assert (after.done, after.config.learning_rate) == (4, 0.01)
    assert not all(torch.equal(before[name], value) for name, value in after.model.state_dict().items())
    kept = run_folder.read_run(run)
    assert (kept.train.steps, kept.train.learning_rate) == (4, 0.01)  # also the next time it goes on
    assert resumed(run, "--max-steps", "3") == 0
    assert run_folder.read_run(run).max_steps == 0  # that was for once
    (run / "siamese" / "reconstruction.txt").write_text("step 1\n")
    capsys.readouterr()
    assert resumed(run) == 0
    assert "trained on an earlier reconstruction: continue it too" in capsys.readouterr().err
    assert resumed(run, "--set", "siamese.steps=3") == 0
    assert "earlier reconstruction: it continues with this one" in capsys.readouterr().err
    assert resumed(run) == 0
    assert "earlier reconstruction" not in capsys.readouterr().err
    assert resumed(run, "--profile", "reference") == 2


def test_a_score_without_a_step_left_needs_no_examples(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, made = begun(tmp_path, scans, NEW), list[Scene]()
    monkeypatch.setattr(ExampleMaker, "example", lambda _, scene: made.append(scene))
    (run / "siamese" / "report.html").unlink()
    assert resumed(run, "--set", "train.steps=3") == 0
    assert not made
    assert (run / "siamese" / "report.html").exists()


def test_a_score_that_goes_on_with_another_reconstruction_is_judged_by_it_alone(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The AUPRC of the best network was measured on another one's examples, and could never be reached again."""
    found = iter([0.9, 0.3, 0.5])  # after two steps; the same network on the new examples; after two steps more
    monkeypatch.setattr(SiameseTrainer, "auprc", lambda *_: next(found))
    run = begun(tmp_path, scans, NEW)
    assert SiameseTrainer.load(run / "siamese" / "best.pt").best == 0.9
    (run / "siamese" / "reconstruction.txt").write_text("step 1\n")
    assert resumed(run, "--set", "siamese.steps=4") == 0
    best = SiameseTrainer.load(run / "siamese" / "best.pt")
    assert (best.done, best.best) == (4, 0.5)
    assert next(found, None) is None
    assert (run / "siamese" / "reconstruction.txt").read_text() == "step 2\n"


def test_a_folder_given_on_resume_is_found_from_anywhere_and_a_wrong_one_changes_nothing(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begun(tmp_path, scans, NEW)
    text = (run / "config.toml").read_text()
    assert resumed(run, "--set", "lesion_shapes=nowhere") == 3
    assert (run / "config.toml").read_text() == text
    (tmp_path / "shapes").mkdir()
    box = np.zeros(GRID_SHAPE)
    box[40:50, 45:55, 38:44] = 1
    phantoms.save(tmp_path / "shapes" / "box.nii.gz", box, GRID_AFFINE)
    monkeypatch.chdir(tmp_path)
    assert resumed(run, "--set", "lesion_shapes=shapes") == 0
    assert run_folder.read_run(run).lesion_shapes == str(tmp_path / "shapes")


def test_a_run_of_an_earlier_version_goes_on_without_headroom(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before its first checkpoint, its examples may be there already; they were made without."""
    made, example = set[bool](), ExampleMaker.example

    def noted(maker: ExampleMaker, scene: Scene) -> Example:
        made.add(maker.headroom)
        return example(maker, scene)

    monkeypatch.setattr(ExampleMaker, "example", noted)
    run = begun(tmp_path, scans, NEW)
    assert run_folder.read_run(run).siamese.headroom
    assert made == {True}
    made.clear()
    text = (run / "config.toml").read_text()
    (run / "config.toml").write_text(text.replace("headroom = true\n", ""))
    shutil.rmtree(run / "siamese")
    assert resumed(run, "--set", "siamese.steps=3") == 0
    assert made == {False}
    assert not SiameseTrainer.load(run / "siamese" / "last.pt").config.headroom
    assert not run_folder.read_run(run).siamese.headroom
    for text in ("", "[siamese]\nheadroom = true\n"):
        (run / "config.toml").write_text(text)
        assert run_folder.read_run(run).siamese.headroom is bool(text)


def test_two_processes_do_not_train_in_one_folder(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = begun(tmp_path, scans, NEW)
    kept = (run / "last.pt").read_bytes()
    with run_folder.held(run):
        for arguments in (["--resume", str(run), "--set", "train.steps=4"], [str(scans), "--out", str(tmp_path / "b")]):
            with run_folder.held(tmp_path / "b"):
                assert main(["train", *arguments]) == 6
            assert "another process is training here" in capsys.readouterr().err
    assert (run / "last.pt").read_bytes() == kept
    assert run_folder.read_run(run).train.steps == 2
    assert resumed(run, "--set", "train.steps=4") == 0
    assert Trainer.load(run / "last.pt").done == 4


def test_weights_decide_sizes_and_method(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    begin = ["train", str(tmp_path), "--out", str(tmp_path / "run"), "--weights", bundled.FLAIR]
    for more in (["--method", "dae"], ["--profile", "reference"]):
        assert main([*begin, *more]) == 2
        assert more[0] in capsys.readouterr().err


def test_synthetic_volumes_with_lesions_are_no_healthy_scans(tmp_path: Path) -> None:
    """As of a patient, slices without lesion remain; without its mask the volume is left out."""
    scans, masks = cohort.cohort(tmp_path / "own", {"a": True}, {})
    source = scans / "sub-a_T1w.nii.gz"
    for name in ("with", "without"):
        shutil.copy(source, tmp_path / f"{name}.nii.gz")
        (tmp_path / f"{name}.json").write_text('{"synthetic": true, "lesion_volume_ml": 1.0}')
    shutil.copy(masks / "sub-a_label-lesion_mask.nii.gz", tmp_path / "with_lesions.nii.gz")
    shutil.rmtree(tmp_path / "own")
    cases = {case.scan: dataclasses.replace(case, contrast="T1w") for case in dataset.find(tmp_path, None)}
    prepared = Scans(tmp_path / "cache", NEW.preprocess)
    reporter = Reporter(silent=True)
    kept = run_folder.healthy_of(cases, prepared, reporter)
    assert [case.lesions and case.lesions.name for case in kept.values()] == ["with_lesions.nii.gz"]
    assert reporter.warnings == [
        f"{tmp_path / 'without.nii.gz'}: left out: it has lesions, and their mask without_lesions.nii.gz is missing"
    ]
