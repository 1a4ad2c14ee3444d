"""The page of a scan and the index of many: what they say, what they must not hold, and that they load nothing."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import scenes
from jinja2 import UndefinedError

from uadcli.errors import RESEARCH_USE, InputError
from uadcli.imaging.slices import GRID_AFFINE
from uadcli.report import phrases
from uadcli.report.index import index_page
from uadcli.report.markup import FOLDER, environment, href
from uadcli.report.page import page
from uadcli.scoring import quality

EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)>\u202egnp.\n'
LIMIT = 3_000_000  # bytes
WITHOUT_END = {"meta", "img", "input", "br"}


class Parsed(HTMLParser):
    """Tags with their attributes, the text outside scripts, and the scripts; unbalanced tags are errors."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.words = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in WITHOUT_END:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag in ("td", "th"):  # cells are apart on a page
            self.words += " "

    def handle_data(self, data):
        inside = self.open[-1] if self.open else ""
        if inside == "script":
            self.scripts.append(data)
        elif inside == "style":
            self.styles.append(data)
        else:
            self.words += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def html() -> str:
    return page(scenes.volumes(), scenes.sidecar())


def shown(html: str) -> dict[str, np.ndarray]:
    """The volumes that the viewer of a page gets."""
    data = json.loads(Parsed(html).scripts[0])
    packed = {name: zlib.decompress(base64.b64decode(value)) for name, value in data["volumes"].items()}
    return {name: np.frombuffer(value, np.uint8).reshape(data["shape"]) for name, value in packed.items()}


def test_it_says_what_was_found_and_what_it_is_not(html: str) -> None:
    words_ = " ".join(Parsed(html).words.split())
    for part in (
        RESEARCH_USE,
        "sub-01_FLAIR.nii.gz",
        "2 regions are marked, 10.80 ml in total.",
        "3 of 20 healthy scans (15 %, 95 % interval 3 to 38 %) have a finding as strong as the strongest here.",
        "3 to 38 %",
        "3 of 20",
        "healthy scans with one as strong",
        "quality control: failed",
        "the registration failed (mask overlap 0.71 of 1)",
        "a measure of tomorrow (new measure 1.50)",
        "Not computed: part cut off.",
        "settings.preprocess.strip",
        "99.5th percentile",
        "the patient's right (R) is on the image's left",
    ):
        assert part in words_, part


def test_no_side_is_named_where_left_and_right_are_not_known() -> None:
    regions = [{"name": "cerebral white matter", "share": 1.0}]
    content = scenes.sidecar()
    for one in content["anomaly"]["components"]:
        one |= {"regions": regions, "side": None}
    html = page(dataclasses.replace(scenes.volumes(), sides_known=False), content)
    parsed = Parsed(html)
    words_ = " ".join(parsed.words.split())
    assert "Left and right are unknown" in words_
    assert "not known" in words_
    assert "±" in words_
    assert cells(html, "side") == ["not known", "not known"]
    assert "(R)" not in html
    assert json.loads(parsed.scripts[0])["sides_known"] is False


def cells(html: str, head: str) -> list[str]:
    """The cells of a column of the findings."""
    return re.findall(f'data-head="{head}">([^<]*)</td>', html)


def test_a_finding_is_on_the_side_that_the_sidecar_says(html: str) -> None:
    """Not on that of its centre, which is on one side of a finding across both."""
    assert cells(html, "side") == ["left", "right"]
    content = scenes.sidecar()
    content["anomaly"]["components"][1]["side"] = "both"
    assert cells(page(scenes.volumes(), content), "side") == ["left", "both"]


