"""`uad view`: sides, the hidden face, small findings, colours and plain characters."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import phantoms
import pytest

from uadcli import console
from uadcli.cli.app import main
from uadcli.errors import InputError
from uadcli.files import file_sha256
from uadcli.imaging import geometry
from uadcli.imaging.volume import Scan, read_scan
from uadcli.report import terminal
from uadcli.view import _on_grid as on_grid_of_map
from uadcli.view import view

SHAPE = (60, 72, 20)
AFFINE = np.array([[3.0, 0, 0, -90], [0, 3.0, 0, -120], [0, 0, 6.0, -50], [0, 0, 0, 1]])
LEFT = (12, 50, 12)  # a voxel on the patient's left, in front


def brain() -> np.ndarray:
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij"))
    return (grid**2).sum(axis=0) < 0.6


def write(folder: Path, voxel: tuple[int, int, int] = LEFT, face: float = 900) -> tuple[Path, Path]:
    """A map with one voxel of a high score, and a head whose tissue outside the brain is bright."""
    score = np.where(brain(), 0.1, 0).astype(np.float32)
    score[voxel] = 0.9
    head = np.where(brain(), 300 + 10 * np.indices(SHAPE)[0], face)
    return (
        phantoms.save(folder / "map.nii.gz", score, AFFINE, np.float32),
        phantoms.save(folder / "scan.nii.gz", head, AFFINE),
    )


def brightest(pixels: np.ndarray) -> tuple[int, int]:
    row, column = np.unravel_index(int(pixels.sum(axis=2).argmax()), pixels.shape[:2])
    return int(row), int(column)


def test_view_names_no_sides_if_unknown_and_aligns_scan_and_map(tmp_path: Path) -> None:
    """A scan whose header does not vouch for its orientation, and a map of it without codes: affines differ."""
    map_path, scan_path = write(tmp_path)
    image = nib.load(map_path)
    image.header["sform_code"] = image.header["qform_code"] = 0
    nib.Nifti1Image(np.asarray(image.dataobj), None, image.header).to_filename(tmp_path / "plain.nii.gz")
    stored = np.asarray(nib.load(scan_path).dataobj).astype(np.float32)
    mgh = nib.MGHImage(stored, AFFINE[[0, 2, 1, 3]])  # as if the slices were coronal
    mgh.header["goodRASFlag"] = 0
    mgh.to_filename(tmp_path / "a.mgh")
    heading, _ = view(tmp_path / "plain.nii.gz", tmp_path / "a.mgh", 120)
    assert heading.count("?") == 4
    assert heading.startswith("?")
    assert "±" in heading
    found, scan = read_scan(tmp_path / "plain.nii.gz"), read_scan(tmp_path / "a.mgh")
    assert not np.allclose(found.source_affine, scan.source_affine)
    assert np.array_equal(on_grid_of_map(scan, found), from_stored(stored, found))


def test_a_wider_picture_has_no_finer_pixels_than_a_millimetre(tmp_path: Path) -> None:
    small = phantoms.save(tmp_path / "map.nii.gz", brain(), AFFINE @ np.diag([0.5, 0.5, 0.5, 1]), np.float32)
    _, pixels = view(small, None, 4000)  # which would take gigabytes
    assert pixels.shape[1] < 2 * 90 + 108 + 6 * terminal.GAP


def from_stored(data: np.ndarray, scan: Scan) -> np.ndarray:
    return geometry.to_canonical(data, scan.source_affine)[0]


@pytest.mark.parametrize("index", range(0, 48, 7))
def test_the_patients_left_is_on_the_right_in_every_axis_order(index: int, tmp_path: Path) -> None:
    score = np.where(brain(), 0.1, 0).astype(np.float32)
    score[LEFT] = 0.9
    turned = phantoms.turned(phantoms.Volume(score, AFFINE), phantoms.orientations()[index])
    path = phantoms.save(tmp_path / "map.nii.gz", turned.data, turned.affine, np.float32)
    heading, pixels = view(path, None, 120)
    columns = starts(heading)
    assert [heading[n] for n in columns] == ["R", "R", "P"]
    assert "sagittal x -54" in heading
    axial, coronal, sagittal = (pixels[:, a:b] for a, b in zip(columns, [*columns[1:], None], strict=True))
    for panel in (axial, coronal):
        assert brightest(panel)[1] > 0.6 * panel.shape[1]
    assert brightest(axial)[0] < 0.4 * len(axial)  # in front: up in the axial panel, right in the sagittal one
    assert brightest(sagittal)[1] > 0.6 * sagittal.shape[1]


def test_no_side_is_concluded_from_coordinates_whose_origin_is_a_corner_of_the_grid(tmp_path: Path) -> None:
    """The voxel is on the patient's left, at +36 mm: the axial panel shows it next to L, and no word says right."""
    score = np.where(brain(), 0.1, 0).astype(np.float32)
    score[LEFT] = 0.9
    path = phantoms.save(tmp_path / "map.nii.gz", score, np.diag([3.0, 3.0, 6.0, 1]), np.float32)
    heading, pixels = view(path, None, 120)
    assert not {"left", "right"} & set(heading.split())
    axial = pixels[:, : starts(heading)[1]]
    assert brightest(axial)[1] > 0.6 * axial.shape[1]


