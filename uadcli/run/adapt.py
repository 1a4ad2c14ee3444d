"""`--adapt`: a model made at home with a scanner by a few healthy scans of it, which are rebuilt once and remembered.

Of each healthy scan the cache keeps its residual alone, smoothed by 8 mm (`scoring.drift`): no image of anybody.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uadcli.config import DetectConfig
from uadcli.console import Reporter
from uadcli.errors import InputError, UadError
from uadcli.files import write_with
from uadcli.imaging.slices import GRID_SHAPE
from uadcli.imaging.volume import file_sha256, read_scan
from uadcli.run import dataset, prepare, score
from uadcli.run.contrast import known_before
from uadcli.scoring import drift, quality
from uadcli.scoring.drift import Residual

if TYPE_CHECKING:
    from uadcli.reconstruction.weights import Weights

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
        """One digest for all of them, whatever they are called."""
        return _digest_of(self.files)


def find(folder: Path, contrast: str | None = None, geometry: str = "auto") -> HealthyScans:
    """Every scan below a folder, the same content once. Raises `InputError` if it holds fewer than two."""
    files = {file_sha256(case.scan): case.scan for case in dataset.find(folder, 0.0)}
    _refuse_few(len(files), "", folder)
    return HealthyScans(folder, files, contrast, geometry)


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
    Raises `InputError` for a healthy scan that cannot be used and for fewer than two, `WeightsError` for a cache that
    cannot be written.
    """
    from uadcli.reconstruction.weights import Adaptation

    bare, found = dataclasses.replace(loaded, adaptation=None), dict[str, Residual]()
    for done, (digest, path) in enumerate(sorted(healthy.files.items()), start=1):
        known = known_before(path, healthy.contrast)
        if digest == own or (known and known.contrast != contrast):
            continue
        one = _remembered(bare, digest, healthy, contrast, config, device, reporter)
        if one is not None:
            found[digest] = one
        reporter.progress(done, len(healthy.files))
    _refuse_few(len(found), f"{contrast} ", healthy.folder)
    values = drift.drift(list(found.values()), GRID_SHAPE)
    return dataclasses.replace(loaded, adaptation=Adaptation(values, len(found), _digest_of(found)))


def _refuse_few(count: int, kind: str, folder: Path) -> None:
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
    from uadcli.reconstruction import cache

    path, smoothing = healthy.files[digest], loaded.card.curvature_flow
    settings = dataclasses.replace(config, preprocess=dataclasses.replace(config.preprocess, curvature_flow=smoothing))
    known = known_before(path, healthy.contrast)
    decides = dataclasses.asdict(settings) | {"scoring": None}
    decides["reconstruction"]["batch_size"] = None
    told = known.contrast if known else None
    key = json.dumps([prepare.VERSION, digest, loaded.sha256, told, healthy.geometry, device, decides])
    file = cache.place(FOLDER) / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npz"
    if not file.exists():
        with cache.filling(file.parent, reporter.info):
            if not file.exists():  # another process may have had the lock before
                try:
                    made = _rebuilt(loaded, path, told, contrast, healthy.geometry, settings, device)
                except UadError as error:
                    what = f"this healthy scan cannot be used: {error.what}"
                    raise InputError(what, path=path, hint=MEND) from error
                write_with(file, lambda temporary: np.savez_compressed(temporary, **made))
    with np.load(file, allow_pickle=False) as values:
        return Residual(values["total"], values["count"]) if str(values["contrast"]) == contrast else None


def _rebuilt(
    loaded: Weights, path: Path, known: str | None, contrast: str, geometry: str, config: DetectConfig, device: str
) -> dict[str, Any]:
    """What the cache keeps of a healthy scan. Raises `UadError`s, also if its registration or brain mask failed."""
    prepared, _ = prepare.prepare(read_scan(path, geometry=geometry), config.preprocess, device=device)
    verdict = quality.assess(
        prepared.brain_volume_ml, prepared.mask_overlap, prepared.border_fraction, stretch=prepared.stretch
    )
    if verdict.verdict == "fail":
        failed = ", ".join(check.name for check in verdict.checks if check.verdict == "fail")
        raise InputError(f"quality control failed ({failed})")
    seen = known or prepared.contrast().contrast
    if seen != contrast:
        return {"contrast": np.array(seen)}
    x = prepared.scaled(config.preprocess)
    recon = score.reconstruct(loaded, x, prepared.mask, config.reconstruction, device)
    one = drift.residual(x, recon, prepared.mask)
    return {"contrast": np.array(seen), "total": one.total, "count": one.count}
