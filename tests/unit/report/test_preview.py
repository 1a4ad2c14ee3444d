"""The picture: sides, the hidden face, threshold, geometry of the voxels, and files."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
import scenes
from matplotlib import image

from uadcli.errors import InputError, OutputError
from uadcli.report.check_pictures import mask_picture, registration_picture
from uadcli.report.preview import Overlay, render_overlay

SEEN = {"threshold": 0.2, "title": "sub-01_FLAIR.nii.gz"}
LEFT_OF_PATIENT = (-35.0, -20.0, 20.0)
WIDTH = 1320  # pixels
PANELS_END = 0.917  # of the width; the colour bar is beyond


def phantom(place=LEFT_OF_PATIENT, spacing=(2.0, 2.0, 2.0), radius=12.0):
    """Scan, map, mask, brain mask and affine of a uniform ellipsoid with a ball at `place` (mm, RAS+)."""
    shape = [round(n / s) for n, s in zip((180, 216, 180), spacing, strict=True)]
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-90, -126, -72)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    world = grid * np.array(spacing) + affine[:3, 3]
    brain = (((world - (0, -16, 14)) / (68, 86, 66)) ** 2).sum(axis=-1) < 1
    scan = np.where(brain, 500 + world[..., 2], 0).astype(np.float32)
    ball = np.zeros(shape, bool) if place is None else np.linalg.norm(world - place, axis=-1) < radius
    return scan, np.where(ball, 0.8, 0.0).astype(np.float32), ball, brain, affine


def render(path, volumes, **changed):
    render_overlay(path, Overlay(*volumes, **(SEEN | changed)))
    return image.imread(path)[..., :3]


def outlined(picture):
    """Pixels of the outline around what is marked (blue), without the colour bar, which has blue text too."""
    return picture[:, : int(PANELS_END * WIDTH), 2] - picture[:, : int(PANELS_END * WIDTH), 0] > 0.35


def rows(picture):
    """Pixel bounds of the three rows of panels: runs of rows where the black of a panel is found."""
    black = (picture[:, : int(PANELS_END * WIDTH)] == 0).all(axis=-1).mean(axis=1) > 0.05
    edges = np.flatnonzero(np.diff(np.concatenate([[0], black.astype(int), [0]])))
    found = [(a, b) for a, b in edges.reshape(-1, 2) if b - a > 40]
    assert len(found) == 3
    return found


def side_of_findings(picture, row):
    """Where the outline of the one finding lies in its panel of a row: 0 at the left edge, 1 at the right edge."""
    top, bottom = rows(picture)[row]
    columns = np.flatnonzero(outlined(picture[top:bottom]).any(axis=0))
    inside = _panel(picture[top:bottom])
    gaps = np.flatnonzero(~inside)
    places = []
    for column in columns:
        start, stop = gaps[gaps < column].max(), gaps[gaps > column].min()
        places.append((column - start) / (stop - start))
    return float(np.mean(places))


def _panel(strip):
    """Columns that belong to a panel: not the colour of the paper from top to bottom."""
    paper = np.array([16, 16, 16]) / 255
    return (np.abs(strip - paper) > 0.02).any(axis=-1).any(axis=0)


def test_no_side_is_named_where_left_and_right_are_not_known(tmp_path, monkeypatch):
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    said = []
    for kind, place in ((Axes, 2), (Figure, 2)):
        whole = kind.text
        monkeypatch.setattr(kind, "text", lambda *a, w=whole, n=place, **k: said.append(a[n + 1]) or w(*a, **k))
    for known in (True, False):
        said.clear()
        render(tmp_path / "a.png", phantom(), sides_known=known)
        assert ("R" in said) == ("L" in said) == known
        assert ("?" in said) != known
        assert any("Left and right are unknown" in text for text in said) != known


@pytest.mark.parametrize("row", [0, 1], ids=["axial", "coronal"])
@pytest.mark.parametrize(("x", "right_half"), [(-35.0, True), (35.0, False)], ids=["left", "right"])
def test_the_patients_left_is_on_the_right_of_the_image(tmp_path, row, x, right_half):
    picture = render(tmp_path / "a.png", phantom((x, -20, 20), radius=8))
    assert (side_of_findings(picture, row) > 0.6) == right_half
    assert (side_of_findings(picture, row) < 0.4) != right_half  # clearly on one side, not about the middle


@pytest.mark.parametrize(("y", "right_half"), [(40.0, True), (-70.0, False)], ids=["front", "back"])
def test_the_front_is_on_the_right_of_sagittal_views(tmp_path, y, right_half):
    picture = render(tmp_path / "a.png", phantom((-20, y, 14), radius=8))
    assert (side_of_findings(picture, 2) > 0.6) == right_half


def test_superior_is_up(tmp_path):
    picture = render(tmp_path / "a.png", phantom((0, -16, 60), radius=8))
    top, bottom = rows(picture)[1]
    heights = np.flatnonzero(outlined(picture[top:bottom]).any(axis=1))
    assert heights.mean() < 0.4 * (bottom - top)


def test_nothing_outside_the_brain_mask_changes_the_picture(tmp_path):
    scan, score, found, brain, affine = phantom()
    rng = np.random.default_rng(0)
    face = np.where(brain, scan, rng.uniform(-5000, 5000, scan.shape)).astype(np.float32)
    noisy = np.where(brain, score, 5).astype(np.float32)
    plain = render(tmp_path / "a.png", (scan, score, found, brain, affine))
    other = render(tmp_path / "b.png", (face, noisy, found | ~brain, brain, affine))
    assert np.array_equal(plain, other)


@pytest.mark.parametrize("offset", [-900.0, 0.0, 900.0])
def test_outside_is_black_for_any_range_of_the_scan(tmp_path, offset):
    scan, score, found, brain, affine = phantom()
    picture = render(tmp_path / "a.png", (scan + np.float32(offset), score, found, brain, affine))
    assert (picture == 0).all(axis=-1).mean() > 0.1


@pytest.mark.parametrize(("slope", "shift"), [(1e-9, 0.0), (1e12, -1024e12)])
def test_the_unit_of_the_intensities_does_not_change_the_picture(tmp_path, slope, shift):
    scan, score, found, brain, affine = phantom()
    plain = render(tmp_path / "a.png", (scan, score, found, brain, affine))
    other = render(tmp_path / "b.png", ((scan * slope + shift).astype(np.float32), score, found, brain, affine))
    assert np.abs(plain - other).max() < 2 / 255


def test_a_scan_without_findings_has_no_outline(tmp_path):
    picture = render(tmp_path / "a.png", phantom(None))
    for top, bottom in rows(picture):
        assert not outlined(picture[top:bottom]).any()


def test_overlay_is_strong_above_the_threshold_faint_below_and_absent_far_below(tmp_path):
    scan, score, none, brain, affine = (*phantom()[:2], np.zeros_like(phantom()[2]), *phantom()[3:])
    plain, *others = (
        render(tmp_path / "a.png", (scan, score * factor, none, brain, affine), threshold=0.5)
        for factor in np.float32([0, 0.05, 0.5, 1])  # of 0.8, where all four scales end
    )
    absent, faint, strong = (np.abs(other - plain).max() for other in others)
    assert absent < 0.02 < faint < strong / 2


def lines_below_the_bar(picture):
    """The number of lines of blue text below the colour bar."""
    bar = picture[int(0.8 * len(picture)) :, int(PANELS_END * WIDTH) :]
    inked = (bar[..., 2] - bar[..., 0] > 0.2).any(axis=1)
    return int((np.diff(inked.astype(int), prepend=0) == 1).sum())


def test_the_colour_bar_names_the_threshold_and_the_extent_below_it(tmp_path):
    scan, score, found, brain, affine = phantom()
    assert lines_below_the_bar(render(tmp_path / "a.png", (scan, score, found, brain, affine))) == 2
    assert lines_below_the_bar(render(tmp_path / "a.png", (scan, score, found, brain, affine), extent=0.1)) == 4


def test_overlay_is_as_strong_above_the_extent_as_above_the_threshold(tmp_path):
    scan, score, none, brain, affine = (*phantom()[:2], np.zeros_like(phantom()[2]), *phantom()[3:])
    volumes = (scan, score * np.float32(0.5), none, brain, affine)  # 0.4
    by_one, by_another, below = (
        render(tmp_path / "a.png", volumes, threshold=0.6, **more)[:, : int(PANELS_END * WIDTH)]
        for more in ({"extent": 0.39}, {"extent": 0.2}, {})
    )
    assert np.array_equal(by_one, by_another)
    assert np.abs(by_another - below).max() > 0.1


def test_a_small_finding_is_met_in_every_plane(tmp_path):
    picture = render(tmp_path / "a.png", phantom((-21, 33, 41), radius=4))
    for top, bottom in rows(picture):
        assert outlined(picture[top:bottom]).any()


def test_the_outline_runs_along_the_edges_of_the_voxels_that_are_marked(tmp_path, monkeypatch):
    """Also in thick slices near the top of the picture, where half a voxel is millimetres."""
    from matplotlib.axes import Axes

    drawn, contour = [], Axes.contour

    def kept(axes, found, *places, **more):
        lines = contour(axes, found, *places, **more)
        drawn.append((axes, found, np.concatenate(lines.allsegs[0])))
        return lines

    monkeypatch.setattr(Axes, "contour", kept)
    render(tmp_path / "a.png", phantom((0, -16, 62), (2.0, 2.0, 9.0)))
    assert len(drawn) >= 3
    for axes, found, line in drawn:
        size = np.array([axes.get_xlim()[1], axes.get_ylim()[1]]) / found.shape[::-1]  # of a voxel
        marked = np.argwhere(found > 0.5)[:, ::-1]
        assert line.min(axis=0) == pytest.approx(marked.min(axis=0) * size)
        assert line.max(axis=0) == pytest.approx((marked.max(axis=0) + 1) * size)


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (0.9, 0.9, 5.0), (3.0, 1.0, 2.0)])
def test_the_brain_has_its_proportions_for_any_spacing(tmp_path, spacing):
    scan, *others = phantom(None, spacing)
    grain = np.random.default_rng(0).uniform(0.6, 1, scan.shape).astype(np.float32)  # no edge fades into the black
    picture = render(tmp_path / "a.png", (grain, *others))
    for (top, bottom), (wide, high) in zip(rows(picture), [(68, 86), (68, 66), (86, 66)], strict=True):
        row = picture[top:bottom]
        grey = (row.max(axis=-1) - row.min(axis=-1) < 0.02) & (row[..., 0] > 0.15)
        panels = np.flatnonzero(np.diff(np.concatenate([[0], _panel(row).astype(int), [0]]))).reshape(-1, 2)
        start, stop = [(a, b) for a, b in panels if b - a > 100][2]  # text is narrower; the third of six
        brain = np.argwhere(grey[:, start:stop])
        height, width = np.ptp(brain, axis=0) + 1
        assert width / height == pytest.approx(wide / high, rel=0.08)


@pytest.mark.parametrize(
    "title", ["$x_{$.nii.gz", "sub-" + "9" * 300 + ".nii.gz", "süß 脳.nii.gz", "a\nb \udcff.nii.gz", ""]
)
@pytest.mark.filterwarnings("ignore:Glyph")
def test_any_file_name_is_only_text(tmp_path, title):
    assert render(tmp_path / "a.png", phantom(), title=title).shape == render(tmp_path / "b.png", phantom()).shape


def test_a_constant_brain_and_a_brain_of_one_voxel_are_drawn(tmp_path):
    scan, score, found, brain, affine = phantom()
    render(tmp_path / "a.png", (np.where(brain, 7, 0).astype(np.float32), score, found, brain, affine))
    one = np.zeros_like(brain)
    one[40, 50, 40] = True
    render(tmp_path / "b.png", (scan, score, found, one, affine))


@pytest.mark.parametrize("picture", [mask_picture, registration_picture])
def test_the_check_pictures_have_the_left_of_the_patient_on_the_right(picture):
    v = scenes.volumes()
    on_the_left = np.where(scenes.world()[..., 0] < 0, 1, 0).astype(np.float32)
    template = v.template_brain if picture is mask_picture else v.template_tissue
    shown = image.imread(io.BytesIO(picture(on_the_left, v.brain, template, v.affine)))[..., :3]
    grey = np.where(np.ptp(shown, axis=-1) < 0.02, shown[..., 0], 0)
    for panel in np.split(grey, 6, axis=1)[:4]:  # axial and coronal
        left, right = np.split(panel[40:-20], 2, axis=1)
        assert right.mean() > 5 * left.mean()


def test_the_check_pictures_name_the_side_of_their_sagittal_cuts(monkeypatch):
    from matplotlib.axes import Axes

    v, titles = scenes.volumes(), []
    monkeypatch.setattr(Axes, "set_title", lambda _, text, **__: titles.append(text))
    for known in (True, False):
        mask_picture(v.scan, v.brain, v.brain, v.affine, known)
    assert [title for title in titles if title.startswith("x")] == [
        "x = -25 mm (left)",
        "x = +9 mm (right)",
        "x = ±25 mm",
        "x = ±9 mm",
    ]


def test_an_empty_brain_mask_is_an_input_error(tmp_path):
    scan, score, found, brain, affine = phantom()
    with pytest.raises(InputError, match="brain mask is empty"):
        render_overlay(tmp_path / "a.png", Overlay(scan, score, found, brain & False, affine, **SEEN))


def test_the_same_input_gives_the_same_bytes_and_only_one_file(tmp_path):
    for name in ("a.png", "b.png"):
        render(tmp_path / name, phantom())
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.png", "b.png"]


def test_a_folder_that_is_not_there_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"):
        render_overlay(tmp_path / "none" / "a.png", Overlay(*phantom(), **SEEN))
    assert not os.listdir(tmp_path)


def test_pyplot_and_displays_are_not_used(tmp_path):
    import subprocess
    import sys

    code = (
        "import sys, numpy as np; from pathlib import Path; from uadcli.report.preview import Overlay, render_overlay; "
        "b = np.ones((20, 20, 20), bool); s = b.astype(np.float32); "
        f"render_overlay(Path({str(tmp_path / 'a.png')!r}), Overlay(s, s, b, b, np.eye(4), 0.5, 't')); "
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND")}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


def test_each_further_contrast_has_a_row_with_the_outline(tmp_path):
    volumes = phantom()
    scan, *_, brain, _ = volumes
    other = np.where(brain, 900 - scan, 0).astype(np.float32)
    other[: scan.shape[0] // 4] = 0  # out of its field of view
    alone, both = (render(tmp_path / f"{n}.png", volumes, further=f) for n, f in (("a", {}), ("b", {"T1w": other})))
    more = both.shape[0] - alone.shape[0]
    assert more > 100
    bottom = both[-more - 40 :]
    assert outlined(bottom).sum() > 50
    warm = bottom[:, : int(PANELS_END * WIDTH)]
    assert not ((warm[..., 0] - warm[..., 2]) > 0.5)[:, 60:].sum() > 500  # the map itself is drawn on the first scan
