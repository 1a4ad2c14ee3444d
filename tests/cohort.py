"""Labelled phantoms on the model's grid, weights to rebuild them, and a preparation that only looks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import phantoms
import pytest

from uadcli.cli.app import main
from uadcli.config import EncoderConfig, ModelConfig, PreprocessConfig, SiameseConfig, UNetConfig, to_dict
from uadcli.data import dataset, prepare
from uadcli.data.prepare import Prepared, Stripped
from uadcli.detection import detect
from uadcli.imaging import template
from uadcli.imaging.slices import GRID_AFFINE, GRID_SHAPE
from uadcli.imaging.volume import Scan, Volume
from uadcli.model import out_of_distribution
from uadcli.scoring.out_of_distribution import Gate
from uadcli.training import run_folder
from uadcli.weights.card import ModelCard

SLAB = slice(38, 46)  # of the 80 axial slices
TINY = ModelConfig(
    unet=UNetConfig(channels=8, multipliers=(1, 1), blocks=1, unshuffle=2, head_channels=8, embedding=16),
    encoder=EncoderConfig(blocks=(1, 1), width=4, condition=16, norm="group", unshuffle=2),
)


def head(seed: int) -> np.ndarray:
    """A brain (96, 96, 80) in 1..300 with a tone and noise of its own, 0 outside."""
    rng = np.random.default_rng(seed)
    inside = template.on_grid("mni_brain_mask") > 0
    data = np.where(inside, template.on_grid("mni_head_T1w", 1), 0)
    data = (data / data.max()) ** rng.uniform(0.9, 1.1) * 200 + rng.normal(0, 3, data.shape)
    return np.where(inside, np.clip(data, 1, None), 0)


def slab(seed: int, places: slice = SLAB) -> np.ndarray:
    """A brain (96, 96, 80) as that of `head`, 0 in all but the axial slices at `places`."""
    data = np.zeros(GRID_SHAPE)
    data[..., places] = head(seed)[..., places]
    return data


def slabs(folder: Path, seeds: range) -> Path:
    """A folder of T1w scans of slabs."""
    folder.mkdir()
    for seed in seeds:
        phantoms.save(folder / f"sub-{seed}_T1w.nii.gz", slab(seed), GRID_AFFINE)
    return folder


def uad(*arguments: object) -> int:
    """Run a command in this process, on one thread: the networks are too small to gain from more."""
    threads = () if arguments[0] == "export" else ("--threads", "1")
    alone = ("--workers", "0") if arguments[0] in ("train", "calibrate") else ()
    return main([str(part) for part in (*arguments, *threads, *alone)])


def cohort(
    root: Path,
    parts: dict[str, bool],
    split: dict[str, str],
    contrast: str = "T1w",
    brain: Callable[[int], np.ndarray] = head,
) -> tuple[Path, Path]:
    """Scans and masks of subjects by name; where told so with a bright ball. `split` is that of participants.tsv."""
    scans, masks = root / "scans", root / "masks"
    for folder in (scans, masks):
        folder.mkdir(parents=True)
    for number, (name, ill) in enumerate(parts.items()):
        rng, data = np.random.default_rng([7, number]), brain(number)
        place = (*rng.uniform((-35, -50, 10), (35, 20, 40)),)
        inside = phantoms.ball(Volume(data, GRID_AFFINE), place, 20.0) if ill else np.zeros(data.shape, dtype=bool)
        ball = inside & (data > 0)
        phantoms.save(scans / f"sub-{name}_{contrast}.nii.gz", np.where(ball, 300, data), GRID_AFFINE)
        phantoms.save(masks / f"sub-{name}_label-lesion_mask.nii.gz", ball, GRID_AFFINE)
    rows = [f"sub-{name}\t{split.get(name, 'train')}" for name in parts]
    (scans / "participants.tsv").write_text("\n".join(["participant_id\tsplit", *rows]))
    return scans, masks


def base(folder: Path, model: ModelConfig, siamese: SiameseConfig | None, **card: Any) -> Path:
    """A folder as `uad export` makes it, of random numbers, with a score network of the given sizes and a wide gate."""
    import torch

    from uadcli.reconstruction.model import ConditionedDiffusion
    from uadcli.scoring.siamese import SiameseUNet
    from uadcli.weights import registry, weights

    torch.manual_seed(1)
    network = SiameseUNet(siamese) if siamese else None
    values: dict[str, Any] = {
        "contrasts": ("T1w",), "scores": {"T1w": "absolute"}, "thresholds": {"absolute": {"T1w": 0.2}},
        "threshold_rule": "rule", "levels": (500,), "intensity_range": "[0, 1]", "training_data": "made-up scans",
        "licence": "CC BY-SA 3.0", "steps": 3, "siamese": to_dict(siamese) if siamese else None,
    } | card  # fmt: skip
    made = ModelCard(folder.name, "1", **values)
    folder.mkdir(parents=True)
    state = network.state_dict() if network else None
    file = folder / f"{folder.name}.safetensors"
    size = model.encoder.condition
    wide = Gate(np.zeros((GRID_SHAPE[2], size), np.float32), np.eye(size, dtype=np.float32), 1000.0)
    digest = weights.save(file, ConditionedDiffusion(model), made, state, out_of_distribution.state_of({"T1w": wide}))
    registry.write(folder, registry.Entry(folder.name, file.name, digest, made.contrasts))
    return folder


def as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let scans that lie on the model's grid already be prepared by a look: no stripping, no registration."""

    def look(scan: Scan, *_: Any, **__: Any) -> tuple[Prepared, Stripped]:
        data = scan.volume.data
        stripped = Stripped(scan.volume, data > 0, np.eye(4))
        return Prepared(data, data > 0, np.eye(4), "none", 1400.0, 0.0, 0.95, 0.5), stripped

    def here(cases: list[dataset.Case], cache: Path, config: PreprocessConfig, *_: Any) -> dict[dataset.Case, str]:
        # other processes would not have the replaced `prepare`
        return dataset.prepare_all(cases, cache, config, workers=0)

    monkeypatch.setattr(prepare, "prepare", look)
    monkeypatch.setattr(detect, "prepare", look)
    monkeypatch.setattr(run_folder, "prepare_all", here)
