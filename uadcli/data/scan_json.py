"""What the JSON file of a scan says about its contrast, as dcm2niix and BIDS write it next to the image.

Of its texts only words of a fixed vocabulary are used, and none is repeated: a description may name a patient.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uadcli import contrasts
from uadcli.data.contrast import Described, FoundContrast, kind_of, known_before, said_in_text, settle
from uadcli.errors import InputError
from uadcli.imaging.volume import stem

if TYPE_CHECKING:
    from uadcli.data.prepare import Prepared

MOST_BYTES = 1 << 20
TEXTS = ("SeriesDescription", "ProtocolName")
# parts of DICOM's Image Type that make an image none of the contrasts
TYPES = {
    "ADC": "adc", "FA": "fa", "TRACEW": "dwi", "TENSOR": "dti", "DIFFUSION": "dwi", "P": "phase", "PHASE": "phase",
    "PHASE MAP": "phase", "IMAGINARY": "phase", "T1 MAP": "t1map", "T2 MAP": "t2map", "T2_STAR MAP": "t2starmap",
    "SWI": "swi", "MIP": "a projection", "MNIP": "a projection", "PERFUSION": "perfusion", "TTP": "perfusion",
    "MTT": "perfusion", "CBF": "perfusion", "CBV": "perfusion", "RELCBF": "perfusion", "RELCBV": "perfusion",
}  # fmt: skip
MODALITIES = {"CT": "CT", "PT": "PET", "NM": "SPECT", "US": "ultrasound", "CR": "an X-ray image"}
# Seconds. T1w gradient echoes end at 10 ms; T2* and susceptibility images are read at 15 to 40.
LATE_GRADIENT_ECHO = 0.012
FLAIR_INVERSION, T1W_INVERSION = (1.5, 3.5), (0.3, 1.3)
SHORT_ECHO, LONG_ECHO, SHORT_REPETITION, LONG_REPETITION = 0.030, 0.065, 1.2, 1.8


def json_of(scan: Path) -> Path:
    """The JSON file next to a scan, whether there is one or not."""
    return scan.parent / f"{stem(scan)}.json"  # `with_name` refuses a path without a name, such as `.`


def describe(scan: Path) -> Described:
    """Read the JSON file next to a scan; nothing if there is none. What cannot be read is a warning."""
    path = json_of(scan)
    try:
        text = read_text(path)
        content = json.loads(text) if text is not None else {}
    except (OSError, ValueError, RecursionError):  # not UTF-8 and numbers of 5000 digits are ValueErrors, too
        return Described(warning=f"{path.name}: cannot be read as JSON, and says nothing about the contrast")
    return _described(content) if isinstance(content, dict) else Described()


def found_contrast(path: Path, known: FoundContrast | None, prepared: Prepared, described: Described) -> FoundContrast:
    """The contrast of a prepared scan as known before (`known_before`) or by its image, with its check by that.

    `described` is what `describe` found. Raises `InputError` if nothing says the contrast.
    """
    try:
        guess = prepared.contrast()
    except InputError:
        if known is None:
            raise
        guess = None
    return settle(known, path, guess, described)


def contrast_without_option(path: Path, prepared: Prepared) -> FoundContrast:
    """The contrast of a prepared scan by name, JSON file or image.

    Raises `InputError` if nothing says it, if these contradict each other, or if it is none of the known ones.
    """
    described = describe(path)
    found = found_contrast(path, known_before(path, None, described), prepared, described)
    if found.check is not None and found.check.verdict == "fail":
        raise InputError(f"contrast: {found.check.text}")
    return found


def read_text(path: Path, most: int = MOST_BYTES) -> str | None:
    """The text of a regular file; None if there is none. Raises `ValueError` for a large one, and `OSError`."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return None
    with os.fdopen(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise ValueError("not a regular file")
        data = stream.read(most + 1)
    if len(data) > most:
        raise ValueError("too large")
    return data.decode("utf-8-sig")


def _described(content: Mapping[str, Any]) -> Described:
    """What is certain comes first: the type of the image, then how it was acquired, then how it is called."""
    if other := _by_type(content):
        return Described(other=other)
    acquired, called = _by_sequence(content), _by_text(content)
    if acquired.other or called.other:
        return acquired if acquired.other else called
    said = {one.contrast for one in (acquired, called) if one.contrast}
    return Described(contrast=said.pop()) if len(said) == 1 else Described()


def _by_type(content: Mapping[str, Any]) -> str:
    modality = MODALITIES.get(str(content.get("Modality", "")).upper(), "")
    types = content.get("ImageType")
    parts = [str(part).upper() for part in types] if isinstance(types, list) else []
    return modality or next((TYPES[part] for part in parts if part in TYPES), "")


def _by_text(content: Mapping[str, Any]) -> Described:
    for key in TEXTS:
        contrast, other = said_in_text(str(content.get(key, "")))
        if contrast or other:
            return Described(contrast or "", kind_of(other) if other else "")  # the word itself may be a name
    return Described()


def _by_sequence(content: Mapping[str, Any]) -> Described:
    """From the kind of sequence and its times. Research sequences (`RM`) and images without times say nothing."""
    kinds = content.get("ScanningSequence", "")
    kinds = "_".join(map(str, kinds)) if isinstance(kinds, list) else str(kinds)
    words = set(kinds.upper().replace("\\", "_").replace("/", "_").split("_"))
    echo, repetition = _seconds(content, "EchoTime"), _seconds(content, "RepetitionTime")
    inversion = _seconds(content, "InversionTime")
    if "EP" in words:
        return Described(other="an echo-planar image")
    if _within(inversion, FLAIR_INVERSION) and echo > LONG_ECHO:
        return Described(contrasts.FLAIR.name)
    if _within(inversion, T1W_INVERSION) and echo < SHORT_ECHO:
        return Described(contrasts.T1W.name)
    if "GR" in words:
        return Described(other="T2*" if echo >= LATE_GRADIENT_ECHO and math.isnan(inversion) else "")
    if "SE" not in words or "IR" in words or not math.isnan(inversion):
        return Described()
    if echo > LONG_ECHO and repetition > LONG_REPETITION:
        return Described(contrasts.T2W.name)
    if echo < SHORT_ECHO and repetition > LONG_REPETITION:
        return Described(other="proton density")
    return Described(contrasts.T1W.name if echo < SHORT_ECHO and repetition < SHORT_REPETITION else "")


def _seconds(content: Mapping[str, Any], key: str) -> float:
    """A time in seconds; NaN where there is none, or one that is none."""
    value = content.get(key)
    known = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e3
    return float(value) if known and value is not None else math.nan


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]
