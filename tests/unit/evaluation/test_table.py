"""Maps and their truth as a table lists them."""

from __future__ import annotations

import pytest

from uadcli.errors import InputError
from uadcli.evaluation.cases import Case
from uadcli.evaluation.table import from_table


def table(tmp_path, text):
    path = tmp_path / "cases.tsv"
    path.write_text(text.replace(" ", "\t"), encoding="utf-8")
    return path


def test_a_table(tmp_path):
    path = table(
        tmp_path,
        "method map truth mask group scan subject\n"
        f"A maps/1.nii t/1.nii m/1.nii glioma one p1\nB {tmp_path}/b.nii t/1.nii n/a glioma one p1\n"
        "A maps/2.nii n/a n/a healthy two p2\n",
    )
    assert from_table(path)[0] == [
        Case("A", "one", "p1", tmp_path / "maps/1.nii", tmp_path / "t/1.nii", tmp_path / "m/1.nii"),
        Case("B", "one", "p1", tmp_path / "b.nii", tmp_path / "t/1.nii"),
        Case("A", "two", "p2", tmp_path / "maps/2.nii", None, healthy=True),
    ]


def test_a_short_table_names_scans_by_their_files(tmp_path):
    cases, _ = from_table(table(tmp_path, "map truth\nsub-3_ses-1_T1w_desc-anomaly_map.nii.gz t.nii\n"))
    assert [(c.method, c.scan, c.subject) for c in cases] == [("cases", "sub-3_ses-1_T1w", "sub-3")]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("mapp truth\na b\n", "no column map"),
        ("map\na.nii\n", "no column truth"),
        ("map truth\n", "no row"),
        ("map truth\na.nii n/a\n", "line 2"),
        ("map truth\nn/a b.nii\n", "line 2"),
        ("map truth healthy\na.nii b.nii maybe\n", "line 2"),
        ("map truth\na.nii b.nii\na.nii b.nii\n", "line 3"),
        ("map truth\na.nii b.nii c.nii\n", "line 2"),
        ("map truth\na.nii b.nii\n\n\nn/a b.nii\n", "line 5"),
    ],
)
def test_a_table_with_a_fault(tmp_path, text, part):
    with pytest.raises(InputError, match=part):
        from_table(table(tmp_path, text))
