"""Folders of models as `uad export` makes them, small enough for a test."""

from __future__ import annotations

from pathlib import Path

from uadcli.config import ModelConfig
from uadcli.weights.card import ModelCard


def export(folder: Path, config: ModelConfig, seed: int = 1, curvature_flow: int = 0, contrast: str = "FLAIR") -> Path:
    """Weights, card and registry of a model of random numbers, called as its folder is."""
    import torch

    from uadcli.reconstruction.model import ConditionedDiffusion
    from uadcli.weights import registry, weights

    name = folder.name
    card = ModelCard(
        name, "1", (contrast,), {contrast: "bright"}, {"bright": {contrast: 0.2}}, "rule", (500,), "[0, 1]", "none",
        "CC BY 4.0 (weights)", 3, curvature_flow=curvature_flow,
    )  # fmt: skip
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    digest = weights.save(folder / f"{name}.safetensors", ConditionedDiffusion(config), card)
    registry.write(folder, registry.Entry(name, f"{name}.safetensors", digest, card.contrasts))
    (folder / f"{name}.md").write_text(f"# {name}\n\nFor tests.\n", encoding="utf-8")
    return folder
