"""The settings of every stage, as frozen dataclasses that can be written to and read from TOML.

Defaults from the paper say so; the others were chosen by measurements (packaging/docs/decisions.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from uadcli import contrasts
from uadcli.errors import UsageError
from uadcli.settings import methods
from uadcli.settings.bounds import MOST_SEED, Checked, within, word
from uadcli.settings.networks import EncoderConfig as EncoderConfig
from uadcli.settings.networks import ModelConfig as ModelConfig
from uadcli.settings.networks import UNetConfig as UNetConfig
from uadcli.settings.networks import preset as preset
from uadcli.settings.option import METHOD, MIN_VOLUME, PRECISIONS, RUNNING, Option, Precision
from uadcli.settings.toml import from_dict as from_dict
from uadcli.settings.toml import read_toml as read_toml
from uadcli.settings.toml import to_dict as to_dict
from uadcli.settings.toml import to_toml as to_toml
from uadcli.settings.toml import with_settings as with_settings

CONTRASTS: tuple[str, ...] = tuple(contrasts.ALL)
Strip = Literal["auto", "hd-bet", "atlas", "none"]
STRIPS: tuple[str, ...] = get_args(Strip)
Space = Literal["native", "mni", "both"]
SPACES: tuple[str, ...] = get_args(Space)
SCALINGS: tuple[str, ...] = ("percentile", "tissue")


GEOMETRIES = ("auto", "sform", "qform", "trust")
SAVES = ("recon", "brain", "transform")  # what `all` stands for
COSTLY = ("uncertainty",)  # not part of `all`
PAGES = ("grid", "niivue")  # kinds of `--html`, the first one by default
UNLABELLED = ("refuse", "healthy", "skip")  # what to do with a map without ground truth
MOST_STEPS, MOST_AT_ONCE = 100_000_000, 100_000


@dataclass(frozen=True)
class PreprocessConfig(Checked):
    """From a scan to intensities in [0, 1] on the 2 mm MNI grid (method 1.1, 1.2).

    Raises `UsageError` for a value out of bounds.
    """

    TABLE = "preprocess."

    # `auto`: `none` for a scan that looks stripped already, otherwise `hd-bet`
    strip: Strip = word(
        "auto",
        STRIPS,
        option=Option("How to extract the brain: HD-BET, an atlas (fast), or none if stripped; auto decides.", METHOD),
    )
    # `auto`: HD-BET in bfloat16 where the CPU multiplies it natively (see `device.bf16`), the other networks in float32
    precision: Precision = word(
        "auto",
        PRECISIONS,
        option=Option(
            "Arithmetic of the networks; auto: bf16 for HD-BET on a CPU with instructions for it, else float32.",
            RUNNING,
        ),
    )
    bias_field: bool = True
    lower_percentile: float = within(1.0, 0, 100)  # in the brain; values beyond are clipped (reference code)
    upper_percentile: float = within(99.0, 0, 100)
    # iterations of curvature flow at 1 mm (reference code: 3); `detect` uses the number stored with the weights
    curvature_flow: int = within(0, 0, 100)
    # see `imaging.intensity`; empty: that of the weights, or `tissue` for networks trained from scratch
    scaling: str = word("", SCALINGS, empty=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.lower_percentile < self.upper_percentile:
            what = f"preprocess.lower_percentile cannot be {self.lower_percentile:g}"
            raise UsageError(what, hint=f"It is below preprocess.upper_percentile, {self.upper_percentile:g}.")


@dataclass(frozen=True)
class SiameseConfig(Checked):
    """Sizes of the Siamese score network, and how it is trained on synthetic lesions (method 5).

    Raises `UsageError` for a value out of bounds, or sizes that no such network can have.
    """

    TABLE = "siamese."

    channels: tuple[int, ...] = within((32, 64, 96, 128), 1, 4096)
    mirror: bool = True  # add the left-right mirror image as input: the other hemisphere is the best reference
    headroom: bool = True  # show the scan above its upper percentile too, where the reconstruction sees it clipped
    steps: int = within(4000, 0, MOST_STEPS, free=True)
    batch_size: int = within(16, 1, MOST_AT_ONCE)
    learning_rate: float = within(1e-3, 0, 1, free=True)
    warmup: int = within(100, 0, MOST_STEPS)
    ema: float = within(0.998, 0, 1)
    pool: int = within(64, 1, 100_000)  # synthetic volumes in use at a time, with their reconstructions
    draws: float = within(
        4.0, 0, MOST_STEPS, above=True
    )  # how often a slice is drawn, on average, before its volume is replaced
    # share of the synthetic volumes reconstructed from one noise level, in a third of the time
    one_level: float = within(0.0, 0, 1)
    dice_weight: float = within(0.5, 0, 1000)  # of the soft Dice loss relative to the cross-entropy
    # of the variance of the cross-entropy over the slices of a batch (after VAT)
    variance_weight: float = within(0.0, 0, 1000)
    bf16: bool = False  # always train the network in bfloat16; otherwise `uad train --precision` decides
    seed: int = within(2718, 0, MOST_SEED)
    checkpoint_every: int = within(100, 1, MOST_STEPS)

    def __post_init__(self) -> None:
        super().__post_init__()
        # groups of its norms, and halvings of 48 pixels; otherwise a run would fail after its reconstruction
        if not 1 <= len(self.channels) <= 5 or any(size % 8 for size in self.channels):
            what = f"{self.TABLE}channels cannot be {list(self.channels)}"
            raise UsageError(what, hint="They are one to five multiples of 8, one for each resolution.")


@dataclass(frozen=True)
class PretrainConfig(Checked):
    """How the encoder is pretrained on masked slices (method 2.3); 0 steps: not at all."""

    TABLE = "pretrain."

    steps: int = within(0, 0, MOST_STEPS, free=True)
    batch_size: int = within(32, 1, MOST_AT_ONCE)
    learning_rate: float = within(1e-4, 0, 1, free=True)
    warmup: int = within(0, 0, MOST_STEPS)
    ratio: float = within(0.65, 0, 1)  # share of the patches that is hidden
    ema: float = within(0.0, 0, 1)  # none
    clip: float = within(1.0, 0, 1e6)
    seed: int = within(3141, 0, MOST_SEED)
    checkpoint_every: int = within(100, 1, MOST_STEPS)


@dataclass(frozen=True)
class TrainConfig(Checked):
    """How a model is trained (method 2.5 and 11)."""

    TABLE = "train."

    steps: int = within(2600, 0, MOST_STEPS, free=True)
    batch_size: int = within(16, 1, MOST_AT_ONCE)
    learning_rate: float = within(4e-4, 0, 1, free=True)
    warmup: int = within(100, 0, MOST_STEPS)
    ema: float = within(0.999, 0, 1)
    clip: float = within(1.0, 0, 1e6)  # largest norm of the gradient; 0: no limit
    lesion_probability: float = within(
        0.5, 0, 1
    )  # that a slice carries a synthetic anomaly, which the target does not have
    lesion_weight: float = within(2.0, 0, 1000)  # extra weight of the loss inside the anomaly
    # instead: an anomaly of any size weighs as much as the rest of its slice (after ArSDM)
    adaptive_weight: bool = False
    refinement: float = within(0.0, 0, 1000)  # weight of the Dice loss between residual and anomaly (after ArSDM)
    augment: bool = True
    blur: float = within(0.15, 0, 1)  # of the slices are blurred
    ghosting: float = within(0.15, 0, 1)  # of the slices get ghosts, as from a moving head
    published_augmentation: bool = False  # only gamma, bias field, blur and ghosting, as often as published
    shared_noise: bool = False  # one true OpenSimplex map for all slices of a step, as published
    schedule: Literal["cosine", "constant"] = word(
        "cosine", ("cosine", "constant")
    )  # of the learning rate, after the warm-up
    # if above 0 it sets the steps: how often, on average, every slice is seen
    epochs: float = within(0.0, 0, 1e6, free=True)
    seed: int = within(3141, 0, MOST_SEED)
    checkpoint_every: int = within(100, 1, MOST_STEPS)


@dataclass(frozen=True)
class ReconstructionConfig(Checked):
    """How slices are reconstructed: one step from each level, averaged (method 2.6)."""

    TABLE = "reconstruction."

    levels: tuple[int, ...] = within((), 1, 1000)  # empty: those stored with the weights (250, 500, 750 in the paper)
    batch_size: int = within(
        32,
        1,
        MOST_AT_ONCE,
        option=Option(
            "Slices per batch, for time and memory; scores change only by rounding, at most 1e-4 of the highest.",
            RUNNING,
            metavar="N",
        ),
        decides=False,
    )
    seed: int = within(0, 0, MOST_SEED, option=Option("Seed of the noise.", METHOD, metavar="N"))
    # empty: the one that the weights were trained for
    method: str = word(
        "",
        methods.NAMES,
        empty=True,
        option=Option("How to reconstruct the scan; by default as the weights were trained.", METHOD),
    )
    # of reconstruction and score, set by `preprocess.precision`; empty: float32, on a GPU too
    arithmetic: str = word("", ("float32", "bf16"), empty=True)
    overlap: bool = False  # pddpm: patches every 24 pixels, averaged where they overlap, at 2.25 times the cost


@dataclass(frozen=True)
class ScoringConfig(Checked):
    """From residual to findings (method 7)."""

    TABLE = "scoring."

    erosion: int = within(3, 0, 10)  # iterations of a 2-D cross on the brain mask, per axial slice
    median: int = within(5, 1, 15)  # side of the 3-D median filter, voxels of 2 mm
    min_volume_mm3: float = within(24.0, 0, 1e6, option=MIN_VOLUME)  # drops components of one or two voxels of 8 mm3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.median % 2 == 0:
            raise UsageError(f"{self.TABLE}median cannot be {self.median}", hint="It is an odd number; 1 is none.")


@dataclass(frozen=True)
class DetectConfig:
    """Everything that determines the result of `uad detect` besides scan and weights."""

    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    reconstruction: ReconstructionConfig = field(default_factory=ReconstructionConfig)
    scoring: ScoringConfig = field(default_factory=ScoringConfig)


@dataclass(frozen=True)
class TrainingConfig(Checked):
    """Everything that determines what `uad train` learns from a folder of healthy scans.

    A field marked `free` may be changed when a run is resumed.

    Raises `UsageError` for an unknown contrast, and for an encoder that cannot be pretrained.
    """

    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    model: ModelConfig = field(default_factory=lambda: preset("small"))
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    siamese: SiameseConfig = field(default_factory=SiameseConfig)
    validation_share: float = within(0.2, 0, 0.9)  # of the subjects, never trained on
    # contrasts of the model, T2w and FLAIR can be made from T1w; empty: those of the scans
    contrasts: tuple[str, ...] = ()
    # a folder of masks in MNI space, whose lesion shapes validate the reconstruction; empty: synthetic shapes
    lesion_shapes: str = field(default="", metadata={"free": True})
    # a folder of head label maps (FreeSurfer's numbers), from which the score also learns
    label_maps: str = field(default="", metadata={"free": True})
    max_steps: int = within(0, 0, MOST_STEPS, free=True)  # limit for each training, if above 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if unknown := [one for one in self.contrasts if one not in CONTRASTS]:
            raise UsageError(f"unknown contrast {unknown[0]!r}", hint=f"They are {', '.join(CONTRASTS)}.")
        if self.pretrain.steps and self.model.conditioned:
            self._check_encoder()

    def _check_encoder(self) -> None:
        """Patches of the pretraining have twice the side for each stage, from 4 pixels on, and fill a slice."""
        encoder, hint = self.model.encoder, "Change it, or leave out the pretraining: pretrain.steps = 0."
        if encoder.unshuffle > 2:
            raise UsageError("model.encoder.unshuffle is at most 2 with a pretraining of the encoder", hint=hint)
        if self.model.unet.image_size % (patch := 2 ** (len(encoder.blocks) + 1)):
            what = (
                f"model.encoder.blocks: patches of {patch} pixels do not fill a slice of {self.model.unet.image_size}"
            )
            raise UsageError(what, hint=hint)


def training_preset(name: str) -> TrainingConfig:
    """The settings of `uad train --profile`; `reference` is as published: 1200 epochs of 11 steps in each stage.

    The small encoder is not pretrained: the published gain is within the variation between runs (method 8.1).
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
        preprocess=PreprocessConfig(curvature_flow=3, scaling="percentile"),
        model=preset(name),
        pretrain=PretrainConfig(steps=13200, clip=0.0),
        train=train,
    )
