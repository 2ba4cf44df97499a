from __future__ import annotations

import io
import logging
import os
from pathlib import Path

import pytest

from eir_seq.training import console as console_module
from eir_seq.training.console import Console, duration
from eir_seq.training.metrics_file import Measurement, MetricsFile, read_metrics


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def measurements(output: str = "y") -> list[Measurement]:
    return [
        Measurement(2, 10, "validation", "", "loss", 0.5),
        Measurement(2, 10, "validation", output, "accuracy", 0.75),
        Measurement(2, 10, "validation", output, "f1(good)", 0.7),
        Measurement(2, 10, "validation", output, "loss", 0.5),
    ]


def test_lines_go_to_the_stream_and_to_the_log_from_the_first_on(tmp_path: Path) -> None:
    stream = io.StringIO()
    console = Console(stream)
    console.say("before the run folder")
    console.log_to(tmp_path / "log.txt")
    console.say("after")
    console.log("for the log only")
    assert stream.getvalue() == "before the run folder\nafter\n"
    assert (tmp_path / "log.txt").read_text() == "before the run folder\nafter\nfor the log only\n"


def test_a_phase_is_one_line_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    with Console(stream).phase("reading rows") as found:
        found += ["train 3", "test 1"]
    assert stream.getvalue().startswith("reading rows: train 3, test 1 (0.")
    assert stream.getvalue().count("\n") == 1


def test_steps_are_lines_every_half_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(console_module.time, "monotonic", lambda: clock[0])
    stream, asked = io.StringIO(), []
    console = Console(stream)
    for step in range(1, 101):
        clock[0] += 1
        console.step(step, 400, 1, lambda: asked.append(1) or 0.25)  # type: ignore[func-returns-value]
    lines = stream.getvalue().splitlines()
    assert lines == [
        "epoch 1, step 30 of 400, loss 0.2500, about 6 min left",
        "epoch 1, step 60 of 400, loss 0.2500, about 6 min left",
        "epoch 1, step 90 of 400, loss 0.2500, about 5 min left",
    ]
    assert len(asked) == 3, "the loss waits for the device and is asked for only when it is shown"


def test_an_evaluation_is_one_line() -> None:
    stream = io.StringIO()
    Console(stream).evaluated(measurements(), best=True)
    assert stream.getvalue() == "epoch 2, step 10, validation: loss 0.5000; y: accuracy 0.7500  <- best\n"


def test_a_terminal_has_a_bar_and_lines_above_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Console(stream) as console:
        console.log_to(tmp_path / "log.txt")
        with console.phase("encoding") as found:
            console.progress("review: train", 5, 10)
            found.append("done")
        for step in (1, 2):
            console.step(step, 2, 1, lambda: 0.125)
        console.evaluated(measurements(), best=False)
    shown = stream.getvalue()
    assert "2/2" in shown
    assert "epoch 1, loss 0.1250" in shown
    assert "y: accuracy 0.7500" in shown
    log = (tmp_path / "log.txt").read_text()
    assert log.startswith("encoding: done (")
    assert "\x1b" not in log


def test_a_closed_stream_does_not_end_the_run(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    console = Console(os.fdopen(writing, "w"))
    console.log_to(tmp_path / "log.txt")
    for line in ("one", "two"):
        console.say(line)
    assert (tmp_path / "log.txt").read_text() == "one\ntwo\n"


def test_warnings_of_the_package_are_said() -> None:
    stream = io.StringIO()
    with Console(stream):
        logging.getLogger("eir_seq.data").warning("%d texts were cut", 3)
        logging.getLogger("eir_seq.data").info("nobody needs to know")
    assert stream.getvalue() == "warning: 3 texts were cut\n"
    assert logging.getLogger("eir_seq").handlers == []


@pytest.mark.parametrize(("seconds", "said"), [(4.2, "4 s"), (300, "5 min"), (9000, "2.5 h")])
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_metrics_come_back_as_they_were(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.csv")
    file.restart(0)
    odd = [Measurement(1, 2, "train", "", "loss", 0.1 + 0.2), Measurement(1, 2, "test", "y", 'f1(a,"b"\n)', 1e-300)]
    file.append(measurements())
    size, _ = file.flush()
    file.append(odd)
    assert read_metrics(tmp_path / "metrics.csv") == measurements() + odd
    file.restart(size)
    assert read_metrics(tmp_path / "metrics.csv") == measurements()
    file.restart(0)
    assert (tmp_path / "metrics.csv").read_text() == "epoch,step,split,output,metric,value\n"
