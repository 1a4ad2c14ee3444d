"""HTML that stands alone: escaped text, data inside the file, and a policy that lets the page load nothing else."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

FOLDER = Path(__file__).parent / "templates"
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
NOT_COMPUTED = "not computed"


def text(value: object) -> str:
    """Any value as text of a page, also within a quoted attribute.

    Control characters, marks that turn the direction of writing, and bytes of a file name that are not UTF-8 become
    a replacement sign, so that a name cannot look like another one.
    """
    readable = str(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return html.escape(CONTROLS.sub("\ufffd", readable), quote=True)


def number(value: float | None, digits: int = 2) -> str:
    """A number with `digits` decimals; one that was not computed says so."""
    return NOT_COMPUTED if value is None else f"{value:,.{digits}f}"


def href(path: str | Path) -> str:
    """A relative path as the value of `href` or `src`; nothing in it can be read as a scheme or a query."""
    return text(quote(os.fsencode(path), safe="/"))


def asset(name: str) -> str:
    """The content of one of the files in `templates/`."""
    return (FOLDER / name).read_text(encoding="utf-8")


def fill(file: str, /, **parts: str) -> str:
    """A file of `templates/` with its `$names` replaced by parts that are HTML already."""
    return Template(asset(file)).substitute(parts)


def data_uri(png: bytes) -> str:
    """A PNG picture as the value of `src`."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def document(title: str, body: str, script: str | None, data: Any = None, images: str = "data:") -> str:
    """A whole page: `body` is HTML, `title` plain text, `script` a file of `templates/` or None, `data` what it reads.

    The policy in its head forbids every request, and every script and style but the two whose hashes it names;
    `images` says where pictures may come from.
    """
    style, code = asset("style.css"), asset(script) if script else ""
    policy = (
        f"default-src 'none'; base-uri 'none'; form-action 'none'; img-src {images}; "
        f"style-src '{_hash(style)}'; script-src '{_hash(code)}'"
    )
    inert = json.dumps(data, allow_nan=False).translate({ord(c): f"\\u{ord(c):04x}" for c in "<>&"})
    return fill(
        "document.html", policy=policy, title=text(title), style=style, body=body, data=inert, code=code
    )  # fmt: skip


def _hash(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"
