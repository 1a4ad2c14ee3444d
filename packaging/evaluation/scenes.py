"""Shared by the development scripts: models, scans with real and synthetic lesions, and TSV output."""

from __future__ import annotations

import argparse
import csv
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from development import cases, refuse_other_preparation

from uadcli.calibration import references
from uadcli.calibration.health import HealthyScan, Scored, compared_with_others, joined, versions
from uadcli.config import CONTRASTS, DetectConfig, to_dict
from uadcli.data.prepare import Prepared, common_scale, prepare_cached, to_native
from uadcli.errors import UsageError
from uadcli.imaging import intensity
from uadcli.imaging.volume import Scan, read_scan
from uadcli.model import model, own_grid
from uadcli.model.components import find, volume_ml
from uadcli.model.model import Model, prior_of, shares_of
from uadcli.model.subject import Subject
from uadcli.model.threshold import Threshold
from uadcli.reconstruction.model import Network
from uadcli.scoring import fusion, healthy_reference, scores
from uadcli.synthesis.masses import paste_shape
from uadcli.training.examples.pasted_lesions import load_shape, shape_files
from uadcli.training.reconstruction import Trainer
from uadcli.training.score_network import SiameseTrainer
from uadcli.weights import weights
from uadcli.weights.card import ModelCard

CONFIG = DetectConfig()
SETS = {  # names of the development cases with lesions, by folder
    "tcga_lgg": "glioma",
    "mslub_mni": "MSLUB {}",
    "mslesseg_mni": "MSLesSeg {}",
    "tcga_t2w": "glioma {}",
    "stroke_t2w": "stroke {}",
}
SYNTHETIC = "T1w synthetic in IXI val"
RESIDUAL = {"T1w": "absolute", "FLAIR": "bright-weighted", "T2w": "bright-weighted"}  # for each contrast


def models(name_or_path: str | None) -> dict[str, Model]:
    """The model of each contrast: the named one if it covers the contrast, otherwise the bundled one."""
    load = functools.cache(model.load)
    if name_or_path is None:
        return {contrast: load(*weights.find(None, contrast)) for contrast in CONTRASTS}
    loaded = load(*weights.find(name_or_path))
    refuse_other_preparation(loaded.card)
    return dict.fromkeys(loaded.card.contrasts, loaded)


def reconstruction_of(file: Path) -> tuple[Network, int]:
    """The averaged network of a checkpoint, or that of a weight file, and its number of training steps."""
    if file.suffix == ".safetensors":
        loaded = weights.load(file)
        return loaded.model, loaded.card.steps
    trainer = Trainer.load(file)
    return trainer.average, trainer.done


