"""stderr says what happens; lines move only on a terminal; seconds and warnings are remembered."""

import io
import re
import time
import warnings
from pathlib import Path

import pytest
from rich.console import Console

from uadcli.console import Reporter, print_error
from uadcli.errors import InputError, OutputError
from uadcli.running import heartbeat
from uadcli.running.stage import duration


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def work(reporter):
    with reporter.stage("skull strip") as stage:
        stage.update(1, 2)
        reporter.warn("the [brain] is cut off")
    with reporter.stage("score"):
        pass


def test_without_a_terminal_each_stage_is_one_plain_line():
    stream = io.StringIO()
    work(Reporter(stream=stream))
    assert re.fullmatch(
        r"warning: the \[brain\] is cut off\nskull strip  \d+\.\d s\nscore  \d+\.\d s\n", stream.getvalue()
    )


def test_a_terminal_gets_a_moving_line():
    stream = Terminal()
    work(Reporter(stream=stream))
    assert "\x1b[" in stream.getvalue()
    assert "skull strip" in stream.getvalue()
    assert "the [brain] is cut off" in stream.getvalue()


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_plain_terminal_gets_no_escape_codes(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    stream = Terminal()
    work(Reporter(stream=stream))
    assert "\x1b" not in stream.getvalue()
    assert "score" in stream.getvalue()


def test_quiet_leaves_only_warnings_and_errors():
    stream = Terminal()
    reporter = Reporter(stream=stream, verbosity=-1)
    work(reporter)
    reporter.info("a fact")
    reporter.error("it stops")
    assert stream.getvalue() == "warning: the [brain] is cut off\nerror: it stops\n"


def test_details_are_for_verbose():
    streams = io.StringIO(), io.StringIO()
    for verbosity, stream in enumerate(streams):
        Reporter(stream=stream, verbosity=verbosity).debug("a detail")
    assert [s.getvalue() for s in streams] == ["", "a detail\n"]


def test_a_silent_reporter_prints_nothing_but_records(capsys):
    reporter = Reporter(silent=True)
    work(reporter)
    assert list(reporter.seconds) == ["skull strip", "score"]
    assert reporter.warnings == ["the [brain] is cut off"]
    assert capsys.readouterr() == ("", "")


def test_nothing_is_ever_written_to_stdout(capsys):
    work(Reporter())
    assert capsys.readouterr().out == ""


def test_a_stage_inside_another_is_timed_but_not_shown():
    stream = io.StringIO()
    reporter = Reporter(stream=stream)
    with reporter.stage("outer"), reporter.stage("inner"):
        pass
    assert list(reporter.seconds) == ["inner", "outer"]
    assert "inner" not in stream.getvalue()


def test_a_stage_that_is_repeated_adds_up():
    reporter = Reporter(silent=True)
    for _ in range(2):
        with reporter.stage("score") as stage:
            stage.started -= 1
    assert reporter.seconds["score"] == pytest.approx(2, abs=0.5)


def test_a_stage_that_fails_is_not_counted_and_passes_the_error_on():
    reporter = Reporter(silent=True)
    with pytest.raises(InputError), reporter.stage("read"):
        raise InputError("no brain")
    assert reporter.seconds == {}


def shown(progress):
    """What a moving line prints on a wide terminal."""
    stream = io.StringIO()
    Console(file=stream, width=200).print(progress)
    return stream.getvalue()


def test_time_left_comes_from_counted_steps():
    now, line = [100.0], Reporter(stream=Terminal())._progress()
    line.get_time = lambda: now[0]
    task = line.add_task("reconstruction", total=None, note="")
    assert "left" not in shown(line)
    for done in range(1, 4):
        now[0] += 10
        line.update(task, completed=done, total=10)
    assert "reconstruction" in shown(line)
    assert "30 s about 1 min 10 s left" in shown(line)
    line.update(task, note="step 3: loss 0.1")
    assert "30 s step 3: loss 0.1" in shown(line)


def test_the_moving_line_follows_its_stage(monkeypatch):
    reporter = Reporter(stream=Terminal())
    lines, make = [], reporter._progress
    monkeypatch.setattr(reporter, "_progress", lambda: lines.append(make()) or lines[-1])
    with reporter.stage("score") as stage:
        reporter.progress(3, 9)
        reporter.note("a [note]")
        (task,) = lines[0].tasks
        assert (task.completed, task.total, task.fields["note"]) == (3, 9, "a [note]")
        assert stage.note == "a [note]"
        assert "a [note]" in shown(lines[0])


def test_a_stage_within_another_is_shown_in_its_line(monkeypatch):
    reporter = Reporter(stream=(stream := Terminal()))
    lines, make = [], reporter._progress
    monkeypatch.setattr(reporter, "_progress", lambda: lines.append(make()) or lines[-1])
    with reporter.stage("weights"):
        with reporter.stage("download, MB"):
            reporter.progress(4, 10)
            (task,) = lines[0].tasks
            assert (task.description, task.completed, task.total) == ("weights: download, MB", 4, 10)
            monkeypatch.setattr(reporter, "_write_log", lambda kind, text: stream.write(text))
            reporter._say_progress("weights")
            assert "weights: download, MB, 4 of 10, 0 s" in stream.getvalue()
        assert (task.description, task.total) == ("weights", None)
    assert set(reporter.seconds) == {"weights", "download, MB"}


def lines_of(stream, monkeypatch, **more):
    """What a stage that lasts through some signs of life says, after it counted to 3 of 12."""
    monkeypatch.setattr(heartbeat, "SECONDS", 0.02)
    reporter, said = Reporter(stream=stream, **more), []
    real = reporter._say_progress
    monkeypatch.setattr(reporter, "_say_progress", lambda name: (real(name), said.append(name)))

    def wait():
        until, count = time.monotonic() + 30, len(said) + 3
        while len(said) < count and time.monotonic() < until and not more.get("silent"):
            time.sleep(0.01)

    with reporter.stage("score"):
        reporter.progress(3, 12)
        wait()
        reporter.note("making synthetic example 2 of 12")
        wait()


def test_without_a_terminal_a_long_stage_says_how_far_it_is(monkeypatch):
    stream = io.StringIO()
    lines_of(stream, monkeypatch)
    first, *_, last, done = stream.getvalue().splitlines()
    assert re.fullmatch(r"score: (3 of 12, )?\d+ s(, about \d+ s left)?", first)
    assert re.fullmatch(r"score: 3 of 12, \d+ s, making synthetic example 2 of 12", last)
    assert done.startswith("score  ")
    assert len(stream.getvalue().splitlines()) >= 7


def test_a_long_stage_says_how_far_it_is_in_the_log_only_where_a_line_moves(monkeypatch, tmp_path):
    stream = Terminal()
    lines_of(stream, monkeypatch, log_file=tmp_path / "uad.log")
    assert "INFO score: 3 of 12" in (tmp_path / "uad.log").read_text()
    assert "score: 3 of 12" not in stream.getvalue()


def test_signs_of_life_are_neither_for_quiet_nor_for_the_library(monkeypatch, capsys):
    stream = io.StringIO()
    lines_of(stream, monkeypatch, verbosity=-1)
    lines_of(stream, monkeypatch, silent=True)
    assert stream.getvalue() == ""


def test_a_log_that_fills_between_two_messages_is_an_error_at_the_end_of_the_stage(monkeypatch):
    monkeypatch.setattr(heartbeat, "SECONDS", 0.02)
    reporter = Reporter(stream=io.StringIO(), log_file=Path("/dev/full"))
    with pytest.raises(OutputError, match="cannot write the log file"), reporter.stage("score"):
        time.sleep(0.3)


def test_the_messages_of_a_silent_reporter_go_to_the_logger(caplog, capsys):
    with caplog.at_level("DEBUG", logger="uadcli"):
        reporter = Reporter(silent=True)
        work(reporter)
        reporter.debug("a detail")
    found = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "uadcli"]
    assert found[0] == ("WARNING", "the [brain] is cut off")
    assert [level for level, text in found if text.startswith(("skull strip", "score"))] == ["INFO", "INFO"]
    assert found[-1] == ("DEBUG", "a detail")
    assert capsys.readouterr() == ("", "")


