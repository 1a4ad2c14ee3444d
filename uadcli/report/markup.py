"""HTML pages that stand alone: rendered by Jinja2 with escaping on, data inside the file, and nothing to load.

`templates/` holds one file for each page; all extend `document.html`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

FOLDER = Path(__file__).parent / "templates"
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
NOT_COMPUTED = "not computed"


def readable(value: object) -> object:
    """A value as a page shows it; Jinja2 applies this to everything that it prints, then escapes it.

    Control characters, marks that turn the direction of writing, and bytes of a file name that are not UTF-8 become
    a replacement sign, so that a name cannot look like another one. What is `Markup` already stays as it is.
    """
    if isinstance(value, Markup):
        return value
    return CONTROLS.sub("\ufffd", str(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace"))


def number(value: float | None, digits: int = 2) -> str:
    """A number with `digits` decimals; one that was not computed says so."""
    return NOT_COMPUTED if value is None else f"{value:,.{digits}f}"


def href(path: str | Path) -> str:
    """A relative path as the value of `href` or `src`; nothing in it can be read as a scheme or a query."""
    return quote(os.fsencode(path), safe="/")


def data_uri(png: bytes) -> str:
    """A PNG picture as the value of `src`."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def asset(name: str) -> str:
    """The content of one of the files in `templates/`."""
    return (FOLDER / name).read_text(encoding="utf-8")


def render(
    template: str,
    scripts: Sequence[str] = (),
    data: Any = None,
    images: str = "data:",
    library: str = "",
    **context: Any,
) -> str:
    """A whole page from a file of `templates/` and what it shows; texts in `context` are escaped.

    `scripts` are files of `templates/`, run as one, that read `data`; `library` is a script that runs before. The
    policy in the page's head forbids every request, and every script and style but those whose hashes it names;
    `images` says where pictures may come from. Raises `ValueError` for a library that would end the element it is in.
    """
    if "</script" in library.lower() or "<!--" in library:
        raise ValueError("the library cannot be part of a page")
    style, code = asset("style.css"), "".join(map(asset, scripts))
    policy = f"default-src 'none'; base-uri 'none'; form-action 'none'; img-src {images}; style-src '{_hash(style)}'"
    if code:
        policy += "; script-src " + " ".join(f"'{_hash(one)}'" for one in (library, code) if one)
    inert = json.dumps(data, allow_nan=False).translate({ord(c): f"\\u{ord(c):04x}" for c in "<>&"})
    return (
        environment()
        .get_template(template)
        .render(
            policy=Markup(policy),
            style=Markup(style),
            code=Markup(code),
            library=Markup(library),
            data=Markup(inert),
            **context,
        )
    )


@cache
def environment() -> Environment:
    """Jinja2 for the pages: everything is escaped, and a name that a template does not get is an error."""
    made = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=readable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"number": number, "href": href, "data_uri": data_uri}
    return made


def _hash(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"
