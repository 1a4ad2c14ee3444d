"""A batch in jobs: what is submitted, what is queued again, and what the files tell of it."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from stand import OPTIONS, Stand, counts, files_below, rows, run

from uadcli.batches import batch, cluster, plan, status
from uadcli.batches.cluster import Shard
from uadcli.batches.options import BatchOptions, ClusterOptions, Request
from uadcli.batches.status import Status
from uadcli.config import DetectConfig
from uadcli.console import Reporter
from uadcli.errors import BatchError, OutputError, UsageError

SILENT = Reporter(silent=True)


def asked(*paths: Path, **more: Any) -> Request:
    options = more.pop("options", OPTIONS)
    output = more.pop("output", paths[0].parent / "out" if paths else None)
    return Request(
        paths=paths,
        output=output,
        config=DetectConfig(),
        options=options,
        batch=BatchOptions(**{"workers": 0, **more}),
    )


def carried_out(request: Request, **chosen: Any) -> tuple[bytes, batch.BatchResult | None]:
    return cluster.carry_out(request, ClusterOptions(**chosen), SILENT)


def results(folder: Path) -> dict[str, bytes]:
    """All files but those of single parts and jobs."""
    kept = files_below(folder).items()
    return {name: data for name, data in kept if "_shard-" not in name and not name.startswith(".uad-jobs/")}


def many(folder: Path, number: int = 12) -> Path:
    for index in range(number):
        (folder / f"{index}.nii").write_text(f"scan {index}")
    return folder


def test_jobs_leave_what_one_process_leaves(scans: Path, stand: Stand) -> None:
    many(scans)
    (scans / "a.nii").write_text("bad")
    options = dataclasses.replace(OPTIONS, html=True)
    one = run(scans, output=scans.parent / "one", options=options)
    told, result = carried_out(asked(scans, options=options), cluster="debug", jobs=3)
    assert result is not None
    assert told == bytes(result.summary) + b"\n"
    assert counts(result) == counts(one) == (14, 0, 1)
    assert results(scans.parent / "out") == results(scans.parent / "one")
    shards = sorted(path.name for path in (scans.parent / "out").glob("summary_shard*.tsv"))
    assert shards == [f"summary_shard-{part}-of-3.tsv" for part in (1, 2, 3)]


def test_jobs_leave_no_index_of_earlier_results(scans: Path, stand: Stand) -> None:
    paged = dataclasses.replace(OPTIONS, html=True)
    carried_out(asked(scans, options=paged), cluster="debug", jobs=2)
    assert (scans.parent / "out" / "summary.html").exists()
    carried_out(asked(scans), cluster="debug", jobs=2)
    assert not list((scans.parent / "out").rglob("*.html"))


def test_a_part_without_work_gets_no_job(
    scans: Path, stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(scans)
    made: list[Shard] = []
    real = cluster._submitted

    def noted(executor: Any, shards: Any) -> Any:
        made.extend(shards)
        return real(executor, shards)

    monkeypatch.setattr(cluster, "_submitted", noted)
    carried_out(asked(scans), cluster="debug", jobs=4)
    assert [shard.request.batch.shard for shard in made] == ["1/4", "2/4", "3/4", "4/4"]
    made.clear()
    (scans / "3.nii").write_text("another scan")
    carried_out(asked(scans), cluster="debug", jobs=4)
    changed = next(job for job in batch.find_scans(asked(scans), SILENT).jobs if job.scan.name == "3.nii")
    index = next(index for index in range(4) if plan.in_shard(changed, (index, 4)))
    assert [shard.request.batch.shard for shard in made] == [f"{index + 1}/4"]
    assert stand.prepared.count("3.nii") == 2
    assert len(stand.prepared) == 16
    made.clear()
    assert cluster.submit(asked(scans), ClusterOptions("debug", 4), SILENT) == []
    assert made == []


def test_a_list_on_stdin_is_read_once_for_the_jobs_and_the_tables(
    scans: Path, stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = bytes(scans / "a.nii") + b"\0" + bytes(scans / "new\nline.nii") + b"\0"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(names)))
    (scans / "new\nline.nii").write_text("new")
    request = asked(output=tmp_path / "out", list_file="-", nul=True)
    _, result = carried_out(request, cluster="debug", jobs=1)
    assert result is not None
    assert counts(result) == (2, 0, 0)
    assert (tmp_path / "out" / "new\nline_desc-anomaly_map.nii.gz").exists()


def test_a_job_that_fails_before_any_scan_is_reported_and_all_scans_are_not_done(
    scans: Path, stand: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    request = asked(scans, options=dataclasses.replace(OPTIONS, device="cuda:99"))
    _, result = cluster.carry_out(request, ClusterOptions("debug", 1), Reporter())
    assert "cuda:99" in capsys.readouterr().err
    assert result is not None
    assert (result.done, result.failed, result.left) == (0, 0, 3)
    with pytest.raises(BatchError, match="3 of 3 scans are not done"):
        batch.refuse_failed(result)


def test_status_reads_no_scan_and_needs_no_submitit(scans: Path, stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    many(scans)
    request = asked(scans)
    assert status.status(request, SILENT) == Status(15, 0, 0, 15)
    assert not (scans.parent / "out").exists()
    (scans / "3.nii").write_text("bad")
    run(scans, shard="1/2")
    half = status.status(request, SILENT)
    run(scans, shard="2/2")
    monkeypatch.setitem(sys.modules, "submitit", None)
    read: list[str] = []
    monkeypatch.setattr(plan.stored, "sha256", lambda path: read.append(path.name) or "0")
    told, result = carried_out(request, status=True, cluster="slurm", jobs=2)
    assert (json.loads(told), result) == ({"scans": 15, "done": 14, "failed": 1, "left": 0}, None)
    assert half.done + half.failed + half.left == 15
    assert half.left == len(rows(scans.parent / "out" / "summary_shard-2-of-2.tsv"))
    assert read == []
    assert not (scans.parent / "out" / "summary.tsv").exists()


def test_collect_tells_done_failed_and_not_done_apart(scans: Path, stand: Stand) -> None:
    many(scans)
    (scans / "3.nii").write_text("bad")
    (scans / "4.nii").write_text("poor")
    run(scans, shard="1/2")
    strict = asked(scans, options=dataclasses.replace(OPTIONS, strict=True, html=False))
    _, half = carried_out(strict, collect=True)
    assert half is not None
    assert half.left == len(rows(half.summary)) - sum(row["status"] != "not done" for row in rows(half.summary)) > 0
    run(scans, shard="2/2")
    _, whole = carried_out(strict, collect=True)
    assert whole is not None
    assert (whole.done, whole.failed, whole.left) == (13, 2, 0)
    failed = {row["map"].split("_")[0]: row["stage"] for row in rows(whole.failed_table)}
    assert failed == {"3": "brain mask", "4": "quality control"}
    _, lax = carried_out(asked(scans), collect=True)
    assert lax is not None
    assert (lax.done, lax.failed, lax.left) == (14, 1, 0)
    assert [row["map"].split("_")[0] for row in rows(lax.failed_table)] == ["3"]


def test_a_scan_repaired_by_another_part_is_done(scans: Path, stand: Stand) -> None:
    many(scans)
    (scans / "3.nii").write_text("bad")
    for part in ("1/2", "2/2"):
        run(scans, shard=part)
    (scans / "3.nii").write_text("mended")
    for part in ("1/3", "2/3", "3/3"):
        run(scans, shard=part)
    assert status.status(asked(scans), SILENT) == Status(15, 15, 0, 0)


def test_a_scan_that_was_spoilt_after_it_was_done_has_failed(scans: Path, stand: Stand) -> None:
    run(scans)
    (scans / "a.nii").write_text("bad")
    run(scans)  # the sidecar of the good scan is still there
    assert status.status(asked(scans), SILENT) == Status(3, 2, 1, 0)


def test_collect_does_not_count_what_other_settings_made(scans: Path, stand: Stand) -> None:
    run(scans)
    other = asked(scans, options=dataclasses.replace(OPTIONS, threshold="0.5"))
    _, result = carried_out(other, collect=True)
    assert result is not None
    assert [row["status"] for row in rows(result.summary)] == ["not done"] * 3
    assert {row["volume_ml"] for row in rows(result.summary)} == {"n/a"}


def test_collect_keeps_the_failures_of_other_inputs(scans: Path, stand: Stand) -> None:
    (scans / "a.nii").write_text("bad")
    run(scans)
    run(scans / "deep er" / "b.nii", output=scans.parent / "out")
    carried_out(asked(scans / "deep er" / "b.nii", output=scans.parent / "out"), collect=True)
    assert [row["map"] for row in rows(scans.parent / "out" / "failed.tsv")] == ["a_desc-anomaly_map.nii.gz"]


def test_a_dry_run_submits_nothing(scans: Path, stand: Stand) -> None:
    told, result = carried_out(asked(scans), dry_run=True, cluster="debug", jobs=2)
    assert [json.loads(line)["action"] for line in told.splitlines()] == ["run"] * 3
    assert result is None
    assert not (scans.parent / "out").exists()


# --- queued again ---------------------------------------------------------------------------------------------------


class Cut(BaseException):
    """Stands for the end of a process."""


def _cut_off(shard: Shard, stand: Stand, after: int) -> Shard:
    """The shard that is queued again when the process ends once `after` more scans are done."""
    real, done = stand.finish, []

    def finish(*arguments: Any) -> Any:
        if len(done) == after:
            raise Cut
        done.append(1)
        return real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("uadcli.detection.detect.finish", finish)
        patch.setattr("signal.signal", lambda *_: None)
        with pytest.raises(Cut):
            shard()
        again = shard.checkpoint().function
    assert isinstance(again, Shard)
    return again


def test_a_part_that_is_queued_again_does_the_rest(scans: Path, stand: Stand) -> None:
    many(scans)
    again = _cut_off(_cut_off(Shard(asked(scans)), stand, 4), stand, 5)
    before = len(stand.prepared)
    assert counts(again()) == (6, 9, 0)
    assert len(stand.prepared) - before == 6


def test_overwrite_processes_each_scan_once_in_a_requeued_job(scans: Path, stand: Stand) -> None:
    many(scans)
    run(scans)
    request = asked(scans, options=dataclasses.replace(OPTIONS, overwrite=True))
    again = _cut_off(_cut_off(Shard(request), stand, 4), stand, 5)
    assert len(again.finished) == 9
    assert counts(again()) == (6, 9, 0)
    made = {path: path.stat().st_mtime_ns for path in (scans.parent / "out").rglob("*.json")}
    assert len(made) == 15


def test_a_requeued_part_without_progress_is_given_up(
    scans: Path, stand: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    shard = Shard(asked(scans))
    for attempt in range(1, cluster.BARREN):
        shard = _cut_off(shard, stand, 0)
        assert shard.barren == attempt
    with pytest.raises(SystemExit):
        _cut_off(shard, stand, 0)
    assert "given up" in capsys.readouterr().err
    assert _cut_off(shard, stand, 1).barren == 0


def test_a_shard_can_be_sent_before_and_while_it_runs(scans: Path, stand: Stand) -> None:
    import cloudpickle

    again = _cut_off(Shard(asked(scans)), stand, 1)
    sent = cloudpickle.loads(cloudpickle.dumps(again))
    assert sent.finished == again.finished
    assert sent.request == again.request
    assert counts(sent()) == (2, 1, 0)


# --- what is said to SLURM ------------------------------------------------------------------------------------------


@pytest.fixture
def no_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`sbatch` keeps what it is given; `srun` is only there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "sbatch").write_text(f'#!/bin/sh\ncat "$1" > "{tmp_path}/job.sh"\necho Submitted batch job 71\n')
    (folder / "srun").write_text("#!/bin/sh\n")
    for program in folder.iterdir():
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def test_slurm_gets_one_array_with_the_settings(scans: Path, stand: Stand, no_slurm: Path, tmp_path: Path) -> None:
    many(scans)
    setting = ["slurm.partition=gpu", "slurm.gpus_per_node=1", 'slurm.setup=["module load cuda"]', "slurm.mem=16G"]
    told, result = carried_out(asked(scans), cluster="slurm", jobs=3, assignments=setting)
    assert (told, result) == (b"71_0\n71_1\n71_2\n", None)
    lines = (tmp_path / "job.sh").read_text().splitlines()
    for line in ("--partition=gpu", "--gpus-per-node=1", "--mem=16G", "--array=0-2%3", "--time=240", "--job-name=uad"):
        assert f"#SBATCH {line}" in lines
    assert "module load cuda" in lines
    assert stand.prepared == []


def test_what_sbatch_refuses_is_one_line(scans: Path, stand: Stand, no_slurm: Path) -> None:
    (no_slurm / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition: gpuu' >&2\nexit 1\n")
    with pytest.raises(UsageError, match="invalid partition: gpuu"):
        carried_out(asked(scans), cluster="slurm", jobs=2, assignments=["slurm.partition=gpuu"])


@pytest.mark.parametrize(
    ("setting", "part"),
    [
        ("partition=gpu", "not a cluster setting"),
        ("slurm.partition", "not a cluster setting"),
        ("slum.partition=gpu", "not a cluster setting"),
        ("slurm.=gpu", "not a cluster setting"),
        ("slurm.nodes=2", "one task"),
        ("slurm.ntasks_per_node=2", "one task"),
        ("slurm.time=1-00:00:00", "minutes"),
        ("slurm.partitoin=gpu", "partitoin"),
    ],
)
def test_settings_that_cannot_be(scans: Path, stand: Stand, no_slurm: Path, setting: str, part: str) -> None:
    with pytest.raises(UsageError, match=part):
        carried_out(asked(scans), cluster="slurm", jobs=2, assignments=[setting])


def test_without_slurm_and_without_submitit(scans: Path, stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError, match="no SLURM here"):
        carried_out(asked(scans), cluster="slurm", jobs=1)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UsageError, match="submitit"):
        carried_out(asked(scans), cluster="debug", jobs=1)


@pytest.mark.parametrize("name", ["50%jobs", "two\nlines"])
def test_folders_that_slurm_would_misread(scans: Path, stand: Stand, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="jobs cannot run in"):
        carried_out(asked(scans, output=tmp_path / name), cluster="debug", jobs=1)


def test_an_output_folder_that_cannot_be_made(scans: Path, stand: Stand, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        carried_out(asked(scans, output=tmp_path / "file" / "out"), cluster="debug", jobs=1)
