"""A limit of memory, as by `ulimit -v` or a cluster: `uad detect` ends complete, or with code 5 and what it needs."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import phantoms
import pytest

GIGABYTE = 10**9
COMPLETE = ["map.json", "map.nii.gz", "map_mask.nii.gz", "map_overlay.png"]


def limited(gigabytes: float, *arguments: object) -> subprocess.CompletedProcess[str]:
    """`uad` in a process that may have so much address space."""
    most = int(gigabytes * GIGABYTE)
    return subprocess.run(
        [sys.executable, "-m", "uadcli", *map(str, arguments)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (most, most)),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env=os.environ | {"OMP_NUM_THREADS": "2"},
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are those of Linux")
@pytest.mark.parametrize("gigabytes", [0.4, 1.2, 1.6, 2.0])
def test_a_limit_of_memory_is_an_error_of_its_own_or_no_limit(gigabytes: float, tmp_path: Path) -> None:
    brain = phantoms.brain((30, 20, 10))
    scan = phantoms.save(tmp_path / "sub-1_T1w.nii.gz", brain.data, brain.affine)
    out = tmp_path / "out"
    ended = limited(gigabytes, "detect", scan, "-o", out / "map.nii.gz", "--threads", "2", "--quiet")
    left = sorted(p.name for p in out.iterdir()) if out.exists() else []
    if ended.returncode == 0:
        assert left == COMPLETE
        assert json.loads((out / "map.json").read_text())["anomaly"]["components"]
        return
    assert ended.returncode == 5, ended.stderr
    assert left == []
    errors = ended.stderr.splitlines()
    assert len(errors) == 1, ended.stderr
    assert "out of memory" in errors[0]
    assert "needs up to 4096 MB" in errors[0]
