"""`uad batch --cluster`: the parts of a batch as jobs of a cluster.

Each job is one part, `--shard i/n`. A job that is pre-empted or reaches its time limit is queued again and repeats its
part, skipping scans with a complete sidecar, as in every resume. (The only importer of submitit.)
"""

from __future__ import annotations

import os
import signal
import time
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uadcli.batches import batch, plan, status
from uadcli.batches.batch import BatchResult
from uadcli.batches.options import CLUSTERS, ClusterOptions, Request
from uadcli.batches.plan import Job, Step
from uadcli.console import Reporter
from uadcli.errors import OutputError, UadError, UsageError
from uadcli.files import make_folder

if TYPE_CHECKING:
    import submitit

FOLDER = ".uad-jobs"  # in the output folder: submitted jobs and their logs
MINUTES = {
    "slurm": 240,
    "local": 7 * 24 * 60,
}  # time limits, unless set; a part that needs more is queued again
RESTARTS = 1000  # submitit's limit, which also counts attempts with progress; ours is BARREN
BARREN = 5  # attempts in a row without a finished scan, after which a part is given up
PAUSE_SECONDS = 3600.0  # at most, between SLURM's first signal and the next
ONE_TASK = ("nodes", "ntasks_per_node", "tasks_per_node")  # more would process the same part at the same time


def carry_out(request: Request, chosen: ClusterOptions, reporter: Reporter) -> tuple[bytes, BatchResult | None]:
    """Run `uad batch` here or as jobs; returns what to print, and the result if it is available.

    Prints the plan of a dry run, the status, the job numbers of a cluster, or the path of the summary.
    """
    check(chosen, request)
    # standard input can be read only once, and is gone when a job begins
    request = replace(request, batch=batch.with_list_read(request.batch))
    if chosen.status:
        return status.status(request, reporter).as_json().encode(), None
    if chosen.dry_run:
        return batch.make_plan(request, reporter, download=False).as_json().encode(), None
    if chosen.cluster and not chosen.collect:
        numbers = submit(request, chosen, reporter)
        if chosen.cluster == "slurm":
            return "".join(f"{number}\n" for number in numbers).encode(), None
    here = not (chosen.cluster or chosen.collect)
    result = (
        batch.batch(request, batch.make_plan(request, reporter), reporter)
        if here
        else status.collect(request, reporter)
    )
    return os.fsencode(result.summary) + b"\n", result


def check(chosen: ClusterOptions, request: Request) -> None:
    """Raises `UsageError` for options that contradict one another."""
    several = [name.replace("_", "-") for name in ("status", "collect", "dry_run") if getattr(chosen, name)]
    if len(several) > 1:
        raise UsageError(f"--{several[0]} and --{several[1]} cannot be combined", hint="Leave one of them out.")
    if chosen.cluster and chosen.jobs is None:
        raise UsageError("--cluster needs --jobs", hint="Give the number of jobs, for example --jobs 8.")
    if not chosen.cluster and (chosen.jobs is not None or chosen.assignments):
        raise UsageError("--jobs and --set need --cluster", hint=f"Choose from {', '.join(CLUSTERS)}.")
    if chosen.cluster and request.batch.shard and not several:
        raise UsageError("--cluster and --shard cannot be combined", hint="Each job takes its own part.")
    settings(chosen)


def settings(chosen: ClusterOptions) -> dict[str, Any]:
    """The settings for submitit from `--set slurm.partition=gpu`: the dot becomes `_`; values are TOML or bare words.

    Raises `UsageError` for an invalid assignment, another cluster, or more than one task per job.
    """
    made: dict[str, Any] = {}
    for text in chosen.assignments:
        name, equals, raw = (part.strip() for part in text.partition("="))
        place, dot, key = name.partition(".")
        if not equals or not dot or not key or place not in CLUSTERS:
            raise UsageError(f"--set {text!r} is not a cluster setting", hint="Write it as slurm.partition=gpu.")
        if key in ONE_TASK:
            raise UsageError(f"{name} cannot be set: each job is one task", hint="Give --jobs.")
        made[f"{place}_{key}"] = _value(raw)
    if not isinstance(made.get("slurm_time", 0), int):
        raise UsageError("slurm.time is a number of minutes", hint="Write it as slurm.time=240.")
    return made


def _value(raw: str) -> Any:
    try:
        return tomllib.loads(f"x = {raw}")["x"]
    except (ValueError, RecursionError):
        return raw


def submit(request: Request, chosen: ClusterOptions, reporter: Reporter) -> list[str]:
    """Submit the remaining scans as jobs, and return the job numbers, `array_task` for SLURM.

    A part with nothing to do gets no job. With `slurm` it returns immediately; `local` (processes of this machine) and
    `debug` (this process) are awaited, and failures of jobs become warnings. Raises `UsageError` for invalid settings
    or a missing cluster, and as `batch.make_plan`.
    """
    todo = batch.make_plan(request, reporter)
    parts = [(index, chosen.jobs or 1) for index in range(chosen.jobs or 1)]
    waiting = [step.job for step in todo.steps if step.action == "run"]
    parts = [part for part in parts if any(plan.in_shard(job, part) for job in waiting)]
    reporter.info(f"{len(waiting)} of {len(todo.steps)} scans to process, in {len(parts)} jobs")
    if not parts:
        return []
    make_folder(request.output)
    executor = _executor(request.output / FOLDER, chosen)
    made = [Shard(_part_of(request, part), reporter.verbosity) for part in parts]
    jobs = _submitted(executor, made)
    if chosen.cluster != "slurm":
        _wait(jobs, chosen, reporter)
    return [job.job_id for job in jobs]


