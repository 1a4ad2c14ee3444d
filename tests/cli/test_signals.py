"""A signal that comes before the command has begun, or when it is over, ends `uad` like any other."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from uadcli.cli.app import main
from uadcli.running import interrupt

PROGRAM = "uadcli.cli.app._program"


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_the_handlers_are_put_in_place(
    sent: signal.Signals, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put, before = signal.signal, [signal.getsignal(number) for number in interrupt.CODES]

    def early(number: signal.Signals, handler: Any) -> Any:
        found = put(number, handler)
        if handler is interrupt._receive and number == sent:
            os.kill(os.getpid(), sent)
        return found

    monkeypatch.setattr(interrupt.signal, "signal", early)
    monkeypatch.setattr(PROGRAM, lambda: pytest.fail("the command began"))
    assert main(["doctor"]) == code
    assert [signal.getsignal(number) for number in interrupt.CODES] == before
    assert capsys.readouterr().err.strip() in ("error: interrupted", "error: terminated")


def test_a_signal_when_the_command_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    put = signal.signal

    def late(number: signal.Signals, handler: Any) -> Any:
        if handler is not interrupt._receive and number == signal.SIGTERM:
            os.kill(os.getpid(), number)
        return put(number, handler)

    monkeypatch.setattr(PROGRAM, lambda: lambda *_, **__: monkeypatch.setattr(interrupt.signal, "signal", late) or 0)
    try:
        assert main(["doctor"]) == 143
        interrupt.check()  # what runs later in this process is not stopped by it
    finally:
        put(signal.SIGTERM, signal.SIG_DFL)
