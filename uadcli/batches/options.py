"""The options of a batch, and a request for one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from uadcli.config import DetectConfig
from uadcli.detection.options import DetectOptions
from uadcli.settings.bounds import Checked
from uadcli.settings.option import CLUSTER, INPUT, OUTPUT, REQUIRED, RUNNING, Option, option

CLUSTERS = ("slurm", "local", "debug")


@dataclass(frozen=True)
class BatchOptions(Checked):
    """Options of a batch in addition to those of each detection; `workers` None: chosen by cores and memory."""

    participant_label: Sequence[str] = option(
        (), Option("In a BIDS dataset, only this one (repeatable).", INPUT, metavar="LABEL")
    )
    session: Sequence[str] = option(
        (), Option("In a BIDS dataset, only this one (repeatable).", INPUT, metavar="LABEL")
    )
    list_file: str | None = option(
        None, Option("More inputs from a file or stdin.", INPUT, ("--list",), metavar="FILE|-")
    )
    nul: bool = option(False, Option("Paths in --list end in NUL instead of a newline.", INPUT, ("--null", "-0")))
    join: bool = option(
        False,
        Option("Join the contrasts of each subject and session; --list is a table with a column per contrast.", INPUT),
    )
    listed: Sequence[Path] = ()  # the content of a list that has been read
    patients: Sequence[Mapping[str, Path]] = ()  # the rows of a table that has been read, scans by contrast
    workers: int | None = option(
        None,
        Option("Processes that prepare scans; 0 for none.", RUNNING, metavar="N", shown="from cores and memory"),
        low=0,
    )
    shard: str | None = option(None, Option("Only this part; auto: the SLURM array task.", RUNNING, metavar="I/N|auto"))
    retry_failed: bool = option(False, Option("Only the scans in failed.tsv.", RUNNING))
    fail_fast: bool = option(False, Option("Stop at the first failure.", RUNNING))


@dataclass(frozen=True, kw_only=True)
class Request(Checked):
    """A request for a batch: inputs, the folder for all results, and the settings of each detection."""

    paths: Sequence[Path] = option(
        REQUIRED,
        Option("Scans, folders, quoted patterns, BIDS datasets.", metavar="IN...", shown=False, argument=True),
    )
    output: Path = option(
        REQUIRED, Option("Folder for all results.", OUTPUT, ("--output", "-o"), metavar="FOLDER", shown=False)
    )
    batch: BatchOptions
    options: DetectOptions
    config: DetectConfig


@dataclass(frozen=True)
class ClusterOptions(Checked):
    """Where to run a batch, in how many jobs, with which settings (`slurm.partition=gpu`), or what to report of it."""

    cluster: str | None = option(
        None,
        Option("Run as SLURM jobs, as local processes, or in this process (debug).", CLUSTER),
        words=CLUSTERS,
    )
    jobs: int | None = option(None, Option("Number of jobs.", CLUSTER, metavar="N"), low=1)
    assignments: Sequence[str] = option(
        (),
        Option("Job setting, such as slurm.partition=gpu (repeatable).", CLUSTER, ("--set",), metavar="A.B=C"),
    )
    status: bool = option(False, Option("Only print how many scans are done, as JSON.", CLUSTER))
    collect: bool = option(False, Option("Only write the combined tables of all parts.", CLUSTER))
    dry_run: bool = option(False, Option("Print the plan as JSON lines.", OUTPUT))
