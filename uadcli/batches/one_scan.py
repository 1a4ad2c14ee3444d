"""One scan of a batch in two halves: preparation in a worker process, the rest in the process with the model."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Any

from uadcli import device
from uadcli.batches.plan import Job
from uadcli.batches.tables import Failure
from uadcli.config import COSTLY
from uadcli.console import Reporter
from uadcli.data import names
from uadcli.detection import detect, together
from uadcli.detection.findings import ReadyScan
from uadcli.detection.options import DetectOptions
from uadcli.detection.session import Session
from uadcli.errors import UadError, about
from uadcli.report import sidecar
from uadcli.running import faults

EVERY_FILE = DetectOptions(space="both", save=("all", *COSTLY), html=True)


@dataclass(frozen=True)
class Ready:
    """A prepared scan, and what its reporter recorded."""

    scan: ReadyScan
    seconds: dict[str, float]
    warnings: list[str]


@dataclass(frozen=True)
class MakeReady:
    """The first half, as a call that can be pickled."""

    session: Session

    def __call__(self, job: Job) -> Ready | Failure:
        """Read and prepare the scan of a job; every error becomes a `Failure`.

        It uses as many threads as `detect`: the sums of HD-BET, and thus the mask, depend on them.
        """
        with Reporter(silent=True) as reporter:
            try:
                device.bound_threads(self.session.threads)
                names.refuse_long(job.files)
                with faults.naming(job.scan, job.files.map):
                    ready = detect.ready_scan(job.scan, self.session.of_scan(job.options, reporter))
            except Exception as error:  # a bug in one scan must not stop the others; it is reported in table and log
                return failure(error, reporter.failed_stage or "preparation")
            return Ready(ready, reporter.seconds, reporter.warnings)


def complete(job: Job, ready: Ready, session: Session) -> dict[str, Any] | Failure:
    """The second half: returns the content of the sidecar; every error becomes a `Failure` and leaves no file.

    The files are written under hidden names and then moved together, the sidecar last; files of a run with other
    options are removed.
    """
    reporter = Reporter(silent=True)
    reporter.seconds.update(ready.seconds)
    reporter.warnings.extend(ready.warnings)
    try:
        every = names.name(job.scan, job.files.map, EVERY_FILE).paths
        old = [path for key, path in every.items() if key not in job.files.paths]
        with together.made_together(job.files, wait=True) as hidden:
            with about(job.scan), faults.naming(job.scan, job.files.map):
                result = detect.finish(ready.scan, hidden, session.of_scan(job.options, reporter))
            with reporter.stage("write"):
                together.publish(hidden, job.files, old)
        return result.sidecar
    except Exception as error:  # as in `MakeReady`
        return failure(error, reporter.failed_stage or "write")


def failure(error: Exception, stage: str) -> Failure:
    """An error as a table row, with the message and exit code of `uad detect`."""
    error = faults.known(error) or error
    if isinstance(error, UadError):
        return Failure(stage, error.exit_code, str(error))
    summary = " ".join(f"{type(error).__name__}: {error}".split())
    return Failure(stage, 1, f"this is a bug, please report it ({summary})", "".join(traceback.format_exception(error)))


def strict_failure(job: Job, content: dict[str, Any]) -> Failure | None:
    """With `strict`, the failure of a finished scan whose quality control failed; otherwise None."""
    if job.options.strict:
        try:
            sidecar.refuse_failed(job.scan, content)
        except UadError as error:
            return failure(error, "quality control")
    return None
