"""The index page of a batch: one row per scan, failed ones first, to sort and filter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from uadcli.report.markup import document, fill, href, number, text
from uadcli.report.phrases import VERDICTS, verdict_class, verdict_word

ERROR = "error"
ORDER = (ERROR, "fail", "warn", "", "pass")  # what needs a person first; "": no verdict was computed
WORDS = {ERROR: "not processed"} | VERDICTS
HEADS = (("", ""), ("scan", ""), ("state", ""), ("contrast", ""), ("marked (ml)", "n"), ("regions", "n"), ("files", ""))


def index_page(rows: Iterable[Mapping[str, Any]], title: str = "uad batch") -> str:
    """The index as HTML, from one mapping per scan; every key but `name` may be missing or None.

    `name`: how the scan is called; `verdict`: pass, warn or fail; `contrast`; `anomaly_volume_ml`; `components`: their
    number; `error`: why there is no result; `links`: file paths relative to the index by what they are, of which
    `page` is where the name leads and `thumbnail`, else `overlay`, is the small picture.
    """
    given = sorted(rows, key=lambda row: (ORDER.index(_state(row)), str(row["name"])))
    counts = {state: sum(_state(row) == state for row in given) for state in ORDER}
    summary = ", ".join(f"{counts[state]} {_word(state)}" for state in ORDER if counts[state])
    options = "".join(
        f'<option value="{state or "none"}">{text(_word(state))} ({counts[state]})</option>'
        for state in ORDER
        if counts[state]
    )
    body = fill(
        "index.html",
        title=text(title),
        count=str(len(given)),
        summary=text(summary or "no scans"),
        options=options,
        heads="".join(_head(name, kind) for name, kind in HEADS),
        rows="\n".join(map(_row, given)),
    )
    # a page opened from a folder has no origin: its own folder is file:
    return document(title, body, "index.js", images="data: 'self' file:")


def _state(row: Mapping[str, Any]) -> str:
    return ERROR if row.get("error") else verdict_class(row.get("verdict"))


def _word(state: str) -> str:
    return WORDS.get(state) or verdict_word(None)


def _head(name: str, kind: str) -> str:
    return f'<th class="{kind}"><button type="button">{name}</button></th>' if name else "<th></th>"


def _row(row: Mapping[str, Any]) -> str:
    """One scan; `data-sort` is what a column is sorted by where that is not its text."""
    state, links = _state(row), dict(row.get("links") or {})
    picture = links.pop("thumbnail", None) or links.get("overlay")
    name = f"<bdi>{text(row['name'])}</bdi>"
    if links.get("page"):
        name = f'<a href="{href(links["page"])}">{name}</a>'
    if row.get("error"):
        name += f'<br><span class="error">{text(row["error"])}</span>'
    files = " ".join(f'<a href="{href(path)}">{text(what)}</a>' for what, path in links.items() if path)
    shown = f'<img src="{href(picture)}" alt="" loading="lazy" decoding="async">' if picture else ""
    volume, count = row.get("anomaly_volume_ml"), row.get("components")
    ml, regions = "-" if volume is None else number(volume), "-" if count is None else int(count)
    return (
        f'<tr data-state="{state or "none"}"><td>{shown}</td><td data-sort="{text(row["name"])}">{name}</td>'
        f'<td class="{state}" data-sort="{ORDER.index(state)}">{text(_word(state))}</td>'
        f"<td>{text(row.get('contrast') or '-')}</td>"
        f'<td class="n" data-sort="{-1 if volume is None else float(volume)}">{ml}</td>'
        f'<td class="n" data-sort="{-1 if count is None else int(count)}">{regions}</td>'
        f"<td>{files}</td></tr>"
    )
