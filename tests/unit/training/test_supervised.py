"""The score network trained on labelled cases: what it is shown, what it starts from, and that it goes on."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
from pathlib import Path

import bundled
import cohort
import numpy as np
import phantoms
import pytest
import torch

from uadcli.calibration import calibrate
from uadcli.calibration.export import trained_weights
from uadcli.config import ModelConfig, PreprocessConfig, SiameseConfig, TrainingConfig
from uadcli.console import Reporter
from uadcli.data.dataset import Case
from uadcli.data.lesion_labels import LabelledScan
from uadcli.errors import InputError, OutputError, UsageError, WeightsError
from uadcli.imaging.slices import GRID_AFFINE, GRID_SHAPE
from uadcli.model.model import Model
from uadcli.settings.training import HAND, CalibrationMachine, Fitted, Machine, Taught
from uadcli.training import checkpoint, supervised, train
from uadcli.training.examples.pool import ExampleMaker
from uadcli.training.examples.synthetic import Healthy, Scene
from uadcli.training.score_network import SiameseTrainer
from uadcli.training.supervised import LabelledScenes
from uadcli.weights import weights

pytestmark = pytest.mark.xdist_group("supervised")  # one process for what its tests share

ONE = Machine(workers=0)
SMALL = SiameseConfig(channels=(8, 16), batch_size=4, steps=4, warmup=2, pool=2, checkpoint_every=2)
SETTINGS = TrainingConfig(preprocess=PreprocessConfig(strip="none"), siamese=SMALL)
ALL = {"a": True, "b": True, "c": False, "d": True, "e": True, "f": True}
HELD_OUT = dict.fromkeys("def", "val")


BLANK = Model(None, "cpu")  # type: ignore[arg-type]


def silent() -> Reporter:
    return Reporter(silent=True)


def blank(patch: pytest.MonkeyPatch) -> None:
    """A reconstruction and a preparation that take no time."""
    patch.setattr(Model, "reconstruct", lambda _, x, *rest, **more: (0.9 * x).astype(np.float32))
    cohort.as_they_are(patch)


@pytest.fixture
def _blank(monkeypatch: pytest.MonkeyPatch) -> None:
    blank(monkeypatch)


def labelled(ill: bool) -> LabelledScan:
    data = np.random.default_rng(0).uniform(0.1, 0.6, (32, 32, 24)).astype(np.float32)
    truth = np.zeros(data.shape, dtype=bool)
    if ill:
        truth[4:12, 10:18, 8:16] = True
        data[truth] = 1
    return LabelledScan(data, data > 0, truth, np.arange(20))


def healthy(*usable: int) -> Healthy:
    one = labelled(False)
    return Healthy(one.data, one.mask, np.array(usable, dtype=np.int64), "T1w")


def maker_of(labelled: list[LabelledScan], healthy: list[Healthy], seed: int = 1) -> ExampleMaker:
    return ExampleMaker(LabelledScenes(labelled, healthy, PreprocessConfig(), seed), BLANK, True)  # type: ignore[arg-type]


def made(maker: ExampleMaker, number: int) -> dict[str, np.ndarray]:
    return vars(maker.draw(number))


@pytest.mark.usefixtures("_blank")
def test_every_other_example_is_a_labelled_case_in_turn() -> None:
    maker = maker_of([labelled(True), labelled(False)], [healthy(*range(10))])
    drawn = [maker.draw(number) for number in range(4)]
    assert [len(one.usable) for one in drawn] == [20, 10, 20, 10]
    assert [bool(one.truth.any()) for one in drawn[::2]] == [True, False]
    found = drawn[0]
    assert found.image[found.truth].mean() > 1.5 * found.image[found.brain & ~found.truth].mean()  # mirrored or not


@pytest.mark.usefixtures("_blank")
def test_number_and_seed_decide_an_example() -> None:
    one, other = (maker_of([labelled(True)], [], seed) for seed in (1, 2))
    assert all(np.array_equal(part, made(one, 3)[name]) for name, part in made(one, 3).items())
    assert not np.array_equal(made(one, 3)["image"], made(one, 4)["image"])
    assert not np.array_equal(made(one, 3)["image"], made(other, 3)["image"])


@pytest.mark.usefixtures("_blank")
def test_both_sides_are_shown_and_the_lesion_goes_along() -> None:
    maker = maker_of([labelled(True)], [])
    left = {bool(maker.draw(number).truth[:, :, :16].any()) for number in range(6)}
    assert left == {True, False}


@pytest.mark.usefixtures("_blank")
def test_without_a_slice_free_of_lesions_all_examples_are_labelled() -> None:
    maker = maker_of([labelled(True)], [healthy()])
    assert all(maker.draw(number).truth.any() for number in range(3))


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on six phantoms, three of them held out."""
    folder = tmp_path_factory.mktemp("once")
    data, masks = cohort.cohort(folder, ALL, HELD_OUT)
    base = str(cohort.base(folder / "base", cohort.TINY, SMALL))
    with pytest.MonkeyPatch.context() as patch:
        blank(patch)
        train.train(data, folder / "run", SETTINGS, taught=Taught(masks, base), machine=ONE, reporter=silent())
    return folder


