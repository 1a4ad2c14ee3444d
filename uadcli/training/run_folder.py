"""The folder of a training run: its settings, and the scans with their part of the split and their faults.

`config.toml`, `data.tsv` (scans, split, faults), `cache/`, `thresholds.json`; `last.pt` and `best.pt` with their
tensors, `log.csv` and `report.html` of the reconstruction; `siamese/` and `encoder/` with those of the score and of the
encoder's pretraining; `start.safetensors`, the weights that a run started from; `reconstruction.safetensors`, the
weights of the reconstruction if only the score is trained, on labelled scans.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uadcli.config import CONTRASTS, TrainingConfig, read_toml, to_dict, to_toml
from uadcli.console import Reporter
from uadcli.data.dataset import Case, doubtful_mask, prepare_all
from uadcli.data.healthy import LESION_MARGIN_SLICES
from uadcli.data.scan_json import contrast_without_option
from uadcli.data.scans import Scans
from uadcli.errors import InputError, OutputError, UsageError
from uadcli.files import file_sha256, make_folder, refuse_closed, write_bytes, write_text
from uadcli.imaging.mask_file import read_labels
from uadcli.imaging.slices import GRID_AFFINE
from uadcli.imaging.volume import read_scan
from uadcli.running.lock import refused
from uadcli.running.temporary import PATTERN, sweep
from uadcli.settings.option import named
from uadcli.weights.checks import ADDED_TO_SCORE

if TYPE_CHECKING:
    from uadcli.weights.weights import Weights

# Settings that may change when a run is resumed: how long and how fast it learns, and where folders are.
FREE = named(TrainingConfig, "free")
LOCK, TABLE, CACHE = ".lock", "data.tsv", "cache"
START = "start.safetensors"  # the weights that the training starts from
BASE = "reconstruction.safetensors"  # those of the reconstruction of a run on labelled scans
LOGS = (".log", ".txt", ".out", ".err")  # of `--log-file`, of a shell or of a cluster
COLUMNS = ("subject", "part", "contrast", "scan", "sha256", "fault", "lesions", "lesions_sha256")


@dataclass(frozen=True)
class Beginning:
    """What a run begins with: the folder of its scans, the scans, the settings, and weights to start from, if any."""

    data: Path
    cases: list[Case]
    config: TrainingConfig
    base: Weights | None


def refuse_taken(run: Path) -> None:
    """Raises `OutputError` for a folder with a run, or with other files than logs and what an attempt at a run left.

    Writes nothing.
    """
    refuse_closed(run / "config.toml")
    if (run / "config.toml").exists():
        raise OutputError("a run already exists", path=run, hint=f"Resume it: uad train --resume {run}.")
    try:
        others = [path.name for path in sorted(run.iterdir()) if not _is_own(path)] if run.is_dir() else []
    except OSError as error:
        raise OutputError(f"cannot be read: {error.strerror}", path=run, hint="Choose another folder.") from error
    if others:
        what = f"holds other files ({others[0]}), and no run"
        raise OutputError(what, path=run, hint="Choose a new folder, or an empty one.")


def _is_own(path: Path) -> bool:
    """Whether a file is a log, or what `uad train` leaves in a folder if it ends before the run begins."""
    if path.name == LOCK or PATTERN.match(path.name) or path.suffix in LOGS:
        return True
    if path.name == CACHE and path.is_dir():
        return all(one.suffix == ".npz" or PATTERN.match(one.name) for one in path.iterdir())
    table = path.with_name(TABLE)
    if path.name not in (TABLE, START, BASE) or not table.is_file():
        return False
    with table.open("rb") as stream:  # written before the weights
        return stream.readline().startswith("\t".join(COLUMNS).encode())


@contextmanager
def held(run: Path) -> Iterator[None]:
    """Lock the run's folder, which is created if missing.

    Leftovers of killed processes are removed first. If there is no run at the end, only prepared scans stay.

    Raises `OutputError` if another process has locked it.
    """
    from filelock import FileLock, Timeout

    new = not run.exists()
    make_folder(run)
    lock = FileLock(run / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise OutputError("another process is training here", path=run, hint="Wait for it, or stop it.") from error
    except OSError as error:
        raise refused(error, run / LOCK, [run] if new else [], "Choose another folder.") from error
    try:
        for folder in (run, *(path for path in run.rglob("*") if path.is_dir())):
            sweep(folder)
        yield
    finally:
        lock.release()
        if not (run / "config.toml").exists():
            _remove_empty(run, new)


def _remove_empty(run: Path, new: bool) -> None:
    """Remove the lock of a run that did not begin, and what is empty: the cache, and the folder itself if it is new."""
    (run / LOCK).unlink(missing_ok=True)
    for folder in (run / CACHE, *([run] if new else [])):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def read_run(run: Path) -> TrainingConfig:
    """The settings of a run; what earlier versions did not know is as they did it. Raises `InputError` if none."""
    try:
        text = (run / "config.toml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("is not a run of uad train", path=run, hint="Start one: uad train DATA --out RUN.") from error
    config: TrainingConfig = read_toml(TrainingConfig, text, {"siamese": ADDED_TO_SCORE})
    return config


def change(run: Path, config: TrainingConfig) -> None:
    """Change settings of a run for good, except `max_steps`, which applies only once.

    Raises `UsageError` for a setting that is not in `FREE`.
    """
    known = read_run(run)
    before, after = (dict(_flat(to_dict(one))) for one in (known, config))
    changed = [name for name, value in after.items() if value != before[name]]
    if fixed := [name for name in changed if name not in FREE]:
        raise UsageError(
            f"a run keeps its {', '.join(fixed)}", hint=f"Start another one, or change only {', '.join(sorted(FREE))}."
        )
    if changed:
        write_text(run / "config.toml", to_toml(dataclasses.replace(config, max_steps=known.max_steps)))


def _flat(settings: Mapping[str, Any], table: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{table}{name}.")
        else:
            yield f"{table}{name}", value


def in_split(cases: list[Case], reporter: Reporter) -> list[Case]:
    """The cases to train on or to validate with; reports how many are in another part, such as `test`."""
    kept = [case for case in cases if case.part in ("train", "val")]
    if others := len(cases) - len(kept):
        reporter.info(f"{others} scans are in neither part of the split and are not used")
    return kept


def prepare_usable(cases: list[Case], scans: Scans, workers: int, reporter: Reporter) -> dict[Path, Case]:
    """Prepare cases into the run's cache; returns usable cases by path. Scans that fail are reported and left out."""
    with reporter.stage("preparation"):
        failed = prepare_all(cases, scans.cache, scans.config, workers, reporter.progress)
    for case, fault in failed.items():
        reporter.warn(f"{case.scan}: left out: {fault}")
    usable, good = {}, [case for case in cases if case not in failed]
    with reporter.stage("contrasts"):
        for done, case in enumerate(good):
            reporter.progress(done, len(good))
            try:
                contrast = case.contrast or contrast_without_option(case.scan, scans.prepared(case.scan)).contrast
            except InputError as error:
                hint = "put the contrast in its name, as in sub-01_T1w.nii.gz"
                reporter.warn(f"{case.scan}: left out: {error.what}; {hint}")
                continue
            usable[case.scan] = dataclasses.replace(case, contrast=contrast)
    return usable


