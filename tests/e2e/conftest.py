"""What tests in a browser share; each file of them has a `browser`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from browser import Browser


@pytest.fixture
def screen(browser: Browser) -> Iterator[Callable[..., None]]:
    """Sets the width of the window and how colours are preferred; as it was after the test."""

    def choose(width: int, scheme: str, media: str = "screen") -> None:
        browser.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        browser.call(
            "Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": scheme}]
        )

    yield choose
    browser.call("Emulation.clearDeviceMetricsOverride")
    browser.call("Emulation.setEmulatedMedia", media="", features=[])
