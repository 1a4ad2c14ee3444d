"""Further contrasts of a patient: each prepared by itself, then registered to the first scan and checked against it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from uadcli.console import Reporter
from uadcli.data import same_patient, scan_json
from uadcli.data.contrast import known_before
from uadcli.detection.findings import Further, ReadyScan
from uadcli.detection.session import Session
from uadcli.errors import InputError, UsageError, WeightsError
from uadcli.imaging import stored

Prepare = Callable[[Path, Session], ReadyScan]
UNUSABLE = (InputError, UsageError, WeightsError)  # of a further scan: it is left out, with a warning


def with_further(path: Path, session: Session, ready_one: Prepare) -> ReadyScan:
    """The first scan, prepared by `ready_one`, with the further ones of the options; what cannot be used is left out.

    Raises as `ready_one` for the first scan, and `InputError` if a scan or a contrast is given twice, or a further scan
    does not show the same brain, or shows its mirror image.
    """
    options = session.options
    digests = _digests([path, *options.further])
    columns = options.columns or ("",) * (1 + len(options.further))
    _refuse_alike([path, *options.further], options.contrast, columns)
    first = ready_one(path, replace(session, options=replace(options.alone, labels=options.labels)))
    found: list[Further] = []
    for one, column in zip(options.further, columns[1:], strict=True):
        before = [first, *(f.ready for f in found if f.ready)]
        further = Further(one, digests.get(one), scan_json.describe(one), column=column)
        found.append(_further(further, before, session, ready_one))
    return replace(first, further=tuple(found))


def _digests(paths: Sequence[Path]) -> dict[Path, str]:
    """The sha256 of the files that can be read. Raises `InputError` if two are the same, or have the same content."""
    seen: dict[str, Path] = {}
    for path in paths:
        try:
            digest = stored.sha256(path)
        except InputError:  # reported when it is read
            continue
        other = seen.setdefault(digest, path)
        if other is not path:
            raise InputError(f"is the same scan as {other.name}", path=path, hint="Give each scan once.")
    return {path: digest for digest, path in seen.items()}


def _refuse_alike(paths: Sequence[Path], contrast: str | None, columns: Sequence[str]) -> None:
    """Raises `InputError` if names or JSON files say that two scans have the same contrast."""
    seen: dict[str, Path] = {}
    for i, (path, column) in enumerate(zip(paths, columns, strict=True)):
        known = known_before(path, None if i else contrast, scan_json.describe(path), column)
        if known:
            other = seen.setdefault(known.contrast, path)
            if other is not path:
                raise _alike(path, other, known.contrast)


def _alike(path: Path, other: Path, contrast: str) -> InputError:
    return InputError(f"is {contrast}, as is {other.name}", path=path, hint="Give one scan of each contrast.")


def _further(one: Further, before: Sequence[ReadyScan], session: Session, ready_one: Prepare) -> Further:
    """A further scan, prepared. Raises `InputError` if it must not be joined with the scans `before`."""
    path = one.path
    session.reporter.info(f"further scan: {path.name}")
    try:
        with named(path, session.reporter):
            options = replace(session.options.of_further, columns=(one.column,))
            ready = ready_one(path, replace(session, options=options))
            with session.reporter.stage("alignment"):
                alignment = same_patient.align(before[0].prepared, ready.prepared)
    except UNUSABLE as error:
        return left_out(one, error.what, session)
    for other in before:
        if _same_voxels(ready, other):
            what = f"has the same voxels as {other.scan.path.name}"
            raise InputError(what, path=path, hint="Give each scan once.")
        if ready.found.contrast == other.found.contrast:
            raise _alike(path, other.scan.path, ready.found.contrast)
    if fault := same_patient.fault(alignment, before[0].scan.path.name):
        raise InputError(fault.what, path=path, hint=fault.hint)
    return replace(one, ready=ready, alignment=alignment)


def _same_voxels(one: ReadyScan, other: ReadyScan) -> bool:
    return np.array_equal(one.scan.volume.data, other.scan.volume.data)


@contextmanager
def named(path: Path, reporter: Reporter) -> Iterator[None]:
    """Record the warnings that are given meanwhile with the name of the scan."""
    noted = len(reporter.warnings)
    try:
        yield
    finally:
        reporter.warnings[noted:] = [f"{path.name}: {text}" for text in reporter.warnings[noted:]]


def left_out(one: Further, reason: str, session: Session) -> Further:
    """The same scan without its evidence; the user is warned."""
    session.reporter.failed_stage = ""  # the detection goes on
    session.reporter.warn(f"{one.path.name} is left out: {reason}")
    return replace(one, left_out=reason)
