"""Settings survive TOML, and a mistake in a file is named with the nearest right word."""

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uadcli.config import (
    DetectConfig,
    ModelConfig,
    PreprocessConfig,
    ReconstructionConfig,
    ScoringConfig,
    TrainingConfig,
    from_dict,
    preset,
    read_toml,
    to_dict,
    to_toml,
    with_settings,
)
from uadcli.errors import UsageError

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
        ScoringConfig, erosion=st.integers(0, 9), median=st.integers(1, 9), min_volume_mm3=st.floats(0, 1e6)
    ),
)


@given(configs)
def test_toml_returns_the_same_config(config):
    assert read_toml(DetectConfig, to_toml(config)) == config


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
        ('[scoring]\nmedian = "five"', r"scoring\.median must be a int, not 'five'"),
        ("[scoring]\nmedian = true", r"scoring\.median must be a int, not True"),
        ("[preprocess]\nlower_percentile = true", r"lower_percentile must be a float"),
        ("scoring = 3", "scoring is a table of settings, not 3"),
        ("[reconstruction]\nlevels = [250, 'x']", r"reconstruction\.levels must be a int"),
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
    [("train.stepz=7", "train.steps"), ("steps", "no assignment"), ("train.steps=many", "int"), ("a.b.c=1", "unknown")],
)
def test_a_setting_that_cannot_be_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        with_settings(TrainingConfig(), [text])
    assert words in str(caught.value)
