"""A whole batch: what is done, what fails, and what its tables say."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub import Hub
from stand import OPTIONS, Stand, counts, files_below, rows, run

from uadcli.batches import batch, plan, status, tables
from uadcli.batches.inputs import Found
from uadcli.batches.options import BatchOptions, Request
from uadcli.config import DetectConfig
from uadcli.console import Reporter
from uadcli.detection import detect
from uadcli.detection.options import DetectOptions
from uadcli.detection.session import Session
from uadcli.errors import RESEARCH_USE, BatchError, InputError, OutputError, UsageError, WeightsError
from uadcli.report import viewer
from uadcli.weights import hub as hubs
from uadcli.weights import weights
from uadcli.workers import Died


def test_a_folder_is_mirrored_and_the_model_is_loaded_once(scans: Path, stand: Stand) -> None:
    result = run(scans)
    assert counts(result) == (3, 0, 0)
    assert stand.loads == 1
    maps = [name for name in files_below(scans.parent / "out") if name.endswith("_map.nii.gz")]
    assert maps == [
        "a_desc-anomaly_map.nii.gz",
        "deep er/b_desc-anomaly_map.nii.gz",
        "deep er/ü/c_desc-anomaly_map.nii.gz",
    ]
    summary = rows(result.summary)
    assert [row["map"] for row in summary] == maps
    assert summary[0] | {"input_sha256": ""} == {
        "map": maps[0], "scan": str(scans / "a.nii"), "status": "done", "contrast": "FLAIR", "score": "absolute",
        "threshold": "0.1", "volume_ml": "1.5", "components": "2", "largest_ml": "1", "qc": "pass",
        "strength": "n/a", "healthy_share": "n/a", "healthy_p_value": "n/a", "qc_reasons": "n/a",
        "brain_volume_ml": "1400", "mask_overlap": "0.9", "similarity": "n/a", "warnings": "1", "seconds": "1.5",
        "input_sha256": "", "research_use_only": RESEARCH_USE,
    }  # fmt: skip
    assert rows(result.failed_table) == []
    assert not list((scans.parent / "out").rglob(".*"))


def test_one_bad_scan_never_stops_the_rest(scans: Path, stand: Stand) -> None:
    (scans / "a.nii").write_text("bad")
    for word in ("bug", "memory", "full"):
        (scans / f"{word}.nii").write_text(word)
    result = run(scans)
    assert counts(result) == (2, 0, 4)
    table = {row["map"].split("_")[0]: (row["stage"], row["code"]) for row in rows(result.failed_table)}
    assert table == {
        "a": ("brain mask", "3"),
        "bug": ("brain mask", "1"),
        "memory": ("reconstruction", "5"),
        "full": ("write", "6"),
    }
    assert "no brain was found" in rows(result.failed_table)[0]["message"]
    status = {row["map"].split("_")[0]: (row["status"], row["volume_ml"]) for row in rows(result.summary)}
    assert status["a"] == ("failed", "n/a")
    assert status["deep er/b"] == ("done", "1.5")
    assert not list((scans.parent / "out").rglob("full*"))
    assert not list((scans.parent / "out").rglob(".uad*"))


def test_every_message_about_a_failure_names_its_scan(
    scans: Path, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors about options, bugs and processes that died name no file by themselves."""
    words, said = ("bad", "bug", "usage"), list[str]()
    for word in words:
        (scans / f"{word}.nii").write_text(word)
    monkeypatch.setattr(Reporter, "error", lambda _, text: said.append(text))
    run(scans)
    assert [[text.count(f"{scans / word}.nii: ") for word in words] for text in said] == np.eye(3, dtype=int).tolist()


