"""What one sees of a training: the log, the page and its pictures, the moving line."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console

from uadcli.console import Reporter
from uadcli.report.training import plots, training_page
from uadcli.training.log import COLUMNS, SHEETS, Log, contact_sheet, read_log, write_page
from uadcli.training.loop import in_words


def row(step: int, loss: float | None = 0.5, validation: float | None = None) -> dict[str, float | None]:
    numbers = {"slices_per_s": 12.5, "seconds_left": 65.0, "skipped": 0}
    return {"step": step, "loss": loss, "validation": validation, "auprc": None, **numbers}


def test_a_number_that_is_not_known_is_empty_and_read_back_as_none(tmp_path: Path) -> None:
    log = Log(tmp_path, "reconstruction")
    log.write(row(5, None))
    log.write(row(10, 0.25, 0.125))
    assert (tmp_path / "log.csv").read_text().splitlines()[:2] == [",".join(COLUMNS), "5,,,,12.5,65,0"]
    first, second = read_log(tmp_path / "log.csv")
    assert first["loss"] is None
    assert (second["step"], second["loss"], second["validation"]) == (10, 0.25, 0.125)


def test_a_log_of_other_columns_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("step,loss\n5,0.1\n")
    Log(tmp_path, "score").write(row(10))
    assert (tmp_path / "log-before.csv").read_text() == "step,loss\n5,0.1\n"
    assert [r["step"] for r in read_log(tmp_path / "log.csv")] == [10]


class Links(HTMLParser):
    """Everything that a page would load."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "style")]


def test_the_page_stands_alone_and_shows_curves_and_the_same_slices_over_time(tmp_path: Path) -> None:
    log = Log(tmp_path, "reconstruction")
    for step in range(1, 21):
        log.write(row(step, 1 / step, None if step == 7 else 0.5 / step), np.full((9, 12), step * 10, dtype=np.uint8))
    log.page()
    page = Links((tmp_path / "report.html").read_text())
    assert page.tags.count("svg") == 2
    assert page.tags.count("img") == SHEETS
    assert all(link.startswith("data:image/png;base64,") for link in page.found)
    assert "step 1<" in (tmp_path / "report.html").read_text()
    assert "step 20<" in (tmp_path / "report.html").read_text()  # the newest is always there


def test_one_page_for_both_trainings(tmp_path: Path) -> None:
    Log(tmp_path, "reconstruction").write(row(1))
    Log(tmp_path / "siamese", "score").write(row(2))
    write_page(tmp_path, {"reconstruction": tmp_path, "score": tmp_path / "siamese", "other": tmp_path / "none"})
    page = (tmp_path / "report.html").read_text()
    assert "<h2>reconstruction</h2>" in page
    assert "<h2>score</h2>" in page
    assert "other" not in page


def test_a_curve_goes_through_its_values_and_breaks_where_one_is_missing() -> None:
    rows = [row(0, 1.0), row(10, 0.5), row(20, None), row(30, 0.0)]
    assert re.findall("<polyline", training_page("a", {"b": rows}, [], "0")) == ["<polyline"] * 2
    (drawn,) = plots(rows)
    ((first, second),) = (line.runs for line in drawn.lines)
    assert first[0][1] < first[1][1] < second[0][1]  # down the picture, as the loss falls
    assert second[0][0] - first[0][0] == pytest.approx(3 * (first[1][0] - first[0][0]), abs=0.5)


def test_a_name_cannot_become_markup() -> None:
    assert "<script>alert" not in training_page("<script>alert(1)</script>", {"<b>": [row(1)]}, [], "0")


def test_pictures_lie_with_the_front_on_top() -> None:
    stack = np.zeros((2, 4, 3), dtype=np.float32)
    stack[:, 3] = 1  # high y is the front of the head
    sheet = contact_sheet([stack, stack * 0.5])
    assert sheet.shape == (8, 6)
    assert sheet[0].tolist() == [255] * 6
    assert sheet[4].tolist() == [128] * 6


def test_the_sheet_is_kept_as_a_grey_picture(tmp_path: Path) -> None:
    Log(tmp_path, "reconstruction").write(row(3), np.array([[0, 128, 255]], dtype=np.uint8))
    picture = imread(tmp_path / "sheets" / "0000003.png")
    assert picture.shape == (1, 3)  # one channel
    assert (picture[0] * 255).round().tolist() == [0, 128, 255]


def test_the_moving_line_says_step_loss_validation_pace_and_time_left() -> None:
    words = in_words(row(120, 0.0612, 0.0583))
    assert words == "step 120: loss 0.0612, validation 0.0583, 12.5 slices/s, 1 min 05 s left"
    assert "not finite" in in_words(row(1, None))
    line, shown = Reporter(stream=io.StringIO())._progress(), io.StringIO()
    line.add_task("reconstruction", total=None, note=words)
    Console(file=shown, width=200).print(line)
    assert words in shown.getvalue()


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="TensorBoard is not installed")
def test_tensorboard_gets_the_numbers(tmp_path: Path) -> None:
    Log(tmp_path, "reconstruction").write(row(3))
    assert list((tmp_path / "tensorboard").iterdir())
