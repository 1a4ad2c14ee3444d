"""The quantiles of synthetic T2w and FLAIR lie in the bands that were measured on real scans."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from intensity_bands import CONFIG, NAMES, figures

from uadcli.imaging import intensity
from uadcli.synthesis import anatomy
from uadcli.synthesis.brains import from_labels
from uadcli.synthesis.contrast import volume_from_t1
from uadcli.training.examples.synthetic import label_files, load_labels

# in one process, so that the label maps are brought to the grid once
pytestmark = [pytest.mark.slow, pytest.mark.data, pytest.mark.xdist_group("label-maps")]
BANDS = tomllib.loads((Path(__file__).parents[2] / "intensity_bands.toml").read_text(encoding="utf-8"))
HEADS, DRAWS = 3, 4
MARGIN = 0.05  # beyond the band of so few real scans


def inside(contrast: str, found: list[float]) -> list[bool]:
    """Whether each figure of a volume lies in the band of its contrast."""
    bands = [BANDS[contrast][name] for name in NAMES]
    return [low - MARGIN <= value <= high + MARGIN for value, (low, high) in zip(found, bands, strict=True)]


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    import os

    folder = os.environ.get("UAD_DATA", "")
    if not folder:
        pytest.skip("no development data (set UAD_DATA)")
    files = label_files(str(Path(folder) / "labelmaps"))[:HEADS]
    return load_labels(files, tmp_path_factory.mktemp("labels"))


@pytest.mark.parametrize("contrast", ["T2w", "FLAIR"])
def test_quantiles_lie_in_the_bands_of_real_scans(heads: list[np.ndarray], contrast: str) -> None:
    fits: dict[str, list[list[bool]]] = {"labels": [], "T1w": []}
    for number in range(HEADS * DRAWS):
        labels, rng = heads[number % HEADS], np.random.default_rng(number)
        direct = from_labels(labels, contrast, rng)
        t1w = from_labels(labels, "T1w", rng)
        turned = volume_from_t1(t1w, t1w > 0, anatomy.of_scan(t1w, t1w > 0, "T1w"), contrast, rng)
        for origin, made in (("labels", direct), ("T1w", turned)):
            fits[origin].append(inside(contrast, figures(intensity.scale(made, made > 0, CONFIG), made > 0)))
    for origin, found in fits.items():
        assert np.mean(found, axis=0).min() >= 0.7, (origin, np.mean(found, axis=0))
        assert np.mean(found) >= 0.8, (origin, np.mean(found, axis=0))