def test_a_repaired_scan_leaves_the_table_of_failures(scans: Path, stand: Stand) -> None:
    (scans / "a.nii").write_text("bad")
    (scans / "z.nii").write_text("bad")
    run(scans)
    (scans / "a.nii").write_text("good")
    (scans / "deep er" / "b.nii").write_text("changed meanwhile")
    stand.prepared.clear()
    result = run(scans, retry_failed=True)
    assert stand.prepared == ["a.nii", "z.nii"]
    assert counts(result) == (1, 0, 1)
    assert [row["map"] for row in rows(result.failed_table)] == ["z_desc-anomaly_map.nii.gz"]
    assert [row["status"] for row in rows(result.summary)] == ["done", "done", "done", "failed"]


def test_fail_fast_stops_and_says_what_is_not_done(scans: Path, stand: Stand) -> None:
    (scans / "a.nii").write_text("bad")
    result = run(scans, fail_fast=True)
    assert stand.prepared == ["a.nii"]
    assert counts(result) == (0, 0, 1)
    assert [row["status"] for row in rows(result.summary)] == ["failed", "not done", "not done"]
    with pytest.raises(BatchError, match="1 of 3 scans failed, 2 not started"):
        batch.refuse_failed(result)


@pytest.mark.parametrize("more", [{"fail_fast": True}, {"fail_fast": True, "retry_failed": True}])
def test_a_stopped_batch_does_not_count_what_other_settings_made(
    scans: Path, stand: Stand, more: dict[str, bool]
) -> None:
    (scans / "z.nii").write_text("bad")
    run(scans)
    for name in ("a.nii", "z.nii"):
        (scans / name).write_text("bad")
    other = dataclasses.replace(OPTIONS, threshold="0.2", html=True)
    result = run(scans, options=other, **more)
    assert [row["status"] for row in rows(result.summary)].count("done") == 0
    assert_as_collected(scans, other, result.summary)


