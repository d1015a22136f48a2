"""Signals that are noted."""

import os
import signal
from collections.abc import Iterator

import pytest

from lightning_modules.fault_tolerance import stop_signals


@pytest.fixture(params=[signal.SIG_DFL, signal.SIG_IGN])
def terminal(request: pytest.FixtureRequest) -> Iterator[signal.Handlers]:
    """The handler of SIGHUP before the run. nohup sets SIG_IGN."""
    before = signal.signal(signal.SIGHUP, request.param)
    yield request.param
    signal.signal(signal.SIGHUP, before)


def test_a_closed_terminal_stops_a_run_unless_it_is_ignored(terminal: signal.Handlers) -> None:
    with stop_signals.deferred():
        os.kill(os.getpid(), signal.SIGHUP)
        assert stop_signals.received() == (signal.SIGTERM if terminal == signal.SIG_DFL else 0)
    assert signal.getsignal(signal.SIGHUP) == terminal


@pytest.mark.parametrize(
    ("sent", "noted"),
    [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM), (signal.SIGUSR1, signal.SIGUSR1)],
)
def test_signals_are_noted_as_what_they_ask_for(sent: int, noted: int) -> None:
    with stop_signals.deferred():
        os.kill(os.getpid(), sent)
        assert stop_signals.received() == noted
