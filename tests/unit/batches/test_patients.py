"""Batches whose contrasts are joined: who is a patient, what is resumed, and what fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from stand import OPTIONS, Stand, counts, rows, run

from uadcli.batches import batch, patients
from uadcli.batches.inputs import Found
from uadcli.batches.options import BatchOptions, Request
from uadcli.config import DetectConfig
from uadcli.console import Reporter
from uadcli.detection.options import DetectOptions
from uadcli.errors import UsageError


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    """Two sessions of one subject with several contrasts, and a subject with one scan."""
    root = tmp_path / "bids"
    for name in ("sub-1/ses-a T1w FLAIR T2w", "sub-1/ses-b T1w T2w", "sub-2 T1w"):
        folder, *contrasts = name.split()
        (root / folder / "anat").mkdir(parents=True)
        for contrast in contrasts:
            scan = root / folder / "anat" / f"{folder.replace('/', '_')}_{contrast}.nii.gz"
            scan.write_text(f"{folder} {contrast}")
    (root / "dataset_description.json").write_text("{}")
    return root


def plan_of(*paths: Path, options: DetectOptions = OPTIONS, **more: object) -> list[dict[str, Any]]:
    asked = BatchOptions(workers=0, join=True, **more)  # type: ignore[arg-type]
    request = Request(paths=paths, output=Path("/nowhere/out"), config=DetectConfig(), options=options, batch=asked)
    return [json.loads(line) for line in batch.make_plan(request, Reporter(silent=True)).as_json().splitlines()]


def test_subjects_and_sessions_are_patients_and_the_first_scan_is_the_flair(bids: Path) -> None:
    steps = plan_of(bids)
    found = [(Path(step["scan"]).name, [Path(one).name for one in step.get("further", [])]) for step in steps]
    assert found == [
        ("sub-1_ses-a_FLAIR.nii.gz", ["sub-1_ses-a_T2w.nii.gz", "sub-1_ses-a_T1w.nii.gz"]),
        ("sub-1_ses-b_T2w.nii.gz", ["sub-1_ses-b_T1w.nii.gz"]),
        ("sub-2_T1w.nii.gz", []),
    ]
    assert [Path(step["map"]).name for step in steps] == [
        "sub-1_ses-a_FLAIR_desc-anomaly_map.nii.gz",
        "sub-1_ses-b_T2w_desc-anomaly_map.nii.gz",
        "sub-2_T1w_desc-anomaly_map.nii.gz",
    ]
    assert [Path(step["scan"]).name for step in plan_of(bids, participant_label=["2"])] == ["sub-2_T1w.nii.gz"]


def test_every_patient_is_in_one_part(bids: Path) -> None:
    parts = [{step["map"] for step in plan_of(bids, shard=f"{i}/2")} for i in (1, 2)]
    assert parts[0] | parts[1] == {step["map"] for step in plan_of(bids)}
    assert not parts[0] & parts[1]


def test_resume_and_tables_are_by_patient(bids: Path, stand: Stand) -> None:
    result = run(bids, join=True)
    assert counts(result) == (3, 0, 0)
    assert [row["contrast"] for row in rows(result.summary)] == ["FLAIR+T2w+T2w", "FLAIR+T2w", "FLAIR"]
    assert counts(run(bids, join=True)) == (0, 3, 0)
    (bids / "sub-1" / "ses-a" / "anat" / "sub-1_ses-a_T1w.nii.gz").write_text("odd")
    stand.prepared.clear()
    result = run(bids, join=True)
    assert counts(result) == (1, 2, 0)
    assert stand.prepared == ["sub-1_ses-a_FLAIR.nii.gz"]
    assert rows(result.summary)[0]["contrast"] == "FLAIR+T2w"
    assert counts(run(bids, join=True)) == (0, 3, 0)
    said = bids / "sub-1" / "ses-b" / "anat" / "sub-1_ses-b_T1w.json"
    said.write_text('{"SeriesDescription": "T1w"}')
    assert counts(run(bids, join=True)) == (1, 2, 0)
    assert counts(run(bids, join=True)) == (0, 3, 0)
    assert counts(run(bids, join=True, options=DetectOptions(device="cpu", threads=1, strict=True))) == (0, 2, 1)
    (bids / "sub-1" / "ses-b" / "anat" / "sub-1_ses-b_T1w.nii.gz").unlink()
    assert counts(run(bids, join=True)) == (1, 2, 0)  # other options: a scan fewer


def test_a_patient_fails_alone(bids: Path, stand: Stand) -> None:
    (bids / "sub-1" / "ses-a" / "anat" / "sub-1_ses-a_FLAIR.nii.gz").write_text("bad")
    result = run(bids, join=True)
    assert counts(result) == (2, 0, 1)
    assert rows(result.failed_table)[0]["map"] == "sub-1/ses-a/anat/sub-1_ses-a_FLAIR_desc-anomaly_map.nii.gz"


@pytest.mark.parametrize(
    "text",
    [
        "FLAIR\tT1w\na1.nii\ta2.nii\nn/a\tb 2.nii\n\nc1.nii\t\n\t\n",
        "FLAIR \tT1w\r\na1.nii\ta2.nii\r\nN/A\tb 2.nii\r\nc1.nii\t N/a\r\n",
        '"FLAIR"\t"T1w"\n"a1.nii"\t"a2.nii"\n""\t"b 2.nii"\n"c1.nii"\t"n/a"\n',
    ],
    ids=["plain", "blanks", "quotes"],
)
def test_a_table_has_a_column_for_each_contrast(text: str, tmp_path: Path) -> None:
    for name in ("a1.nii", "a2.nii", "b 2.nii", "c1.nii"):
        (tmp_path / name).write_text(name)
    table = tmp_path / "patients.tsv"
    table.write_text(text)
    steps = plan_of(list_file=str(table))
    assert [(Path(s["scan"]).name, [Path(f).name for f in s.get("further", [])]) for s in steps] == [
        ("a1.nii", ["a2.nii"]),
        ("b 2.nii", []),
        ("c1.nii", []),
    ]


def test_the_columns_say_the_contrasts_and_another_column_is_another_task(tmp_path: Path, stand: Stand) -> None:
    (tmp_path / "one.nii").write_text("one")
    (tmp_path / "other.nii").write_text("other")
    table = tmp_path / "patients.tsv"
    table.write_text("FLAIR\tT2w\none.nii\tother.nii\n")
    asked = {"list_file": str(table), "join": True, "output": tmp_path / "out"}
    assert counts(run(**asked)) == (1, 0, 0)
    assert counts(run(**asked)) == (0, 1, 0)
    for head in ("T1w\tT2w", "FLAIR\tT1w"):
        table.write_text(f"{head}\none.nii\tother.nii\n")
        assert counts(run(**asked)) == (1, 0, 0)  # the stand-in finds FLAIR and T2w whatever is asked for


@pytest.mark.parametrize(
    ("other", "scans"),
    [("a\tn/a\tb", "a (FLAIR), b (T2w)"), ("a\tc\tn/a", "a (FLAIR), c (T1w)"), ("a\tn/a\tn/a", "a (FLAIR)")],
)
def test_two_lines_with_one_first_scan_are_the_same_or_refused(tmp_path: Path, other: str, scans: str) -> None:
    for name in "abc":
        (tmp_path / name).write_text(name)
    table = tmp_path / "patients.tsv"
    table.write_text("FLAIR\tT1w\tT2w\na\tb\tn/a\na\tb\tn/a\n")
    assert len(plan_of(list_file=str(table))) == 1
    table.write_text(f"FLAIR\tT1w\tT2w\na\tb\tn/a\n{other}\n")
    with pytest.raises(UsageError) as refused:
        plan_of(list_file=str(table))
    said = str(refused.value).replace(f"{tmp_path}/", "")
    assert said.startswith(f"{scans} would give the same map as a (FLAIR), b (T1w), ")


def test_first_scans_of_one_name_have_the_results_in_folders_as_theirs(tmp_path: Path) -> None:
    for name in ("a/flair.nii", "a/flair.nii.gz", "a/t1.nii", "b/1/flair.nii", "c/t1.nii"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "link").symlink_to("a")
    table = tmp_path / "patients.tsv"
    head, lines = "FLAIR\tT1w\n", ["a/flair.nii\ta/t1.nii\n", "b/1/flair.nii\tn/a\n", "n/a\tc/t1.nii\n"]

    def maps() -> list[str]:
        return [step["map"].removeprefix("/nowhere/out/").split("_")[0] for step in plan_of(list_file=str(table))]

    table.write_text(head + "".join(lines))
    assert maps() == ["a/flair", "b/1/flair", "c/t1"]
    table.write_text(head + lines[0] + lines[2])
    assert maps() == ["flair", "t1"]
    table.write_text(head + lines[0] + lines[0].replace("a/", "link/"))
    assert maps() == ["flair"]  # one patient
    table.write_text(head + lines[0] + "a/flair.nii.gz\tn/a\n")
    with pytest.raises(UsageError, match="would give the same map as"):
        maps()


@pytest.mark.parametrize("text", ["", "a.nii\nb.nii\n", "FLAIR\tFLAIR\na\tb\n", "FLAIR\tT1w\n", "FLAIR\na\tb\n"])
def test_a_list_that_is_not_such_a_table(tmp_path: Path, text: str) -> None:
    table = tmp_path / "patients.tsv"
    table.write_text(text)
    with pytest.raises(UsageError):
        patients.read_table(str(table))


def test_names_without_a_subject_and_options_for_single_scans_are_refused(bids: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs a subject"):
        patients.grouped([Found(tmp_path / "FLAIR.nii.gz")])
    with pytest.raises(UsageError, match="conformal"):
        plan_of(bids, options=DetectOptions(threshold="conformal"))
    with pytest.raises(UsageError, match="--contrast"):
        plan_of(bids, options=DetectOptions(contrast="T1w"))
