"""`--adapt`: adapt a model to a scanner from a few healthy scans; what is learnt from each is cached.

The cache holds only what a way of adapting (`model.ways`) learns from each healthy scan: its residual, smoothed by 8 mm
(see `scanner_drift`), or a drift of the condition vector. It does not hold the scan.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uadcli import __version__
from uadcli.config import DetectConfig
from uadcli.console import Reporter
from uadcli.data import artefacts, dataset, prepare
from uadcli.data.prepare import Prepared
from uadcli.data.scan_json import contrast_without_option, describe
from uadcli.data.scans import each_once
from uadcli.errors import InputError, UsageError
from uadcli.files import DAMAGED, write_with
from uadcli.imaging import stored
from uadcli.imaging.volume import read_scan
from uadcli.model import ways
from uadcli.model.healthy_folder import HealthyScans, digest_of
from uadcli.model.model import Model
from uadcli.model.quality_control import measures
from uadcli.model.ways.base import Learnt, Way
from uadcli.scoring import quality, scores
from uadcli.settings import adaptations

if TYPE_CHECKING:
    from uadcli.reconstruction.reconstructors import Method

FEWEST = 2  # healthy scans: the residual of one would contain its individual anatomy
FOLDER = "adapt"  # of the cache
FIX = "Remove it from the folder, or fix it."


def find(
    folder: Path, contrast: str | None = None, geometry: str = "auto", note: dataset.Note = dataset.unsaid
) -> HealthyScans:
    """Every scan below a folder, found as by `uad train`; duplicates count once.

    Raises `InputError` if there are fewer than two, or one cannot be read or belongs to a patient.
    """
    try:
        cases = dataset.find(folder, None, note)
        if ill := next((case for case in cases if case.lesions is not None), None):
            synthetic = dataset.synthetic_lesions(ill.scan) == ill.lesions
            why = "has synthetic lesions" if synthetic else "belongs to a patient: there is a lesion mask next to it"
            raise InputError(why, path=ill.scan, hint=FIX)
        once = each_once(cases, Reporter(silent=True))
        files = {stored.sha256(case.scan): case.scan for case in once}
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path=error.filename or folder, hint=FIX) from error
    refuse_few(len(files), "", folder)
    return HealthyScans(folder, files, contrast, geometry)


def check(score: str, way: str = adaptations.USUAL, trained: Method | None = None) -> None:
    """Raises `UsageError` for a score that needs reconstructions whose drift is not estimated, or weights that were
    trained for a method whose network cannot be adapted this way."""
    if trained is not None and not ways.find(way).serves(trained):
        what = f"--adapt-by {way} cannot adapt {trained.name}"
        raise UsageError(what, hint="Leave it out, or choose another --adapt-by or --weights.")
    if score and scores.find(score).draws:
        what = f"the score {score!r} uses reconstructions at another noise level, whose drift --adapt does not estimate"
        raise UsageError(what, hint="Leave out --adapt, or choose another --score.")


def refuse_few(count: int, kind: str, folder: Path) -> None:
    """Raises `InputError` for fewer healthy scans than a drift needs."""
    if count < FEWEST:
        what = f"--adapt needs {FEWEST} healthy {kind}scans besides the current one, but found {count}"
        raise InputError(what, path=folder, hint="Give more healthy scans from the same scanner.")


@dataclass(frozen=True)
class ScannerAdapter:
    """Adapts a model to a scanner from the healthy scans of one contrast."""

    model: Model
    healthy: HealthyScans
    contrast: str
    config: DetectConfig
    reporter: Reporter
    way: Way = ways.BY_HEALTHY_SCANS[adaptations.USUAL]

    @classmethod
    def of(
        cls, model: Model, healthy: HealthyScans, contrast: str, config: DetectConfig, reporter: Reporter
    ) -> ScannerAdapter:
        """An adapter that prepares the healthy scans as the model's card says."""
        smoothed = prepare.smoothed_as(config.preprocess, model.card.curvature_flow, reporter)
        bare = dataclasses.replace(model, adaptation=None)
        return cls(bare, healthy, contrast, dataclasses.replace(config, preprocess=smoothed), reporter)

    def by(self, way: str) -> ScannerAdapter:
        """The same by another way. Raises `UsageError` if there is none of this name."""
        return dataclasses.replace(self, way=ways.by_healthy_scans(way))

    def adapted(self, own: str | None = None) -> Model:
        """The model adapted by the healthy scans.

        `own` is the sha256 of the current scan, which is left out if it is among the healthy ones. Raises `InputError`
        for fewer than two healthy scans, and as `learnt`.
        """
        found = self.learnt(own)
        refuse_few(len(found), f"{self.contrast} ", self.healthy.folder)
        self.reporter.info(f"adapted by {len(found)} healthy {self.contrast} scans")
        one = self.way.adaptation(self.model, list(found.values()))
        return dataclasses.replace(self.model, adaptation=dataclasses.replace(one, sha256=digest_of(found)))

    def learnt(self, own: str | None = None) -> dict[str, Learnt]:
        """What the healthy scans of the contrast teach, by sha256, except `own`; from the cache if possible.

        Raises `InputError` for a healthy scan that cannot be used, and `WeightsError` or `OutputError` for a cache that
        cannot be written.
        """
        found = dict[str, Learnt]()
        for done, (digest, path) in enumerate(sorted(self.healthy.files.items()), start=1):
            if digest == own or self.healthy.stated(path) not in (None, self.contrast):
                continue
            one = self._cached(digest)
            if one is not None:
                found[digest] = one
            self.reporter.progress(done, len(self.healthy.files))
        return found

    def _cached(self, digest: str) -> Learnt | None:
        """What a healthy scan teaches, cached; None if the scan has another contrast."""
        from uadcli.weights import cache

        file, sizes = cache.place(FOLDER) / f"{self._key(digest)}.npz", self.way.sizes(self.model)
        found = _kept(file, sizes)
        if found is None:
            with cache.filling(file.parent, self.reporter.info):
                found = _kept(file, sizes)  # another process may have written it meanwhile
                if found is None:
                    found = self._measured(digest)
                    kept = found | {"key": np.array(file.stem)}
                    with cache.scratch(file.parent) as part:  # the next process removes what a killed one leaves
                        write_with(part / file.name, lambda temporary: np.savez_compressed(temporary, **kept))
                        os.replace(part / file.name, file)
        same = str(found["contrast"]) == self.contrast
        return {name: found[name] for name in sizes} if same else None

    def _key(self, digest: str) -> str:
        """A cache key of everything that determines what a scan teaches."""
        import torch

        threads = torch.get_num_threads()  # they change the last bits of a network's sums
        decides = dataclasses.asdict(self.config) | {"scoring": None}
        decides["reconstruction"]["batch_size"] = None
        versions, healthy = [__version__, prepare.VERSION, self.model.sha256], self.healthy
        stated = healthy.stated(healthy.files[digest])
        described = describe(healthy.files[digest]).recorded
        scan = [digest, self.contrast, stated, described, healthy.geometry]
        key = [versions, self.way.name, *scan, self.model.device, threads, decides]
        return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]

    def _measured(self, digest: str) -> dict[str, Any]:
        """The cache entry of a healthy scan. Raises `InputError` if the scan cannot be used."""
        path = self.healthy.files[digest]
        try:
            prepared, contrast = self._prepared(path, digest)
        except InputError as error:
            what = f"this healthy scan cannot be used: {error.what}"
            raise InputError(what, path=path, hint=error.hint or FIX) from error
        if contrast != self.contrast:
            return {"contrast": np.array(contrast)}
        x = prepared.scaled(self.config.preprocess)
        learnt = self.way.learn(self.model, x, prepared.mask, self.config.reconstruction)
        return {"contrast": np.array(contrast), **learnt}

    def _prepared(self, path: Path, digest: str) -> tuple[Prepared, str]:
        """A healthy scan on the model's grid, and its contrast.

        Raises `InputError` if it changed, its contrast is doubtful or not a known one, or it fails quality control.
        """
        scan = read_scan(path, geometry=self.healthy.geometry)
        if scan.sha256 != digest:
            raise InputError("it changed during the run", hint="Run the command again.")
        for text in scan.warnings:
            self.reporter.warn(f"a healthy scan of --adapt: {text}")  # without its name, which may name a person
        prepared, stripped = prepare.prepare(scan, self.config.preprocess, device=self.model.device)
        contrast = self._contrast_of(path, prepared)
        if contrast == self.contrast:
            verdict = quality.assess(measures(prepared, contrast, artefacts.measure(scan.volume, stripped, prepared)))
            if verdict.verdict == "fail":
                failed = ", ".join(check.name for check in verdict.checks if check.verdict == "fail")
                raise InputError(f"quality control failed ({failed})")
        return prepared, contrast

    def _contrast_of(self, path: Path, prepared: Prepared) -> str:
        """The contrast of a healthy scan as stated, or by JSON file or image.

        Raises `InputError` if these contradict each other, or if it is doubtful or not a known one.
        """
        if stated := self.healthy.stated(path):
            return stated
        found = contrast_without_option(path, prepared)
        if found.source == "image" and prepared.contrast().doubtful:
            what = "T1w and FLAIR are hard to distinguish in it"
            raise InputError(what, hint="Put the contrast in its name, or give --contrast.")
        return found.contrast


def _kept(file: Path, expected: dict[str, tuple[int, ...]]) -> dict[str, Any] | None:
    """The cache entry of a healthy scan, with arrays of the expected sizes or, for another contrast, none.

    None if it is missing, damaged or was made for another key.

    Raises `WeightsError` for a file that others could have written.
    """
    from uadcli.weights import cache

    if not file.exists():
        return None
    cache.refuse_foreign(file.parent, file)
    with suppress(*DAMAGED):
        with np.load(file, allow_pickle=False) as values:
            found = {name: values[name] for name in values.files}
        if str(found.pop("key")) != file.stem:
            return None
        contrast, sizes = str(found["contrast"]), {name: found[name].shape for name in found if name != "contrast"}
        if not sizes or sizes == expected:
            return found | {"contrast": contrast}
    return None
