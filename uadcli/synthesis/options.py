"""The options of `uad synth`."""

from __future__ import annotations

from dataclasses import dataclass

from uadcli.config import CONTRASTS
from uadcli.settings.bounds import Checked
from uadcli.settings.option import INPUT, OVERWRITE, Option, option


@dataclass(frozen=True)
class SynthOptions(Checked):
    """What to make: contrast, seed, with `lesions` or not; `clean` leaves out what scanners do to an image."""

    contrast: str = option("T1w", Option("Contrast of the volume.", INPUT), words=CONTRASTS)
    seed: int = option(0, Option("The same seed gives the same volume.", metavar="N"), low=0)
    lesions: bool = option(False, Option("Paste lesions; also writes their mask."))
    clean: bool = option(False, Option("No bias field, thick slices, blur or noise."))
    overwrite: bool = option(False, OVERWRITE)
