"""The progress of a batch, from its sidecars and tables."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

from uadcli.batches import batch, bids, one_scan, plan, tables
from uadcli.batches.batch import BatchResult
from uadcli.batches.options import Request
from uadcli.console import Reporter
from uadcli.files import make_folder


@dataclass(frozen=True)
class Status:
    """The number of scans in a batch, and how many are done, failed, or left."""

    scans: int
    done: int
    failed: int
    left: int

    def as_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self)) + "\n"


def status(request: Request, reporter: Reporter) -> Status:
    """The progress of a batch, from its sidecars and tables of failures."""
    found = _look(request, reporter)
    total, failed, left = len(found.scans.jobs), len(found.failed), len(found.left)
    return Status(total, total - failed - left, failed, left)


def collect(request: Request, reporter: Reporter) -> BatchResult:
    """Write the tables of the whole batch, with `html` also its index, as a single process would. Works at any time."""
    found = _look(request, reporter)
    output, jobs, part = request.output, found.scans.jobs, found.scans.part
    make_folder(output)
    if found.scans.bids_root:
        bids.describe(output)
    summary, failed = (output / tables.file_name(kind, part) for kind in ("summary", "failed"))
    names = {job.name for job in jobs}
    others = {name: row for name, row in tables.read_failed(failed).items() if name not in names}
    tables.write_failed(failed, others | found.failed)
    tables.write_overview(summary, jobs, found.failed, found.left, bool(request.options.html))
    left = len(found.left)
    return BatchResult(summary, failed, len(jobs) - len(found.failed) - left, 0, len(found.failed), left)


@dataclass(frozen=True)
class _Found:
    """The scans of a batch, the rows of failed ones, and the maps of those neither failed nor done."""

    scans: batch.Scans
    failed: dict[str, dict[str, str]]
    left: set[str]


def _look(request: Request, reporter: Reporter) -> _Found:
    """Done is what a resume would skip; the content of a scan is only compared if it failed before."""
    request = replace(request, options=replace(request.options, overwrite=False))
    scans = batch.find_scans(request, reporter, download=False)
    rows = tables.read_all_failed(request.output)
    weights_of = batch.weights_of(scans.weights)
    failed: dict[str, dict[str, str]] = {}
    left = set()
    for once_failed in (True, False):
        jobs = [job for job in scans.jobs if (job.name in rows) == once_failed]
        for step in plan.decide(jobs, request.config, weights_of, read_scans=once_failed):
            job = step.job
            if step.action == "run" and once_failed:
                failed[job.name] = rows[job.name]
            elif step.action == "run":
                left.add(job.name)
            elif job.options.strict and (verdict := one_scan.strict_failure(job, plan.read_sidecar(job) or {})):
                failed[job.name] = tables.failure_row(job, verdict)
    return _Found(scans, failed, left)
