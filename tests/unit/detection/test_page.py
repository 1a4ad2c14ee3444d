"""The volumes of a page in native space, from those on the model's grid."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import scenes

from uadcli.data.prepare import to_native
from uadcli.detection.page import native_volumes
from uadcli.detection.write import on_scan
from uadcli.imaging.slices import GRID_SHAPE
from uadcli.imaging.volume import Volume

# the scan lies shifted and turned against the template
TURN = np.deg2rad(8)
WORLD = np.array(
    [[np.cos(TURN), -np.sin(TURN), 0, 4.0], [np.sin(TURN), np.cos(TURN), 0, -7.0], [0, 0, 1, 3.0], [0, 0, 0, 1]]
)


def ready(brain: np.ndarray | None = None) -> Any:
    data = np.ones(scenes.NATIVE_SHAPE, np.float32)
    scan = SimpleNamespace(volume=Volume(data, scenes.NATIVE_AFFINE), sides_known=True)
    everything = np.ones(scenes.NATIVE_SHAPE, bool)
    prepared = SimpleNamespace(world_map=WORLD)
    return SimpleNamespace(scan=scan, prepared=prepared, brain=everything if brain is None else brain)


def findings() -> Any:
    volumes = scenes.volumes()
    touching = volumes.labels.copy()
    touching[40:44, 40:44, 40:44], touching[44:48, 40:44, 40:44] = 3, 4
    return SimpleNamespace(
        labels=touching, anomaly_map=volumes.anomaly_map, joined=(), own_map=None, threshold=SimpleNamespace(lowest=0.5)
    )


def test_a_mask_that_includes_the_face_shows_only_what_is_near_the_templates_brain() -> None:
    near = scenes.volumes().brain
    made = native_volumes(ready(), findings(), near)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in scenes.NATIVE_SHAPE], indexing="ij"), axis=-1)
    native = grid @ scenes.NATIVE_AFFINE[:3, :3].T + scenes.NATIVE_AFFINE[:3, 3]
    back = np.linalg.inv(WORLD)
    places = native @ back[:3, :3].T + back[:3, 3]
    size = np.sqrt((((places - (0, -17, 6)) / (68, 86, 66)) ** 2).sum(axis=-1))
    assert not made.brain[size > 1.04].any()
    assert made.brain[size < 0.96].all()
    small = np.zeros(scenes.NATIVE_SHAPE, bool)
    small[40:50, 40:50, 10:15] = True
    assert not native_volumes(ready(small), findings(), near).brain[~small].any()


def test_the_numbered_findings_are_the_mask_that_is_written() -> None:
    found, scan = findings(), ready()
    made = native_volumes(scan, found, np.ones(GRID_SHAPE, bool))
    mask = to_native((found.labels > 0).astype(np.float32), scan.scan, scan.prepared, 1) >= 0.5
    assert np.array_equal(made.labels > 0, mask)
    assert set(np.unique(made.labels)) == {0, 1, 2, 3, 4}
    assert np.array_equal(made.anomaly_map, to_native(found.anomaly_map, scan.scan, scan.prepared, 1))


def test_with_the_detail_of_the_scan_s_own_grid_map_and_mask_are_still_those_that_are_written() -> None:
    found, scan = findings(), ready()
    finer = np.random.default_rng(0).random(scenes.NATIVE_SHAPE).astype(np.float32)
    found.own_map = finer
    made = native_volumes(scan, found, np.ones(GRID_SHAPE, bool))
    written, mask = on_scan(found, scan.scan, scan.prepared)
    assert made.anomaly_map is written is finer
    assert mask.any()
    assert np.array_equal(made.labels > 0, mask)
    assert (finer[mask] > 0.5).all()


def test_a_finding_is_where_its_peak_is_in_native_space() -> None:
    """What the sidecar calls the native place of a peak leads to the finding with that number."""
    from uadcli.report.native import voxel

    made = dataclasses.replace(native_volumes(ready(), findings(), np.ones(GRID_SHAPE, bool))).cropped()
    for index, (centre, _) in enumerate(scenes.FINDINGS, start=1):
        mm = (WORLD @ [*centre, 1])[:3]
        assert made.labels[tuple(voxel(mm, made.affine, made.scan.shape))] == index
