"""What the JSON file next to a scan says about its contrast, and that a broken one is a warning."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from uadcli.data.contrast import KINDS, Described, kind_of, known_before, settle
from uadcli.data.scan_json import MOST_BYTES, describe
from uadcli.data.tissue_contrast import ContrastGuess, TissueStatistics

MPRAGE = {"ScanningSequence": "GR_IR", "EchoTime": 0.00296, "RepetitionTime": 2.3, "InversionTime": 0.9}
FLAIR = {"ScanningSequence": "SE_IR", "EchoTime": 0.12, "RepetitionTime": 9, "InversionTime": 2.5}
SPACE_FLAIR = {"ScanningSequence": "SE_IR", "EchoTime": 0.388, "RepetitionTime": 5, "InversionTime": 1.8}
T2 = {"ScanningSequence": "SE", "EchoTime": 0.1, "RepetitionTime": 5.5}
PD = {"ScanningSequence": "SE", "EchoTime": 0.012, "RepetitionTime": 3}
T1_SE = {"ScanningSequence": "SE", "EchoTime": 0.012, "RepetitionTime": 0.55}
T2_STAR = {"ScanningSequence": "GR", "EchoTime": 0.02, "RepetitionTime": 0.65, "FlipAngle": 20}
B0 = {"ScanningSequence": "EP", "EchoTime": 0.09, "RepetitionTime": 8}
VIBE = {"ScanningSequence": "GR", "EchoTime": 0.0024, "RepetitionTime": 0.006}

TABLE = [
    # by how it was acquired
    (MPRAGE, "T1w", ""),
    ({**MPRAGE, "ScanningSequence": ["GR", "IR"]}, "T1w", ""),
    ({**MPRAGE, "ScanningSequence": "GR\\IR"}, "T1w", ""),
    (FLAIR, "FLAIR", ""),
    (SPACE_FLAIR, "FLAIR", ""),
    (T2, "T2w", ""),
    (T1_SE, "T1w", ""),
    (PD, "", "proton density"),
    (T2_STAR, "", "T2*"),
    (B0, "", "an echo-planar image"),
    ({**B0, "ScanningSequence": "EP_SE"}, "", "an echo-planar image"),
    (VIBE, "", ""),
    ({"ScanningSequence": "RM", "EchoTime": 0.1, "RepetitionTime": 5}, "", ""),
    ({"ScanningSequence": "SE"}, "", ""),
    ({}, "", ""),
    # by what it is
    ({**T2, "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"]}, "T2w", ""),
    ({**T2, "ImageType": ["DERIVED", "PRIMARY", "ADC"]}, "", "adc"),
    ({"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}, "", "phase"),
    ({"ImageType": ["DERIVED", "PRIMARY", "T1 MAP"]}, "", "t1map"),
    ({"Modality": "CT"}, "", "CT"),
    ({"Modality": "MR", **T2}, "T2w", ""),
    # by how it is called
    ({"SeriesDescription": "t1_mprage_sag_p2_iso"}, "T1w", ""),
    ({"SeriesDescription": "Ax T2 FLAIR"}, "FLAIR", ""),
    ({"ProtocolName": "T2W_TSE"}, "T2w", ""),
    ({"SeriesDescription": "6", "ProtocolName": "T2W_TSE"}, "T2w", ""),
    ({"SeriesDescription": "AX T2* GRE"}, "", "T2*"),
    ({"SeriesDescription": "ep2d_diff_3scan_trace_p2"}, "", "an echo-planar image"),
    ({"SeriesDescription": "DWI b0"}, "", "a diffusion image"),
    ({"SeriesDescription": "ax t2 gre"}, "", "T2*"),
    ({"SeriesDescription": "SWIFTTAYLOR^ANNA 1970"}, "", ""),
    # both
    ({**FLAIR, "SeriesDescription": "t2_tirm_tra_dark-fluid"}, "FLAIR", ""),
    ({**VIBE, "SeriesDescription": "t1_vibe_tra"}, "T1w", ""),
    ({**T2, "SeriesDescription": "t1_mprage"}, "", ""),  # they contradict each other
    ({**T2_STAR, "SeriesDescription": "t2_fl2d_tra_hemo"}, "", "T2*"),
    # what has another type or no sense
    ({**T2, "EchoTime": "0.1"}, "", ""),
    ({**T2, "EchoTime": -1}, "", ""),
    ({**T2, "EchoTime": True}, "", ""),
    ({**T2, "EchoTime": float("nan")}, "", ""),
    ({**T2, "ImageType": {"a": 1}}, "T2w", ""),
    ({"SeriesDescription": ["T1"], "ScanningSequence": {"a": 1}, "Modality": None}, "T1w", ""),
]


def beside(folder: Path, content: str | bytes, name: str = "scan.nii.gz") -> Path:
    file = folder / f"{name.removesuffix('.nii.gz')}.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / name


@pytest.mark.parametrize(("content", "contrast", "other"), TABLE)
def test_a_json_file_says_a_contrast_or_another_kind_or_nothing(
    tmp_path: Path, content: dict[str, object], contrast: str, other: str
) -> None:
    assert describe(beside(tmp_path, json.dumps(content))) == Described(contrast, other)


def test_no_file_says_nothing(tmp_path: Path) -> None:
    assert describe(tmp_path / "scan.nii.gz") == Described()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b'{"EchoTime": ' + b"1" * 5000 + b"}", b" " * (MOST_BYTES + 1)],
    ids=["empty", "cut", "not UTF-8", "deep", "long number", "large"],
)
def test_a_broken_json_file_is_a_warning(tmp_path: Path, content: bytes) -> None:
    found = describe(beside(tmp_path, content))
    assert found.warning.startswith("scan.json: ")
    assert not found.contrast
    assert not found.other


@pytest.mark.parametrize("content", [b"[]", b"1", b'"T1w"', b"null"])
def test_json_that_is_no_object_says_nothing(tmp_path: Path, content: bytes) -> None:
    assert describe(beside(tmp_path, content)) == Described()


def test_a_pipe_or_folder_of_that_name_is_a_warning_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "scan.json")
    assert describe(tmp_path / "scan.nii.gz").warning
    (tmp_path / "other.json").mkdir()
    assert describe(tmp_path / "other.nii.gz").warning


def test_nothing_of_the_texts_is_repeated(tmp_path: Path) -> None:
    content = {"SeriesDescription": "Doe Jane T2star 1970", "PatientName": "Doe^Jane", "ImageType": ["JANE", "ADC"]}
    assert "ane" not in repr(describe(beside(tmp_path, json.dumps(content))))
    assert describe(beside(tmp_path, json.dumps(content | {"ImageType": 1}))).other == "T2*"
    for surname in ("Swan", "Scout", "Epi"):  # also words of a sequence
        said = describe(beside(tmp_path, json.dumps({"SeriesDescription": f"{surname}^Jane"})))
        assert surname.lower() not in said.other
        assert said.other in KINDS


def test_every_word_for_another_image_has_a_kind() -> None:
    for word in (
        "swi",
        "swi3d",
        "qsm",
        "dadc",
        "b1000",
        "ep2d",
        "pcasl",
        "tof",
        "inv2",
        "survey",
        "pet",
        "pdw",
        "t2map",
    ):
        assert kind_of(word) in KINDS
    assert kind_of("t2gre") == kind_of("t2star") == "T2*"


def guess_of(contrast: str) -> ContrastGuess:
    levels = {"T1w": (-3.0, 1.5, 0.8), "T2w": (5.0, -1.0, -0.3), "FLAIR": (-2.0, -0.3, 0.1)}
    csf, white, correlation = levels[contrast]
    return ContrastGuess(contrast, TissueStatistics(2.5, 0.9, csf, white, 4.0, 2.0, correlation))


@pytest.mark.parametrize(
    ("name", "option", "described", "image", "source", "verdict", "said"),
    [
        ("scan", None, Described("T2w"), "T2w", "JSON file", "pass", ""),
        ("scan", None, Described("T2w"), "T1w", "JSON file", "fail", "JSON file says T2w, the image looks like T1w"),
        ("scan", None, Described(other="T2*"), "T2w", "image", "fail", "the JSON file says T2*"),
        ("scan", None, Described(), "T2w", "image", "warn", "by the image alone"),
        ("sub-1_T2w", None, Described(other="T2*"), "T2w", "file name", "warn", "says T2w, the JSON file T2*"),
        ("sub-1_T2w", None, Described("FLAIR"), "T2w", "file name", "warn", "says T2w, the JSON file FLAIR"),
        ("sub-1_T2w", None, Described("T2w"), "T2w", "file name", "pass", ""),
        ("sub-1_dwi", None, Described("T2w"), "T2w", "image", "fail", "the file name says dwi"),
        ("scan", "T2w", Described(other="T2*"), "T2w", "option", "pass", ""),
    ],
)
def test_the_json_file_counts_after_the_user_and_the_name(
    name: str, option: str | None, described: Described, image: str, source: str, verdict: str, said: str
) -> None:
    path = Path(f"{name}.nii.gz")
    found = settle(known_before(path, option, described), path, guess_of(image), described)
    assert found.check is not None
    assert (found.source, found.check.verdict) == (source, verdict)
    assert said in found.check.text
