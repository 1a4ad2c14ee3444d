"""The one reader of BIDS names."""

from __future__ import annotations

from pathlib import Path

import pytest

from uadcli.data.entities import entities, read


@pytest.mark.parametrize(
    ("name", "found", "words", "suffix"),
    [
        ("sub-01_ses-2_acq-se_T2w.nii.gz", {"sub": "01", "ses": "2", "acq": "se"}, ("T2w",), "T2w"),
        ("sub-01_T1w_brain.nii.gz", {"sub": "01"}, ("T1w", "brain"), ""),
        ("sub-01_FLAIR_space-T1w.nii.gz", {"sub": "01", "space": "T1w"}, ("FLAIR",), ""),
        ("sub-01_method-a_map.nii.gz", {"sub": "01", "method": "a"}, ("map",), "map"),
        ("acq-flair_T1w.nii.gz", {"acq": "flair"}, ("T1w",), ""),
        ("t1-mprage_sub-3.mgz", {"sub": "3"}, ("t1-mprage",), ""),
        ("t1-mprage_sag.nii", {}, ("t1-mprage", "sag"), ""),
        ("BraTS-GLI-00000-000-t1n.nii.gz", {}, ("BraTS-GLI-00000-000-t1n",), ""),
        ("sub-.nii", {}, ("sub-",), ""),
        (".nii.gz", {}, (), ""),
    ],
)
def test_entities_and_words(name: str, found: dict[str, str], words: tuple[str, ...], suffix: str) -> None:
    one = entities(Path("sub-9/ses-9") / name)
    assert (dict(one.entities), one.words, one.suffix) == (found, words, suffix)


@pytest.mark.parametrize(
    ("name", "subject"), [("sub-01", "sub-01"), ("sub-01.old", "sub-01"), ("x_sub-7", "sub-7"), ("subs", None)]
)
def test_the_subject_of_a_folder(name: str, subject: str | None) -> None:
    assert read(name).subject == subject
