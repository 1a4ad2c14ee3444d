"""The plan of a batch: a job for each scan, without colliding files, divided into parts, to run or to skip."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uadcli import __version__, device
from uadcli.batches.inputs import Found
from uadcli.config import DetectConfig, to_dict
from uadcli.data import names
from uadcli.data.names import Outputs
from uadcli.data.scan_json import describe
from uadcli.detection import record
from uadcli.detection.session import in_arithmetic
from uadcli.errors import InputError, UsageError, WeightsError
from uadcli.files import finite
from uadcli.imaging import stored
from uadcli.imaging.volume import stem
from uadcli.report import sidecar
from uadcli.running.stage import Progress, unseen
from uadcli.settings.option import deciding_settings

if TYPE_CHECKING:
    from uadcli.detection.options import DetectOptions

WeightsOf = Callable[[str | None], str]
OVERWRITE = "--overwrite"  # the reason of a step that may be done already


@dataclass(frozen=True)
class Job:
    """One scan with its files and options. `name`, the map's path below the output folder, is unique in a batch.

    The further contrasts of a patient are in the options.
    """

    name: str
    scan: Path
    files: Outputs
    options: DetectOptions


@dataclass(frozen=True)
class Step:
    """A job with the action, `run` or `skip`, and the reason."""

    job: Job
    action: str
    reason: str

    def as_json(self) -> str:
        """One line of the plan; the action of a scan that does not exist or cannot be reached is `missing`."""
        job, action, reason = self.job, self.action, self.reason
        if fault := _absence(job.scan):
            action, reason = "missing", fault
        place = {"scan": str(job.scan), "map": str(job.files.map), "action": action, "reason": reason}
        further = {"further": [str(path) for path in job.options.further]} if job.options.further else {}
        return json.dumps(place | further)


def _absence(scan: Path) -> str:
    """Why there is no scan at a path; empty if there is something."""
    try:
        scan.stat()
    except OSError as error:
        if not isinstance(error, FileNotFoundError):
            return f"cannot be read: {error.strerror}"
        return f"is a link to {os.readlink(scan)}, which does not exist" if scan.is_symlink() else "no such file"
    return ""


@dataclass(frozen=True)
class Plan:
    """All `jobs` of this part of the batch, the `steps` to take for them, the part, and whether the input is BIDS."""

    jobs: list[Job]
    steps: list[Step]
    part: tuple[int, int]
    bids_root: bool

    def as_json(self) -> str:
        """The steps as JSON lines."""
        return "".join(f"{step.as_json()}\n" for step in self.steps)


def jobs(found: Sequence[Found], output: Path, options: DetectOptions) -> list[Job]:
    """A job for each scan or patient; duplicates count once.

    Raises `UsageError` if two would write the same file, or a result would replace a scan.
    """
    made: dict[str, Job] = {}
    for one in found:
        name = (one.folder / f"{one.name or stem(one.scan)}_desc-anomaly_map.nii.gz").as_posix()
        files = names.name(one.scan, output / name, replace(options, only_map=False))
        # a BIDS name gives the contrast; --contrast only selects there
        contrast = None if one.in_bids else options.contrast
        own = replace(options, further=one.further, contrast=contrast, columns=one.columns)
        job = Job(name, one.scan, files, own)
        other = made.setdefault(name, job)
        if other is not job and other.scan.resolve() != job.scan.resolve():
            hint = "Give their folder, or a pattern in quotes, to keep them apart."
            raise UsageError(f"would give the same map as {other.scan}, {other.files.map}", path=job.scan, hint=hint)
        if other is not job and _patient(other) != _patient(job):
            what = f"{_scans_of(job)} would give the same map as {_scans_of(other)}, {other.files.map}"
            raise UsageError(what, hint="Give the first scan with the same further scans, or only once.")
    _refuse_overlaps(list(made.values()))
    return list(made.values())


def _patient(job: Job) -> tuple[list[Path], tuple[str, ...]]:
    """What makes two jobs with the same first scan the same: the further scans and the contrasts of all."""
    return [path.resolve() for path in job.options.further], job.options.columns


def _scans_of(job: Job) -> str:
    """All scans of a job, with their contrasts if a table gives these."""
    columns = job.options.columns
    scans = map(str, (job.scan, *job.options.further))
    return ", ".join([f"{scan} ({name})" for scan, name in zip(scans, columns, strict=True)] if columns else scans)


def _refuse_overlaps(made: Sequence[Job]) -> None:
    """Raises `UsageError` if output files of two scans collide, or would replace a file that is read."""
    hint = "Choose another folder with -o, or leave one of them out."
    read = {
        os.path.abspath(path): what for job in made for path, what in names.read_files(job.scan, job.options).items()
    }
    taken = dict[str, Job]()
    for job in made:
        for path in map(os.path.abspath, job.files.paths.values()):
            if path in read:
                raise UsageError(f"a result would replace {read[path]}, {path}", path=job.scan, hint=hint)
            other = taken.setdefault(path, job)
            if other is not job:
                what = f"the results of this scan and of {other.scan} would both be {path}"
                raise UsageError(what, path=job.scan, hint=hint)


def shard(text: str | None, environment: Mapping[str, str]) -> tuple[int, int]:
    """Index and number of parts: (1, 5) for `2/5`, (0, 1) for None; `auto` is the task of a SLURM job array.

    Raises `UsageError`.
    """
    if text is None:
        return 0, 1
    if text == "auto":
        try:
            first, step = int(environment.get("SLURM_ARRAY_TASK_MIN", "0")), environment.get("SLURM_ARRAY_TASK_STEP")
            index = (int(environment["SLURM_ARRAY_TASK_ID"]) - first) // int(step or 1)
            count = int(environment["SLURM_ARRAY_TASK_COUNT"])
        except (KeyError, ValueError) as error:
            hint = "Give --shard 1/4, or start it with sbatch --array."
            raise UsageError("--shard auto needs a SLURM job array", hint=hint) from error
    else:
        numbers = re.fullmatch(r"(\d+)/(\d+)", text)
        if not numbers:
            raise UsageError(f"--shard cannot be {text!r}", hint="Give for example 1/4, or auto.")
        index, count = int(numbers[1]) - 1, int(numbers[2])
    if not 0 <= index < count:
        raise UsageError(f"there is no part {index + 1} of {count}", hint="--shard counts from 1: 1/4 to 4/4.")
    return index, count


def in_shard(job: Job, part: tuple[int, int]) -> bool:
    """Whether a job belongs to a part: by a digest of its name, so it does not depend on other scans."""
    index, count = part
    return int.from_bytes(hashlib.sha256(os.fsencode(job.name)).digest()[:8], "big") % count == index


def decide(
    todo: Sequence[Job],
    config: DetectConfig,
    weights_of: WeightsOf,
    read_scans: bool = True,
    progress: Progress = unseen,
) -> list[Step]:
    """Decide which jobs to run and which to skip; `weights_of(contrast)` is the sha256 of the weights.

    Without `read_scans` only sidecars are read: a scan replaced since then goes unnoticed.
    """

    def step(job: Job) -> Step:
        reason = OVERWRITE if job.options.overwrite else to_do(job, config, weights_of, read_scans)
        return Step(job, "run" if reason else "skip", reason or "done")

    steps = list[Step]()
    with ThreadPoolExecutor(device.cores()) as threads:  # mostly computing digests, which releases the GIL
        for done in threads.map(step, todo):
            steps.append(done)
            progress(len(steps), len(todo))
    return steps


def to_do(job: Job, config: DetectConfig, weights_of: WeightsOf, read_scan: bool = True) -> str:
    """Why a job is not done: a faulty or different sidecar, or a missing file; empty if it is done."""
    content = read_sidecar(job)
    if content is None:
        return "no sidecar" if not os.path.exists(job.files.paths["sidecar"]) else "the sidecar is incomplete"
    used = to_dict(in_arithmetic(config))
    for what, value, wanted in (
        ("another version of uad", content["tool"]["version"], __version__),
        ("other settings", *(deciding_settings(one, DetectConfig) for one in (content["settings"], used))),
        ("other options", content["requested"], record.requested(job.options)),
        ("other files", content["outputs"], {key: path.name for key, path in job.files.paths.items()}),
    ):
        if json.dumps(value, sort_keys=True) != json.dumps(finite(wanted), sort_keys=True):
            return what
    if not all(os.path.exists(path) for path in job.files.paths.values()):
        return "a file is missing"
    if job.options.columns and job.options.columns[0] != content["contrast"]["value"]:
        return "another column of the table"
    try:
        if content["weights"]["sha256"] != weights_of(content["contrast"]["value"]):
            return "other weights"
        if read_scan and content["input"]["sha256"] != stored.sha256(job.scan):
            return "another scan"
        if read_scan and content["input"]["described"] != describe(job.scan).recorded:
            return "another JSON file"
        return _further_to_do(job, content["contrasts"] or [], weights_of, read_scan)
    except (InputError, WeightsError) as error:  # the run will report this scan and continue with the others
        return f"cannot be compared: {error}"


def _further_to_do(job: Job, recorded: Sequence[Mapping[str, Any]], weights_of: WeightsOf, read_scan: bool) -> str:
    """Why the further contrasts of a patient are not as recorded; empty if they are."""
    if len(recorded) != (1 + len(job.options.further) if job.options.further else 0):
        return "the sidecar is incomplete"
    for i, (path, one) in enumerate(zip(job.options.further, recorded[1:], strict=False), start=1):  # one scan: none
        used = one["weights"]
        if used and job.options.columns and one["contrast"] != job.options.columns[i]:
            return f"another column of the table for {path.name}"
        if used and used["sha256"] != weights_of(one["contrast"]):
            return "other weights"
        if read_scan and one["sha256"] != _digest(path):
            return f"another scan {path.name}"
        if read_scan and one["described"] != describe(path).recorded:
            return f"another JSON file of {path.name}"
    return ""


def _digest(path: Path) -> str | None:
    """The sha256 of a further scan; None if it cannot be read, as in the sidecar."""
    try:
        return stored.sha256(path)
    except InputError:
        return None


def read_sidecar(job: Job) -> dict[str, Any] | None:
    """The sidecar of a job, or None if it is missing, not JSON, or lacks a key of the current schema."""
    try:
        content = json.loads(job.files.paths["sidecar"].read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if sidecar.is_complete(content) else None