def test_nothing_is_loaded_and_only_two_known_scripts_and_styles_run(html: str) -> None:
    parsed = Parsed(html)
    for _, attributes in parsed.tags:
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        for name in ("src", "href", "srcset", "data", "action"):
            assert attributes.get(name, "data:").startswith("data:")
    assert {tag for tag, _ in parsed.tags}.isdisjoint({"link", "iframe", "object", "embed", "base", "form"})
    assert "http://" not in html
    assert "https://" not in html
    (policy,) = [a["content"] for a in parsed.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for content in (parsed.styles[0], parsed.scripts[1]):
        assert base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() in policy


def test_no_voxel_outside_the_brain_mask_is_in_the_page(html: str) -> None:
    volumes = scenes.volumes()
    outside = ~volumes.brain
    for name, volume in shown(html).items():
        assert not volume[outside].any(), name
    face = {name: np.where(outside, 1, getattr(volumes, name)) for name in ("scan", "recon", "anomaly_map")}
    marked = np.where(outside, 9, volumes.labels).astype(np.uint8)
    assert page(dataclasses.replace(volumes, **face, labels=marked), scenes.sidecar()) == html


def test_the_viewer_gets_the_volumes_as_they_are(html: str) -> None:
    volumes, seen = scenes.volumes(), shown(html)
    inside = volumes.brain
    assert np.abs(seen["scan"][inside] / 255 - volumes.scan[inside]).max() <= 0.5 / 255 + 1e-6
    assert np.abs(seen["recon"][inside] / 255 - volumes.recon[inside]).max() <= 0.5 / 255 + 1e-6
    assert np.array_equal(seen["labels"], volumes.labels * inside)
    assert np.array_equal(seen["brain"] > 0, inside)
    scale = json.loads(Parsed(html).scripts[0])["score_max"]
    assert np.abs(seen["map"][inside] * scale / 255 - volumes.anomaly_map[inside]).max() <= scale / 255


def test_rows_of_the_table_know_their_voxels(html: str) -> None:
    rows = [attributes for attributes in Parsed(html).all("tr") if "data-voxel" in attributes]
    assert [row["data-index"] for row in rows] == ["1", "2"]
    labels = scenes.volumes().labels
    for row, (centre, _) in zip(rows, scenes.FINDINGS, strict=True):
        voxel = tuple(int(n) for n in row["data-voxel"].split(","))
        assert labels[voxel] == int(row["data-index"])
        assert np.abs(GRID_AFFINE[:3, :3] @ voxel + GRID_AFFINE[:3, 3] - centre).max() <= 1


def test_a_page_without_findings() -> None:
    empty = dataclasses.replace(scenes.volumes(), labels=np.zeros_like(scenes.volumes().labels))
    nothing = {"volume_ml": 0.0, "components": [], "healthy_scans": None, "healthy_scans_unknown": "too few"}
    html = page(empty, scenes.sidecar(anomaly=nothing))
    assert "This does not mean that the brain is healthy" in html
    assert 'id="components"' not in html


def test_an_empty_mask_is_refused() -> None:
    volumes = scenes.volumes()
    with pytest.raises(InputError, match="empty"):
        page(dataclasses.replace(volumes, brain=np.zeros_like(volumes.brain)), scenes.sidecar())


def test_the_worst_volumes_stay_under_3_mb() -> None:
    assert len(page(scenes.volumes(noise=True), scenes.sidecar()).encode()) < LIMIT


def test_texts_are_escaped_everywhere() -> None:
    """Every text that comes from a file or a user holds a script, and none of it becomes a tag."""
    content = scenes.sidecar(EVIL, warnings=[EVIL], strip=EVIL, device=EVIL, score=EVIL)
    content["contrast"]["source"] = content["threshold"]["rule"] = content["weights"]["name"] = EVIL
    content["qc"]["checks"][3] |= {"text": EVIL, "name": EVIL}
    content["settings"][EVIL] = EVIL
    clean, evil = Parsed(page(scenes.volumes(), scenes.sidecar(warnings=["x"]))), page(scenes.volumes(), content)
    parsed = Parsed(evil)
    assert len(parsed.scripts) == 2
    assert [tag for tag, _ in parsed.tags if tag not in ("tr", "th", "td")] == [
        tag for tag, _ in clean.tags if tag not in ("tr", "th", "td")
    ]
    assert "\u202e" not in evil
    assert "alert(1)" in parsed.words


def test_folders_of_the_user_are_not_in_the_page(html: str) -> None:
    assert "jane doe" not in html


@pytest.mark.parametrize("script", ["controls.js", "page.js", "native.js", "index.js"])
def test_the_scripts_write_text_only(script: str) -> None:
    code = (FOLDER / script).read_text()
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|Function\(|fetch\(|import", code
    )


def test_plain_words_for_every_check_and_verdict() -> None:
    """Whatever quality control can say has a sentence of its own."""
    for values in ((1400, 0.95, 0.0, 1.1), (2200, 0.84, 0.3, 1.5), (10, 0.1, 0.3, 2.0)):
        checks = quality.assess(quality.Measures(*values)).checks
        for check in checks:
            assert phrases.CHECKS[check.name][check.verdict] in phrases.check_sentence(dataclasses.asdict(check))
    assert phrases.verdict_word(None) == phrases.verdict_word("not computed") == "not computed"


def test_names_that_are_not_utf_8_and_paths_that_look_like_schemes() -> None:
    printed = environment().from_string("{{ text }}")
    assert printed.render(text="a\udcffb") == "a\ufffdb"
    assert printed.render(text="<&\"'>\n") == "&lt;&amp;&#34;&#39;&gt;\ufffd"
    with pytest.raises(UndefinedError):
        printed.render()
    assert href("javascript:alert(1)") == "javascript%3Aalert%281%29"
    assert href("a b/ü?#.html") == "a%20b/%C3%BC%3F%23.html"
    assert href(Path("a\udcff.png")) == "a%FF.png"


def rows_of_a_batch() -> list[dict[str, object]]:
    links = {"page": "sub 1/map.html", "overlay": "sub 1/map_overlay.png", "map": "sub 1/map.nii.gz"}
    result = {"contrast": "T1w", "anomaly_volume_ml": 3.25, "components": 4, "links": links}
    return [
        {"name": "b-good", "verdict": "pass", **result},
        {"name": "a-good", "verdict": "pass", **result},
        {"name": "unusual", "verdict": "warn", **result},
        {"name": "bad", "verdict": "fail", **result},
        {"name": EVIL, "error": f"no such file {EVIL}"},
        {"name": "unknown", "verdict": None, "anomaly_volume_ml": None},
    ]


def test_the_index_has_what_failed_first() -> None:
    parsed = Parsed(index_page(rows_of_a_batch(), title=f"<b>{EVIL}"))
    states = [row["data-state"] for row in parsed.all("tr") if "data-state" in row]
    assert states == ["error", "fail", "warn", "none", "pass", "pass"]
    assert parsed.words.index("a-good") < parsed.words.index("b-good")
    assert "6 scans: 1 not processed, 1 failed, 1 look first, 1 not computed, 2 passed." in parsed.words
    assert RESEARCH_USE in parsed.words


def test_the_index_continues_with_the_strongest_findings() -> None:
    rows = [
        {"name": "usual", "verdict": "pass", "healthy_share": 0.5, "relative_strength": 0.7},
        {"name": "rare", "verdict": "pass", "healthy_share": 0.05, "relative_strength": 0.9},
        {"name": "rarer", "verdict": "warn", "healthy_share": 0.0, "relative_strength": 1.1},
        {"name": "strong", "verdict": "pass", "relative_strength": 1.2},
        {"name": "rarest", "verdict": "pass", "healthy_share": 0.0, "relative_strength": 1.9},
        {"name": "unknown", "verdict": "pass"},
        {"name": "bad", "verdict": "fail", "healthy_share": 1.0},
    ]
    html = index_page(rows)
    names = re.findall(r"<bdi>([^<]*)</bdi>", html)
    assert names == ["bad", "rarest", "strong", "rarer", "rare", "usual", "unknown"]
    assert ">5 %</td>" in html


def test_the_index_links_to_files_beside_it_and_escapes() -> None:
    html = index_page(rows_of_a_batch())
    parsed = Parsed(html)
    assert {a["href"] for a in parsed.all("a")} == {"sub%201/map.html", "sub%201/map_overlay.png", "sub%201/map.nii.gz"}
    assert {i["src"] for i in parsed.all("img")} == {"sub%201/map_overlay.png"}
    assert len(parsed.scripts) == 2
    assert "http://" not in html
    assert "https://" not in html


def test_an_index_of_nothing() -> None:
    assert "0 scans: no scans." in Parsed(index_page([])).words


def test_a_thumbnail_of_its_own_wins() -> None:
    (row,) = [{"name": "a", "verdict": "pass", "links": {"overlay": "o.png", "thumbnail": "t.png"}}]
    parsed = Parsed(index_page([row]))
    assert [i["src"] for i in parsed.all("img")] == ["t.png"]
    assert [a["href"] for a in parsed.all("a")] == ["o.png"]
    assert row["links"] == {"overlay": "o.png", "thumbnail": "t.png"}


def test_an_unknown_healthy_comparison_is_reported_as_unknown() -> None:
    assert "no comparison" in phrases.healthy_sentence(None)
    assert phrases.healthy_sentence(None, "no scans").endswith("no comparison with healthy scans: no scans.")
    assert phrases.interval_cell(None) == "n/a"
    assert phrases.healthy_cell(None, {"scans": 20, "as_strong": 0, "p_value": 1 / 21}) == "n/a"
    assert phrases.healthy_cell(2, None) == "n/a"


def test_healthy_scans_of_which_half_are_copies_are_not_called_mostly_degraded() -> None:
    known = {"as_strong": 3, "scans": 40, "brains": 20, "share": 0.075, "interval": [0.01, 0.26]}
    assert phrases.healthy_share(known) == (
        "3 of 40 healthy scans of 20 brains, as they are and degraded as by other scanners "
        "(8 %, 95 % interval 1 to 26 %)"
    )


def test_contrasts_of_a_patient_are_panes_of_one_viewer_and_rows_of_a_table() -> None:
    volumes = scenes.volumes()
    left_out = {"name": EVIL, "contrast": None, "weight": None, "findings": None, "volume_ml": None}
    rows = [
        {"name": "a.nii", "contrast": "FLAIR", "weight": 0.5, "findings": 2, "volume_ml": 1.5, "left_out": None},
        {"name": "b.nii", "contrast": "T1w", "weight": 0.5, "findings": 0, "volume_ml": 0.0, "left_out": None},
        left_out | {"left_out": "no brain was found"},
    ]
    rows = [row | {"registration": {"similarity": 0.31} if row["contrast"] == "T1w" else None} for row in rows]
    html = page(dataclasses.replace(volumes, further={"T1w": volumes.recon}), scenes.sidecar() | {"contrasts": rows})
    parsed = Parsed(html)
    assert [one["id"] for one in parsed.all("canvas")][:5] == ["scan", "recon", "map", "mask", "further0"]
    given = shown(html)
    assert np.array_equal(given["further0"], given["recon"])
    words = " ".join(parsed.words.split())
    assert "b.nii T1w 0.50 0 0.00 0.31 no" in words
    assert "not computed not computed not computed - no brain was found" in words
    assert len(parsed.scripts) == len(Parsed(page(volumes, scenes.sidecar())).scripts)


def test_the_healthy_range_is_that_of_the_block_and_only_in_the_brain() -> None:
    volumes = scenes.volumes()
    html = page(volumes, scenes.sidecar())
    healthy = json.loads(Parsed(html).scripts[0])["healthy"]
    assert (healthy["block"], healthy["shape"]) == (2, [48, 48, 40])
    mean, deviation = (
        np.frombuffer(zlib.decompress(base64.b64decode(healthy["volumes"][key])), np.uint8).reshape(48, 48, 40)
        for key in ("mean", "deviation")
    )
    assert (mean[18, 20, 20], mean[30, 20, 20]) == (round(0.3 * 255), round(0.4 * 255))  # left and right
    assert deviation[30, 20, 20] / 255 / healthy["deviations"] == pytest.approx(0.06, abs=0.002)
    assert mean[0, 0, 0] == 0
    assert "blocks of 4 mm" in html
    without = page(dataclasses.replace(volumes, healthy=None), scenes.sidecar())
    assert json.loads(Parsed(without).scripts[0])["healthy"] is None
    assert "standard deviation in blocks" not in without