def healthy_of(usable: dict[Path, Case], scans: Scans, reporter: Reporter) -> dict[Path, Case]:
    """The cases of `prepare_usable` with healthy slices: of patients, slices without lesion, with a margin.

    Reported and left out are cases whose mask is missing, is on another grid or leaves no slice, or next to which there
    is a file that may be a lesion mask but is not named as one. A scan with an empty mask counts as healthy.
    """
    kept = {}
    with reporter.stage("healthy slices"):
        for done, case in enumerate(usable.values()):
            reporter.progress(done, len(usable))
            found, fault = _healthy(case, scans)
            if fault:
                reporter.warn(f"{case.scan}: left out: {fault}")
            else:
                kept[case.scan] = found
    if patients := sum(case.lesions is not None for case in kept.values()):
        margin = f"{LESION_MARGIN_SLICES * GRID_AFFINE[2, 2]:g} mm"
        reporter.info(f"{patients} scans have a lesion mask: their slices {margin} from any lesion count as healthy")
    return kept


def _healthy(case: Case, scans: Scans) -> tuple[Case, str]:
    """A case, without its mask if that is empty; and why it cannot be used as healthy, else empty."""
    case, fault = by_its_mask(case)
    return case, fault or ("" if len(scans.healthy_slices(case)) else "it has no healthy slice")


