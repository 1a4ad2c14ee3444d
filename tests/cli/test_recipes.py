"""The documentation's recipes, each executed: with a stand-in that notes what it is told, two with the real program."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cohort
import phantoms
import pytest
from models import export
from stand import rows

ROOT = Path(__file__).parents[2]
NAMES = ("plain_T1w", "two words", "Schädel", "two\nlines", "it's $(odd)")
STAND_IN = f"""#!{sys.executable}
import json, os, sys
from pathlib import Path
listed = sys.stdin.buffer.read().split(b"\\0")[:-1] if "-0" in sys.argv else []
task = os.environ.get("SLURM_ARRAY_TASK_ID")
told = dict(arguments=sys.argv[1:], listed=[os.fsdecode(path) for path in listed], task=task)
with open(os.environ["TOLD"], "a") as stream:
    stream.write(json.dumps(told) + "\\n")
if sys.argv[1] == "detect" and not Path(sys.argv[2]).is_file():
    sys.exit(3)
"""
# what the programs of other packages do with these commands, and nothing else
PARALLEL = f"""#!{sys.executable}
import subprocess, sys
words, sources = sys.argv[1:], None
if ":::" in words:
    sources, words = words[words.index(":::") + 1:], words[:words.index(":::")]
if words[0] == "-0":
    sources, words = sys.stdin.read().split("\\0")[:-1], words[1:]
assert words[0] == "-j"
for source in sources:
    name = source.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    subprocess.run([word.replace("{{}}", source).replace("{{/.}}", name) for word in words[2:]], check=True)
"""
SBATCH = """#!/bin/bash
[[ $1 =~ ^--array=0-([0-9]+)$ ]] || exit 2
for task in $(seq 0 "${BASH_REMATCH[1]}"); do
    SLURM_ARRAY_TASK_ID=$task SLURM_ARRAY_TASK_COUNT=$((BASH_REMATCH[1] + 1)) SLURM_CPUS_PER_TASK=4 bash "${@:2}"
done
"""
SRUN = '#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"\n'


def recipes() -> list[str]:
    """The blocks marked `sh` of the section."""
    section = re.split(r"^## ", (ROOT / "packaging" / "docs" / "batch.md").read_text(), flags=re.MULTILINE)
    (text,) = [part for part in section if part.startswith("Recipes\n")]
    return re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def recipe(*words: str) -> str:
    """The one recipe that holds all these words."""
    (found,) = [text for text in recipes() if all(word in text for word in words)]
    return found


LOOP, FIND, PARALLEL_SCANS = ("for scan in",), ("uad batch --list",), ("parallel -0",)
PARALLEL_PARTS, ARRAY, SUBMITIT = ("--shard {}/2",), ("sbatch",), ("--cluster slurm",)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with scans of all kinds of names, the SLURM script, and programs of ours in PATH."""
    for name in NAMES:
        (tmp_path / "scans").mkdir(exist_ok=True)
        (tmp_path / "scans" / f"{name}.nii.gz").touch()
    shutil.copytree(ROOT / "packaging" / "slurm", tmp_path / "packaging" / "slurm")
    (tmp_path / "bin").mkdir()
    for program, text in (("uad", STAND_IN), ("sbatch", SBATCH), ("srun", SRUN), ("parallel", PARALLEL)):
        if program != "parallel" or not shutil.which("parallel"):
            (tmp_path / "bin" / program).write_text(text)
            (tmp_path / "bin" / program).chmod(0o755)
    return tmp_path


def execute(place: Path, text: str) -> subprocess.CompletedProcess[str]:
    variables = os.environ | {"PATH": f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}", "TOLD": str(place / "told")}
    variables |= {"HOME": str(place), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=place,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def told(place: Path, text: str) -> list[dict[str, Any]]:
    """What `uad` is told by a recipe that ends well."""
    done = execute(place, text)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in (place / "told").read_text().splitlines()]


def test_every_recipe_is_tested_below() -> None:
    tested = {recipe(*words) for words in (LOOP, FIND, PARALLEL_SCANS, PARALLEL_PARTS, ARRAY, SUBMITIT)}
    assert tested == set(recipes())


