"""The options of a detection, one field each, with help, bounds, and whether it determines the result."""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path

from uadcli.config import CONTRASTS, COSTLY, GEOMETRIES, PAGES, SAVES, SPACES
from uadcli.errors import UsageError
from uadcli.model.healthy_folder import HealthyScans
from uadcli.scoring import scores
from uadcli.settings import adaptations
from uadcli.settings.bounds import Checked, check_word, nearest
from uadcli.settings.option import DEVICE, INPUT, METHOD, OUTPUT, OVERWRITE, THREADS, Option, option
from uadcli.settings.threshold import ThresholdRule

JOINED_RULES = ("auto", "rate", "best-dice", "value")  # of the threshold, for several contrasts
ALL_SAVES = (*SAVES, *COSTLY, "all")


def saved(value: str | tuple[str, ...]) -> tuple[str, ...]:
    """The files of `--save`: a comma-separated list, `all` expanded. Raises `UsageError` for an unknown one."""
    given = value.split(",") if isinstance(value, str) else value
    names = [nearest(name.strip(), ALL_SAVES, "--save") for name in given if name.strip()]
    names += SAVES if "all" in names else ()
    return tuple(name for name in (*SAVES, *COSTLY) if name in names)


def score_name(value: str) -> str:
    """The name of a score from its name or alias. Raises `UsageError` for an unknown one."""
    return nearest(scores.aliases().get(value.lower(), value), scores.names(), "--score")


def page_kind(value: bool | str | None) -> str | None:
    """The kind of page of `--html`; True is the first of `PAGES`. Raises `UsageError` for an unknown one."""
    if isinstance(value, str):
        return nearest(value, PAGES, "--html")
    return PAGES[0] if value else None


def _names(paths: tuple[Path, ...]) -> list[str]:
    return [path.name for path in paths]


def _digest(adapt: Path | HealthyScans) -> str | None:
    return adapt.sha256 if isinstance(adapt, HealthyScans) else None


SCORE = Option(
    f"How to compare scan and reconstruction ({scores.Z}SCORE: normalised to healthy scans; "
    f"{', '.join(f'{alias} is {name}' for alias, name in scores.aliases().items())}); "
    "by default that of the weights.",
    METHOD,
    metavar="|".join((*scores.joined(), *scores.plain())),
    parse=score_name,
)


