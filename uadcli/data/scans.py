"""The prepared scans of a run in memory, so that a training reads and hashes each of them once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadcli.config import PreprocessConfig
from uadcli.console import Reporter
from uadcli.data import prepare
from uadcli.data.dataset import Case
from uadcli.data.healthy import healthy_slices
from uadcli.data.prepare import Prepared
from uadcli.files import file_sha256
from uadcli.imaging import stored
from uadcli.imaging.volume import stem


class Scans:
    """Prepared scans by their paths, from the folder `cache`; each is read once and held packed, 1.6 MB a scan.

    A path may be relative, as the user gave it, or absolute, as in `data.tsv`: it is the same scan.
    """

    def __init__(self, cache: Path, config: PreprocessConfig) -> None:
        self.cache, self.config = cache, config
        self._packed: dict[Path, Mapping[str, Any]] = {}
        self._healthy: dict[tuple[Path, Path | None], NDArray[np.int64]] = {}

    def prepared(self, path: Path) -> Prepared:
        """A scan as `prepare_cached` gives it. Raises what preparing it raises."""
        key = path.resolve()
        if key not in self._packed:
            self._packed[key] = prepare.packed_cached(path, self.config, self.cache)
        return prepare.unpacked(self._packed[key])

    def healthy_slices(self, case: Case) -> NDArray[np.int64]:
        """Indices (N,) of the axial slices of a case without lesion (`data.healthy`); its lesion mask is read once."""
        key = case.scan.resolve(), case.lesions and case.lesions.resolve()
        if key not in self._healthy:
            self._healthy[key] = healthy_slices(case, self.prepared(case.scan))
        return self._healthy[key]


def each_once(cases: Sequence[Case], reporter: Reporter) -> list[Case]:
    """The cases without copies of a scan under other names, in their order, with a warning for each one left out.

    Of the copies, one to train on stays, otherwise the first: a scan in both parts would judge what it has taught. Only
    files of equal size are read, and those in one folder that only compression tells apart, such as `a.nii` and
    `a.nii.gz`.
    """
    sizes = {case.scan: case.scan.stat().st_size for case in cases}
    names = {case.scan: (case.scan.parent, stem(case.scan)) for case in cases}
    shared, twins = Counter(sizes.values()), Counter(names.values())
    alike = [case for case in cases if shared[sizes[case.scan]] > 1 or twins[names[case.scan]] > 1]
    if not alike:
        return list(cases)
    first, beside, copies = dict[str, Case](), dict[tuple[Path, str], list[Case]](), set[Path]()
    with reporter.stage("comparing files"):
        for number, case in enumerate(sorted(alike, key=lambda case: case.part != "train")):
            reporter.progress(number, len(alike))
            near = beside.setdefault(names[case.scan], [])
            twin = next((other for other in near if stored.same_content(case.scan, other.scan)), None)
            kept = twin or first.setdefault(file_sha256(case.scan), case)
            if kept is not case:
                copies.add(case.scan)
                reporter.warn(f"{case.scan}: left out: it is the same scan as {kept.scan}")
            near.append(kept)
    return [case for case in cases if case.scan not in copies]


def brains_of(cases: Sequence[Case]) -> list[int]:
    """The number of each case's brain: that of the first case of its subject, counted from 0, or its own.

    Sessions of a subject of a BIDS dataset show one brain. Elsewhere `Case.subject` may be a folder of many subjects.
    """
    first = dict[str, int]()
    return [first.setdefault(c.subject, i) if c.subject.startswith("sub-") else i for i, c in enumerate(cases)]