@pytest.mark.parametrize("words", [LOOP, PARALLEL_SCANS], ids=["loop", "parallel"])
def test_detect_gets_each_scan_once_and_a_map_of_its_name(place: Path, words: tuple[str, ...]) -> None:
    calls = [call["arguments"] for call in told(place, recipe(*words))]
    assert sorted(call[:4] for call in calls) == sorted(
        ["detect", f"scans/{name}.nii.gz", "--output", f"maps/{name}.nii.gz"] for name in NAMES
    )


def test_a_failure_in_the_loop_is_told_and_stops_nothing(place: Path) -> None:
    (place / "scans" / "it's $(odd).nii.gz").unlink()
    (place / "scans" / "it's $(odd).nii.gz").symlink_to("nowhere")  # which `uad` does not find
    done = execute(place, recipe(*LOOP))
    assert done.returncode == 0
    assert done.stderr == "failed: scans/it's $(odd).nii.gz\n"
    assert len((place / "told").read_text().splitlines()) == len(NAMES)


def test_find_hands_over_every_name(place: Path) -> None:
    (call,) = told(place, recipe(*FIND))
    assert sorted(call["listed"]) == sorted(f"scans/{name}.nii.gz" for name in NAMES)
    assert call["arguments"] == ["batch", "--list", "-", "-0", "--output", "maps"]


def test_parallel_does_all_parts_and_then_collects(place: Path) -> None:
    *parts, last = [call["arguments"] for call in told(place, recipe(*PARALLEL_PARTS))]
    same = ["batch", "scans", "--output", "maps", "--threads", "2"]
    assert sorted(parts) == [[*same, "--shard", "1/2"], [*same, "--shard", "2/2"]]
    assert last == [*same, "--collect"]


def test_the_array_does_all_parts_and_its_tables_are_collected(place: Path) -> None:
    *tasks, last = told(place, recipe(*ARRAY))
    assert [call["task"] for call in tasks] == [str(task) for task in range(8)]
    assert {" ".join(call["arguments"]) for call in tasks} == {
        "batch scans --output maps --shard auto --threads 4 --workers 1 --html"
    }
    assert last["arguments"] == ["batch", "scans", "--output", "maps", "--html", "--collect"]


def test_submitit_is_told_of_the_same_batch_three_times(place: Path) -> None:
    submit, status, collect = [call["arguments"] for call in told(place, recipe(*SUBMITIT))]
    assert submit[4:8] == ["--cluster", "slurm", "--jobs", "8"]
    assert status == [*submit[:4], "--status"]
    assert collect == [*submit[:4], "--collect"]


@pytest.mark.slow
@pytest.mark.parametrize("words", [LOOP, FIND], ids=["loop", "find"])
def test_with_the_real_program(place: Path, words: tuple[str, ...]) -> None:
    shutil.rmtree(place / "scans")
    (place / "scans").mkdir()
    brain = phantoms.brain((-32.0, -10.0, 28.0))
    phantoms.save(place / "scans" / "two\nlines ü_T1w.nii.gz", brain.data, brain.affine)
    (place / "uad.toml").write_text('[preprocess]\nstrip = "none"\n[reconstruction]\nlevels = [500]\n')
    export(place / "tiny", cohort.TINY, contrast="T1w")
    fast = f"--weights '{place / 'tiny'}' --config '{place / 'uad.toml'}' --device cpu --threads 1"
    (place / "bin" / "uad").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m uadcli "$@" {fast}\n')
    done = execute(place, recipe(*words))
    assert done.returncode == 0, done.stderr
    assert "failed" not in done.stderr
    if words == LOOP:
        assert (place / "maps" / "two\nlines ü_T1w.nii.gz").stat().st_size > 0
        assert (place / "maps" / "two\nlines ü_T1w_mask.nii.gz").exists()
        return
    assert (place / "maps" / "two\nlines ü_T1w_desc-anomaly_map.nii.gz").stat().st_size > 0
    (row,) = rows(place / "maps" / "summary.tsv")
    assert row["status"] == "done"
    assert row["scan"] == "scans/two\\nlines ü_T1w.nii.gz"
