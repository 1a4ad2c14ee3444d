"""The picture and the sidecar."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from uadcli.errors import OutputError
from uadcli.files import finite, write_json
from uadcli.report.preview import render_overlay
from uadcli.report.sidecar import versions

SHAPE = (80, 90, 70)


def _scene(side: int = -1) -> dict[str, np.ndarray]:
    """An ellipsoid brain with a found ball on the patient's left (side -1) or right (+1)."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij"))
    brain = (grid**2).sum(axis=0) < 0.7
    ball = np.sqrt(((grid - np.array([0.4 * side, 0, 0]).reshape(3, 1, 1, 1)) ** 2).sum(axis=0)) < 0.2
    affine = np.eye(4)
    affine[:3, 3] = -np.array(SHAPE) / 2
    return {
        "scan": np.where(brain, 100, 0).astype(np.float32),
        "anomaly_map": np.where(ball, 0.5, 0).astype(np.float32),
        "anomaly_mask": ball,
        "brain_mask": brain,
        "affine": affine,
    }


def _render(path: Path, scene: dict[str, np.ndarray], title: str = "scan.nii.gz") -> np.ndarray:
    render_overlay(path, **scene, threshold=0.1, title=title)
    return imread(path)[..., :3]


def test_no_voxel_outside_the_brain_is_drawn(tmp_path: Path) -> None:
    scene = _scene()
    clean = _render(tmp_path / "a.png", scene)
    face = dict(scene, scan=np.where(scene["brain_mask"], scene["scan"], 5000).astype(np.float32))
    assert np.array_equal(_render(tmp_path / "b.png", face), clean)


def test_the_patients_left_is_on_the_images_right(tmp_path: Path) -> None:
    """The blue outline of the finding moves across the middle of the axial panels with the side."""
    columns = {}
    for side in (-1, 1):
        picture = _render(tmp_path / "a.png", _scene(side))
        axial = picture[: int(picture.shape[0] * 0.37), : int(picture.shape[1] * 0.91)]
        blue = (axial[..., 2] - axial[..., 0] > 0.4) & (axial[..., 2] > 0.7)
        panel = picture.shape[1] * 0.88 / 6
        place = (np.nonzero(blue)[1] - 0.035 * picture.shape[1]) % panel / panel
        columns[side] = np.median(place)
    assert columns[-1] > 0.5 > columns[1]


def test_strange_titles_are_drawn(tmp_path: Path) -> None:
    _render(tmp_path / "a.png", _scene(), "x$^_{" + "long" * 60 + ".nii.gz")


def test_a_failed_picture_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        _render(tmp_path / "none" / "a.png", _scene())
    assert not list(tmp_path.iterdir())


def test_numbers_that_were_not_computed_are_null(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": math.nan, "b": [1.5, math.inf], "c": {"d": 0.0}})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": None, "b": [1.5, None], "c": {"d": 0.0}}
    assert finite((math.nan,)) == [None]
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_versions_name_what_decides_a_result() -> None:
    assert {"torch", "antspyx", "nibabel", "python"} <= set(versions())