def test_an_interrupted_batch_does_not_count_what_other_settings_made(
    scans: Path, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(scans)
    ready = stand.ready

    def interrupted(path: Path, session: Session) -> Any:
        if path.name == "b.nii":
            raise KeyboardInterrupt
        return ready(path, session)

    monkeypatch.setattr(detect, "ready_scan", interrupted)
    other = dataclasses.replace(OPTIONS, threshold="0.2", html=True)
    with pytest.raises(KeyboardInterrupt):
        run(scans, options=other)
    summary = scans.parent / "out" / "summary.tsv"
    assert [row["status"] for row in rows(summary)] == ["done", "not done", "not done"]
    assert_as_collected(scans, other, summary)


def test_what_was_not_done_again_is_still_done(scans: Path, stand: Stand) -> None:
    run(scans)
    (scans / "a.nii").write_text("bad")
    again = dataclasses.replace(OPTIONS, overwrite=True)
    result = run(scans, options=again, fail_fast=True)
    assert [row["status"] for row in rows(result.summary)] == ["done", "done", "failed"]


def assert_as_collected(scans: Path, options: DetectOptions, summary: Path) -> None:
    """The tables and pages of a batch that stopped are those that `--collect` writes."""
    written = [path.read_text() for path in (summary, summary.with_suffix(".html"))]
    asked = Request(
        paths=(scans,), output=summary.parent, config=DetectConfig(), options=options, batch=BatchOptions(workers=0)
    )
    status.collect(asked, Reporter(silent=True))
    assert [path.read_text() for path in (summary, summary.with_suffix(".html"))] == written


def test_the_summary_begins_with_the_strongest_findings_of_any_contrast(scans: Path, stand: Stand) -> None:
    (scans / "z.nii").write_text("bad")
    run(scans)
    found = {"a": (0.4, 4.0, 4.7), "b": (None, 3.7, 3.1), "c": (1 / 21, 7.0, 4.7)}  # p-value, strength, threshold
    for file in (scans.parent / "out").rglob("*.json"):
        content = json.loads(file.read_text())
        p_value, strength, threshold = found[file.name[0]]
        healthy = {"share": 0.0, "p_value": p_value} if p_value else None
        content["anomaly"] |= {"strength": strength, "healthy_scans": healthy}
        content["threshold"]["value"] = threshold
        file.write_text(json.dumps(content))
    table = rows(run(scans).summary)
    assert [Path(row["map"]).name[0] for row in table] == ["c", "b", "a", "z"]
    assert [row["healthy_p_value"] for row in table] == ["0.047619", "n/a", "0.4", "n/a"]
    assert [row["strength"] for row in table] == ["7", "3.7", "4", "n/a"]


def test_strict_counts_a_failed_quality_control_each_time(scans: Path, stand: Stand) -> None:
    (scans / "a.nii").write_text("poor")
    assert counts(run(scans)) == (3, 0, 0)
    for _ in range(2):
        result = run(scans, options=dataclasses.replace(OPTIONS, strict=True))
        assert counts(result) == (0, 2, 1)
        assert [(r["stage"], r["code"]) for r in rows(result.failed_table)] == [("quality control", "7")]
        assert (rows(result.summary)[0]["status"], rows(result.summary)[0]["qc"]) == ("failed", "fail")
        assert rows(result.summary)[0]["qc_reasons"] == "contrast: the file name says T2w, the image looks like T1w"


def test_a_failure_of_another_selection_stays_in_the_table(scans: Path, stand: Stand) -> None:
    (scans / "a.nii").write_text("bad")
    run(scans)
    result = run(scans / "deep er" / "b.nii", output=scans.parent / "out")
    assert counts(result) == (1, 0, 0)
    assert [row["map"] for row in rows(result.failed_table)] == ["a_desc-anomaly_map.nii.gz"]


def test_parts_together_do_all_and_keep_apart_tables(scans: Path, stand: Stand) -> None:
    (scans / "a.nii").write_text("bad")
    results = [run(scans, shard=f"{i}/3") for i in (1, 2, 3)]
    assert sum(result.done for result in results) == 2
    assert sorted(stand.prepared) == ["a.nii", "b.nii", "c.nii.gz"]
    assert len({result.summary for result in results} | {result.failed_table for result in results}) == 6
    assert sum(len(rows(result.summary)) for result in results) == 3
    stand.prepared.clear()
    run(scans, retry_failed=True)
    assert stand.prepared == ["a.nii"]


def test_names_keep_their_letters_in_the_tables(tmp_path: Path, stand: Stand) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    names = ["tab\there", "line\nend", "back\\slash\\n", os.fsdecode(b"\xff raw")]
    for name in names:
        (folder / f"{name}.nii").write_text("bad")
    result = run(folder)
    assert sorted(tables.read_failed(result.failed_table)) == sorted(f"{n}_desc-anomaly_map.nii.gz" for n in names)
    assert len(result.failed_table.read_bytes().splitlines()) == 5
    stand.prepared.clear()
    assert counts(run(folder, retry_failed=True)) == (0, 0, 4)


def test_a_bids_root_gets_a_described_dataset_and_each_scan_its_own_contrast(tmp_path: Path, stand: Stand) -> None:
    root = tmp_path / "bids"
    for name in ("dataset_description.json", "sub-1/anat/sub-1_T1w.nii.gz", "sub-1/anat/sub-1_FLAIR.nii.gz"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    out = root / "derivatives" / "uad"
    flair = dataclasses.replace(OPTIONS, contrast="FLAIR")
    assert counts(run(root, output=out, options=flair)) == (1, 0, 0)
    assert counts(run(root, output=out)) == (1, 1, 0)  # the selection is no parameter of the result
    assert json.loads((out / "dataset_description.json").read_text())["DatasetType"] == "derivative"
    assert (out / "sub-1" / "anat" / "sub-1_FLAIR_desc-anomaly_map.nii.gz").exists()


@pytest.mark.parametrize(
    ("options", "kind"),
    [({"threshold": "-1"}, UsageError), ({"weights": "none-such"}, WeightsError)],
)
def test_faults_that_affect_every_scan_stop_the_batch_first(
    scans: Path, stand: Stand, options: dict[str, Any], kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        run(scans, options=dataclasses.replace(OPTIONS, **options))
    assert stand.prepared == []
    assert not (scans.parent / "out").exists()


def test_an_output_that_is_a_file(scans: Path, stand: Stand) -> None:
    with pytest.raises(OutputError, match="not a folder"):
        run(scans, output=scans / "a.nii")


def test_a_table_that_is_something_else_is_not_overwritten(scans: Path, stand: Stand) -> None:
    (scans.parent / "out").mkdir()
    (scans.parent / "out" / "failed.tsv").write_text("mine\n")
    with pytest.raises(InputError, match="not a table"):
        run(scans)
    assert (scans.parent / "out" / "failed.tsv").read_text() == "mine\n"


def test_a_table_of_the_user_whose_name_begins_alike_is_not_read(scans: Path, stand: Stand) -> None:
    (scans / "a.nii").write_text("bad")
    output = run(scans).summary.parent
    (output / "failed_subjects.tsv").write_text("subject\tnote\n01\tmoved\n")
    assert list(tables.read_all_failed(output)) == ["a_desc-anomaly_map.nii.gz"]
    assert counts(run(scans, retry_failed=True)) == (0, 0, 1)


def test_a_listed_path_that_no_file_can_have_fails_alone(scans: Path, stand: Stand) -> None:
    names = scans.parent / "names"
    names.write_text(f"{'x' * 300}.nii\n{scans / 'a.nii'}\n")
    asked = BatchOptions(workers=0, list_file=str(names))
    request = Request(paths=(), output=scans.parent / "out", config=DetectConfig(), options=OPTIONS, batch=asked)
    planned = batch.make_plan(request, Reporter(silent=True)).as_json().splitlines()
    said = [(json.loads(line)["action"], json.loads(line)["reason"]) for line in planned]
    assert said == [("missing", "cannot be read: File name too long"), ("run", "no sidecar")]
    result = run(output=scans.parent / "out", list_file=str(names))
    assert counts(result) == (1, 0, 1)
    (row,) = rows(result.failed_table)
    assert row["message"].endswith("Give a shorter one with -o, or rename the scan.")


def test_of_a_link_that_exists_nobody_says_that_it_does_not(scans: Path) -> None:
    (scans / "loop.nii").symlink_to(scans / "loop.nii")
    (scans / "gone.nii").symlink_to("nowhere.nii")
    names = scans.parent / "names"
    names.write_text(f"{scans / 'loop.nii'}\n{scans / 'gone.nii'}\n")
    asked = BatchOptions(workers=0, list_file=str(names))
    request = Request(paths=(), output=scans.parent / "out", config=DetectConfig(), options=OPTIONS, batch=asked)
    planned = batch.make_plan(request, Reporter(silent=True)).as_json().splitlines()
    loop, gone = (json.loads(line)["reason"] for line in planned)
    assert loop == "cannot be read: Too many levels of symbolic links"
    assert gone == "is a link to nowhere.nii, which does not exist"


def test_a_long_command_is_cut_in_the_sidecar(scans: Path, stand: Stand) -> None:
    run(scans, options=dataclasses.replace(OPTIONS, command="uad batch " + "x" * 9999))
    assert len(json.loads((scans.parent / "out" / "a_desc-anomaly_map.json").read_text())["command"]) < 600


def test_workers_are_chosen_by_cores_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch.device, "cores", lambda: 16)
    for free, count in ((1e6, 4), (5000.0, 2), (100.0, 1)):
        monkeypatch.setattr(batch.device, "free_memory_mb", lambda free=free: free)
        assert batch.worker_count(None) == count
    assert batch.worker_count(0) == 0
    assert batch.worker_count(9) == 9


def test_a_killed_worker_is_reported_as_out_of_memory(scans: Path) -> None:
    job = plan.jobs([Found(scans / "a.nii")], scans.parent / "out", OPTIONS)[0]
    session = Session(DetectConfig(), OPTIONS, "cpu", load=lambda path, digest: pytest.fail("loaded"))
    failure = batch._finish(job, Died(-9), session)
    assert isinstance(failure, tables.Failure)
    assert (failure.stage, failure.code) == ("preparation", 5)
    assert "--workers" in failure.message


def test_the_index_leads_to_every_scan_and_names_the_failed(scans: Path, stand: Stand) -> None:
    (scans / "a.nii").write_text("bad")
    result = run(scans, options=dataclasses.replace(OPTIONS, html=True))
    page = result.summary.with_suffix(".html").read_text()
    assert "deep er/b" in page
    assert "deep%20er/b_desc-anomaly_map" in page
    assert page.index("a</") < page.index("deep er/b")
    assert "research use only" in page.lower()
    assert not run(scans, output=scans.parent / "plain").summary.with_suffix(".html").exists()


def test_the_index_links_no_earlier_result_of_a_scan_that_has_failed(scans: Path, stand: Stand) -> None:
    """Its files stay where they are, but they are those of another scan or of other settings."""
    paged = dataclasses.replace(OPTIONS, html=True)
    index = run(scans, options=paged).summary.with_suffix(".html")
    assert 'href="a_desc-anomaly_map.html"' in index.read_text()
    (scans / "a.nii").write_text("bad")
    run(scans, options=paged)
    assert (index.parent / "a_desc-anomaly_map.html").exists()
    assert "a_desc-anomaly_map" not in index.read_text()
    (scans / "a.nii").write_text("poor")
    run(scans, options=dataclasses.replace(paged, strict=True))
    assert 'href="a_desc-anomaly_map.html"' in index.read_text()  # this failure has a result


def test_the_index_calls_no_scan_with_a_result_unprocessed(scans: Path, stand: Stand) -> None:
    """With --strict it counts as failed, although all that was computed is there."""
    (scans / "a.nii").write_text("poor")
    (scans / "deep er" / "b.nii").write_text("bad")
    index = run(scans, options=dataclasses.replace(OPTIONS, html=True, strict=True)).summary.with_suffix(".html")
    page = index.read_text()
    assert "3 scans: 1 not processed, 1 failed, 1 passed." in page
    assert "quality control failed (contrast" in page


def test_pages_in_native_space_need_their_viewer_before_the_first_scan(
    scans: Path, stand: Stand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    native = dataclasses.replace(OPTIONS, html="niivue")
    assert run(scans, options=native).summary.with_suffix(".html").exists()
    stand.prepared.clear()
    monkeypatch.setattr(viewer, "FOLDER", tmp_path)  # as in the slim wheel
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError, match="NiiVue"):
        run(scans, output=scans.parent / "again", options=native)
    assert stand.prepared == []


def test_weights_of_the_hub_are_looked_up_once(
    scans: Path, published: str, stand: Stand, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    fetch = hubs.fetch
    monkeypatch.setattr(hubs, "fetch", lambda *arguments: asked.append(arguments[0]) or fetch(*arguments))
    options = dataclasses.replace(OPTIONS, weights=published)
    assert counts(run(scans, options=options)) == (3, 0, 0)
    assert list(map(str, asked)) == [published]
    assert stand.loads == 1
    assert hub.fetched("tiny 1.safetensors") == 1
    assert counts(run(scans, options=options)) == (0, 3, 0)
    told = json.loads(next(scans.parent.rglob("*_map.json")).read_text())
    assert told["weights"]["sha256"] == weights.find(published)[1]


def test_an_index_of_earlier_results_does_not_stay(scans: Path, stand: Stand) -> None:
    index = run(scans, options=dataclasses.replace(OPTIONS, html=True)).summary.with_suffix(".html")
    assert index.exists()
    run(scans)  # the pages of the scans go with their old results
    assert not index.exists()
    index.write_text("mine")
    run(scans)
    assert index.read_text() == "mine"