def test_the_geometry_is_that_of_the_detection(tmp_path: Path) -> None:
    """Its sidecar names it: by the qform the voxel is on the left, by the mirrored sform on the right."""
    map_path, scan_path = write(tmp_path)
    for path in (map_path, scan_path):
        image = nib.load(path)
        image.header.set_sform(np.diag([-1, 1, 1, 1]) @ AFFINE, 1)
        nib.Nifti1Image(np.asarray(image.dataobj), None, image.header).to_filename(path)
    assert "?" in view(map_path, scan_path, 120)[0]
    sidecar = tmp_path / "map.json"
    for form, place in (("qform", "x -54"), ("sform", "x +53")):
        sidecar.write_text(json.dumps({"requested": {"geometry": form}}))
        assert place in view(map_path, scan_path, 120)[0]
    for other in ("[]", '{"requested": null}', '{"Modality": "MR"}'):  # of another program
        sidecar.write_text(other)
        assert "?" in view(map_path, None, 120)[0]
    for damaged in ("{", '{"requested": {"geometry": "form"}}'):
        sidecar.write_text(damaged)
        with pytest.raises(InputError, match=r"map\.json: is not the sidecar of a map"):
            view(map_path, None, 120)


def test_of_a_4d_scan_the_volume_of_the_detection_is_shown(tmp_path: Path) -> None:
    """The other volume is uniform; without a sidecar of this scan there is none to choose."""
    map_path, scan_path = write(tmp_path)
    head = np.asarray(nib.load(scan_path).dataobj)
    phantoms.save(tmp_path / "both.nii.gz", np.stack([np.full(SHAPE, 5), head], axis=3), AFFINE)
    requested = {"requested": {"volume": 1}}
    for known, digest in ((True, file_sha256(tmp_path / "both.nii.gz")), (False, "00")):
        (tmp_path / "map.json").write_text(json.dumps(requested | {"input": {"sha256": digest}}))
        if known:
            _, pixels = view(map_path, tmp_path / "both.nii.gz", 120)
            assert np.array_equal(pixels, view(map_path, scan_path, 120)[1])
        else:
            with pytest.raises(InputError, match="2 volumes"):
                view(map_path, tmp_path / "both.nii.gz", 120)