@dataclass(frozen=True)
class DetectOptions(Checked):
    """The options of a detection, in addition to the settings of its stages (`DetectConfig`).

    Raises `UsageError` for an invalid value.
    """

    further: tuple[Path, ...] = option(
        (),
        Option(
            "A scan of another contrast of the same patient, to be joined with the first (repeatable).",
            INPUT,
            ("--with",),
            metavar="FILE",
            in_batch="",
        ),
        decides=_names,
    )
    contrast: str | None = option(
        None,
        Option(
            "Contrast of the scan; by default from its name, otherwise from its intensities.",
            INPUT,
            in_batch="In a BIDS dataset, only this contrast; otherwise the contrast of all scans.",
        ),
        words=CONTRASTS,
        decides=True,
    )
    volume: int | None = option(
        None, Option("Volume of a 4-D scan, counted from 0.", INPUT, metavar="N"), low=0, decides=True
    )
    geometry: str = option(
        "auto",
        Option("Which of the header's two geometries to use; trust: even one that the header marks as unknown.", INPUT),
        words=GEOMETRIES,
        decides=True,
    )
    brain_mask: Path | None = option(
        None,
        Option("Brain mask on the scan's grid.", INPUT, metavar="FILE", in_batch=""),
        decides=attrgetter("name"),
    )
    weights: str | None = option(
        None,
        Option("Weights instead of the bundled ones; also hf://owner/repo@commit.", METHOD, metavar="NAME|PATH|HF"),
        decides=False,  # their digest is recorded
    )
    adapt: Path | HealthyScans | None = option(  # a folder, or its contents
        None,
        Option(
            "Healthy scans from the same scanner, to adapt the model to it.",
            METHOD,
            metavar="FOLDER",
        ),
        decides=_digest,
    )
    adapt_by: str | None = option(
        None,
        Option(
            "How to adapt: subtract the model's average error on the healthy scans (residual, the default), move the "
            "vector that conditions it (condition), or change it a little to fit the scan itself (low-rank, without "
            "--adapt).",
            METHOD,
        ),
        words=adaptations.NAMES,
        decides=True,
    )
    score: str | None = option(None, SCORE, words=scores.names(), decides=True)
    threshold: ThresholdRule | str = option(  # a text is parsed once, when the options are made
        ThresholdRule("auto"),
        Option(
            "Score above which voxels are marked: from healthy voxels (rate:0.001), scans (conformal:0.1), the "
            "false discovery rate (fdr:0.05) or a value.",
            METHOD,
            metavar="auto|calibrated|rate|conformal|fdr|best-dice|VALUE",
            parse=ThresholdRule.parse,
        ),
        decides=str,
    )
    labels: Path | None = option(
        None,
        Option("Lesion mask on the scan's grid, for best-dice.", METHOD, metavar="FILE", in_batch=""),
        decides=attrgetter("name"),
    )
    stability: int | None = option(
        None,
        Option(
            "Repeat with N other seeds, and with the worst change of the scan within its noise, and report how much "
            "the map changes (more than N times as slow).",
            METHOD,
            metavar="N",
        ),
        low=1,
        decides=True,
    )
    space: str = option(
        "native",
        Option("Results on the scan's own grid, in MNI space, or both.", OUTPUT),
        words=SPACES,
        decides=True,
    )
    save: tuple[str, ...] = option(
        (),
        Option(
            "More files, comma-separated: recon, brain, transform or all of these; uncertainty (slow).",
            OUTPUT,
            metavar="LIST",
            parse=saved,
            shown=False,
        ),
        decides=False,  # the names of the files are recorded, as of the next one
    )
    only_map: bool = option(
        False, Option("Write only the map: no mask, picture or sidecar.", OUTPUT, in_batch=""), decides=False
    )
    html: bool | str | None = option(  # True is the first of `PAGES`
        None,
        Option(
            "Also write a page (.html) to view in a browser: on the model's grid, or with NiiVue on the scan's own.",
            OUTPUT,
            metavar=f"[{'|'.join(PAGES)}]",
            parse=page_kind,
        ),
        decides=True,  # both kinds have the same name
    )
    overwrite: bool = option(False, replace(OVERWRITE, in_batch="Redo scans that are done."), decides=False)
    strict: bool = option(
        False,
        Option(
            "Exit with 7 if quality control fails or the scan is unlike the training scans.",
            OUTPUT,
            in_batch="Treat a scan as failed if quality control fails or it is unlike the training scans.",
        ),
        decides=False,
    )
    device: str = option("auto", DEVICE, decides=False)
    threads: int | None = option(None, THREADS, low=1, decides=False)
    command: str = ""
    columns: tuple[str, ...] = ()  # contrasts of the scan and of each further one by a table; empty: not given

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "html", page_kind(self.html))
        if isinstance(self.save, str):  # as on the command line
            object.__setattr__(self, "save", saved(self.save))
        for one in self.save:
            check_word("save", one, ALL_SAVES)
        object.__setattr__(self, "threshold", ThresholdRule.parse(self.threshold))
        if self.adapt_by in adaptations.BY_HEALTHY_SCANS and self.adapt is None:
            what = f"--adapt-by {self.adapt_by} needs healthy scans from the same scanner"
            raise UsageError(what, hint="Give their folder with --adapt.")
        if self.adapt_by in adaptations.BY_SCAN and self.adapt is not None:
            what = f"--adapt and --adapt-by {self.adapt_by} cannot be combined: it adapts to the scan itself"
            raise UsageError(what, hint="Leave one of them out.")

    @property
    def way(self) -> str | None:
        """How the model is adapted; None if it is not."""
        return self.adapt_by or (None if self.adapt is None else adaptations.USUAL)

    @property
    def healthy(self) -> tuple[Path, ...]:
        """The healthy scans of `adapt`, once its folder is read."""
        return tuple(self.adapt.files.values()) if isinstance(self.adapt, HealthyScans) else ()

    @property
    def rule(self) -> ThresholdRule:
        """The rule of the threshold."""
        return ThresholdRule.parse(self.threshold)

    def check_further(self) -> None:
        """Raises `UsageError` for options that cannot be combined with several contrasts."""
        if not self.further:
            return
        alone = "Detect each contrast by itself, or leave it out."
        for name, given in (
            ("--adapt", self.adapt is not None),
            ("--adapt-by", self.adapt_by is not None),
            ("--stability", self.stability is not None),
            ("--save uncertainty", "uncertainty" in self.save),
        ):
            if given:
                raise UsageError(f"{name} and several contrasts cannot be combined", hint=alone)
        if self.rule.kind not in JOINED_RULES:
            what = f"--threshold {self.rule.kind} needs healthy subjects with the same contrasts, and no model has any"
            raise UsageError(what, hint=f"Give {', '.join(JOINED_RULES[:-1])} or a {JOINED_RULES[-1]}.")

    @property
    def alone(self) -> DetectOptions:
        """The options for examining the first of several contrasts by itself."""
        return replace(self, further=(), labels=None, threshold=ThresholdRule("auto"))

    @property
    def of_further(self) -> DetectOptions:
        """The options for a further contrast: those that describe the first scan do not apply to it."""
        return replace(self.alone, contrast=None, volume=None, brain_mask=None, columns=())
