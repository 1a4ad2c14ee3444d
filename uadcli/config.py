"""The settings of every stage, as frozen dataclasses that can be written to and read from TOML.

Each default that the paper fixes names it; the others were chosen by the measurements in the model card.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

from uadcli import contrasts
from uadcli.errors import UsageError

T = TypeVar("T")
CONTRASTS: tuple[str, ...] = tuple(contrasts.ALL)
Strip = Literal["hd-bet", "atlas", "none"]
STRIPS: tuple[str, ...] = get_args(Strip)
BEST_DICE = "best-dice"  # the threshold that lesion labels choose, for comparison with papers only
Method = Literal["cddpm", "ddpm", "pddpm", "dae", "maediff", "synomaly", "diffuse", "vae"]
METHODS: tuple[str, ...] = get_args(Method)
CONDITIONED: tuple[str, ...] = ("cddpm", "diffuse")  # methods whose network sees the scan's condition vector
Space = Literal["native", "mni", "both"]
SPACES: tuple[str, ...] = get_args(Space)


@dataclass(frozen=True)
class PreprocessConfig:
    """From a scan to intensities in [0, 1] on the 2 mm MNI grid (method 1.1, 1.2).

    Raises `UsageError` for a negative number of iterations.
    """

    strip: Strip = "hd-bet"
    bias_field: bool = True
    lower_percentile: float = 1.0  # of the voxels in the brain, clipped (reference code)
    upper_percentile: float = 99.0
    # iterations of curvature flow at 1 mm (reference code: 3); in use the weights say how many they were trained with
    curvature_flow: int = 0

    def __post_init__(self) -> None:
        if self.curvature_flow < 0:
            raise UsageError("preprocess.curvature_flow must be 0 or above", hint="Give 3 for what was published.")


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of the denoising network; the defaults are the published ones (44.07 M parameters)."""

    image_size: int = 96
    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2)
    blocks: int = 3
    unshuffle: int = 1  # 2: a 2x2 pixel-unshuffle stem, so that the work happens at half the resolution
    head_channels: int = 64
    embedding: int = 512


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of the conditioning encoder; the defaults are ResNet-50 with one input channel (24.55 M parameters)."""

    blocks: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64
    condition: int = 512
    norm: Literal["batch", "group"] = "batch"
    unshuffle: int = 1


@dataclass(frozen=True)
class ModelConfig:
    """A network, and the method that it is trained for.

    The cDDPM without its condition is the DDPM, under either name: cards that are older than `method` say no more.
    Raises `UsageError` for an unknown method.
    """

    unet: UNetConfig = field(default_factory=UNetConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    conditioned: bool = True
    steps: int = 1000
    noise: Literal["simplex", "gaussian"] = "simplex"
    method: Method = "cddpm"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"there is no method {self.method!r}", hint=f"The methods are {', '.join(METHODS)}.")
        if self.method == "cddpm" and not self.conditioned:
            object.__setattr__(self, "method", "ddpm")
        if self.method == "ddpm" and self.conditioned:
            object.__setattr__(self, "conditioned", False)


@dataclass(frozen=True)
class SiameseConfig:
    """Sizes of the Siamese score network, and how it is trained on synthetic lesions (method 5)."""

    channels: tuple[int, ...] = (32, 64, 96, 128)
    mirror: bool = True  # each input beside its left-right mirror image: the other hemisphere is the best reference
    steps: int = 4000
    batch_size: int = 16
    learning_rate: float = 1e-3
    warmup: int = 100
    ema: float = 0.998
    pool: int = 64  # synthetic volumes at a time, with their reconstructions
    draws: float = 4.0  # how often a slice is drawn, on average, before its volume is replaced
    dice_weight: float = 0.5  # of the soft Dice loss beside the cross-entropy
    seed: int = 2718
    checkpoint_every: int = 100


@dataclass(frozen=True)
class PretrainConfig:
    """How the encoder is pretrained on masked slices before all else (method 2.3); 0 steps: not at all."""

    steps: int = 0
    batch_size: int = 32
    learning_rate: float = 1e-4
    warmup: int = 0
    ratio: float = 0.65  # of the patches, hidden
    ema: float = 0.0  # none
    clip: float = 1.0
    seed: int = 3141
    checkpoint_every: int = 100


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained (method 2.5 and 11)."""

    steps: int = 2600
    batch_size: int = 16
    learning_rate: float = 4e-4
    warmup: int = 100
    ema: float = 0.999
    clip: float = 1.0  # largest norm of the gradient; 0: any
    lesion_probability: float = 0.5  # of a slice to carry a synthetic anomaly, which the target does not have
    lesion_weight: float = 2.0  # extra weight of the loss inside it
    augment: bool = True
    blur: float = 0.15  # of the slices are blurred
    ghosting: float = 0.15  # of the slices get the ghosts of a moving head
    published_augmentation: bool = False  # gamma, bias field, blur and ghosting alone, as often as published
    shared_noise: bool = False  # one true OpenSimplex map for all slices of a step, as published
    schedule: Literal["cosine", "constant"] = "cosine"  # of the learning rate, after the warm-up
    epochs: float = 0.0  # if above 0 it sets the steps: so often, on average, every slice is seen
    seed: int = 3141
    checkpoint_every: int = 100