def score_of(file: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The averaged score network of a checkpoint, or that of a weight file, and its settings as in a card."""
    if file.suffix == ".safetensors":
        loaded = weights.load(file)
        return loaded.score_state, loaded.card.siamese
    trainer = SiameseTrainer.load(file)
    return trainer.average.state_dict(), to_dict(trainer.config) | {"steps": trainer.done}


def chosen(text: str, known: tuple[str, ...]) -> list[str]:
    """The names in a comma-separated list. Raises `UsageError` for an unknown one."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise UsageError(f"there is no {name!r}", hint=f"Choose from {', '.join(known)}.")
    return names


def named(loaded: dict[str, Model]) -> str:
    """The names of the models with the beginning of their sha256."""
    return ", ".join(dict.fromkeys(f"{one.card.name} sha256 {one.sha256[:12]}" for one in loaded.values()))


@dataclass(frozen=True)
class Scene:
    """A scan with lesions on the model's grid, scaled and before that; the truth; and the scan, if the truth is on its
    own grid."""

    set: str
    subject: str
    contrast: str
    prepared: Prepared
    x: np.ndarray
    unclipped: np.ndarray
    truth: np.ndarray
    scan: Scan | None

    def on_grid(self, values: np.ndarray) -> np.ndarray:
        """Resample a map from the model's grid to that of the truth."""
        return values if self.scan is None else to_native(values, self.scan, self.prepared, 1)

    def own_map(self, subject: Subject, kind: str) -> np.ndarray | None:
        """The map of a score with the detail of the scan's own grid (`model.own_grid`), if it has more."""
        if self.scan is None or kind not in scores.names():
            return None
        return own_grid.own_map(subject, kind, common_scale(self.scan.volume)[0].volume, self.prepared)

    def marked(self, labels: np.ndarray, own: np.ndarray | None = None, lowest: float = 0.0) -> np.ndarray:
        """The findings `labels` of the model's grid on that of the truth, as `uad detect` writes them; `own` is the map
        with more detail, `lowest` the score above which it is marked."""
        if self.scan is None:
            return labels > 0
        return own_grid.outlines(labels, own, lowest, self.scan, self.prepared)


def scenes(data: Path, cache: Path, count: int | None = None) -> Iterator[Scene]:
    """Development cases with lesions, on their own grids, then synthetic lesions in healthy validation scans, on the
    model's grid; at most `count` of each set."""
    found, seen = cases(data), dict[str, int]()
    for case in (c for c in found if c.part == "dev" and c.lesions):
        name = f"{case.contrast} {SETS[case.source].format(case.subject.removeprefix('sub-'))}"
        seen[name] = seen.get(name, 0) + 1
        if case.lesions is None or (count is not None and seen[name] > count):
            continue
        prepared = prepare_cached(case.scan, CONFIG.preprocess, cache)
        truth = read_scan(case.lesions, allow_empty=True).volume.data > 0
        x = prepared.scaled(CONFIG.preprocess)
        yield Scene(name, case.subject, case.contrast, prepared, x, prepared.data, truth, read_scan(case.scan))
    shapes = stroke_shapes(data)
    healthy = [c for c in found if c.part == "val" and c.contrast == "T1w"]
    for i, case in enumerate(healthy[:count]):
        prepared, pasted, number = prepare_cached(case.scan, CONFIG.preprocess, cache), None, i
        while pasted is None:
            pasted = synthetic(prepared, shapes[number % len(shapes)], number)
            number += 20
        yield Scene(SYNTHETIC, case.subject, "T1w", prepared, *pasted, None)


@functools.cache
def reference_scans(model: Model, data: Path, cache: Path) -> list[HealthyScan]:
    """The IXI validation scans that a T1w model is calibrated on, reconstructed; after them their degraded copies."""
    validation = [c for c in cases(data) if c.part == "val" and c.contrast == "T1w"]
    return [HealthyScan.of(model, *one, cache, CONFIG) for one in versions(validation, model.card.degraded)]


class WithoutScan:
    """Models whose healthy reference leaves out the scan that a lesion was pasted into.

    Their own reference must come from the IXI validation scans, as in the bundled models. `kinds` are the requested
    scores, by default all. The healthy quantiles behind `fisher` stay those of all 20 scans.
    """

    def __init__(self, loaded: dict[str, Model], data: Path, cache: Path, kinds: Sequence[str] = ()) -> None:
        self.loaded, self.states = loaded, dict[str, dict[str, Any]]()
        validation = [c for c in cases(data) if c.part == "val" and c.contrast == "T1w"]
        kinds = kinds or scores.names()
        asked = any(scores.find(kind).normalised for kind in kinds)
        if not asked or "T1w" not in loaded or not loaded["T1w"].weights.reference_state:
            return
        parts = shares_of(loaded["T1w"].card, "T1w") if fusion.FISHER in kinds else ()
        held = list(dict.fromkeys(kind for kind in (*kinds, *parts) if kind.startswith(scores.Z)))
        pairs: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        reference = reference_scans(loaded["T1w"], data, cache)
        for scan in reference:
            for kind in held:
                pairs.setdefault(scores.base_of(kind), []).append((scan.subject.raw(kind), scan.part))
        brains = [scan.brain for scan in reference]
        others = {kind: references.of_the_others(maps, scores.find(kind), brains) for kind, maps in pairs.items()}
        for i, case in enumerate(validation):
            self.states[case.subject] = healthy_reference.state_of(
                {(k, "T1w"): known[i] for k, known in others.items()}
            )

    def __call__(self, scene: Scene) -> Model:
        """The model for a scene."""
        found = self.loaded[scene.contrast]
        if scene.set != SYNTHETIC or scene.subject not in self.states:
            return found
        states = found.weights.reference_state | self.states[scene.subject]
        return replace(found, weights=replace(found.weights, reference_state=states))


def options(doc: str | None) -> argparse.ArgumentParser:
    """A parser of DATA, `--cache` and `--weights`, which most scripts take."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    parser.add_argument("--weights", help="name or path of a model; by default the bundled ones")
    return parser


def subject_of(model: Model, prepared: Prepared, contrast: str, config: DetectConfig = CONFIG) -> Subject:
    """A prepared scan on the model's grid, reconstructed."""
    x = prepared.scaled(config.preprocess)
    return Subject.of(model, x, prepared.mask, config, contrast, prepared.data)


def cross_fitted(raw: Mapping[str, list[Scored]], card: ModelCard, contrast: str) -> dict[str, list[Scored]]:
    """The maps by score of the scans that a healthy reference is made of, each compared with the others.

    `raw` are not normalised to healthy scans. With all scores that the card joins in `fisher`, that is added.
    """
    shares, likely = shares_of(card, contrast), prior_of(card)
    found = {
        kind: compared_with_others(scans, scores.find(kind)) if kind.startswith(scores.Z) else scans
        for kind, scans in raw.items()
    }
    return found | ({fusion.FISHER: joined(found, shares, likely)} if shares and shares.keys() <= found.keys() else {})


def stroke_shapes(data: Path) -> list[Path]:
    """Masks of real strokes in MNI space: not used to train networks, but to fit the power of the fusion."""
    return shape_files(str(data / "lesion_shapes"))


def synthetic(prepared: Prepared, shape_file: Path, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Paste a stroke shape (MNI space) into a scan, brighter or darker by 20 to 60 %: the scan, scaled with its lesion
    and before that, and the truth; None if it is too small."""
    shape = load_shape(shape_file)
    truth = (shape >= 0.5) & prepared.mask
    if truth.sum() < 20:
        return None
    rng = np.random.default_rng(seed)
    change = rng.uniform(0.2, 0.6) * rng.choice([-1, 1])
    changed = prepared.linear(CONFIG.preprocess) * (1 + change * shape * prepared.mask)
    return intensity.scale(changed, prepared.mask, CONFIG.preprocess), changed.astype(np.float32), truth


def with_shape(
    prepared: Prepared, contrast: str, counts: np.ndarray, data: Path, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A healthy scan, scaled and before that, with a random stroke shape of at least 20 voxels within `counts`, and the
    truth there. Sign and texture are drawn as in training; the shape was not used in it."""
    shapes, healthy = stroke_shapes(data), prepared.linear(CONFIG.preprocess)
    while True:
        shape = load_shape(shapes[int(rng.integers(len(shapes)))])
        x, truth = paste_shape(healthy, prepared.mask, shape, contrast, rng)
        if (truth & counts).sum() >= 20:
            return intensity.scale(x, prepared.mask, CONFIG.preprocess), x, truth & counts


def marked_volume(values: np.ndarray, used: Threshold, prepared: Prepared) -> float:
    """The ml that a threshold marks in a map."""
    return volume_ml(find(values, used.value, prepared, CONFIG, used.extent)[1], prepared)


def write_tsv(path: Path, rows: Sequence[Any]) -> None:
    """Rows, all of one dataclass, as a table with a header."""
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t")
        writer.writerow(asdict(rows[0]))
        writer.writerows(list(asdict(r).values()) for r in rows)