@pytest.mark.parametrize("code", [1, 4])
def test_a_scan_on_its_own_grid_behind_a_map_in_mni_space_is_warned_of(code: int, tmp_path: Path) -> None:
    map_path, scan_path = write(tmp_path)
    image = nib.load(map_path)
    image.set_sform(AFFINE, 4)
    image.to_filename(tmp_path / "mni.nii.gz")
    image = nib.load(scan_path)
    image.set_sform(AFFINE, code)
    image.to_filename(tmp_path / "a.nii.gz")
    warnings: list[str] = []
    view(tmp_path / "mni.nii.gz", tmp_path / "a.nii.gz", 120, warnings.append)
    assert ["MNI" in text for text in warnings] == ([True] if code == 1 else [])


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_finding_of_one_voxel_is_seen_at_any_width(width: int, tmp_path: Path) -> None:
    map_path, scan_path = write(tmp_path)
    heading, pixels = view(map_path, scan_path, width)
    assert len(heading.splitlines()[-1]) == pixels.shape[1] <= width
    assert pixels.shape[1] > 0.7 * width
    assert len(pixels) % 2 == 0
    assert (pixels.max(axis=(0, 1)) > (230, 230, 150)).all()


def starts(heading: str) -> list[int]:
    """The columns where the three panels begin."""
    return [match.start() for match in re.finditer(r"[RP] ", heading)]


@pytest.mark.parametrize("width", range(40, 121, 8))
def test_every_plane_is_named_in_full_at_any_width(width: int, tmp_path: Path) -> None:
    """In 60 columns it was cut off, in 50 `coronal y `, whatever the number."""
    heading, pixels = view(*write(tmp_path), width)
    lines = heading.splitlines()
    said = " ".join(" ".join(lines).replace("R", "").replace("L", "").split())
    assert re.search(r"axial z [+-]\d+\b.* coronal y [+-]\d+\b.* sagittal x -\d+", said)
    assert max(map(len, lines)) <= pixels.shape[1]
    assert re.fullmatch("R.*L  R.*L  P.*A", lines[-1])
    assert len(lines[-1]) == pixels.shape[1]


def test_nothing_outside_the_brain_is_shown(tmp_path: Path) -> None:
    map_path, scan_path = write(tmp_path)
    pixels = view(map_path, scan_path, 120)[1]
    (tmp_path / "other").mkdir()
    other = write(tmp_path / "other", face=3000)[1]  # the same brain in another head
    assert np.array_equal(view(map_path, other, 120)[1], pixels)
    assert not pixels[:4, :4].any()
    assert (pixels.max(axis=2) > 60).mean() > 0.2  # the brain itself is there


def test_a_scan_on_another_grid_lies_under_the_map(tmp_path: Path) -> None:
    map_path, scan_path = write(tmp_path)
    turned = phantoms.turned(phantoms.Volume(nib.load(scan_path).get_fdata(), AFFINE), phantoms.orientations()[29])
    finer = turned.affine @ np.diag([0.5, 0.5, 0.5, 1])
    finer[:3, 3] -= 0.25 * turned.affine[:3, :3].sum(axis=1)
    data = np.kron(turned.data, np.ones((2, 2, 2)))
    other = phantoms.save(tmp_path / "other.nii.gz", data, finer)
    one, two = view(map_path, scan_path, 120)[1].astype(int), view(map_path, other, 120)[1]
    assert np.abs(one - two).mean() < 4


def test_the_saved_brain_mask_is_used(tmp_path: Path) -> None:
    """The front half as mask: the sagittal panel is then narrower than the axial one, else wider."""
    map_path, scan_path = write(tmp_path)
    axial, coronal, sagittal = starts(view(map_path, scan_path, 120)[0])
    assert 120 - sagittal > coronal - axial
    half = brain().astype(np.int16)
    half[:, :36] = 0
    phantoms.save(tmp_path / "map_brain.nii.gz", half, AFFINE)
    axial, coronal, sagittal = starts(view(map_path, scan_path, 120)[0])
    assert 120 - sagittal < 0.8 * (coronal - axial)


