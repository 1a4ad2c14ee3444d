"""The tables and the page of an evaluation: nothing missing becomes 0, nothing in a name becomes markup."""

from __future__ import annotations

import csv
import io
import math
import re
from html.parser import HTMLParser

from uadcli.errors import RESEARCH_USE
from uadcli.report import evaluation

EVIL = '<script>alert("x")</script>&"\t\'</style>'
VOID = {"meta", "br", "line", "rect", "polyline", "path"}


def content(methods=("a", EVIL)):
    metric = {"text": "Dice <at> threshold", "unit": "", "oracle": False, "scans": 2, "subjects": 2}
    return {
        "research_use_only": RESEARCH_USE,
        "tool": {"name": "uad", "version": "1"},
        "command": f"uad evaluate {EVIL}",
        "methods": list(methods),
        "notes": [f"note {EVIL}"],
        "rules": ["rule"],
        "scans": [{"method": m, "scan": EVIL, "dice": 0.5, "auprc": None, "healthy_fp_ml": math.nan} for m in methods],
        "summary": [
            {"method": m, "metric": "dice", "value": 0.25, "ci_low": 0.125, "ci_high": None, **metric} for m in methods
        ]
        + [{"method": m, "metric": "auprc", "value": None, "ci_low": None, "ci_high": None, **metric} for m in methods],
        "comparisons": [
            {"a": methods[0], "b": methods[-1], "metric": "dice", "difference": -0.125, "ci_low": -0.25, "ci_high": 0.0}
            | {"p_wilcoxon": 0.0004, "p_holm": 0.03, "p_permutation": None}
            | metric
        ],
        "curves": {"recall": [0.0, 0.5, 1.0], "precision": {methods[0]: [1.0, 0.5, 0.25], methods[-1]: None}},
    }


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that every element is closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.words, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_is_whole_and_loads_nothing():
    text = evaluation.page(content())
    page = Page(text)
    assert page.open == []
    assert "script" not in page.tags
    assert page.links == []
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text
    assert RESEARCH_USE in text
    assert page.tags.count("svg") == 1
    assert page.tags.count("polyline") == 1  # a method without a curve has none


def test_names_are_shown_as_they_are_and_never_as_markup():
    text = evaluation.page(content())
    assert "<script" not in text
    assert text.count("</style>") == 1
    shown = "".join(Page(text).words)
    assert EVIL.replace("\t", "\ufffd") in shown  # a control character cannot hide in a name
    assert "Dice <at> threshold" in shown


def test_what_was_not_computed_is_n_a():
    page = evaluation.page(content())
    assert "0.250 [0.125, n/a]" in page
    assert "n/a" in re.findall(r"<tr><th[^>]*>[^<]*</th>.*?</tr>", page)[-1]
    assert "nan" not in page.lower().replace("alert", "")
    rows = read(evaluation.scans_tsv(content()))
    assert [(r["dice"], r["auprc"], r["healthy_fp_ml"]) for r in rows] == [("0.5", "n/a", "n/a")] * 2


def test_an_oracle_is_marked():
    given = content()
    for row in given["summary"]:
        row["oracle"] = row["metric"] == "dice"
    text = evaluation.page(given)
    assert text.count('class="oracle"') == 1
    assert [r["oracle"] for r in read(evaluation.summary_tsv(given))] == ["yes", "yes", "no", "no"]


def read(text):
    return list(csv.DictReader(io.StringIO(text), delimiter="\t"))


def test_tables_read_back_with_tabs_in_names_and_say_what_they_are_for():
    for text in (evaluation.scans_tsv(content()), evaluation.summary_tsv(content())):
        rows = read(text)
        assert rows[-1]["method"] == EVIL
        assert {row["research_use_only"] for row in rows} == {"yes"}
    assert read(evaluation.comparisons_tsv(content()))[0]["p_permutation"] == "n/a"


def test_without_comparisons_the_table_has_its_header_alone():
    text = evaluation.comparisons_tsv(content() | {"comparisons": []})
    assert text.startswith("a\tb\tmetric")
    assert read(text) == []
    assert "Methods compared" not in evaluation.page(content() | {"comparisons": []})


def test_the_curve_goes_from_top_left_to_bottom_right():
    points = re.search(r'<polyline[^>]*points="([^"]+)"', evaluation.page(content()))[1].split()
    places = [tuple(map(float, point.split(","))) for point in points]
    assert len(places) == 3
    assert places[0][0] < places[1][0] < places[2][0]
    assert places[0][1] < places[1][1] < places[2][1]


def test_p_values_are_never_shown_as_zero():
    assert "&lt;0.001" in evaluation.page(content())
