"""The page in native space: what it shows, that nothing outside the brain is in it, and that it loads nothing."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
import re
from html import unescape
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import scenes

from uadcli.detection import niivue
from uadcli.errors import RESEARCH_USE, InputError
from uadcli.report.markup import render
from uadcli.report.page import native_page
from uadcli.report.viewer import VERSION, licence_text

LIBRARY = "globalThis.niivue = {};"
LIMIT = 6_000_000  # bytes
SHOWN = ("scan", "map", "labels")


def made(native: Any = None, content: Any = None) -> str:
    return native_page(scenes.volumes(), native or scenes.native(), content or scenes.sidecar(), LIBRARY)


@pytest.fixture(scope="module")
def html() -> str:
    return made()


def data_of(html: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)
    assert found
    return dict(json.loads(found[1]))


def files(html: str) -> dict[str, nib.Nifti1Image]:
    """The NIfTI files of a page by name."""
    data = data_of(html)
    packed = {"map": data["map"], "labels": data["labels"]} | {one["name"]: one["file"] for one in data["pictures"]}
    return {name: nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(one))) for name, one in packed.items()}


def whole(image: nib.Nifti1Image) -> np.ndarray:
    """The volume of a page on the scan's grid, 0 outside the box that the page has."""
    low = np.round(np.linalg.inv(scenes.NATIVE_AFFINE) @ image.affine[:, 3])[:3].astype(int)
    volume = np.zeros(scenes.NATIVE_SHAPE, np.float32)
    volume[tuple(slice(a, a + n) for a, n in zip(low, image.shape, strict=True))] = image.get_fdata()
    return volume


def test_no_voxel_outside_the_brain_mask_is_in_the_page(html: str) -> None:
    """Around the brain the scan is brighter than anywhere in it, and marked: it would be seen."""
    native = scenes.native()
    outside = ~native.brain
    assert (native.scan[outside] > native.scan[native.brain].max()).all()
    marked = dataclasses.replace(native, labels=np.where(outside, 9, native.labels).astype(np.uint8))
    for page in (html, made(marked)):
        for name in SHOWN:
            assert not whole(files(page)[name])[outside].any(), name
    assert made(marked) == html


def test_the_volumes_are_those_of_the_scan_where_it_has_them(html: str) -> None:
    native, seen = scenes.native(), files(html)
    inside = native.brain
    for image in seen.values():
        assert image.get_data_dtype() == np.uint8
        assert np.allclose(image.affine[:3, :3], scenes.NATIVE_AFFINE[:3, :3], atol=1e-4)
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    assert np.array_equal(whole(seen["labels"]), native.labels * inside)
    step = data_of(html)["score_max"] / 255
    assert np.abs(whole(seen["map"]) - native.anomaly_map)[inside].max() <= step
    greys = whole(seen["scan"])[inside]
    assert np.corrcoef(greys, native.scan[inside])[0, 1] > 0.99
    assert greys.min() >= 1  # 0 is outside


def test_the_headers_have_no_text(html: str) -> None:
    for image in files(html).values():
        for key in ("descrip", "aux_file", "intent_name"):
            assert not image.header[key].tobytes().strip(b"\0"), key


def test_rows_of_the_table_know_their_voxels_in_the_box(html: str) -> None:
    labels = files(html)["labels"]
    rows = re.findall(r'data-index="(\d)" data-voxel="([\d,]+)"', html)
    assert [index for index, _ in rows] == ["1", "2"]
    for (index, text), (centre, _) in zip(rows, scenes.FINDINGS, strict=True):
        voxel = np.array([int(n) for n in text.split(",")])
        assert labels.get_fdata()[tuple(voxel)] == int(index)
        off = np.linalg.inv(labels.affine) @ [*centre, 1]
        assert np.abs(off[:3] - voxel).max() <= 0.5 + 1e-6


def test_nothing_is_loaded_and_only_the_known_scripts_run(html: str) -> None:
    assert "http://" not in html
    assert "https://" not in html
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy
    assert "default-src &#39;none&#39;" in policy[1] or "default-src 'none'" in policy[1]
    assert "unsafe" not in policy[1]
    assert policy[1].count("sha256-") == 3  # the style and two scripts
    assert html.count("<script") == 3
    for attribute in re.findall(r'\b(?:src|href|srcset|action)="([^"]*)"', html):
        assert attribute.startswith("data:")


def test_it_says_what_it_is(html: str) -> None:
    for part in (RESEARCH_USE, "2 regions are marked", "the patient&#39;s right (R)", "1.8 x 1.8 x 5.5 mm", VERSION):
        assert part in html or part.replace("&#39;", "'") in html, part
    assert "<title>sub-01_FLAIR.nii.gz: anomaly map</title>" in html
    assert "Copyright (c) 2021, Niivue" in html
    assert "jane doe" not in html


def test_the_licences_keep_their_lines(html: str) -> None:
    """A line break is among the signs that are replaced in names."""
    shown = re.search(r"<pre>\n(.*?)</pre>", html, re.S)
    assert shown
    assert unescape(shown[1]) == licence_text()
    assert "\ufffd" not in html


def test_no_side_is_named_where_left_and_right_are_not_known() -> None:
    content = scenes.sidecar()
    for one in content["anomaly"]["components"]:
        one |= {"regions": None, "side": None}
    unknown = dataclasses.replace(scenes.native(), sides_known=False)
    html = native_page(dataclasses.replace(scenes.volumes(), sides_known=False), unknown, content, LIBRARY)
    assert "Left and right are unknown" in html
    assert "(R)" not in html
    assert data_of(html)["sides_known"] is False


def test_other_contrasts_can_be_chosen() -> None:
    native = scenes.native()
    volumes = dataclasses.replace(scenes.volumes(), further={"T1w": scenes.volumes().recon})
    both = dataclasses.replace(native, further={"T1w": -native.scan})
    html = native_page(volumes, both, scenes.sidecar(), LIBRARY)
    assert [one["name"] for one in data_of(html)["pictures"]] == ["scan", "T1w"]
    assert '<option value="1">T1w</option>' in html
    assert not whole(files(html)["T1w"])[~native.brain].any()
    first, second = (whole(files(html)[name])[native.brain] for name in ("scan", "T1w"))
    assert np.corrcoef(first, second)[0, 1] < -0.99
    assert 'id="picture"' not in made()


def test_an_empty_mask_is_refused() -> None:
    with pytest.raises(InputError, match="empty"):
        made(dataclasses.replace(scenes.native(), brain=np.zeros(scenes.NATIVE_SHAPE, bool)))


def test_a_page_stays_under_6_mb_even_where_a_brain_at_1_mm_is_all_noise() -> None:
    """The example's page has 3.5 MB; here as many voxels as a brain of 1.4 l has at 1 mm cannot be compressed."""
    small = scenes.native()
    noise = np.random.default_rng(0).random((140, 175, 57)).astype(np.float32)
    brain = np.ones(noise.shape, bool)
    worst = dataclasses.replace(
        small, scan=noise, anomaly_map=np.zeros_like(noise), labels=brain.astype(np.uint8), brain=brain
    )
    assert len(native_page(scenes.volumes(), worst, scenes.sidecar(), niivue.script()).encode()) < LIMIT


@pytest.mark.parametrize("evil", ["x = '</SCRIPT>'", "x <!-- y"])
def test_a_library_that_would_end_its_element_is_refused(evil: str) -> None:
    with pytest.raises(ValueError, match="library"):
        render("native.html", scripts=("native.js",), library=evil)