def test_the_saved_brain_mask_is_found_under_any_name_of_the_map(tmp_path: Path) -> None:
    map_path, _ = write(tmp_path)
    half = brain().astype(np.int16)
    half[:, :36] = 0
    for name in ("sub.nii_T1w.nii.gz", "sub-01_desc-anomaly_map.nii.gz"):
        renamed = map_path.rename(tmp_path / name)
        whole = starts(view(renamed, None, 120)[0])
        phantoms.save(tmp_path / name.replace(".nii.gz", "_brain.nii.gz"), half, AFFINE)
        assert starts(view(renamed, None, 120)[0]) != whole
        map_path = renamed


def test_a_brain_mask_on_another_grid_is_said(tmp_path: Path) -> None:
    map_path, _ = write(tmp_path)
    phantoms.save(tmp_path / "map_brain.nii.gz", brain().astype(np.int16)[:, :-1], AFFINE)
    said = list[str]()
    view(map_path, None, 120, said.append)
    assert said == ["map_brain.nii.gz is not used: it is not on the grid of map.nii.gz"]


def test_the_scan_of_another_map_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    map_path, scan_path = write(tmp_path)
    (tmp_path / "other").mkdir()
    other = write(tmp_path / "other", face=3000)[1]
    own, further = file_sha256(scan_path), file_sha256(other)
    sidecar = tmp_path / "map.json"

    def said(scan: Path) -> list[str]:
        assert main(["view", str(map_path), "--scan", str(scan), "--width", "60"]) == 0
        return capsys.readouterr().err.splitlines()

    assert not said(other)  # without a sidecar
    sidecar.write_text(json.dumps({"input": {"sha256": own}, "contrasts": None}))
    assert not said(scan_path)
    assert said(other) == [f"warning: {other} is not the scan of this map: its sha256 is not in map.json"]
    sidecar.write_text(json.dumps({"input": {"sha256": own}, "contrasts": [{"sha256": own}, {"sha256": further}]}))
    assert not said(other)
    sidecar.write_text(json.dumps({"input": {"sha256": "0"}, "contrasts": [{"sha256": None}, {"sha256": further}]}))
    assert len(said(scan_path)) == 1
    for unsaid in ("[]", "{}", '{"input": "scan.nii.gz", "contrasts": 3}', '{"contrasts": ["T1w", {"sha256": null}]}'):
        sidecar.write_text(unsaid)  # of another program
        assert not said(other)


def test_panels_need_a_brain() -> None:
    nothing = np.zeros((4, 4, 4), np.float32)
    with pytest.raises(InputError, match="empty"):
        terminal.panels(None, nothing, nothing > 0, np.eye(4), (0, 0, 0))


def test_a_map_of_zeros_exits_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = phantoms.save(tmp_path / "map.nii.gz", np.zeros(SHAPE), AFFINE, np.float32)
    assert main(["view", str(path)]) == 3
    assert "zero everywhere" in capsys.readouterr().err
    assert main(["view", str(tmp_path / "none.nii.gz")]) == 3


def test_colours_on_a_terminal_and_characters_elsewhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = [[[255, 0, 0], [0, 0, 0]], [[0, 0, 255], [255, 255, 255]]]
    monkeypatch.delenv("NO_COLOR", raising=False)
    console.print_picture("R L", pixels)
    assert capsys.readouterr().out == "R L\n-=\n"
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("TERM", "xterm-256color")
    console.print_picture("R L", pixels)
    shown = capsys.readouterr().out
    assert "38;2;255;0;0;48;2;0;0;255m\u2580" in shown
    assert shown.count("\u2580") == 2
    monkeypatch.setenv("NO_COLOR", "1")
    console.print_picture("R L", pixels)
    assert "\u2580" not in capsys.readouterr().out


def test_the_command(tmp_path: Path) -> None:
    map_path, scan_path = write(tmp_path)
    command = [sys.executable, "-m", "uadcli", "view", map_path, "--scan", scan_path, "--width", "60"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert "axial" in lines[0]
    assert len({len(line) for line in lines[1:]}) == 1
    assert "@" in done.stdout or "%" in done.stdout
