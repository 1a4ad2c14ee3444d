"""The page in native space in a real browser: NiiVue draws it from the file alone, and controls and keys act."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scenes
from browser import SOFTWARE_GL, Browser

from uadcli.detection import niivue
from uadcli.report.page import native_page

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.slow]

DRAWN = "document.documentElement.dataset.drawn"
READOUT = "document.getElementById('readout').textContent"
PLACE = "document.getElementById('place').textContent"
MARKED = (56, 217, 255)  # the colour of the outline


def written(folder: Path, native: Any, content: dict[str, Any]) -> Path:
    path = folder / "map <1>.html"
    path.write_text(native_page(scenes.volumes(), native, content, niivue.script()), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("profile"), SOFTWARE_GL)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("page"), plain(), scenes.sidecar())


@pytest.fixture
def opened(browser: Browser, file: Path) -> Iterator[Browser]:
    browser.open(file, DRAWN)
    yield browser
    assert browser.errors == []
    assert {url.split(",")[0].split("/")[0] for url in browser.requests} <= {"file:", "data:image"}


def plain() -> Any:
    """Everything in the brain has one grey, but what is below the middle is darker."""
    native = scenes.native()
    height = np.arange(scenes.NATIVE_SHAPE[2])[None, None] * np.ones(scenes.NATIVE_SHAPE)
    scan = np.where(native.brain, np.where(height < 15, 0.3, 0.6), scenes.AROUND).astype(np.float32)
    return dataclasses.replace(native, scan=scan)


def press(browser: Browser, key: str) -> None:
    before = browser.run(DRAWN)
    browser.key(key)
    browser.until(f"{DRAWN} !== {before!r}")


def picture(browser: Browser) -> np.ndarray:
    """What the viewer shows, (rows, columns, 3)."""
    from PIL import Image

    x, y, wide, high = browser.run(
        "(b => [b.x + scrollX, b.y + scrollY, b.width, b.height])"
        "(document.getElementById('native').getBoundingClientRect())"
    )
    clip = {"x": x, "y": y, "width": wide, "height": high, "scale": 1}
    taken = browser.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)["data"]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(taken))).convert("RGB")).astype(int)


def near(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.abs(pixels - colour).max(axis=-1) < 30


def test_it_opens_at_the_first_finding_without_any_request(opened: Browser) -> None:
    readout = opened.run(READOUT)
    assert "finding 1" in readout
    assert "score 0.80" in readout
    assert readout.startswith("x -3")
    assert opened.run("document.querySelector('tr.chosen').dataset.index") == "1"
    assert opened.run("document.getElementById('too-old').hidden")


def test_the_patients_left_is_on_the_right_and_the_mask_has_an_edge(opened: Browser) -> None:
    press(opened, "1")
    pixels = picture(opened)
    edge = near(pixels, MARKED)
    shown = pixels.max(axis=-1) > 60
    middle = np.nonzero(shown.any(axis=0))[0].mean()
    assert edge.sum() > 100
    assert np.nonzero(edge)[1].mean() > middle  # the first finding is on the patient's left
    press(opened, "o")
    assert not near(picture(opened), MARKED).any()
    press(opened, "o")
    corner = pixels[:20, :20]
    assert corner.max() == 0  # black around the head, in which the scan has its highest values


def test_the_table_the_keys_and_the_slider_move(opened: Browser) -> None:
    opened.run("document.querySelector('#components tbody tr:nth-child(2) button').focus()")
    press(opened, "Enter")
    assert "finding 2" in opened.run(READOUT)
    press(opened, "p")
    assert "finding 1" in opened.run(READOUT)
    press(opened, "1")
    slice_, of = map(int, opened.run(PLACE).split(" of "))
    press(opened, "ArrowUp")
    assert opened.run(PLACE) == f"{slice_ + 1} of {of}"
    bright = picture(opened).mean()
    before = opened.run(DRAWN)
    opened.run("(e => { e.value = 3; e.dispatchEvent(new Event('input')); })(document.getElementById('slice'))")
    opened.until(f"{DRAWN} !== {before!r}")
    assert opened.run(PLACE) == f"4 of {of}"
    assert picture(opened).mean() < bright / 2
    for key in "234":
        press(opened, key)
    assert opened.run("document.querySelector('input[name=plane]:checked').value") == "all"


def test_map_and_window_change_what_is_seen(opened: Browser) -> None:
    press(opened, "1")
    press(opened, "o")
    with_map = picture(opened)
    for _ in range(6):
        press(opened, ",")
    assert opened.run("document.getElementById('opacity').value") == "0"
    grey = picture(opened)
    changed = np.abs(with_map - grey).max(axis=-1) > 20
    assert changed.sum() > 500
    tint = grey[changed].max(axis=-1) - grey[changed].min(axis=-1)
    assert np.median(tint) == 0  # without the map there is no colour; the cross has one
    for _ in range(5):
        press(opened, "=")  # a higher level: darker
    assert np.median(picture(opened)[changed]) < np.median(grey[changed])
    press(opened, "0")
    assert np.abs(picture(opened) - grey).max() < 3


def test_another_contrast_of_the_patient_can_be_shown(browser: Browser, tmp_path: Path) -> None:
    native = plain()
    volumes = dataclasses.replace(scenes.volumes(), further={"T1w": scenes.volumes().recon})
    path = tmp_path / "patient.html"
    both = dataclasses.replace(native, further={"T1w": -native.scan})
    path.write_text(native_page(volumes, both, scenes.sidecar(), niivue.script()), encoding="utf-8")
    browser.open(path, DRAWN)
    press(browser, "1")
    first = picture(browser)
    before = browser.run(DRAWN)
    browser.run("(e => { e.value = '1'; e.dispatchEvent(new Event('change')); })(document.getElementById('picture'))")
    browser.until(f"{DRAWN} !== {before!r}")
    second = picture(browser)
    white = (first.min(axis=-1) > 240) & (np.arange(first.shape[0])[:, None] > 30)
    assert white.sum() > 5000
    assert np.median(second[white]) < 20  # the negative
    assert near(second, MARKED).sum() == near(first, MARKED).sum()
    assert browser.errors == []


def test_a_click_moves_the_cross(opened: Browser) -> None:
    press(opened, "1")
    opened.run("document.getElementById('native').scrollIntoView({block: 'center'})")
    x, y, wide, high = opened.run(
        "(b => [b.x, b.y, b.width, b.height])(document.getElementById('native').getBoundingClientRect())"
    )
    before = opened.run(READOUT)
    for kind in ("mousePressed", "mouseReleased"):
        opened.mouse(kind, x + wide / 2, y + high / 2, button="left", clickCount=1)
    opened.until(f"{READOUT} !== {json.dumps(before)}")
    assert "not marked" in opened.run(READOUT)


def test_every_control_is_reached_by_the_keyboard_and_seen_to_be(opened: Browser) -> None:
    opened.run("document.activeElement.blur()")
    reached: list[str] = []
    while True:
        opened.key("Tab")
        name, line = opened.run(
            "(e => [e.id || e.name || e.ariaLabel || e.textContent, getComputedStyle(e).outlineStyle])"
            "(document.activeElement)"
        )
        if opened.run("document.activeElement === document.body"):
            break
        assert line == "solid", name
        reached.append(name)
    for control in ("plane", "slice", "level", "width", "reset", "opacity", "outline", "native", "show"):
        assert control in reached, control


def test_it_fits_every_screen_and_paper_gets_a_picture(opened: Browser, screen: Callable[..., None]) -> None:
    for width in (360, 768, 1280, 1920):
        for scheme in ("light", "dark"):
            screen(width, scheme)
            assert opened.run("document.documentElement.scrollWidth <= innerWidth"), width
    opened.run("window.dispatchEvent(new Event('beforeprint'))")  # the browser sends it before it applies the style
    opened.until("document.getElementById('paper').naturalWidth > 100")
    screen(800, "dark", media="print")
    shown = "(s => document.querySelector(s).checkVisibility())"
    assert not any(opened.run(f"{shown}({json.dumps(s)})") for s in (".bar", ".keys", "#components button", "#native"))
    assert all(opened.run(f"{shown}({json.dumps(s)})") for s in ("#paper", "#components", ".research", ".parameters"))


def test_no_side_is_named_where_left_and_right_are_not_known(browser: Browser, tmp_path: Path) -> None:
    content = scenes.sidecar()
    content["input"]["sides_known"] = False
    path = written(tmp_path, dataclasses.replace(plain(), sides_known=False), content)
    browser.open(path, DRAWN)
    assert browser.run(READOUT).startswith("x ±3")
    for plane in "123":
        press(browser, plane)
        press(browser, "o")
        press(browser, "o")
        yellow = near(picture(browser), (255, 209, 74))
        assert not yellow[:, :15].any()  # no letter at the left edge
    assert browser.errors == []


def test_without_webgl_it_says_so_and_the_tables_stay(tmp_path_factory: pytest.TempPathFactory, file: Path) -> None:
    without = Browser(tmp_path_factory.mktemp("profile"), ("--disable-3d-apis",))
    try:
        without.open(file, "!document.getElementById('too-old').hidden")
        assert not without.run("document.getElementById('viewer').checkVisibility()")
        assert without.run("document.querySelectorAll('#components tbody tr').length") == 2
        assert without.errors == []
    finally:
        without.close()
