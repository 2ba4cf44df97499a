"""Runs commands in processes that have torch and Lightning imported: ``python -m module ...`` without the seconds that
imports take.

A process imports the libraries, nothing of this package, and forks one child per command. What a command does with its
files, environment, arguments and streams is as in a process of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.campaign.case import draw_nothing

LIBRARIES = (
    "torch", "lightning.pytorch", "torchmetrics", "pyarrow.csv", "pandas", "hydra", "tokenizers", "rich.table",
    "jinja2", "matplotlib.figure",
)  # fmt: skip
_server: subprocess.Popen[str] | None = None


def run(
    words: Sequence[str], *, cwd: Path, environment: Mapping[str, str], timeout: float, drawings: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run ``python WORDS``, which begin with ``-m MODULE``; reports have no drawings unless asked for."""
    assert words[0] == "-m", words
    from eir_seq.__main__ import tuned  # not at the top, where the server would import it, too

    server = _started()
    assert server.stdin is not None
    assert server.stdout is not None
    with tempfile.TemporaryDirectory() as folder:
        variables = tuned(environment) or dict(environment)
        request = {
            "words": list(words),
            "cwd": str(cwd),
            "environment": variables,
            "folder": folder,
            "timeout": timeout,
            "drawings": drawings,
        }
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        code = json.loads(server.stdout.readline())
        if code is None:
            raise subprocess.TimeoutExpired(list(words), timeout)
        printed = [(Path(folder) / name).read_text() for name in ("stdout", "stderr")]
    return subprocess.CompletedProcess(list(words), code, *printed)


def _started() -> subprocess.Popen[str]:
    global _server  # one for all tests of a process
    if _server is None or _server.poll() is not None:
        from eir_seq.__main__ import tuned

        environment = tuned(os.environ) or dict(os.environ)
        _server = subprocess.Popen(
            [sys.executable, "-m", "tests.warm"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
            env={**environment, "OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "1000", "TORCH_CPP_LOG_LEVEL": "ERROR"},
        )
        atexit.register(_server.kill)
    return _server


def serve() -> None:
    """Answer requests, one after another, with exit codes."""
    import importlib
    import signal

    for name in LIBRARIES:
        importlib.import_module(name)
    sys.path.remove(os.getcwd())
    for line in sys.stdin:
        request = json.loads(line)
        if not (child := os.fork()):
            _become(request)
        signal.signal(signal.SIGALRM, lambda *_, child=child: os.killpg(child, signal.SIGKILL))
        signal.alarm(int(request["timeout"]))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        timed_out = signal.alarm(0) == 0 and status == -signal.SIGKILL
        print(json.dumps(None if timed_out else status), flush=True)


def _become(request: Mapping[str, Any]) -> None:
    """The child: run the command and end."""
    code: Any = 1
    try:
        os.setpgid(0, 0)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["environment"])
        for name, descriptor in (("stdout", 1), ("stderr", 2)):
            os.dup2(os.open(Path(request["folder"]) / name, os.O_WRONLY | os.O_CREAT), descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        _, module, *arguments = request["words"]
        sys.argv = [module, *arguments]
        sys.path.insert(0, request["cwd"])
        sys.path[1:1] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
        if not request["drawings"]:
            draw_nothing()
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(0 if code is None else code if isinstance(code, int) else 1)


if __name__ == "__main__":
    serve()
