"""The outcomes of a running batch: counts, messages, and the table of failures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from uadcli.batches import bids, one_scan, plan, tables
from uadcli.batches.plan import Job
from uadcli.batches.tables import Failure
from uadcli.console import Reporter
from uadcli.detection import together

if TYPE_CHECKING:
    from uadcli.batches.plan import Plan


class Tally:
    """The outcomes of a batch so far; `failed.tsv` is updated at each failure."""

    def __init__(self, todo: Plan, output: Path, reporter: Reporter) -> None:
        self.summary = output / tables.file_name("summary", todo.part)
        self.table = output / tables.file_name("failed", todo.part)
        self.reporter, self.total = reporter, len(todo.steps)
        self.failed, self.failed_now = tables.read_failed(self.table), set[str]()
        self.processed = set[str]()  # the maps of all that were noted
        self.done = self.skipped = 0
        for folder in sorted({output, *(job.files.map.parent for job in todo.jobs)}):
            if folder.is_dir():
                together.sweep_results(folder)
        if todo.bids_root:
            bids.describe(output)
        tables.write_failed(self.table, self.failed)

    def skip(self, jobs: list[Job]) -> None:
        """Count scans that are already done."""
        for job in jobs:
            content = plan.read_sidecar(job)
            verdict = one_scan.strict_failure(job, content) if content else None
            if verdict:
                self._fail(job, verdict)
            else:
                self.skipped += 1
                self._forgive(job)
        if self.skipped:
            self.reporter.info(f"{self.skipped} of {self.total} scans are already done")

    def note(self, job: Job, result: dict[str, Any] | Failure) -> None:
        """Count a processed scan and report its outcome."""
        self.processed.add(job.name)
        if isinstance(result, Failure):
            self._fail(job, result)
        elif verdict := one_scan.strict_failure(job, result):
            self._fail(job, verdict)
        else:
            self._succeed(job, result)

    def _succeed(self, job: Job, content: dict[str, Any]) -> None:
        self.done += 1
        self._forgive(job)
        for text in content["warnings"]:
            self.reporter.warn(f"{tables.escaped(str(job.scan))}: {text}")
        seconds, volume = sum(content["seconds"].values()), content["anomaly"]["volume_ml"]
        self.reporter.info(
            f"{tables.escaped(job.name)}  {seconds:.1f} s, {volume:.1f} ml, quality {content['qc']['verdict']}"
        )

    def _fail(self, job: Job, failure: Failure) -> None:
        self.failed_now.add(job.name)
        self.failed[job.name] = tables.failure_row(job, failure)
        tables.write_failed(self.table, self.failed)
        scan = str(job.scan)  # errors about options, and bugs, do not name it
        about = "" if scan in failure.message else f"{tables.escaped(scan)}: "
        self.reporter.error(about + failure.message)
        if failure.trace:
            self.reporter.debug(failure.trace)

    def _forgive(self, job: Job) -> None:
        if self.failed.pop(job.name, None):
            tables.write_failed(self.table, self.failed)
