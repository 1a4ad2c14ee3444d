"""A program that a test drives is found, or its test is skipped; where all tests must run, it fails."""

from __future__ import annotations

from pathlib import Path

import pytest
import tools


def test_the_first_program_that_is_there_is_taken() -> None:
    assert Path(tools.program("no-such-program", "sh", install="nothing")).name == "sh"


def test_a_missing_program_skips_its_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(tools.COMPLETE, raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"no such-program on this machine \(apt-get install it\)"):
        tools.program("such-program", install="apt-get install it")


def test_a_missing_program_fails_its_test_where_all_must_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tools.COMPLETE, "1")
    with pytest.raises(pytest.fail.Exception, match="UAD_TESTS_COMPLETE is set"):
        tools.program("such-program", install="apt-get install it")
