"""Settings survive TOML, and a mistake in a file is named with the nearest right word."""

import dataclasses
import math
import re
import typing
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uadcli import config as settings
from uadcli.batches import options as of_batch
from uadcli.config import (
    DetectConfig,
    EncoderConfig,
    ModelConfig,
    PreprocessConfig,
    PretrainConfig,
    ReconstructionConfig,
    ScoringConfig,
    SiameseConfig,
    TrainConfig,
    TrainingConfig,
    UNetConfig,
    from_dict,
    preset,
    read_toml,
    to_dict,
    to_toml,
    with_settings,
)
from uadcli.detection import options as of_detection
from uadcli.detection.options import DetectOptions
from uadcli.errors import UsageError
from uadcli.evaluation import options as of_evaluation
from uadcli.evaluation.options import EvaluateOptions
from uadcli.settings import training as of_training
from uadcli.settings.bounds import Checked
from uadcli.settings.training import Fitted, Helpers, Machine
from uadcli.synthesis import options as of_synthesis
from uadcli.synthesis.options import SynthOptions

configs = st.builds(
    DetectConfig,
    preprocess=st.builds(
        PreprocessConfig,
        strip=st.sampled_from(["hd-bet", "atlas", "none"]),
        bias_field=st.booleans(),
        lower_percentile=st.floats(0, 49),
        upper_percentile=st.floats(51, 100),
    ),
    reconstruction=st.builds(
        ReconstructionConfig,
        levels=st.lists(st.integers(1, 1000), max_size=4).map(tuple),
        batch_size=st.integers(1, 512),
        seed=st.integers(0, 2**31),
    ),
    scoring=st.builds(
        ScoringConfig, erosion=st.integers(0, 9), median=st.sampled_from([1, 3, 5, 9]), min_volume_mm3=st.floats(0, 1e6)
    ),
)


@given(configs)
def test_toml_returns_the_same_config(config):
    assert read_toml(DetectConfig, to_toml(config)) == config


folders = st.text(st.characters(codec="utf-8"))


@given(folders, folders, st.sampled_from(["dae", "vae"]))
def test_free_text_survives_toml(shapes, maps, method):
    config = TrainingConfig(lesion_shapes=shapes, label_maps=maps, model=ModelConfig(method=method))
    assert read_toml(TrainingConfig, to_toml(config)) == config


@pytest.mark.parametrize("text", ['/data/my "best" shapes', r"C:\Users\lab\new", "/data/back\\slash", "a\nb\x7f\x00'"])
def test_a_path_survives_toml(text):
    config = TrainingConfig(lesion_shapes=text)
    assert read_toml(TrainingConfig, to_toml(config)) == config


def test_a_name_that_is_no_text_is_refused_before_it_is_written():
    with pytest.raises(UsageError, match="cannot be written as TOML"):
        to_toml(TrainingConfig(lesion_shapes="/data/\udcff"))


OUT_OF_BOUNDS = [
    *[
        (ScoringConfig, "min_volume_mm3", value)
        for value in (math.nan, math.inf, -math.inf, -1.0, 1e9, "64", True, None)
    ],
    *[(ScoringConfig, "erosion", value) for value in (50, -1, 2.5, True, 10**400)],
    *[(ScoringConfig, "median", value) for value in (0, -1, 99, 3.0)],
    *[(ReconstructionConfig, "levels", value) for value in ((0,), (-5,), (500, 1001), (2.5,), [500], 500)],
    *[(ReconstructionConfig, "seed", value) for value in (-1, 2**70, 0.5)],
    *[(ReconstructionConfig, "batch_size", value) for value in (0, -3)],
    *[(ReconstructionConfig, "method", value) for value in ("nope", "DAE", None)],
    *[(ReconstructionConfig, "overlap", value) for value in ("yes", 1)],
    *[(PreprocessConfig, "lower_percentile", value) for value in (-1.0, 101.0, math.nan, 99.0, 99.5)],
    *[(PreprocessConfig, "upper_percentile", value) for value in (-1.0, 101.0, math.nan)],
    *[(PreprocessConfig, "strip", value) for value in ("hdbet", "HD-BET", "", None)],
    *[(ScoringConfig, "median", value) for value in (0, 4)],
    *[(PreprocessConfig, "curvature_flow", value) for value in (-1, 10**6)],
    *[(TrainConfig, "learning_rate", value) for value in (-1e-3, math.nan)],
    *[(TrainConfig, "schedule", value) for value in ("linear", 3)],
    *[(SiameseConfig, "channels", value) for value in ((0,), (8, -8))],
    *[(EncoderConfig, "norm", value) for value in ("layer",)],
    *[(UNetConfig, "unshuffle", value) for value in (0,)],
    *[(TrainingConfig, "validation_share", value) for value in (-0.1, 1.0, math.nan)],
]