@dataclass(frozen=True)
class ReconstructionConfig:
    """How pseudo-healthy slices are drawn: one step from each level, averaged (method 2.6)."""

    levels: tuple[int, ...] = ()  # empty: those stored with the weights (250, 500, 750 in the paper)
    batch_size: int = 32
    seed: int = 0
    method: str = ""  # one of METHODS; empty: the one that the weights were trained for
    overlap: bool = False  # pddpm: patches every 24 pixels, averaged where they overlap, at 2.25 times the cost


@dataclass(frozen=True)
class ScoringConfig:
    """From residual to findings (method 7)."""

    erosion: int = 3  # iterations of a 2-D cross on the brain mask, per axial slice
    median: int = 5  # side of the 3-D median filter, voxels of 2 mm
    min_volume_mm3: float = 64.0  # components of at most 7 voxels of 8 mm3 are dropped


@dataclass(frozen=True)
class DetectConfig:
    """Everything that decides the result of `uad detect` beside the scan and the weights."""

    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    reconstruction: ReconstructionConfig = field(default_factory=ReconstructionConfig)
    scoring: ScoringConfig = field(default_factory=ScoringConfig)


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides what `uad train` makes of a folder of healthy scans.

    Raises `UsageError` for an unknown contrast.
    """

    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    model: ModelConfig = field(default_factory=lambda: preset("small"))
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    siamese: SiameseConfig = field(default_factory=SiameseConfig)
    validation_share: float = 0.2  # of the subjects, never trained on
    # what the model is for, T2w and FLAIR made from T1w as well; empty: the contrasts of the scans, nothing else
    contrasts: tuple[str, ...] = ()
    lesion_shapes: str = ""  # a folder of masks in MNI space, whose lesions judge the reconstruction; empty: made-up
    label_maps: str = ""  # a folder of head label maps with FreeSurfer's numbers, of which the score sees brains, too
    max_steps: int = 0  # of each training, if above 0

    def __post_init__(self) -> None:
        if unknown := [one for one in self.contrasts if one not in CONTRASTS]:
            raise UsageError(f"there is no contrast {unknown[0]!r}", hint=f"They are {', '.join(CONTRASTS)}.")


def preset(name: str) -> ModelConfig:
    """The model sizes called `reference` (as published, 68.6 M) or `small` (for CPUs, under 10 M).

    Raises `UsageError` for another name.
    """
    if name == "reference":
        return ModelConfig()
    if name == "small":
        return ModelConfig(
            unet=UNetConfig(channels=32, multipliers=(1, 2, 4), blocks=1, unshuffle=2, head_channels=32, embedding=256),
            encoder=EncoderConfig(blocks=(1, 1, 1, 1), width=16, condition=256, norm="group", unshuffle=2),
        )
    raise UsageError(f"there is no preset {name!r}", hint="The presets are 'small' and 'reference'.")


def for_method(model: ModelConfig, method: str) -> ModelConfig:
    """The same sizes for another method, conditioned where that method is. Raises `UsageError` for an unknown one."""
    return dataclasses.replace(model, method=method, conditioned=method in CONDITIONED)  # type: ignore[arg-type]


def training_preset(name: str) -> TrainingConfig:
    """What `uad train --profile` begins with; `reference` is as published: 1200 epochs of 11 steps in each stage.

    The small encoder is not pretrained: the published gain is within the spread between runs (method 8.1).
    """
    if name != "reference":
        return TrainingConfig(model=preset(name))
    train = TrainConfig(
        steps=13200,
        batch_size=32,
        learning_rate=1e-4,
        warmup=0,
        schedule="constant",
        ema=0.0,
        clip=0.0,
        lesion_probability=0.0,
        lesion_weight=0.0,
        published_augmentation=True,
        shared_noise=True,
    )
    return TrainingConfig(
        preprocess=PreprocessConfig(curvature_flow=3),
        model=preset(name),
        pretrain=PretrainConfig(steps=13200, clip=0.0),
        train=train,
    )


def to_dict(config: Any) -> dict[str, Any]:
    """A config as plain dictionaries, lists and numbers."""
    return dataclasses.asdict(config)


def from_dict(kind: type[T], values: dict[str, Any], where: str = "") -> T:
    """Build the config dataclass `kind` from nested dictionaries; missing keys keep their defaults.

    Raises `UsageError` for an unknown key (with the nearest known one) and for a value of the wrong type.
    """
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    default = kind()
    chosen: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{where}{key}"
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"Did you mean {where}{near[0]}?" if near else f"Known here: {', '.join(fields)}."
            raise UsageError(f"unknown setting {name}", hint=hint)
        empty: Any = "" if fields[key].type == "tuple[str, ...]" else 0  # what an empty tuple would hold
        chosen[key] = _coerce(getattr(default, key), value, name, empty)
    return kind(**chosen)


def _coerce(default: Any, value: Any, name: str, empty: Any = 0) -> Any:
    if dataclasses.is_dataclass(default) and not isinstance(default, type):
        if not isinstance(value, dict):
            raise UsageError(f"{name} is a table of settings, not {value!r}")
        return from_dict(type(default), value, f"{name}.")
    if isinstance(default, tuple) and isinstance(value, list | tuple):
        return tuple(_coerce(default[0] if default else empty, item, name) for item in value)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return _fraction(value, name)
    if type(value) is not type(default):
        raise UsageError(f"{name} must be a {type(default).__name__}, not {value!r}")
    return value


def _fraction(value: int, name: str) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise UsageError(f"{name} is too large") from error


def with_settings(config: T, assignments: Sequence[str]) -> T:
    """A copy of a config with `a.b=value` laid over it, values in TOML (a bare word is a string).

    Raises `UsageError` for what is not an assignment, an unknown key or a value of the wrong type.
    """
    values = to_dict(config)
    for text in assignments:
        name, equals, raw = text.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"--set {text!r} is no assignment", hint="Write it as train.steps=5000.")
        *tables, key = name.strip().split(".")
        place = values
        for table in tables:
            place = place.setdefault(table, {})
            if not isinstance(place, dict):
                raise UsageError(f"unknown setting {name.strip()}")
        try:
            place[key] = tomllib.loads(f"x = {raw}")["x"]
        except (ValueError, RecursionError):
            place[key] = raw.strip()
    return from_dict(type(config), values)


def read_toml(kind: type[Any], text: str) -> Any:
    """Parse TOML `text` into the config dataclass `kind`; errors as in `from_dict`, and `UsageError` for bad TOML."""
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # beside bad TOML, a number of very many digits, or deep nesting
        raise UsageError(f"not valid TOML: {error}") from error
    return from_dict(kind, values)


def to_toml(config: Any) -> str:
    """A config as TOML text that `read_toml` reads back to an equal config."""
    return "\n".join(_toml_lines(to_dict(config), "")).strip() + "\n"


def _toml_lines(values: dict[str, Any], table: str) -> list[str]:
    lines = [f"{key} = {_toml_value(value)}" for key, value in values.items() if not isinstance(value, dict)]
    for key, value in values.items():
        if isinstance(value, dict):
            lines += ["", f"[{table}{key}]", *_toml_lines(value, f"{table}{key}.")]
    return lines


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    return f'"{value}"' if isinstance(value, str) else repr(value)
