"""How many synthetic lesions of multiple sclerosis are found: FLAIR and T2w of 20 brains, made from T1w scans and from
head label maps.

    python packaging/evaluation/synthetic_disease.py DATA [--cases 20] [--weights NAME]

Each brain gets `synthesis.white_matter.dots`. A lesion is detected if a marked voxel touches it; a finding is false if
it touches no lesion. Printed by contrast and source: the share of lesions of more than 30 mm3 that are detected at the
threshold at which there is one false finding per scan on average (an oracle), and at `auto`, with the false findings
per scan there. The T1w scans are the IXI validation scans, which no network was trained on. The score network was
trained on brains from the label maps, with other intensities and lesions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from development import cases
from scenes import CONFIG, models, options
from scipy import ndimage

from uadcli import device
from uadcli.arrays import Array, Mask
from uadcli.data.prepare import prepare_cached
from uadcli.imaging import intensity
from uadcli.imaging.slices import GRID_AFFINE
from uadcli.model import threshold
from uadcli.model.model import Model
from uadcli.model.subject import Subject
from uadcli.model.threshold import Threshold
from uadcli.scoring.components import label_map
from uadcli.settings.threshold import ThresholdRule
from uadcli.synthesis import anatomy
from uadcli.synthesis.brains import from_labels
from uadcli.synthesis.contrast import volume_from_t1
from uadcli.synthesis.lesions import Brain, paste_kind
from uadcli.training.examples.synthetic import label_files, load_labels

KIND, SEED = "dots", 91
LARGE_MM3, VOXEL_MM3 = 30.0, 8.0
NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)
STEPS = 60  # thresholds tried


@dataclass(frozen=True)
class Lesions:
    """The score of a scan and its labelled lesions, both (96, 96, 80), and the labels of those that count."""

    score: Array
    labels: np.ndarray
    large: np.ndarray

    def found(self, marked: np.ndarray) -> int:
        """How many of the large lesions a labelled marking touches."""
        return len(np.intersect1d(self.labels[marked > 0], self.large))

    def false(self, marked: np.ndarray) -> int:
        """How many findings of a labelled marking touch no lesion."""
        return int(marked.max()) - len(np.setdiff1d(np.unique(marked[self.labels > 0]), [0]))

    def marked(self, used: Threshold) -> np.ndarray:
        """The labels of the findings by a threshold."""
        smallest = CONFIG.scoring.min_volume_mm3
        return label_map(self.score, used.value, smallest, GRID_AFFINE, used.extent)[0]


def main() -> None:
    """Print the table."""
    parser = options(__doc__)
    parser.add_argument("--cases", type=int, default=20, help="brains for each contrast and source")
    arguments = parser.parse_args()
    device.bound_threads(None)
    loaded = models(arguments.weights)
    print(
        "| contrast | made from | scans | lesions > 30 mm3 | found at 1 false a scan | found at auto | false at auto |"
    )
    print("|---|---|---|---|---|---|---|")
    for contrast in ("FLAIR", "T2w"):
        for source, brains in (("T1w", _from_scans), ("label map", _from_labels)):
            made = brains(arguments.data, arguments.cache, contrast, arguments.cases)
            print(_row(loaded[contrast], contrast, source, made), flush=True)


def _row(model: Model, contrast: str, source: str, brains: Iterator[Brain]) -> str:
    kind = model.card.scores[contrast]
    used = threshold.resolve(ThresholdRule.parse("auto"), model.card, kind, contrast)
    assert isinstance(used, Threshold)
    scans = [_scored(model, kind, brain, number) for number, brain in enumerate(brains)]
    total = sum(len(one.large) for one in scans)
    tops = np.concatenate([one.score[one.score > 0] for one in scans])
    tried = np.quantile(tops, 1 - np.geomspace(0.02, 1e-5, STEPS))
    best = max(
        (
            sum(one.found(mark) for one, mark in zip(scans, marks, strict=True))
            for level in tried
            for marks in [[one.marked(Threshold(float(level), used.basis)) for one in scans]]
            if sum(one.false(mark) for one, mark in zip(scans, marks, strict=True)) <= len(scans)
        ),
        default=0,
    )
    at_auto = [(one, one.marked(used)) for one in scans]
    found, false = sum(one.found(m) for one, m in at_auto), sum(one.false(m) for one, m in at_auto)
    shares = f"{100 * best / total:.0f} % | {100 * found / total:.0f} % | {false / len(scans):.1f}"
    return f"| {contrast} | {source} | {len(scans)} | {total} | {shares} |"


def _scored(model: Model, kind: str, brain: Brain, number: int) -> Lesions:
    rng = np.random.default_rng([SEED, number])
    x, truth = paste_kind(KIND, brain, rng)
    scaled = intensity.scale(x, brain.mask, CONFIG.preprocess)
    subject = Subject.of(model, scaled, brain.mask, CONFIG, brain.contrast, x)
    labels, count = ndimage.label(truth, NEIGHBOURS)
    sizes = np.bincount(labels.ravel(), minlength=count + 1) * VOXEL_MM3
    return Lesions(subject.score(kind), labels, 1 + np.flatnonzero(sizes[1:] > LARGE_MM3))


def _from_scans(data: Path, cache: Path, contrast: str, count: int) -> Iterator[Brain]:
    healthy = [c for c in cases(data) if c.part == "val" and c.contrast == "T1w"]
    for number, case in enumerate(healthy[:count]):
        prepared = prepare_cached(case.scan, CONFIG.preprocess, cache)
        t1w, mask = prepared.linear(CONFIG.preprocess), prepared.mask
        known = anatomy.of_scan(t1w, mask, "T1w")
        rng = np.random.default_rng([SEED, 1, number])
        yield Brain(volume_from_t1(t1w, mask, known, contrast, rng), mask, contrast, None, known)


def _from_labels(data: Path, cache: Path, contrast: str, count: int) -> Iterator[Brain]:
    for number, labels in enumerate(load_labels(label_files(str(data / "labelmaps"))[:count], cache)):
        volume: Array = from_labels(labels, contrast, np.random.default_rng([SEED, 2, number]))
        mask: Mask = volume > 0
        yield Brain(volume, mask, contrast, None, anatomy.of_labels(labels))


if __name__ == "__main__":
    main()
