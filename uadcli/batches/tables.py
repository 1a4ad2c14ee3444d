"""The tables of a batch: a row for each scan, and the failures; `n/a` is unknown, as in BIDS."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from uadcli.batches.plan import Job, read_sidecar
from uadcli.errors import RESEARCH_USE, InputError
from uadcli.files import write_bytes, write_text
from uadcli.report.index import TITLE, index_page

RESEARCH = "research_use_only"  # the last column of every row
FAILED = ("map", "scan", "stage", "code", "message", RESEARCH)
SUMMARY = (
    *("map", "scan", "status", "contrast", "score", "threshold", "volume_ml", "components", "largest_ml", "qc"),
    *(
        "strength",
        "healthy_share",
        "healthy_p_value",
        "qc_reasons",
        "brain_volume_ml",
        "mask_overlap",
        "similarity",
        "warnings",
        "seconds",
        "input_sha256",
        RESEARCH,
    ),
)
NOT_THERE = "n/a"
ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}


@dataclass(frozen=True)
class Failure:
    """Why a scan failed: stage, exit code and message of `uad detect`; `trace` only for bugs."""

    stage: str
    code: int
    message: str
    trace: str = ""


def file_name(kind: str, part: tuple[int, int]) -> str:
    """`summary.tsv` or `failed.tsv`; each of several parts has its own name, so that they can run at once."""
    index, count = part
    return f"{kind}.tsv" if count == 1 else f"{kind}_shard-{index + 1}-of-{count}.tsv"


def write_failed(path: Path, rows: Mapping[str, Mapping[str, str]]) -> None:
    """Write `failed.tsv` atomically; rows as `failure_row` makes them. Raises `OutputError`."""
    _write(path, FAILED, list(rows.values()))


def failure_row(job: Job, failure: Failure) -> dict[str, str]:
    """The row of a scan that failed."""
    values = {"map": job.name, "scan": str(job.scan), **asdict(failure), RESEARCH: RESEARCH_USE}
    return {key: str(values[key]) for key in FAILED}


def read_failed(path: Path) -> dict[str, dict[str, str]]:
    """The rows of a `failed.tsv` by map; empty without the file. Missing cells are marked as such.

    Raises `InputError` if it is not such a table or cannot be read.
    """
    try:
        lines = path.read_bytes().decode("utf-8", "surrogateescape").split("\n")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path=path, hint="Remove it.") from error
    if lines[0].split("\t") != list(FAILED):
        raise InputError("is not a table of failed scans", path=path, hint="Remove it.")
    cells = [[_plain(cell) for cell in line.split("\t")] for line in lines[1:] if line]
    return {row[0]: _whole_row(row) for row in cells}


def _whole_row(cells: Sequence[str]) -> dict[str, str]:
    """A row as from `failure_row`, from the cells of a table that may have been edited or truncated."""
    row = dict(zip(FAILED, cells, strict=False))
    return dict.fromkeys(FAILED, NOT_THERE) | {RESEARCH: RESEARCH_USE} | row


def read_all_failed(folder: Path) -> dict[str, dict[str, str]]:
    """The rows of all tables of failures in a folder, of any number of parts; the newest row counts."""
    found = [*folder.glob("failed.tsv"), *folder.glob("failed_shard-*-of-*.tsv")]  # named as by `file_name`
    tables = sorted(found, key=lambda path: path.stat().st_mtime_ns)
    return {name: row for path in tables for name, row in read_failed(path).items()}


def write_overview(
    summary: Path, jobs: Sequence[Job], failed: Mapping[str, Mapping[str, str]], left: Container[str], html: bool
) -> None:
    """Write the summary and with `html` the index next to it; without, an index of earlier results does not stay.

    Raises `OutputError`.
    """
    write_summary(summary, jobs, failed, left)
    index = summary.with_suffix(".html")
    if html:
        write_index(index, jobs, failed, left)
    else:
        remove_index(index)


def write_summary(
    path: Path, jobs: Sequence[Job], failed: Mapping[str, Mapping[str, str]], left: Container[str] = ()
) -> None:
    """Write `summary.tsv` atomically, a row for each job, from the sidecars except those of the maps in `left`.

    The scans with the strongest findings come first (`_unlike_health`).
    Raises `OutputError`.
    """
    rows = [summary_row(job, failed.get(job.name), job.name in left) for job in jobs]
    _write(path, SUMMARY, sorted(rows, key=_unlike_health))


def _unlike_health(row: Mapping[str, Any]) -> tuple[bool, float]:
    """Sorts scans by their strength over their threshold, the highest first; scans without a result come last."""
    return not _has_result(row), -(relative_strength(row) or 0.0)


def _has_result(row: Mapping[str, Any]) -> bool:
    return "volume_ml" in row


def relative_strength(row: Mapping[str, Any]) -> float | None:
    """The strength of a scan over its threshold, above 1 with a finding; None without a result.

    It compares scans of different contrasts, of which only some have a p-value; among scans of one model and contrast
    it orders as that does.
    """
    strength, threshold = row.get("strength"), row.get("threshold")
    return None if strength is None or not threshold else strength / threshold


def summary_row(job: Job, failure: Mapping[str, str] | None, left: bool = False) -> dict[str, Any]:
    """One row of the summary; for a scan without a result only name and status, `failed` or `not done`."""
    row: dict[str, Any] = {"map": job.name, "scan": str(job.scan), RESEARCH: RESEARCH_USE}
    has_result = not left and (failure is None or failure["stage"] == "quality control")
    content = read_sidecar(job) if has_result else None
    if content is None:
        return row | {"status": "failed" if failure else "not done"}
    components, healthy = content["anomaly"]["components"], content["anomaly"].get("healthy_scans") or {}
    return row | {
        "status": "failed" if failure else "done",
        "contrast": _contrasts(content),
        "score": content["score"],
        "threshold": content["threshold"]["value"],
        "volume_ml": content["anomaly"]["volume_ml"],
        "components": len(components),
        "largest_ml": max((c["volume_ml"] for c in components), default=0.0),
        "qc": content["qc"]["verdict"],
        "strength": content["anomaly"].get("strength"),
        "healthy_share": healthy.get("share"),
        "healthy_p_value": healthy.get("p_value"),
        "qc_reasons": _reasons(content["qc"]["checks"]) or None,
        "brain_volume_ml": content["brain_volume_ml"],
        "mask_overlap": content["registration"]["mask_overlap"],
        "similarity": content["registration"]["similarity"],
        "warnings": len(content["warnings"]),
        "seconds": round(sum(content["seconds"].values()), 2),
        "input_sha256": content["input"]["sha256"],
    }


def _contrasts(content: Mapping[str, Any]) -> str:
    """The contrast of a scan, or those that are joined, such as `FLAIR+T1w`."""
    joined = [one["contrast"] for one in content["contrasts"] or () if one["weight"] is not None]
    return "+".join(joined) or str(content["contrast"]["value"])


def _reasons(checks: Sequence[Mapping[str, Any]]) -> str:
    """The checks that were not passed, with their texts."""
    return "; ".join(f"{c['name']}: {c.get('text', '')}" for c in checks if c["verdict"] in ("warn", "fail"))


def write_index(
    path: Path, jobs: Sequence[Job], failed: Mapping[str, Mapping[str, str]], left: Container[str] = ()
) -> None:
    """Write the page with links to the page of every scan, failed ones first, atomically; `left` as in `write_summary`.

    Raises `OutputError`.
    """
    rows = []
    for job in jobs:
        failure = failed.get(job.name)
        summary = summary_row(job, failure, job.name in left)
        kept = job.files.paths if _has_result(summary) else {}  # otherwise those of an earlier run, if any
        rows.append(
            {
                "name": job.name.removesuffix("_desc-anomaly_map.nii.gz"),
                # --strict also counts scans as failed that are unlike the training scans, or lack a contrast
                "verdict": "fail" if failure and _has_result(summary) else summary.get("qc"),
                "contrast": summary.get("contrast"),
                "anomaly_volume_ml": summary.get("volume_ml"),
                "components": summary.get("components"),
                "relative_strength": relative_strength(summary),
                "healthy_share": summary.get("healthy_share"),
                "error": failure["message"] if failure else "not done" if summary["status"] == "not done" else None,
                "links": {key: file.relative_to(path.parent).as_posix() for key, file in kept.items() if file.exists()},
            }
        )
    write_text(path, index_page(rows))


def remove_index(path: Path) -> None:
    """Remove the page that an earlier command wrote, whose figures and links are those of other results."""
    with suppress(OSError):
        if f"<title>{TITLE}</title>".encode() in path.read_bytes():
            path.unlink()


def _write(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    lines = ["\t".join(columns), *("\t".join(_cell(row.get(column)) for column in columns) for row in rows)]
    content = "".join(f"{line}\n" for line in lines)
    # names that are not UTF-8 keep their bytes
    write_bytes(path, content.encode("utf-8", "surrogateescape"))


def _cell(value: Any) -> str:
    text = "n/a" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
    return escaped(text)


def escaped(text: str) -> str:
    """A name on one line, with tabs, line breaks and backslashes as `\\t`, `\\n`, `\\r` and `\\\\`."""
    return "".join(ESCAPES.get(letter, letter) for letter in text)


def _plain(cell: str) -> str:
    letters = {escaped[1]: letter for letter, escaped in ESCAPES.items()}
    return re.sub(r"\\(.)", lambda found: letters.get(found[1], found[0]), cell, flags=re.DOTALL)