@pytest.mark.parametrize(("kind", "name", "value"), OUT_OF_BOUNDS)
def test_a_setting_out_of_bounds_is_named(kind, name, value):
    with pytest.raises(UsageError) as caught:
        kind(**{name: value})
    assert re.search(rf"{kind.TABLE}{name} cannot be", str(caught.value))
    assert caught.value.hint


@pytest.mark.parametrize("upper", [1.0, 0.5])
def test_percentiles_are_in_order(upper):
    with pytest.raises(UsageError, match=r"lower_percentile cannot be 1\..*below preprocess\.upper_percentile"):
        PreprocessConfig(upper_percentile=upper)


@pytest.mark.parametrize("kind", [DetectConfig, TrainingConfig])
def test_every_number_has_bounds_and_every_word_is_known(kind):
    for config in _tables(kind()):
        for one in dataclasses.fields(config):
            if isinstance(one.default, bool) or one.name in {"contrasts", "lesion_shapes", "label_maps", "method"}:
                continue  # checked by themselves, or free text
            if not dataclasses.is_dataclass(getattr(config, one.name)):
                assert {"bounds", "words"} & set(one.metadata), f"{config.TABLE}{one.name}"


def _tables(config):
    yield config
    for one in dataclasses.fields(config):
        if dataclasses.is_dataclass(getattr(config, one.name)):
            yield from _tables(getattr(config, one.name))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[scoring]\nmin_volume_mm3 = nan", r"scoring\.min_volume_mm3 cannot be nan.*at least 0 and at most 1e\+06"),
        ("[scoring]\nerosion = 50", r"scoring\.erosion cannot be 50.*at least 0 and at most 10"),
        (
            "[reconstruction]\nlevels = [0]",
            r"reconstruction\.levels cannot be \(0,\).*Each is a whole number, at least 1",
        ),
        ('[preprocess]\nstrip = "hdbet"', r"preprocess\.strip cannot be 'hdbet'.*Did you mean hd-bet"),
        (f"[scoring]\nmin_volume_mm3 = 1{'0' * 400}", r"min_volume_mm3 is too large"),
    ],
)
def test_bounds_hold_for_files(text, message):
    with pytest.raises(UsageError) as caught:
        read_toml(DetectConfig, text)
    assert re.search(message, str(caught.value))


def test_words_in_a_file_may_be_in_any_case():
    assert read_toml(DetectConfig, '[preprocess]\nstrip = "Atlas"').preprocess.strip == "atlas"


@pytest.mark.parametrize(
    "wrong",
    [
        {"space": "MNI"}, {"space": "mnl"}, {"save": ("recom",)}, {"geometry": "s-form"}, {"contrast": "T1"},
        {"score": "nope"}, {"stability": 0}, {"volume": -1}, {"threads": 0}, {"threshold": "nan"}, {"volume": 1.5},
    ],
)  # fmt: skip
def test_options_of_the_library_are_checked_as_those_of_the_command_line(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        DetectOptions(**wrong)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (Machine, {"precision": "BF16"}), (Machine, {"gpus": -3}), (Machine, {"cpu_processes": 0}),
        (Machine, {"workers": -1}), (Helpers, {"threads": 0}), (Fitted, {"gate": "hnad"}), (Fitted, {"degraded": -1}),
        (EvaluateOptions, {"seed": -1}), (EvaluateOptions, {"resamples": 0}), (EvaluateOptions, {"unlabelled": "skp"}),
        (SynthOptions, {"seed": -1}), (SynthOptions, {"contrast": "PD"}), (SynthOptions, {"lesions": "no"}),
    ],
)  # fmt: skip
def test_options_of_every_command_are_checked_in_the_library(kind: type, wrong: dict[str, object]) -> None:
    (name, value), *_ = wrong.items()
    with pytest.raises(UsageError, match=rf"{name} cannot be {value!r}") as caught:
        kind(**wrong)
    assert caught.value.hint


def _option_classes() -> list[type]:
    """The classes of the library with fields that are options of a command."""
    modules: list[ModuleType] = [settings, of_batch, of_detection, of_evaluation, of_synthesis, of_training]
    kinds = [
        kind
        for module in modules
        for kind in vars(module).values()
        if getattr(kind, "__module__", "") == module.__name__
    ]
    return [
        kind
        for kind in kinds
        if dataclasses.is_dataclass(kind) and any("option" in one.metadata for one in dataclasses.fields(kind))
    ]