@pytest.fixture
def begun(once: Path, tmp_path: Path, _blank: None) -> Path:
    """The same run with its scans and masks, to do with as a test likes."""
    shutil.copytree(once, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_a_run_says_what_it_was_trained_on(begun: Path) -> None:
    reporter = silent()
    loaded = trained_weights(begun / "run")
    before = weights.load(*weights.find(str(begun / "base")))
    assert all(torch.equal(a, b) for a, b in zip(loaded.model.parameters(), before.model.parameters(), strict=True))
    assert float(loaded.gate_state["T1w.limit"]) == 1000  # that of the reconstruction
    card = loaded.card
    assert (card.labelled_cases, card.contrasts, card.scores) == (3, ("T1w",), {"T1w": "siamese"})
    assert "3 T1w scans of the user with lesion masks (2 with lesions)" in card.training_data
    assert "made-up scans" in card.training_data
    assert before.sha256[:12] in card.training_data
    assert card.licence.startswith("CC BY-SA 3.0;")
    assert not card.thresholds
    assert not any(torch.equal(loaded.score_state[k], before.score_state[k]) for k in ("out.weight",))
    machine, hand = CalibrationMachine(1), Fitted(gate=HAND)
    with pytest.raises(InputError, match="model was trained on this scan"):
        calibrate.calibrate(begun / "run", begun / "scans", machine=machine, reporter=reporter)
    for name in "abc":
        (begun / "scans" / f"sub-{name}_T1w.nii.gz").unlink()
    with pytest.raises(InputError, match=r"sub-d_T1w.nii.gz: this scan has lesions by the labels of the run"):
        calibrate.calibrate(begun / "run", begun / "scans", machine=machine, reporter=reporter)
    with pytest.raises(UsageError, match="keeps the out-of-distribution check of its weights"):
        calibrate.calibrate(begun / "run", begun / "scans", machine=machine, reporter=reporter, fitted=hand)


def test_the_best_checkpoint_is_that_of_the_held_out_cases(begun: Path) -> None:
    assert (begun / "run" / "siamese" / "best.pt").exists()
    log = (begun / "run" / "siamese" / "log.csv").read_text().splitlines()
    assert [bool(row.split(",")[3]) for row in log[1:]] == [True, True]
    assert not (begun / "run" / "last.pt").exists()  # there is no training of a reconstruction
    assert (begun / "run" / "report.html").exists()


def test_a_run_is_not_begun_twice(begun: Path) -> None:
    with pytest.raises(OutputError, match="a run already exists"):
        train.train(
            begun / "scans",
            begun / "run",
            SETTINGS,
            taught=Taught(begun / "masks"),
            machine=ONE,
            reporter=silent(),
        )


class Stops(Reporter):
    """Is told to stop, as by Ctrl-C, when it hears of a step."""

    def __init__(self, step: int) -> None:
        super().__init__(silent=True)
        self.step = step

    def note(self, text: str) -> None:
        if text.startswith(f"step {self.step}:"):
            signal.raise_signal(signal.SIGINT)


def test_resuming_after_two_steps_equals_four_steps(begun: Path) -> None:
    """A run that was stopped goes on bit for bit; a mask that has changed meanwhile is an error."""
    whole, parts = begun / "run", begun / "parts"
    scans, masks, base = begun / "scans", begun / "masks", str(begun / "base")
    with pytest.raises(KeyboardInterrupt):
        train.train(scans, parts, SETTINGS, taught=Taught(masks, base), machine=ONE, reporter=Stops(2))
    train.resume(parts, machine=ONE, reporter=silent())
    one, other = (checkpoint.read(place / "siamese" / "last.pt") for place in (whole, parts))
    assert one["done"] == other["done"] == 4
    assert one["best"] == other["best"]
    for part in ("model", "average"):
        assert all(torch.equal(value, other[part][name]) for name, value in one[part].items())
    mask = masks / "sub-a_label-lesion_mask.nii.gz"
    mask.write_bytes(mask.read_bytes() + b"x")
    with pytest.raises(InputError, match="has changed since the run began"):
        train.resume(parts, machine=ONE, reporter=silent())


@pytest.mark.parametrize(
    ("sizes", "starts"), [(SMALL, True), (dataclasses.replace(SMALL, channels=(8, 24)), False), (None, False)]
)
def test_the_score_network_starts_from_one_of_the_same_sizes(
    sizes: SiameseConfig | None, starts: bool, tmp_path: Path, tiny: ModelConfig
) -> None:
    loaded = weights.load(*weights.find(str(cohort.base(tmp_path / "base", tiny, sizes, labelled_cases=5))))
    assert supervised.starts_from(loaded, SMALL) == starts
    assert supervised.starts_from(loaded, dataclasses.replace(SMALL, mirror=False)) is False


def case(contrast: str) -> Case:
    return Case("s", "", "train", contrast, Path(f"s_{contrast}.nii.gz"))


def test_the_bundled_weights_for_training_are_those_of_the_contrast() -> None:
    assert supervised.base_for([case("FLAIR"), case("T2w")], None, silent()).card.name == bundled.FLAIR
    assert supervised.base_for([case("T1w")], None, silent()).card.name == bundled.T1W
    with pytest.raises(UsageError, match="no bundled model covers FLAIR and T1w"):
        supervised.base_for([case("FLAIR"), case("T1w")], None, silent())
    with pytest.raises(InputError, match="does not give the contrast"):
        supervised.base_for([case("FLAIR"), case("")], None, silent())
    with pytest.raises(InputError, match=rf"s_T1w.nii.gz: is T1w, but {bundled.FLAIR} covers T2w, FLAIR"):
        supervised.base_for([case("FLAIR"), case("T1w")], bundled.FLAIR, silent())
    assert supervised.base_for([case("")], bundled.FLAIR, silent()).card.name == bundled.FLAIR


def test_a_folder_with_the_name_of_a_bundled_model_does_not_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / bundled.FLAIR).mkdir()
    monkeypatch.chdir(tmp_path)
    assert supervised.base_for([case("FLAIR"), case("T2w")], None, silent()).card.name == bundled.FLAIR