def test_progress_is_that_of_the_stage_at_work():
    reporter = Reporter(silent=True)
    reporter.progress(1, 2)
    with reporter.stage("reconstruction") as stage:
        reporter.progress(3, 9)
    assert (stage.done, stage.total) == (3, 9)


def test_the_log_file_is_plain_timestamped_and_holds_the_traceback(tmp_path):
    log = tmp_path / "uad.log"
    log.write_text("before\n")
    with pytest.raises(ZeroDivisionError), Reporter(stream=Terminal(), verbosity=-1, log_file=log) as reporter:  # noqa: PT012
        work(reporter)
        reporter.debug("a detail")
        raise ZeroDivisionError
    before, *lines = log.read_text().splitlines()
    assert before == "before"
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S* (DEBUG|INFO|WARNING|ERROR) ", line) for line in lines)
    text = "\n".join(lines)
    assert "\x1b" not in text
    for part in ("skull strip", "the [brain] is cut off", "a detail", "Traceback", "ZeroDivisionError"):
        assert part in text


def test_a_log_file_that_cannot_be_written_is_an_output_error(tmp_path):
    with pytest.raises(OutputError) as caught:
        Reporter(log_file=tmp_path / "no" / "uad.log")
    assert caught.value.exit_code == 6


def test_warnings_of_libraries_are_details():
    stream = io.StringIO()
    before = warnings.showwarning
    with warnings.catch_warnings(), Reporter(stream=stream, verbosity=1):
        warnings.simplefilter("always")
        warnings.warn("old header", UserWarning, stacklevel=1)
    assert stream.getvalue() == "UserWarning: old header\n"
    assert warnings.showwarning is before


def test_an_error_is_one_line(capsys):
    print_error(InputError("is empty", path="scan.nii"))
    assert capsys.readouterr().err == "error: scan.nii: is empty\n"


def test_a_bug_says_how_to_see_more(capsys):
    print_error(ValueError("odd\nthing"))
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "this is a bug" in line
    assert "--debug" in line


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (125, "2 min 05 s")]
)
def test_durations_in_words(seconds, words):
    assert duration(seconds) == words


def test_a_library_message_with_a_name_that_is_not_utf_8_can_be_encoded(caplog):
    with caplog.at_level("INFO", logger="uadcli"):
        Reporter(silent=True).info("read gr\udcf6\udcdfe 100%s.nii")
    assert caplog.messages == ["read gr\\udcf6\\udcdfe 100%s.nii"]
    caplog.text.encode("utf-8")