@pytest.mark.parametrize("kind", _option_classes(), ids=lambda kind: kind.__name__)
def test_every_class_of_options_is_checked_and_every_whole_number_has_bounds(kind: type) -> None:
    assert issubclass(kind, Checked)
    hints = typing.get_type_hints(kind)
    numbers = [one for one in dataclasses.fields(kind) if hints[one.name] in (int, int | None)]
    assert [one.name for one in numbers if "bounds" not in one.metadata] == []


@given(configs)
def test_dictionaries_return_the_same_config(config):
    assert from_dict(DetectConfig, to_dict(config)) == config


@pytest.mark.parametrize("name", ["small", "reference"])
def test_model_presets_survive_toml(name):
    assert read_toml(ModelConfig, to_toml(preset(name))) == preset(name)


def test_an_unknown_preset_names_the_known_ones():
    with pytest.raises(UsageError) as caught:
        preset("big")
    assert "'small' and 'reference'" in str(caught.value)


def test_missing_keys_keep_their_defaults():
    config = read_toml(DetectConfig, "[reconstruction]\nseed = 7\n")
    assert config == dataclasses.replace(DetectConfig(), reconstruction=ReconstructionConfig(seed=7))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[reconstruction]\nbach_size = 3",
            r"unknown setting reconstruction\.bach_size.*Did you mean reconstruction\.b",
        ),
        ("[scorin]\nmedian = 3", "unknown setting scorin.*Did you mean scoring"),
        ("zzz = 1", "unknown setting zzz.*Known here: preprocess"),
        ('[scoring]\nmedian = "five"', r"scoring\.median must be a whole number, not 'five'"),
        ("[scoring]\nmedian = true", r"scoring\.median must be a whole number, not True"),
        ("[preprocess]\nlower_percentile = true", r"lower_percentile must be a number, not True"),
        ("scoring = 3", "scoring is a table of settings, not 3"),
        ("[reconstruction]\nlevels = [250, 'x']", r"reconstruction\.levels must be a whole number"),
        ("[reconstruction]\nlevels = 500", r"reconstruction\.levels must be a list, not 500"),
        ("[scoring", "not valid TOML"),
    ],
)
def test_a_mistake_in_the_file_is_named(text, message):
    with pytest.raises(UsageError) as caught:
        read_toml(DetectConfig, text)
    assert re.search(message, str(caught.value))


def test_a_whole_number_may_stand_for_a_fraction():
    assert read_toml(DetectConfig, "[scoring]\nmin_volume_mm3 = 8").scoring.min_volume_mm3 == 8.0


def test_configs_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DetectConfig().scoring.median = 3


def test_settings_can_be_laid_over() -> None:
    changed = with_settings(TrainingConfig(), ["train.steps=7", "siamese.channels=[8, 16]", "preprocess.strip=none"])
    assert changed.train.steps == 7
    assert changed.siamese.channels == (8, 16)
    assert changed.preprocess.strip == "none"
    assert with_settings(TrainingConfig(), []) == TrainingConfig()
    assert read_toml(TrainingConfig, to_toml(TrainingConfig())) == TrainingConfig()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train.stepz=7", "train.steps"),
        ("steps", "not an assignment"),
        ("train.steps=many", "must be a whole number"),
        ("a.b.c=1", "unknown"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        with_settings(TrainingConfig(), [text])
    assert words in str(caught.value)


@pytest.mark.parametrize(("wrong", "said"), [({"unshuffle": 4}, "unshuffle"), ({"blocks": (1,) * 5}, "blocks")])
def test_an_encoder_that_cannot_be_pretrained_is_refused_before_any_work(
    wrong: dict[str, typing.Any], said: str
) -> None:
    """Its patches would be others than those of the decoder, or not fill a slice."""
    model = ModelConfig(encoder=EncoderConfig(**wrong))
    with pytest.raises(UsageError, match=f"model.encoder.{said}"):
        TrainingConfig(model=model, pretrain=PretrainConfig(steps=1))
    TrainingConfig(model=model)
    TrainingConfig(model=dataclasses.replace(model, method="dae", conditioned=False), pretrain=PretrainConfig(steps=1))


@pytest.mark.parametrize("sizes", ["[]", "[30, 60]", "[8, 16, 24, 32, 40, 48]"])
def test_sizes_that_no_score_network_can_have_are_refused_before_any_work(sizes: str) -> None:
    with pytest.raises(UsageError, match=r"siamese\.channels") as caught:
        with_settings(TrainingConfig(), [f"siamese.channels={sizes}"])
    assert "one to five multiples of 8" in caught.value.hint
    assert with_settings(TrainingConfig(), ["siamese.channels=[8, 8, 16, 16, 24]"]).siamese.channels == (
        8,
        8,
        16,
        16,
        24,
    )
