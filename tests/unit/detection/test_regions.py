"""Names of places: left is the patient's left whatever the scan's axes, parts add up, and nothing is guessed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import phantoms
import pytest
import scenes

from uadcli.config import DetectConfig
from uadcli.data.prepare import Prepared
from uadcli.detection import record
from uadcli.imaging import geometry, template
from uadcli.imaging.slices import GRID_AFFINE, GRID_SHAPE
from uadcli.imaging.volume import read_scan
from uadcli.model.components import find, strength_of, volume_ml
from uadcli.report import phrases
from uadcli.report.page import page
from uadcli.scoring.components import components

# in mm, RAS+, with the structure that lies there
PLACES = [
    ((-28.0, -20.0, 30.0), "left cerebral white matter"),
    ((28.0, -20.0, 30.0), "right cerebral white matter"),
    ((-11.0, -18.0, 8.0), "left thalamus"),
    ((26.0, 2.0, 0.0), "right putamen"),
    ((-38.0, -68.0, -38.0), "left cerebellar cortex"),
    ((0.0, -28.0, -32.0), "brainstem"),
]


def prepared() -> Prepared:
    data = np.zeros(GRID_SHAPE, np.float32)
    return Prepared(data, data > 0, np.eye(4), "none", 1400, 0.0, 1.0, 1.0)


def found(marked: np.ndarray) -> list[dict]:
    """The component table of the sidecar for what is marked on the model's grid."""
    one = prepared()
    _, table = find(marked.astype(np.float32), 0.5, one, DetectConfig())
    return [record.row(c, one, None) for c in table]


def ball(centre: tuple[float, float, float], radius: float) -> np.ndarray:
    return np.linalg.norm(scenes.world() - np.array(centre), axis=-1) <= radius


@pytest.mark.parametrize(("centre", "name"), PLACES)
def test_a_ball_has_the_name_of_its_place(centre: tuple[float, float, float], name: str) -> None:
    (one,) = found(ball(centre, 5))
    assert one["regions"][0]["name"] == name
    assert one["regions"][0]["share"] > 0.7


@pytest.mark.parametrize(("voxels", "kept"), [(2, True), (1, False)])
def test_the_smallest_volume_is_that_in_the_patient(voxels: int, kept: bool) -> None:
    """In a head twice as wide as the template 2 voxels of 8 mm3 have 32 mm3; the default is 24."""
    wide = dataclasses.replace(prepared(), world_map=np.diag([2.0, 1, 1, 1]))
    scores = np.zeros(GRID_SHAPE, np.float32)
    scores[40, 40, 40 : 40 + voxels] = 0.7
    table = find(scores, 0.5, wide, DetectConfig())[1]
    assert volume_ml(table, wide) == pytest.approx(0.032 if kept else 0)
    assert strength_of(scores, wide, DetectConfig()) == pytest.approx(0.7 if kept else 0)


@pytest.mark.parametrize("orientation", phantoms.orientations()[::5])
def test_left_stays_left_whatever_the_axes_of_the_file(orientation: np.ndarray, tmp_path: Path) -> None:
    """A large ball is painted on the left, a small one on the right."""
    head = template.head()
    balls = phantoms.ball(head, (-28.0, -20.0, 30.0), 9) | phantoms.ball(head, (28.0, -20.0, 30.0), 6)
    turned = phantoms.turned(phantoms.Volume(np.where(balls, 200, 1).astype(np.float32), head.affine), orientation)
    scan = read_scan(phantoms.save(tmp_path / "a.nii", turned.data, turned.affine))
    marked = geometry.resample(scan.volume.data, scan.volume.affine, GRID_SHAPE, GRID_AFFINE) > 100
    for one, side in zip(found(marked), ("left", "right"), strict=True):
        assert one["regions"][0]["name"] == f"{side} cerebral white matter"
        assert all(part["name"].startswith(side) for part in one["regions"])


@pytest.mark.parametrize(("x", "side"), [(-28.0, "left"), (28.0, "right"), (1.0, "both")])
def test_side_is_the_patients_and_null_where_left_and_right_are_not_known(x: float, side: str) -> None:
    _, table = find(ball((x, -20.0, 30.0), 9).astype(np.float32), 0.5, prepared(), DetectConfig())
    known, unknown = (record.row(table[0], prepared(), None, sides_known=known) for known in (True, False))
    assert known["side"] == side
    assert unknown["side"] is None
    assert not any("left" in part["name"] or "right" in part["name"] for part in unknown["regions"])
    both = [part["name"].removeprefix("left ").removeprefix("right ") for part in known["regions"]]
    assert {part["name"] for part in unknown["regions"]} == set(both)
    assert sum(p["share"] for p in unknown["regions"]) == pytest.approx(sum(p["share"] for p in known["regions"]))


