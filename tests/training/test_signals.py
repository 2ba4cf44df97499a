from __future__ import annotations

import os
import signal
import time
import weakref
from collections.abc import Callable

import pytest

from eir_seq.training.signals import SignalGuard, Stopped


class Value:
    """What can be referred to weakly."""


class Deleted:
    """Gets a signal while it is deleted."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


def wait() -> None:
    end = time.monotonic() + 5
    while time.monotonic() < end:
        time.sleep(0.01)


def finalize() -> None:
    value = Value()
    weakref.finalize(value, os.kill, os.getpid(), signal.SIGTERM)
    del value
    wait()


def delete() -> None:
    Deleted()
    wait()


@pytest.mark.parametrize("within", [finalize, delete])
def test_a_signal_in_a_finalizer_stops_the_program_after_it(
    within: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with SignalGuard(), pytest.raises(Stopped, match="143"):
        within()
    assert capsys.readouterr().err == ""


def test_a_signal_elsewhere_stops_it_at_once() -> None:
    with SignalGuard(), pytest.raises(Stopped, match="130"):
        os.kill(os.getpid(), signal.SIGINT)