@pytest.mark.usefixtures("_blank")
def test_scans_of_neither_part_need_no_contrast_of_the_weights(tmp_path: Path) -> None:
    data, masks = cohort.cohort(tmp_path, {"a": True, "b": True}, {"b": "val"}, brain=cohort.slab)
    for folder, ending in ((data, "FLAIR"), (masks, "label-lesion_mask")):
        source = next(iter(sorted(folder.glob("sub-a_*.nii.gz"))))
        shutil.copy(source, folder / f"sub-z_{ending}.nii.gz")
    with (data / "participants.tsv").open("a") as stream:
        stream.write("\nsub-z\ttest")
    taught = Taught(masks, str(cohort.base(tmp_path / "base", cohort.TINY, SMALL)))  # for T1w
    found = supervised.beginning(data, SETTINGS, taught, silent())
    assert {case.part for case in found.cases} == {"train", "val"}


def test_a_side_without_lesions_is_an_error(tmp_path: Path, tiny: ModelConfig) -> None:
    data, masks = cohort.cohort(tmp_path, {"a": False, "b": True}, {"b": "val"})
    cohort.base(tmp_path / "base", tiny, SMALL)
    taught = Taught(masks, str(tmp_path / "base"))
    with pytest.raises(InputError, match="no usable scan to train on has a lesion"):
        train.train(data, tmp_path / "run", SETTINGS, taught=taught, machine=ONE, reporter=silent())
    assert not (tmp_path / "run").exists()  # the masks are looked at before any scan is prepared