def test_a_finding_on_both_sides_has_no_side_by_its_centre() -> None:
    """Its centre is well on the left, and more than a third of it on the right."""
    one = ball((-12.0, -20.0, 20.0), 12) | ball((8.0, -20.0, 20.0), 11)
    _, table = find(one.astype(np.float32), 0.5, prepared(), DetectConfig())
    assert table[0].centroid_mm[0] < -2
    for sign, left in ((1, table[0].left), (-1, 1 - table[0].left)):
        mirrored = np.ascontiguousarray(one[::sign])
        _, again = find(mirrored.astype(np.float32), 0.5, prepared(), DetectConfig())
        assert again[0].left == pytest.approx(left)
        assert record.row(again[0], prepared(), None)["side"] == "both"


def test_sides_and_sizes_are_those_of_a_brain() -> None:
    atlas, names, x = template.regions(), template.region_names(), scenes.world()[..., 0]
    assert atlas.shape == GRID_SHAPE
    assert atlas.dtype == np.uint8
    assert set(np.unique(atlas)) - {0} == set(names)
    numbers = {name: number for number, name in names.items()}
    for name, number in numbers.items():
        if name.startswith("left "):
            left, right = atlas == number, atlas == numbers[name.replace("left", "right")]
            assert (x[left] < 0).mean() > 0.97, name
            assert (x[right] > 0).mean() > 0.97, name
            assert 0.8 < left.sum() / right.sum() < 1.25, name


def test_it_lies_on_the_template() -> None:
    """Its tissues are those that the template's own tissue map shows."""
    tissue, names, atlas = template.on_grid("mni_tissue_dseg"), template.region_names(), template.regions()
    brain = template.on_grid("mni_brain_mask") > 0
    assert (brain & (atlas > 0)).sum() / (atlas > 0).sum() > 0.97
    assert (brain & (atlas > 0)).sum() / brain.sum() > 0.8

    def part(words_: str, value: int) -> float:
        here = np.isin(atlas, [n for n, name in names.items() if words_ in name]) & (tissue > 0)
        return float((tissue[here] == value).mean())

    assert part("lateral ventricle", 1) > 0.45  # these heads have larger ventricles than the template
    assert part("cerebral white matter", 3) > 0.8
    assert part("cerebral cortex", 2) > 0.7


def test_a_finding_across_the_midline_has_its_parts() -> None:
    marked = ball((0.0, -20.0, 50.0), 18)
    (one,) = found(marked)
    share = {part["name"]: part["share"] for part in one["regions"]}
    sides = [sum(v for k, v in share.items() if k.startswith(side)) for side in ("left", "right")]
    assert min(sides) > 0.35
    assert sum(share.values()) <= 1
    assert list(share.values()) == sorted(share.values(), reverse=True)
    assert sum(share.values()) == pytest.approx((template.regions()[marked] > 0).mean())


def test_outside_every_region_is_null_and_never_a_guess() -> None:
    (one,) = found(ball((-80.0, 60.0, 70.0), 6))
    assert one["regions"] is None
    assert phrases.regions_phrase(one["regions"]) == phrases.OUTSIDE
    _, (bare,) = components(np.ones((3, 3, 3), np.float32), 0.5, 0, np.eye(4))
    assert bare.regions == ()


def test_more_findings_than_labels_each_keep_their_own_place() -> None:
    """Labels end at 255, places do not."""
    marked, atlas = np.zeros((60, 60, 4), np.float32), np.zeros((60, 60, 4), np.uint8)
    marked[::2, ::2, 0] = 1
    atlas[::2, ::2, 0] = np.arange(900).reshape(30, 30) % 7
    _, table = components(marked, 0.5, 0, np.eye(4), atlas)
    assert len(table) == 900
    for one in table:
        x, y, z = (int(v) for v in one.peak_mm)
        number = int(atlas[x, y, z])
        assert one.regions == (((number, 1.0),) if number else ())


def test_words() -> None:
    parts = [("a", 0.5), ("b", 0.2), ("c", 0.12), ("d", 0.06), ("e", 0.02)]
    assert phrases.regions_phrase([{"name": n, "share": s} for n, s in parts]) == "a 50 %, b 20 %, c 12 %, outside 10 %"
    assert phrases.regions_phrase([{"name": "a", "share": 0.03}]) == "a 3 %, outside 97 %"
    assert phrases.regions_phrase([]) == phrases.OUTSIDE


def test_the_page_names_places() -> None:
    html = page(scenes.volumes(), scenes.sidecar())
    assert "left cerebral white matter 62\u00a0%, left cerebral cortex 28\u00a0%, outside 10\u00a0%" in html
    assert phrases.OUTSIDE in html
    assert "not this patient's anatomy" in html
