"""Options of a detection, in addition to the settings of its stages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from uadcli.config import CONTRASTS, COSTLY, GEOMETRIES, SAVES, SPACES
from uadcli.model import adapt
from uadcli.model.adapt import HealthyScans
from uadcli.scoring import scores
from uadcli.settings.bounds import check_count, check_word
from uadcli.settings.threshold import ThresholdRule


@dataclass(frozen=True)
class DetectOptions:
    """What a run needs beside the settings of its stages: where, with what, and which files.

    Raises `UsageError` for words and numbers that do not exist.
    """

    contrast: str | None = None
    brain_mask: Path | None = None
    labels: Path | None = None  # of lesions, for the threshold `best-dice` alone
    space: str = "native"
    save: tuple[str, ...] = ()
    only_map: bool = False
    html: bool = False
    weights: str | None = None
    adapt: Path | HealthyScans | None = None  # a folder of healthy scans of the same scanner, or what is in it
    score: str | None = None
    device: str = "auto"
    threads: int | None = None
    threshold: ThresholdRule | str = "auto"  # a text is parsed once, when the options are made
    stability: int | None = None  # repeats with other seeds
    volume: int | None = None
    geometry: str = "auto"
    overwrite: bool = False
    strict: bool = False
    command: str = ""

    def __post_init__(self) -> None:
        known = {
            "space": SPACES,
            "geometry": GEOMETRIES,
            "contrast": (*CONTRASTS, None),
            "score": (*scores.names(), None),
        }
        for name, words in known.items():
            if getattr(self, name) not in words:
                check_word(name, getattr(self, name), [one for one in words if one])
        for one in self.save:
            check_word("save", one, (*SAVES, *COSTLY, "all"))
        for name, low in (("stability", 1), ("volume", 0), ("threads", 1)):
            check_count(name, getattr(self, name), low)
        object.__setattr__(self, "threshold", ThresholdRule.parse(self.threshold))

    @property
    def rule(self) -> ThresholdRule:
        """The rule of the threshold."""
        return ThresholdRule.parse(self.threshold)


def with_healthy(options: DetectOptions) -> DetectOptions:
    """The options with what the folder of `adapt` holds in its place. Raises `InputError`."""
    if options.adapt is None or isinstance(options.adapt, HealthyScans):
        return options
    return replace(options, adapt=adapt.find(Path(options.adapt), options.contrast, options.geometry))
