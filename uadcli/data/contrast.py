"""The contrast of a scan: given by the user, from its name, or from its tissue intensities."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from uadcli import contrasts
from uadcli.data.entities import entities
from uadcli.data.tissue_contrast import ContrastGuess
from uadcli.scoring.quality import NOT_COMPUTED, Check

# BIDS suffixes of images of other contrasts. UNIT1 is T1-weighted, so the image decides.
OTHER_SUFFIXES = re.compile(
    r"T2star|T2starw|T2starmap|T1map|T2map|R1map|R2map|R2starmap|T1rho|PD|PDw|PDmap|PDT2|inplaneT1|inplaneT2"
    r"|angio|swi|defacemask|bold|cbv|sbref|phase|dwi|asl|m0scan|perf|MTR|MTRmap|MTsat|MTVmap|MTS|MTw|M0map"
    r"|MWFmap|S0map|Chimap|QSM|MP2RAGE|MPM|MESE|MEGRE|VFA|IRT1|FLASH|TB1map|epi|fieldmap|magnitude|magnitude1"
    r"|magnitude2|phase1|phase2|phasediff|pet|ct|CT"
)
# Words for other kinds of images, by kind. Closed words alone: `SWI12` may be a scan of a study, or a person.
KINDS = {
    "T2*": r"t[12](?:star|s)w?",
    "a map": r"t[12]w?(?:map|maps|mapping|rho)|q?t[12]map|qt[12]|r[12](?:map|star|s|starmap)|mtr|mtsat|chimap"
    r"|(?:t[12])?relaxometry",
    "proton density": r"pdw|pdwi|pdmap|protondensity",
    "a susceptibility-weighted image": r"swi(?:p|m|mip|3d)?|swan|qsm",
    "a diffusion image": r"[a-z]?adc(?:map)?|[a-z]?dwi|isodwi|tracew?|b0|b(?:500|800|[123][05]00)|dti|dki|noddi|ivim",
    "an echo-planar image": r"(?:ven)?bold|fmri|rsfmri|epi|ep2d|sbref",
    "a perfusion image": r"p?c?asl|cbf|cbv|dsc|perf|perfusion|ttp|mtt|tmax",
    "an angiogram or a projection": r"tof|mra|mrv|angio|m(?:in)?ip",
    "an image of another sequence": r"inv[12]|ciss|fiesta|bssfp|trufi|t2prep|fieldmap|phasediff",
    "a localizer": r"localizer|localiser|scout|survey|inplanet[12]",
    "PET": r"pet",
}
OTHER = re.compile("|".join(KINDS.values()))
# a T2 of these sequences is a T2*
ECHO = re.compile(r"gre|ffe|fl[23]d|hemo|heme|me[23]d|medic|merge|fgre|fspgr|spgr")
PARTS_OF_A_WORD = (  # words that may be written as one or two
    ("dark", "fluid"), ("mp", "rage"), ("me", "mprage"), ("t2", "star"), ("t2w", "star"), ("t1", "map"), ("t2", "map"),
    ("t1", "maps"), ("t2", "maps"), ("t1", "mapping"), ("t2", "mapping"), ("q", "t1"), ("q", "t2"), ("inplane", "t1"),
    ("inplane", "t2"), ("proton", "density"), ("t1", "rho"), ("fluid", "attenuated"), ("r2", "star"),
)  # fmt: skip
# words between two contrasts, in the name of a scan registered to another one
TO = re.compile(r"2|to|in|into|on|onto|reg|registered|coreg|coregistered|align|aligned|from|ratio|over|minus")
MOVED = re.compile(r"(t1w?|t2w?|flair)(2|to)(mni.*|t1w?|t2w?|flair|std|atlas|template)", re.I)
# may be a contrast, or the initials of a person or disease: with these, the name does not decide
DOUBTFUL = {"pd": {contrasts.T2W.name}, "ct": set(contrasts.ALL)}


@dataclass(frozen=True)
class FoundContrast:
    """The contrast, its source (`option`, `table`, `file name`, `JSON file` or `image`), and its check by the image."""

    contrast: str
    source: str
    check: Check | None = None


@dataclass(frozen=True)
class Described:
    """What the JSON file of a scan says: a contrast, or the kind of image if that is none of them; empty if neither."""

    contrast: str = ""
    other: str = ""
    warning: str = ""

    @property
    def recorded(self) -> dict[str, str | None] | None:
        """What it says, for a sidecar; None if it says nothing."""
        found = {"contrast": self.contrast or None, "other": self.other or None}
        return found if any(found.values()) else None


NOTHING = Described()


def from_name(path: Path) -> str | None:
    """The contrast from a file name; None if the name has none or contradicts itself.

    In a BIDS name the suffix decides, otherwise whole words do. `T1 FLAIR` is T1w; entities such as `acq-` or `space-`
    are ignored.
    """
    return _said(path)[0]


def other_from_name(path: Path) -> str | None:
    """The kind of image from a file name if it is not a known contrast, such as `dwi` or `t2star`; otherwise None."""
    return _said(path)[1]


def _said(path: Path) -> tuple[str | None, str | None]:
    """The contrast and the other kind of image in a name; None if there is none."""
    name = entities(path)
    if name.suffix in contrasts.ALL:
        return name.suffix, None
    if OTHER_SUFFIXES.fullmatch(name.suffix):
        return None, name.suffix
    return said_in_text("_".join(name.words))


def said_in_text(text: str) -> tuple[str | None, str | None]:
    """The contrast, or the other kind of image, that the words of a text say; None for what they do not say."""
    words = list(_words(text))
    found = [contrast for word in words if (contrast := _contrast_of(word))]
    other = next((match[0] for word in words if (match := OTHER.fullmatch(word))), None) or _gradient_echo(words, found)
    if other and (not found or other.startswith("t2")):
        return None, other
    if other or any(set(found) & DOUBTFUL.get(word, set()) for word in words):
        return None, None
    return _one(found, words), None


def _one(found: list[str], words: list[str]) -> str | None:
    """The contrast that the words of a name agree on; None if they contradict each other."""
    said = dict.fromkeys(found)
    if len(said) < 2:
        return next(iter(said), None)
    if any(TO.fullmatch(word) for word in words):
        return None
    first = contrasts.T1W.name
    if set(said) == {first, contrasts.FLAIR.name}:  # T1 FLAIR, a T1w scan with an inversion
        return first if found[0] == first else None
    whole = [one for one in said if set(said) - {one} <= contrasts.ALL[one].also_says]
    return whole[0] if whole else None


def _contrast_of(word: str) -> str | None:
    return next((one.name for one in contrasts.ALL.values() if _pattern(one.words).fullmatch(word)), None)


@cache
def _pattern(words: str) -> re.Pattern[str]:
    return re.compile(words)


def kind_of(word: str) -> str:
    """The kind of image that a word for none of the contrasts means, as `said_in_text` finds it."""
    return next((kind for kind, words in KINDS.items() if re.fullmatch(words, word)), "T2*")  # as in t2gre


def says_contrast(word: str) -> bool:
    """Whether a word of a file name is a contrast, including ones that no model covers."""
    lower = word.lower()
    return bool(_contrast_of(lower) or lower in DOUBTFUL or OTHER.fullmatch(lower))


def _gradient_echo(words: list[str], found: list[str]) -> str | None:
    """A name such as `t2gre` if the words contain T2 and a gradient echo; otherwise None."""
    if set(found) != {contrasts.T2W.name}:
        return None
    return next((f"t2{word}" for word in words if ECHO.fullmatch(word)), None)


def _words(name: str) -> Iterator[str]:
    """The whole words of a name in lower case: `sT1W_3D` is s, t1w, 3d; parts of one word are joined."""
    apart = MOVED.sub(r"\1 \2 \3", name.replace("*", "star"))
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", apart)
    words = [word.lower() for word in re.split(r"[^A-Za-z0-9]+", apart) if word]
    place = 0
    while place < len(words):
        pair = tuple(words[place : place + 2])
        step = 2 if pair in PARTS_OF_A_WORD else 1
        yield "".join(words[place : place + step])
        place += step


def known_before(
    path: Path, option: str | None, described: Described = NOTHING, column: str = ""
) -> FoundContrast | None:
    """The contrast from the option, the `column` of a table, the file name or the JSON file; None if none gives it."""
    if option is not None:
        return FoundContrast(option, "option")
    if column:
        return FoundContrast(column, "table")
    if named := from_name(path):
        return FoundContrast(named, "file name")
    settled = described.contrast and not other_from_name(path)
    return FoundContrast(described.contrast, "JSON file") if settled else None


NOT_COVERED = "not one that a model covers"


def settle(
    known: FoundContrast | None, path: Path, guess: ContrastGuess | None, described: Described = NOTHING
) -> FoundContrast:
    """The contrast, with a check against the image (`guess`; None: too little of the brain).

    One of `known` and `guess` must not be None.
    """
    if known is None:
        assert guess is not None
        known = FoundContrast(guess.contrast, "image")
    other = ""
    if known.source == "image" and (named := other_from_name(path)):
        other = f"the file name says {named}"
    elif known.source == "image" and described.other:
        other = f"the JSON file says {described.other}"
    check = _verdict("fail", f"{NOT_COVERED}: {other}") if other else _check(known, guess)
    if check.verdict == "pass" and (others := _contradicting(known, path, described)):
        check = _verdict("warn", f"the {known.source} says {known.contrast}, {others}")
    return replace(known, check=check)


def _contradicting(known: FoundContrast, path: Path, described: Described) -> str:
    """What file name and JSON file say of a contrast that a table or the file name gives, if it is another one."""
    if known.source not in ("table", "file name"):
        return ""
    named, other = _said(path)
    said = {"the JSON file": described.other or described.contrast, "the file name": named or other or ""}
    return " and ".join(f"{who} {what}" for who, what in said.items() if what not in ("", known.contrast))


def _check(found: FoundContrast, guess: ContrastGuess | None) -> Check:
    """Whether the image has the contrast that it is said to have, and one that a model covers."""
    if guess is None:
        return _verdict(NOT_COMPUTED, "too little of the brain is in the field of view")
    if guess.other:
        return _verdict("fail", f"{NOT_COVERED}: {guess.other}")
    if guess.contrast != found.contrast and not guess.doubtful:
        says = "--contrast" if found.source == "option" else f"the {found.source}"
        return _verdict("fail", f"{says} says {found.contrast}, the image looks like {guess.contrast}")
    if guess.doubtful and found.source == "image":
        return _verdict("warn", f"hard to determine from this image; assuming {guess.contrast} (see --contrast)")
    if found.source == "image" and (others := contrasts.ALL[found.contrast].resembles):
        name = found.contrast
        return _verdict(
            "warn", f"{name} by the image alone; {others} can look the same: give --contrast if it is {name}"
        )
    return _verdict("pass", "the tissues have the intensities of this contrast")


def _verdict(verdict: str, text: str) -> Check:
    return Check("contrast", None, verdict, text)
