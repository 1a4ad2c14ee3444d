"""`uad batch` on the command line: its plan, its codes, its streams."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from stand import Stand, rows

from uadcli.cli.app import main


def ok(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[str, str]:
    assert main(["batch", *map(str, arguments), "--device", "cpu", "--threads", "1", "--workers", "0"]) == 0
    out, err = capsys.readouterr()
    return out, err


def test_stdout_is_the_path_of_the_summary(scans: Path, stand: Stand, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = ok(capsys, scans, "-o", scans.parent / "out")
    assert out == f"{scans.parent / 'out' / 'summary.tsv'}\n"
    assert "Research use only" in err
    assert "\x1b" not in err
    content = json.loads((scans.parent / "out" / "a_desc-anomaly_map.json").read_text())
    assert content["command"].startswith("uad batch ")
    _, err = ok(capsys, scans, "-o", scans.parent / "out")
    assert "3 of 3 scans are already done" in err


def test_some_failed_exits_with_8(scans: Path, stand: Stand, capsys: pytest.CaptureFixture[str]) -> None:
    (scans / "a.nii").write_text("bad")
    assert main(["batch", str(scans), "-o", str(scans.parent / "out"), "--device", "cpu", "--workers", "0"]) == 8
    out, err = capsys.readouterr()
    assert out == f"{scans.parent / 'out' / 'summary.tsv'}\n"
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "no brain was found" in lines[0]
    assert "1 of 3 scans failed" in lines[1]
    assert "failed.tsv" in lines[1]


def test_a_bug_in_one_scan_keeps_its_traceback_in_the_log(
    scans: Path, stand: Stand, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (scans / "a.nii").write_text("bug")
    log = tmp_path / "log.txt"
    assert main(["batch", str(scans), "-o", str(tmp_path / "out"), "--workers", "0", "--log-file", str(log)]) == 8
    assert "ZeroDivisionError: by nothing" in log.read_text()
    assert "Traceback" not in capsys.readouterr().err


def test_dry_run_prints_the_plan_and_writes_nothing(
    scans: Path, stand: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    target = scans.parent / "out"
    ok(capsys, scans / "a.nii", "-o", target)
    before = sorted(target.rglob("*"))
    out, _ = ok(capsys, scans, "-o", target, "--dry-run")
    plan = [json.loads(line) for line in out.splitlines()]
    assert [(Path(step["scan"]).name, step["action"]) for step in plan] == [
        ("a.nii", "skip"), ("b.nii", "run"), ("c.nii.gz", "run"),
    ]  # fmt: skip
    assert plan[1] == {
        "scan": str(scans / "deep er" / "b.nii"),
        "map": str(target / "deep er" / "b_desc-anomaly_map.nii.gz"),
        "action": "run",
        "reason": "no sidecar",
    }
    assert sorted(target.rglob("*")) == before
    assert stand.prepared == ["a.nii"]


def test_a_list_on_stdin_with_nul(
    scans: Path, stand: Stand, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [scans / "a.nii", scans / "gone\n.nii"]
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"\0".join(bytes(n) for n in names) + b"\0")))
    arguments = ["batch", "--list", "-", "-0", "-o", str(scans.parent / "out"), "--workers", "0"]
    assert main(arguments) == 8
    assert [row["status"] for row in rows(scans.parent / "out" / "summary.tsv")] == ["done", "failed"]
    assert "no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["-o", "out"], "no input given"),
        (["in"], "--output"),
        (["none", "-o", "out"], "no such file"),
        (["in/*.mgz", "-o", "out"], "contains no scan"),
        (["in", "-o", "out", "--shard", "3/2"], "no part 3 of 2"),
        (["in", "-o", "out", "--shard", "auto"], "SLURM"),
        (["in", "-o", "out", "--participant-label", "01"], "BIDS dataset"),
        (["in", "-o", "out", "--contrast", "T1"], "Did you mean T1w?"),
        (["in", "-o", "out", "--workers", "-1"], "--workers"),
        (["in", "in/deep er/twin/a.nii", "-o", "out"], "would give the same map as"),
        (["in", "-o", "out", "-v", "-q"], "--verbose and --quiet"),
    ],
)
def test_bad_usage_exits_with_2_before_any_work(
    scans: Path,
    stand: Stand,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    part: str,
) -> None:
    (scans / "deep er" / "twin").mkdir()
    (scans / "deep er" / "twin" / "a.nii").write_text("twin")
    monkeypatch.chdir(scans.parent)
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    assert main(["batch", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert part in err
    assert err.count("\n") == 1
    assert stand.prepared == []
    assert not Path("out").exists()


def test_missing_weights_and_devices_are_errors(scans: Path, stand: Stand, capsys: pytest.CaptureFixture[str]) -> None:
    target = scans.parent / "out"
    assert main(["batch", str(scans), "-o", str(target), "--weights", "none"]) == 4
    assert main(["batch", str(scans), "-o", str(target), "--device", "cuda:99"]) == 5
    assert stand.prepared == []


def test_healthy_scans_to_adapt_by_that_are_too_few(
    scans: Path, stand: Stand, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    healthy = tmp_path / "healthy"
    healthy.mkdir()
    (healthy / "a_T1w.nii").write_text("one")
    for folder, part in ((healthy, "needs 2 healthy scans"), (tmp_path / "none", "is not a folder")):
        assert main(["batch", str(scans), "-o", str(scans.parent / "out"), "--adapt", str(folder)]) == 3
        assert part in capsys.readouterr().err
    assert stand.prepared == []


def test_waiting_threads_yield_their_core_unless_configured_otherwise(
    scans: Path, stand: Stand, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    ok(capsys, scans, "-o", scans.parent / "out")
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    ok(capsys, scans, "-o", scans.parent / "out")
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def test_the_policy_is_set_before_torch_is_loaded(tmp_path: Path) -> None:
    """torch reads it once."""
    (tmp_path / "a_FLAIR.nii").write_text("no scan")
    code = (
        "import sys\n"
        "from uadcli import device\n"
        "before = device.yield_cores\n"
        "def told():\n"
        "    print('torch' in sys.modules)\n"
        "    before()\n"
        "device.yield_cores = told\n"
        "from uadcli.cli.app import main\n"
        "sys.exit(main(['batch', 'a_FLAIR.nii', '-o', 'out', '--device', 'cpu', '--workers', '0']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 8, done.stderr
    assert done.stdout.splitlines()[0] == "False"


def test_a_batch_that_is_done_never_loads_torch() -> None:
    """Half of the time that it takes to see that a thousand scans are done."""
    code = "import sys, uadcli.batches.batch, uadcli.batches.cluster; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
