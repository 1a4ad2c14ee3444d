"""The sizes of the reconstruction network, and its method."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from uadcli.errors import UsageError
from uadcli.settings import methods
from uadcli.settings.bounds import Checked, within, word


@dataclass(frozen=True)
class UNetConfig(Checked):
    """Sizes of the denoising network; the defaults are the published ones (44.07 M parameters)."""

    TABLE = "unet."

    image_size: int = within(96, 8, 1024)
    channels: int = within(128, 1, 4096)
    multipliers: tuple[int, ...] = within((1, 2, 2), 1, 64)
    blocks: int = within(3, 1, 32)
    unshuffle: int = within(1, 1, 8)  # 2: a 2x2 pixel-unshuffle stem, so that the network runs at half the resolution
    head_channels: int = within(64, 1, 4096)
    embedding: int = within(512, 1, 65536)


@dataclass(frozen=True)
class EncoderConfig(Checked):
    """Sizes of the conditioning encoder; the defaults are ResNet-50 with one input channel (24.55 M parameters)."""

    TABLE = "encoder."

    blocks: tuple[int, ...] = within((3, 4, 6, 3), 1, 64)
    width: int = within(64, 1, 4096)
    condition: int = within(512, 1, 65536)
    norm: Literal["batch", "group"] = word("batch", ("batch", "group"))
    unshuffle: int = within(1, 1, 8)


@dataclass(frozen=True)
class ModelConfig(Checked):
    """A network, and the method that it is trained for.

    The cDDPM without its condition is the DDPM, under either name.
    Raises `UsageError` for an unknown method.
    """

    TABLE = "model."

    unet: UNetConfig = field(default_factory=UNetConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    conditioned: bool = True
    steps: int = within(1000, 1, 100_000)
    noise: Literal["simplex", "gaussian"] = word("simplex", ("simplex", "gaussian"))
    method: str = "cddpm"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method not in methods.NAMES:
            hint = f"The methods are {', '.join(methods.NAMES)}."
            raise UsageError(f"unknown method {self.method!r}", hint=hint)
        if self.method == "cddpm" and not self.conditioned:
            object.__setattr__(self, "method", "ddpm")
        if self.method == "ddpm" and self.conditioned:
            object.__setattr__(self, "conditioned", False)


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
    raise UsageError(f"unknown preset {name!r}", hint="The presets are 'small' and 'reference'.")
