"""`--adapt`: a model made at home with a scanner by a few healthy scans of it, which are rebuilt once and remembered.

Of each healthy scan the cache keeps its residual alone, smoothed by 8 mm (see `scanner_drift`): no image of anybody.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uadcli import __version__
from uadcli.config import DetectConfig
from uadcli.console import Reporter
from uadcli.data import dataset, prepare
from uadcli.data.contrast import from_name
from uadcli.errors import InputError, UsageError
from uadcli.files import write_with
from uadcli.imaging import stored
from uadcli.imaging.slices import GRID_SHAPE
from uadcli.imaging.volume import read_scan
from uadcli.model import scores
from uadcli.model.scores import MAHALANOBIS
from uadcli.scoring import quality, scanner_drift
from uadcli.scoring.healthy_reference import PREFIX
from uadcli.scoring.scanner_drift import Residual

if TYPE_CHECKING:
    from uadcli.weights.weights import Weights

FEWEST = 2  # healthy scans: the drift of one would hold what is its own
FOLDER = "adapt"  # of the cache
MEND = "Leave it out of the folder, or mend it."


@dataclass(frozen=True)
class HealthyScans:
    """The healthy scans of one scanner in a `folder`: their `files` by digest.

    Of those whose names do not tell it `contrast` does, if it is given; else the image does. `geometry` is as in
    `read_scan`.
    """

    folder: Path
    files: dict[str, Path]
    contrast: str | None = None
    geometry: str = "auto"

    @property
    def sha256(self) -> str:
        """One digest for all of them, whatever they are called but for the contrast that a name tells."""
        return _digest_of(f"{digest} {self.told(path)}" for digest, path in self.files.items())

    def told(self, path: Path) -> str | None:
        """The contrast of a scan, if it is known without looking at the image."""
        return from_name(path) or self.contrast


def find(folder: Path, contrast: str | None = None, geometry: str = "auto") -> HealthyScans:
    """Every scan below a folder, the same content once, as `uad train` finds them.

    Raises `InputError` if it holds fewer than two, or one that cannot be read.
    """
    try:
        cases = dataset.find(folder, None)
        if ill := next((case for case in cases if case.lesions is not None), None):
            raise InputError("is a patient's: a lesion mask lies beside it", path=ill.scan, hint=MEND)
        files = {stored.sha256(case.scan): case.scan for case in cases}
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path=error.filename or folder, hint=MEND) from error
    refuse_few(len(files), "", folder)
    return HealthyScans(folder, files, contrast, geometry)


def check(kind: str) -> None:
    """Raises `UsageError` for a score of other reconstructions than those that the drift is of."""
    if kind.removeprefix(PREFIX) == MAHALANOBIS:
        what = f"the score {kind!r} takes reconstructions of a noise level of its own, of which --adapt knows no drift"
        raise UsageError(what, hint="Leave out --adapt, or choose another --score.")


def adapted(
    loaded: Weights,
    healthy: HealthyScans,
    contrast: str,
    config: DetectConfig,
    device: str,
    reporter: Reporter,
    own: str | None = None,
) -> Weights:
    """The weights, with the drift of the healthy scans of a contrast added to all that they rebuild.

    `own` is the digest of the scan at hand: if it is among the healthy ones, it is not held against itself.
    Raises `InputError` for fewer than two healthy scans, and what `rebuilt` raises.
    """
    from uadcli.weights.weights import Adaptation

    found = rebuilt(loaded, healthy, contrast, config, device, reporter, own)
    refuse_few(len(found), f"{contrast} ", healthy.folder)
    reporter.info(f"adapted by {len(found)} healthy {contrast} scans")
    values = scanner_drift.drift(list(found.values()), GRID_SHAPE)
    return dataclasses.replace(loaded, adaptation=Adaptation(values, len(found), _digest_of(found)))


def rebuilt(
    loaded: Weights,
    healthy: HealthyScans,
    contrast: str,
    config: DetectConfig,
    device: str,
    reporter: Reporter,
    own: str | None = None,
) -> dict[str, Residual]:
    """The residuals of the healthy scans of a contrast by digest, from the cache where they are there; not `own`.

    Raises `InputError` for a healthy scan that cannot be used, and `WeightsError` or `OutputError` for a cache that
    cannot be written.
    """
    smoothed = prepare.smoothed_as(config.preprocess, loaded.card.curvature_flow, reporter)
    settings, found = dataclasses.replace(config, preprocess=smoothed), dict[str, Residual]()
    for done, (digest, path) in enumerate(sorted(healthy.files.items()), start=1):
        if digest == own or healthy.told(path) not in (None, contrast):
            continue
        one = _remembered(loaded, digest, healthy, contrast, settings, device, reporter)
        if one is not None:
            found[digest] = one
        reporter.progress(done, len(healthy.files))
    return found


def refuse_few(count: int, kind: str, folder: Path) -> None:
    """Raises `InputError` for fewer healthy scans than a drift takes."""
    if count < FEWEST:
        what = f"--adapt needs {FEWEST} healthy {kind}scans beside the one at hand, and here are {count}"
        raise InputError(what, path=folder, hint="Give more healthy scans of the same scanner.")


def _digest_of(digests: Iterable[str]) -> str:
    return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()


def _remembered(
    loaded: Weights,
    digest: str,
    healthy: HealthyScans,
    contrast: str,
    config: DetectConfig,
    device: str,
    reporter: Reporter,
) -> Residual | None:
    """The residual of a healthy scan, from the cache if it is there; None if its image shows another contrast."""
    import torch

    from uadcli.weights import cache

    path, threads = healthy.files[digest], torch.get_num_threads()  # a network's sums depend on them, in the last bits
    told, decides = healthy.told(path), dataclasses.asdict(config) | {"scoring": None}
    decides["reconstruction"]["batch_size"] = None
    versions = [__version__, prepare.VERSION, loaded.sha256]
    key = json.dumps([versions, digest, contrast, told, healthy.geometry, device, threads, decides])
    file = cache.place(FOLDER) / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npz"
    if not file.exists():
        with cache.filling(file.parent, reporter.info):
            if not file.exists():  # another process may have had the lock before
                bare = dataclasses.replace(loaded, adaptation=None)
                try:
                    made = _rebuilt(bare, path, digest, told, contrast, healthy.geometry, config, device, reporter)
                except InputError as error:
                    what = f"this healthy scan cannot be used: {error.what}"
                    raise InputError(what, path=path, hint=error.hint or MEND) from error
                with cache.scratch(file.parent) as part:  # what a killed process leaves there, the next one removes
                    write_with(part / file.name, lambda temporary: np.savez_compressed(temporary, **made))
                    os.replace(part / file.name, file)
    with np.load(file, allow_pickle=False) as values:
        return Residual(values["total"], values["count"]) if str(values["contrast"]) == contrast else None


def _rebuilt(
    loaded: Weights,
    path: Path,
    digest: str,
    told: str | None,
    contrast: str,
    geometry: str,
    config: DetectConfig,
    device: str,
    reporter: Reporter,
) -> dict[str, Any]:
    """What the cache keeps of a healthy scan. Raises `InputError`, also where `uad detect` would only warn."""
    scan = read_scan(path, geometry=geometry)
    if scan.sha256 != digest:
        raise InputError("it has changed meanwhile", hint="Give the command again.")
    for text in scan.warnings:
        reporter.warn(f"a healthy scan of --adapt: {text}")  # without its name, which may be a patient's
    prepared, _ = prepare.prepare(scan, config.preprocess, device=device)
    verdict = quality.assess(
        prepared.brain_volume_ml, prepared.mask_overlap, prepared.border_fraction, stretch=prepared.stretch
    )
    if verdict.verdict == "fail":
        failed = ", ".join(check.name for check in verdict.checks if check.verdict == "fail")
        raise InputError(f"quality control failed ({failed})")
    if told is None:
        guess = prepared.contrast()
        if guess.doubtful:
            raise InputError(
                "T1w and FLAIR are hard to tell apart in it", hint="Tell it in its name, or by --contrast."
            )
        told = guess.contrast
    if told != contrast:
        return {"contrast": np.array(told)}
    x = prepared.scaled(config.preprocess)
    recon = scores.reconstruct(loaded, x, prepared.mask, config.reconstruction, device)
    one = scanner_drift.residual(x, recon, prepared.mask)
    return {"contrast": np.array(told), "total": one.total, "count": one.count}