@pytest.mark.usefixtures("_blank")
def test_lesions_that_the_preparation_loses_are_an_error(tmp_path: Path, tiny: ModelConfig) -> None:
    data, masks = cohort.cohort(tmp_path, {"a": True, "b": True}, {"b": "val"})
    corner = np.zeros(GRID_SHAPE)
    corner[0, 0, 0] = 1
    phantoms.save(masks / "sub-a_label-lesion_mask.nii.gz", corner, GRID_AFFINE)
    taught = Taught(masks, str(cohort.base(tmp_path / "base", tiny, SMALL)))
    with pytest.raises(InputError, match="no usable scan to train on has a lesion"):
        train.train(data, tmp_path / "run", SETTINGS, taught=taught, machine=ONE, reporter=silent())
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["cache"]


@pytest.mark.usefixtures("_blank")
def test_with_few_held_out_cases_the_last_checkpoint_is_taken(tmp_path: Path, tiny: ModelConfig) -> None:
    data, masks = cohort.cohort(tmp_path, {"a": True, "b": True}, {"b": "val"})
    cohort.base(tmp_path / "base", tiny, None, labelled_cases=5)
    reporter, taught = silent(), Taught(masks, str(tmp_path / "base"))
    train.train(data, tmp_path / "run", SETTINGS, taught=taught, machine=ONE, reporter=reporter)
    assert any("held-out cases with lesions: 1, fewer than 3" in text for text in reporter.warnings)
    assert any("trained from scratch" in text for text in reporter.warnings)
    assert not (tmp_path / "run" / "siamese" / "best.pt").exists()
    assert trained_weights(tmp_path / "run").card.labelled_cases == 1  # the five of the weights were another network's


def test_a_card_has_every_field(tmp_path: Path, tiny: ModelConfig) -> None:
    folder = cohort.base(tmp_path / "base", tiny, None)
    file = folder / "base.safetensors"
    card = json.loads(weights._header(file) or "")
    assert card.pop("labelled_cases") == 0
    with pytest.raises(WeightsError, match="labelled_cases is missing"):
        weights._described(json.dumps(card), file)


@pytest.mark.usefixtures("_blank")
def test_a_held_out_case_brighter_than_normal_tissue_is_shown_bright() -> None:
    """Its intensities are unbounded until they are scaled: in whole numbers of 8 bits a lesion at 1.3 would be dark."""
    one = labelled(True)
    one.data[one.truth] = 1.3
    one.data[5, 11, 9] = 2.6
    maker = maker_of([one], [])
    found = maker.example(maker.scenes.unmodified(one))  # type: ignore[attr-defined]
    assert found.image[found.truth].min() == 255
    assert found.image.max() > 400  # far above the upper percentile, which is 1.3
    assert found.image[found.brain & ~found.truth].max() < 255
    with pytest.raises(ValueError, match="not within 0 and 1"):
        maker.example(Scene(one.data, one.mask, one.truth, one.usable))


@pytest.mark.parametrize("started", [True, False])
def test_the_steps_of_the_weights_count_if_its_score_network_was_continued(begun: Path, started: bool) -> None:
    base = weights.load(begun / "run" / supervised.BASE)
    assert base.card.siamese is not None
    sizes = SMALL if started else dataclasses.replace(SMALL, channels=(8, 24))
    scorer = SiameseTrainer(sizes)
    scorer.done = 4
    card = supervised.weights_of(begun / "run", scorer).card
    assert card.guide_radius == max({"T1w": 2, "T2w": 3, "FLAIR": 4}[name] for name in base.card.contrasts)
    assert card.siamese is not None
    assert card.siamese["steps"] == 4 + (base.card.siamese["steps"] if started else 0)
