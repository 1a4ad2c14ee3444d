"""NiiVue, which shows the page in native space: the only foreign script that a page contains."""

from __future__ import annotations

from pathlib import Path

NAME, VERSION, LICENCE = "NiiVue", "0.69.0", "BSD-2-Clause"
FOLDER = Path(__file__).parent / "niivue"
FILE = f"niivue-{VERSION}.umd.js.gz"
SHA256 = "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af"  # of the script


def licence_text() -> str:
    """Its licence, and those of the works in it."""
    return (FOLDER / "LICENSE.txt").read_text(encoding="utf-8")