def _part_of(request: Request, part: tuple[int, int]) -> Request:
    index, count = part
    return replace(request, batch=replace(request.batch, shard=f"{index + 1}/{count}"))


def _executor(folder: Path, chosen: ClusterOptions) -> submitit.AutoExecutor:
    """submitit's executor with all settings. Raises `UsageError`."""
    try:
        import submitit
    except ImportError as error:
        hint = "Install it: pip install 'uadcli[cluster]'."
        raise UsageError("--cluster needs the package submitit", hint=hint) from error
    name = str(chosen.cluster)
    place = str(folder.absolute())
    if "%" in place or "\n" in place:  # both are special in the names of SLURM's logs
        raise UsageError("jobs cannot run in a folder with % or a line break in its name", path=folder)
    limits = {} if name == "debug" else {f"{name}_max_num_timeout": RESTARTS}
    try:
        executor = submitit.AutoExecutor(folder=place, cluster=name, **limits)
        executor.update_parameters(**_defaults(name) | settings(chosen))
    except RuntimeError as error:
        raise UsageError(
            f"there is no SLURM here ({error})", hint="Submit from a machine that has sbatch and srun."
        ) from error
    except (NameError, ValueError, TypeError, AssertionError) as error:
        raise UsageError(f"--set: {error}") from error
    except OSError as error:
        raise OutputError(f"cannot be created: {error.strerror}", path=folder, hint="Choose another folder.") from error
    return executor


def _defaults(name: str) -> dict[str, Any]:
    return {"name": "uad"} | ({"timeout_min": MINUTES[name]} if name in MINUTES else {})


def _submitted(executor: submitit.AutoExecutor, made: Sequence[Shard]) -> list[submitit.Job[BatchResult]]:
    """Submit all together, as an array on SLURM. Raises `UsageError` with the message of sbatch."""
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    try:
        return executor.submit_array(made)
    except (FailedJobError, FailedSubmissionError) as error:
        raise UsageError(f"the jobs were refused: {error}", hint="Check --set and `sinfo`.") from error


def _wait(jobs: Sequence[submitit.Job[BatchResult]], chosen: ClusterOptions, reporter: Reporter) -> None:
    """Wait for jobs on this machine, and cancel them if this process is ended."""
    try:
        for job in jobs:
            error = job.exception()
            if isinstance(error, UadError):  # with `debug`; other executors only have its text, in the log
                reporter.warn(str(error))
            elif error and chosen.cluster == "debug":
                raise error
            elif error:
                reporter.warn(f"job {job.job_id} failed: see {job.paths.stderr}")
    except BaseException:
        for job in jobs:
            job.cancel(check=False)
        raise


class Shard:
    """One part of a batch as a callable job; its `checkpoint` allows queueing it again.

    `finished` are maps of previous attempts, which are not repeated even with `--overwrite`; `barren` is the number of
    attempts in a row without a finished scan.
    """

    def __init__(
        self, request: Request, verbosity: int = 0, finished: frozenset[str] = frozenset(), barren: int = 0
    ) -> None:
        self.request, self.verbosity, self.finished, self.barren = request, verbosity, finished, barren
        self._before: list[tuple[Job, int]] = []

    def __call__(self) -> BatchResult:
        """Process the part. Raises as `uad batch --shard`, and `BatchError` if a scan failed."""
        _mind_signals()
        with Reporter(verbosity=self.verbosity) as reporter:
            todo = batch.make_plan(self.request, reporter)
            steps = [Step(s.job, "skip", "done") if s.job.name in self.finished else s for s in todo.steps]
            self._before = [(step.job, _stamp(step.job)) for step in steps if step.action == "run"]
            result = batch.batch(self.request, replace(todo, steps=steps), reporter)
            batch.refuse_failed(result)
        return result

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """The same part for submitit to queue again. Exits if too many attempts in a row finished no scan."""
        from submitit.helpers import DelayedSubmission

        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is already ending
        made = {job.name for job, stamp in self._before if _stamp(job) != stamp}
        barren = 0 if made else self.barren + 1
        if barren >= BARREN:
            Reporter().error(f"given up: {barren} attempts in a row finished no scan; give the jobs more time")
            raise SystemExit(UadError.exit_code)
        return DelayedSubmission(Shard(self.request, self.verbosity, self.finished | made, barren))


def _stamp(job: Job) -> int:
    """The time when the sidecar, the last file of a scan, was written; 0 without one."""
    try:
        return job.files.paths["sidecar"].stat().st_mtime_ns
    except OSError:
        return 0


def _mind_signals() -> None:
    """Install the handlers for SIGTERM in a job; with `debug` the command's own handler stays."""
    place = os.environ.get("SUBMITIT_EXECUTOR")
    if place in ("slurm", "local"):
        signal.signal(signal.SIGTERM, _pause if place == "slurm" else _leave)


def _pause(*_: object) -> None:
    """SLURM is taking the node away: wait for the signal to queue the job again, or for the end.

    Worker processes got SIGTERM as well; if work continued, their scans would count as failed.
    """
    time.sleep(PAUSE_SECONDS)
    _leave()


def _leave(*_: object) -> None:
    raise SystemExit(128 + signal.SIGTERM)
