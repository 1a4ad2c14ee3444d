"""The index page of a batch: one row per scan, failed ones first, then those with the strongest findings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from uadcli.errors import RESEARCH_USE
from uadcli.report.markup import render
from uadcli.report.phrases import VERDICTS, verdict_class, verdict_word

TITLE = "uad batch"
ERROR = "error"
ORDER = (ERROR, "fail", "warn", "", "pass")  # what needs a person first; "": no verdict was computed
WORDS = {ERROR: "not processed"} | VERDICTS
HEADS = (
    *(("", ""), ("scan", ""), ("state", ""), ("contrast", ""), ("marked (ml)", "n"), ("regions", "n")),
    *(("healthy as strong", "n"), ("files", "")),
)


def index_page(rows: Iterable[Mapping[str, Any]], title: str = TITLE) -> str:
    """The index as HTML, from one mapping per scan; every key but `name` may be missing or None.

    `name` of the scan; `verdict`: pass, warn or fail; `contrast`; `anomaly_volume_ml`; `components`: their number;
    `healthy_share` of healthy scans as abnormal; `relative_strength`: that of the scan over its threshold;
    `error`: why it failed, without a `verdict` before there was a result; `links`: file paths relative to the index, by
    kind: the name links to `page`, and the small picture is `thumbnail`, otherwise `overlay`.
    """
    given = sorted(rows, key=_place)
    counts = {state: sum(_state(row) == state for row in given) for state in ORDER}
    # a page opened from a folder has no origin: its own folder is file:
    return render(
        "index.html",
        scripts=("index.js",),
        images="data: 'self' file:",
        title=title,
        research_use=RESEARCH_USE,
        states=[(state or "none", _word(state), counts[state]) for state in ORDER if counts[state]],
        heads=HEADS,
        rows=[_row(row) for row in given],
    )


def _place(row: Mapping[str, Any]) -> tuple[int, float, int, str]:
    """Failed scans by state; then all others by their strength over their threshold."""
    state = ORDER.index(_state(row))
    failed = min(state, ORDER.index("fail") + 1)
    return failed, -(row.get("relative_strength") or 0.0), state, str(row["name"])


def _state(row: Mapping[str, Any]) -> str:
    return verdict_class(row.get("verdict")) or (ERROR if row.get("error") else "")


def _word(state: str) -> str:
    return WORDS.get(state) or verdict_word(None)


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    """One scan as the template shows it; links without a path are left out."""
    state, links = _state(row), dict(row.get("links") or {})
    picture = links.pop("thumbnail", None) or links.get("overlay")
    return {
        "name": row["name"],
        "error": row.get("error"),
        "state": state,
        "word": _word(state),
        "order": ORDER.index(state),
        "contrast": row.get("contrast") or "-",
        "volume": row.get("anomaly_volume_ml"),
        "regions": row.get("components"),
        "share": row.get("healthy_share"),
        "picture": picture,
        "page": links.get("page"),
        "links": [(what, path) for what, path in links.items() if path],
    }
