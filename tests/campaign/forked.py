"""Further processes of the program (jobs, trials, ranks) as forks, which spares each of them the imports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from hydra.core.global_hydra import GlobalHydra

_Popen = subprocess.Popen
_MOST_DESCRIPTORS = 4096


class Forked(_Popen):
    """In the place of `subprocess.Popen`: forks where ``python -m eir_seq`` or a process of a training is started."""

    def __init__(self, words: Sequence[str], **options: Any) -> None:
        run = _program(list(words))
        if run is None:
            super().__init__(words, **options)
            return
        self.returncode, self._child_created, self._waitpid_lock = None, True, threading.Lock()
        self.args, self.stdin, self.stdout, self.stderr = words, None, None, None
        reading, writing = os.pipe() if options.get("stdin") == subprocess.PIPE else (os.open(os.devnull, 0), None)
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid:
            os.close(reading)
            if writing is not None:
                self.stdin = os.fdopen(writing, "wb")
            return
        code = 1
        try:
            _become(reading, options)
            code = run()
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def _program(words: list[str]) -> Callable[[], int] | None:
    """What a command line runs in a new interpreter; None if it is another program."""
    if words[:2] != [sys.executable, "-m"]:
        return None
    if words[2] == "eir_seq.training.worker":
        from eir_seq.training.worker import main as worker

        return worker
    if words[2] == "eir_seq":
        from eir_seq.commands import main

        return lambda: main(words[3:])
    return None


def _become(standard_input: int, options: dict[str, Any]) -> None:
    """Have what a new process has: its own descriptors, environment and signals."""
    if options.get("start_new_session"):
        os.setsid()
    os.dup2(standard_input, 0)
    for number, name in ((1, "stdout"), (2, "stderr")):
        given = options.get(name)
        if given == subprocess.DEVNULL:
            given = os.open(os.devnull, os.O_WRONLY)
        if given is not None:
            os.dup2(1 if given == subprocess.STDOUT else given if isinstance(given, int) else given.fileno(), number)
    os.closerange(3, _MOST_DESCRIPTORS)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(n, "rww"[n], closefd=False) for n in range(3))
    os.environ.update(options.get("env") or {})
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    GlobalHydra.instance().clear()