def by_its_mask(case: Case) -> tuple[Case, str]:
    """The same as far as the lesion mask tells, without the prepared scan."""
    if doubtful := doubtful_mask(case):
        return case, f"{doubtful.name} may be its lesion mask; name it as in BIDS, or move it"
    if case.lesions is not None and not case.lesions.exists():  # of a synthetic volume, by its sidecar
        return case, f"it has lesions, and their mask {case.lesions.name} is missing"
    try:
        if case.lesions is not None:
            labels = read_labels(case.lesions, read_scan(case.scan), "the lesion mask", allow_empty=True)
            case = case if labels.voxels.any() else dataclasses.replace(case, lesions=None)
    except InputError as error:
        return case, error.what
    return case, ""


def write_rows(
    path: Path, cases: list[Case], usable: dict[Path, Case], more: Mapping[Path, Mapping[str, object]] | None = None
) -> None:
    """Write `data.tsv`: every case, with the fault of unusable ones; `more` has further cells by scan."""
    more = more or {}
    columns = dict.fromkeys([*COLUMNS, *(name for cells in more.values() for name in cells)])
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(columns), delimiter="\t")
    writer.writeheader()
    for case in cases:
        good = usable.get(case.scan)
        fault = "" if good else "not usable: see the messages of the run"
        contrast = good.contrast if good else case.contrast
        digest = file_sha256(case.scan)
        known = (good or case).lesions
        lesions = (known.resolve() if known else "", file_sha256(known) if known and known.exists() else "")
        cells = (case.subject, case.part, contrast, case.scan.resolve(), digest, fault, *lesions)
        writer.writerow({**dict(zip(COLUMNS, cells, strict=True)), **more.get(case.scan, {})})
    write_bytes(path, stream.getvalue().encode("utf-8", "surrogateescape"))  # names that are not UTF-8 keep their bytes


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of `data.tsv`. Raises `InputError` if there is none, or it is damaged."""
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path=path, hint="Start a new run.") from error
    except csv.Error as error:
        raise InputError(f"is damaged: {error}", path=path, hint="Start a new run.") from error
    for number, row in enumerate(rows, start=2):
        if fault := _row_fault(row):
            raise InputError(f"is damaged: line {number}: {fault}", path=path, hint="Start a new run.")
    return rows


def _row_fault(row: Mapping[Any, Any]) -> str:
    """What is wrong with a row of `data.tsv`, else empty: rows are complete, and cells become paths and numbers."""
    if None in row or None in row.values() or not {*COLUMNS[:-2]} <= set(row):  # no masks in old versions
        return "its number of cells"
    if "\0" in "".join(map(str, row.values())):
        return "a NUL character"
    if not row["fault"] and (row["contrast"] not in CONTRASTS or not row["scan"]):
        return "neither contrast and scan nor a fault"
    voxels = row.get("lesion_voxels", "0")
    return "" if row["fault"] or str(voxels).isdecimal() else f"{voxels!r} lesion voxels"


def refuse_changed(rows: Sequence[Mapping[str, str]], reporter: Reporter) -> None:
    """Raises `InputError` if a usable scan among the rows of `data.tsv`, or its lesion mask, is gone or has changed."""
    usable = [row for row in rows if not row["fault"]]
    with reporter.stage("comparing files"):
        for number, row in enumerate(usable):
            reporter.progress(number, len(usable))
            for path, digest in ((row["scan"], row["sha256"]), (row.get("lesions"), row.get("lesions_sha256"))):
                if path and digest and not (Path(path).exists() and file_sha256(Path(path)) == digest):
                    hint = "Restore it, or start a new run."
                    raise InputError("is gone or has changed since the run began", path=Path(path), hint=hint)


def usable_cases(run: Path) -> list[Case]:
    """The usable cases of a run, with the lesion masks of patients."""
    rows = [row for row in rows_of(run / TABLE) if not row["fault"]]
    return [Case(r["subject"], "", r["part"], r["contrast"], Path(r["scan"]), _path(r.get("lesions"))) for r in rows]


def _path(cell: str | None) -> Path | None:
    return Path(cell) if cell else None
