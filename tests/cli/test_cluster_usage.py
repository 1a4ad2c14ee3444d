"""`uad batch --cluster` on the command line: what contradicts itself, codes and streams."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stand import Stand

from uadcli.cli.app import main


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--cluster", "slurm"], "needs --jobs"),
        (["--cluster", "slum", "--jobs", "2"], "Did you mean slurm?"),
        (["--cluster", "debug", "--jobs", "0"], "--jobs"),
        (["--jobs", "2"], "need --cluster"),
        (["--set", "slurm.partition=gpu"], "need --cluster"),
        (["--cluster", "debug", "--jobs", "2", "--shard", "1/2"], "--shard"),
        (["--cluster", "debug", "--jobs", "2", "--set", "partition=gpu"], "slurm.partition=gpu"),
        (["--status", "--collect"], "cannot be combined"),
        (["--status", "--dry-run"], "cannot be combined"),
    ],
)
def test_bad_usage_exits_with_2_before_any_work(
    scans: Path, stand: Stand, capsys: pytest.CaptureFixture[str], arguments: list[str], part: str
) -> None:
    out = scans.parent / "out"
    assert main(["batch", str(scans), "-o", str(out), *arguments]) == 2
    told, err = capsys.readouterr()
    assert told == ""
    assert part in err
    assert err.count("\n") == 1
    assert stand.prepared == []
    assert not out.exists()


def test_the_same_command_with_status_and_collect(
    scans: Path, stand: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    out = scans.parent / "out"
    (scans / "a.nii").write_text("bad")
    command = ["batch", str(scans), "-o", str(out), "--device", "cpu", "--threads", "1", "--workers", "0"]
    command += ["--cluster", "debug", "--jobs", "2"]
    assert main([*command, "--status"]) == 0
    assert json.loads(capsys.readouterr().out) == {"scans": 3, "done": 0, "failed": 0, "left": 3}
    assert not out.exists()
    assert main(command) == 8
    told, err = capsys.readouterr()
    assert told == f"{out / 'summary.tsv'}\n"
    assert "no brain was found" in err
    assert main([*command, "--status"]) == 0
    assert json.loads(capsys.readouterr().out) == {"scans": 3, "done": 2, "failed": 1, "left": 0}
    (out / "summary.tsv").unlink()
    assert main([*command, "--collect"]) == 8
    assert capsys.readouterr().out == f"{out / 'summary.tsv'}\n"
    assert (out / "summary.tsv").exists()
    (scans / "a.nii").write_text("mended")
    assert main([*command, "--retry-failed"]) == 0
    assert stand.prepared.count("b.nii") == 1
