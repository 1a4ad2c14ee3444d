"""A run that is stopped, gently or not, leaves whole files or none, and can be run again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import cohort
import nibabel as nib
import numpy as np
import phantoms
import pytest
from models import export

from uadcli.cli.app import main
from uadcli.imaging.slices import GRID_AFFINE

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("interrupt")]
DIES_AT_ITS_THIRD_FILE = """
import os, signal, sys
real, calls = os.replace, []
def replace(source, target):
    if ".uad-" not in str(target):  # on its way to its final place
        calls.append(target)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    real(source, target)
os.replace = replace
import cohort, pytest
from uadcli.cli.app import main
cohort.as_they_are(pytest.MonkeyPatch())
sys.exit(main(sys.argv[1:]))
"""


def arguments(scan: Path, out: Path) -> list[str]:
    quick = ["--strip", "none", "--weights", str(scan.with_name("tiny"))]
    return ["detect", str(scan), "-o", str(out), "--contrast", "FLAIR", *quick]


def listen_to_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    volume, folder = phantoms.brain(), tmp_path_factory.mktemp("scan")
    export(folder / "tiny", cohort.TINY)
    return Path(phantoms.save(folder / "a.nii.gz", volume.data, volume.affine))


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_no_file(sent: signal.Signals, code: int, scan: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "uadcli", *arguments(scan, tmp_path / "map.nii.gz")]
    # a shell that runs the tests in the background has its children ignore Ctrl-C; a user's does not
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=listen_to_ctrl_c
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:  # until the reconstruction is at work
            if "bias field" in line:
                break
        process.send_signal(sent)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert out == ""
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_a_killed_run_leaves_whole_files_and_runs_again(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort.as_they_are(monkeypatch)
    scan = Path(phantoms.save(scan.with_name("slab.nii.gz"), cohort.slab(0), GRID_AFFINE))
    out = tmp_path / "one" / "map.nii.gz"
    found = os.pathsep.join(path for path in sys.path if path)
    killed = subprocess.run(
        [sys.executable, "-c", DIES_AT_ITS_THIRD_FILE, *arguments(scan, out)],
        check=False,
        env=os.environ | {"PYTHONPATH": found},
    )
    assert killed.returncode == -signal.SIGKILL
    seen = [p for p in out.parent.iterdir() if not p.name.startswith(".")]
    assert len(seen) == 2
    for path in seen:
        if path.name.endswith(".nii.gz"):
            assert np.isfinite(np.asarray(nib.load(path).dataobj)).all()
    for place in (out, tmp_path / "two" / "map.nii.gz"):  # the first without --overwrite: the rest of a killed run goes
        assert main(arguments(scan, place)) == 0  # in this process, which spares the start
    assert sorted(p.name for p in out.parent.iterdir()) == sorted(p.name for p in (tmp_path / "two").iterdir())
    for name in ("map.nii.gz", "map_mask.nii.gz"):
        again, fresh = ((tmp_path / folder / name).read_bytes() for folder in ("one", "two"))
        assert again == fresh
