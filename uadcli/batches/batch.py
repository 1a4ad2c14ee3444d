"""`uad batch`: detection in many scans, with the model loaded once and scans prepared in advance."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from uadcli import device
from uadcli.batches import bids, inputs, one_scan, patients, plan, tables, twins
from uadcli.batches.alone import alone
from uadcli.batches.bids import Selection
from uadcli.batches.one_scan import MakeReady, Ready
from uadcli.batches.options import BatchOptions, Request
from uadcli.batches.plan import Job, Plan
from uadcli.batches.tables import Failure
from uadcli.batches.tally import Tally
from uadcli.config import CONTRASTS
from uadcli.console import Reporter
from uadcli.data.contrast import FoundContrast, known_before
from uadcli.data.scan_json import describe
from uadcli.detection import niivue
from uadcli.detection.session import Session, in_arithmetic, with_healthy
from uadcli.errors import RESEARCH_USE, BatchError, OutputError, UsageError, WeightsError
from uadcli.files import file_sha256, refuse_closed
from uadcli.model import adapt, model
from uadcli.model.adapt import ScannerAdapter
from uadcli.model.healthy_folder import HealthyScans
from uadcli.workers import TERMINATED, Died, Workers

WORKERS = 4  # at most, unless the user asks for more
WORKER_MB = 2000.0  # peak of a process that strips a large scan with HD-BET
LONGEST_COMMAND = 500  # in a sidecar, as a shell may expand a pattern to a thousand paths


@dataclass(frozen=True)
class BatchResult:
    """Paths of the summary and of the table of failures; counts of scans done, skipped, failed and not started."""

    summary: Path
    failed_table: Path
    done: int
    skipped: int
    failed: int
    left: int


@dataclass(frozen=True)
class Scans:
    """The jobs of this part of a batch, the part, and whether the inputs include a BIDS dataset."""

    jobs: list[Job]
    part: tuple[int, int]
    bids_root: bool
    weights: str | None = None  # path of the requested weights


def refuse_failed(result: BatchResult | None) -> None:
    """Raises `BatchError` if a scan failed or is not done. None: the batch was only planned."""
    total = result.done + result.skipped + result.failed + result.left if result else 0
    if result and result.failed:
        rest = f", {result.left} not started" if result.left else ""
        hint = "See that file, fix the scans, then rerun with --retry-failed."
        raise BatchError(f"{result.failed} of {total} scans failed{rest}", path=result.failed_table, hint=hint)
    if result and result.left:
        hint = "Wait for the jobs to finish, or run the command again."
        raise BatchError(f"{result.left} of {total} scans are not done", path=result.summary, hint=hint)


def make_plan(request: Request, reporter: Reporter, download: bool = True) -> Plan:
    """Find the scans, name their results and decide which to process. Writes nothing but downloaded weights.

    Raises `UsageError` as `find_scans`, and `WeightsError` for missing weights.
    """
    scans = find_scans(request, reporter, download)
    chosen = scans.jobs
    if request.batch.retry_failed:
        failed = tables.read_all_failed(request.output)
        chosen = [job for job in scans.jobs if job.name in failed]
        reporter.info(f"{len(chosen)} of {len(scans.jobs)} scans failed before")
    with reporter.stage("plan"):
        steps = plan.decide(chosen, request.config, weights_of(scans.weights), progress=reporter.progress)
    return Plan(scans.jobs, steps, scans.part, scans.bids_root)


def find_scans(request: Request, reporter: Reporter, download: bool = True) -> Scans:
    """Find the scans of this part of a batch and name their results.

    Weights on the Hub that are not cached are downloaded, or without `download` raise `WeightsError`. Raises
    `UsageError` for inputs without scans, two scans with the same output file, a part that does not exist, or a score
    that cannot be combined with `adapt`; and `InputError` for too few healthy scans to adapt to.
    """
    from uadcli.weights import weights

    paths, output, options, more = request.paths, request.output, request.options, request.batch
    if len(options.command) > LONGEST_COMMAND:
        options = replace(options, command=options.command[:LONGEST_COMMAND] + " ...")
    part = plan.shard(more.shard, os.environ)
    options.rule.check_labels(False)
    if more.join:
        patients.check(options)
    if options.way is not None:
        adapt.check(options.score or "", options.way)
    options = with_healthy(options, reporter)
    refuse_closed(output / tables.file_name("summary", part))
    if output.exists() and not output.is_dir():
        raise OutputError("is not a folder", path=output, hint="Choose another one with -o.")
    bids.check_output(output)
    more = with_list_read(more)
    if not paths and not more.listed and not more.patients:
        raise UsageError("no input given", hint="Give scans, folders, patterns or BIDS datasets, or --list.")
    selection = Selection(tuple(more.participant_label), tuple(more.session), options.contrast)
    search = inputs.find(paths, more.listed, selection, output)
    if search.left_out:
        names = f"{len(search.left_out)} files named as masks or maps, or written by uad, are left out"
        reporter.info(f"{names}, the first is {search.left_out[0]}")
    if options.weights:  # found, and downloaded if necessary, once for all scans and processes
        found_weights = weights.find(options.weights, download=download, reporter=reporter)[0]
        options = replace(options, weights=str(found_weights))
    found, notes = twins.separated(search.found)
    for note in notes:
        reporter.info(note)
    if more.join:
        found = [*patients.grouped(found), *patients.of_table(more.patients)]
    jobs = [job for job in plan.jobs(found, output, options) if plan.in_shard(job, part)]
    return Scans(jobs, part, search.bids_root, options.weights)


def with_list_read(given: BatchOptions) -> BatchOptions:
    """The options with the content of the list in place of its name. Raises `InputError` and `UsageError`."""
    if given.list_file is None:
        return given
    if given.join:
        return replace(given, list_file=None, patients=[*given.patients, *patients.read_table(given.list_file)])
    return replace(given, list_file=None, listed=[*given.listed, *inputs.read_list(given.list_file, given.nul)])


def batch(request: Request, todo: Plan, reporter: Reporter) -> BatchResult:
    """Carry out a plan: write maps, sidecars and tables. A scan that fails does not stop the others.

    Worker processes are spawned, so a script that calls this needs `if __name__ == "__main__"`.
    Raises `DeviceError`, `WeightsError` or `OutputError` at the start if no scan could be processed, and as
    `ScannerAdapter.learnt`.
    """
    reporter.info(RESEARCH_USE)
    with alone(request.output, todo.part):
        return _carried_out(request, todo, reporter)


def _carried_out(request: Request, todo: Plan, reporter: Reporter) -> BatchResult:
    run = Tally(todo, request.output, reporter)
    to_run = [step.job for step in todo.steps if step.action == "run"]
    try:
        run.skip([step.job for step in todo.steps if step.action == "skip"])
        if to_run and not (run.failed_now and request.batch.fail_fast):
            _work(run, to_run, request, reporter)
    finally:
        not_done = _not_done(run, todo, request)
        tables.write_overview(run.summary, todo.jobs, run.failed, not_done, bool(request.options.html))
    failed = len(run.failed_now)
    left = run.total - run.done - run.skipped - failed
    return BatchResult(run.summary, run.table, run.done, run.skipped, failed, left)


def _not_done(run: Tally, todo: Plan, request: Request) -> set[str]:
    """The maps that are neither failed nor done with these settings, although there may be older files of them."""
    remaining = {step.job.name for step in todo.steps if step.action == "run"} - run.processed
    planned = {step.job.name for step in todo.steps if step.reason != plan.OVERWRITE}
    # what --retry-failed did not look at, or --overwrite did not reach, may be done already
    jobs = [replace(job, options=replace(job.options, overwrite=False)) for job in todo.jobs]
    jobs = [job for job in jobs if job.name not in planned | run.processed]
    if jobs:
        weights = weights_of(jobs[0].options.weights)
        older = plan.decide(jobs, request.config, weights, read_scans=False)
        remaining = remaining & planned | {step.job.name for step in older if step.action == "run"}
    return remaining - run.failed.keys()


def _work(run: Tally, jobs: list[Job], request: Request, reporter: Reporter) -> None:
    from uadcli.weights import weights

    options = request.options
    niivue.ensure(options.html, reporter)
    name, why = device.choose(options.device)
    load = functools.cache(functools.partial(model.load, device=name))
    config, threads = in_arithmetic(request.config), device.bound_threads(options.threads)
    session = Session(config, options, name, load=load, threads=threads)
    found = jobs[0].options.weights
    if found:  # fail early if the weights are damaged
        load(*weights.find(found))
    else:
        _download(jobs, reporter)
    _adapt(jobs, replace(session, reporter=reporter))
    count = min(len(jobs), worker_count(request.batch.workers))
    reporter.info(f"device {name} ({why}), {session.threads} threads; {count} worker processes, as many threads each")
    with reporter.stage("scans"):
        ready = Workers(MakeReady(session), count).run(jobs)
        try:
            for job, result in ready:
                run.note(job, _finish(job, result, session))
                del result  # free its memory while waiting for the next
                reporter.progress(run.done + len(run.failed_now), len(jobs))
                if run.failed_now and request.batch.fail_fast:
                    break
        finally:
            ready.close()  # type: ignore[attr-defined]


def _download(jobs: list[Job], reporter: Reporter) -> None:
    """Get the models of the scans that are only on the Hub, once and with progress, before the workers need them."""
    from uadcli.weights import weights

    if weights.on_hub_only():
        known = [known_before(job.scan, job.options.contrast, describe(job.scan)) for job in jobs]
        known += [known_before(scan, None, describe(scan)) for job in jobs for scan in job.options.further]
        known += [FoundContrast(column, "table") for job in jobs for column in job.options.columns]
        for contrast in sorted({one.contrast for one in known if one}):
            weights.find(None, contrast, reporter=reporter)


def _adapt(jobs: list[Job], session: Session) -> None:
    """Process the healthy scans of `--adapt` first, to fail early if one cannot be used.

    Raises `InputError` if there are too few in every contrast; otherwise scans of a contrast with too few fail.
    """
    healthy, way, reporter = jobs[0].options.adapt, jobs[0].options.way, session.reporter
    if way is None or not isinstance(healthy, HealthyScans):
        return
    known = [known_before(job.scan, job.options.contrast, describe(job.scan)) for job in jobs]
    wanted = {one.contrast for one in known if one} if all(known) else CONTRASTS
    counts, of_jobs = [], session.of_scan(jobs[0].options, reporter)
    with reporter.stage("adaptation"):
        for contrast in sorted(wanted):
            loaded = of_jobs.model(contrast)
            if contrast in loaded.card.contrasts:
                adapter = ScannerAdapter.of(loaded, healthy, contrast, session.config, reporter).by(way)
                counts.append(len(adapter.learnt()))
    if counts:
        adapt.refuse_few(max(counts), f"{' or '.join(sorted(wanted))} ", healthy.folder)


def _finish(job: Job, result: Ready | Failure | Died, session: Session) -> dict[str, Any] | Failure:
    if isinstance(result, Died):
        code = 5 if result.killed else TERMINATED if "SIGTERM" in result.in_words() else 1
        return Failure("preparation", code, f"{job.scan}: the worker process {result.in_words()}.")
    return result if isinstance(result, Failure) else one_scan.complete(job, result, session)


def worker_count(asked: int | None) -> int:
    """Number of processes that prepare scans: as given, otherwise 1 to 4 by cores and free memory; 0 for none."""
    if asked is not None:
        return asked
    return max(1, min(WORKERS, device.cores(), int(device.free_memory_mb() / WORKER_MB)))


def weights_of(name: str | None) -> plan.WeightsOf:
    """A function from contrast to the sha256 of its weights, each file read once; downloads nothing.

    Raises `WeightsError`.
    """
    from uadcli.weights import weights

    @functools.cache
    def digest(contrast: str | None) -> str:
        if name is None:
            return weights.default(contrast).sha256
        path, known = weights.find(name, contrast, download=False)
        return known or file_sha256(path, WeightsError)

    digest(None)  # fail early
    return digest
