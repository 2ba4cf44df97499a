"""Renders chat templates in its own process, which is ended where one takes too long or too much memory.

A template is a program: jinja2's sandbox keeps it from reaching into Python, and bounds neither its loops nor the texts
that it builds. The process is started at the first conversation, stays for those that follow, and ends with its parent.
This file is also what the process runs; it imports nothing of this package.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import marshal
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import IO, TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from jinja2 import Template

SECONDS = 5.0
"""Of one conversation, which takes a thousandth of one by the published templates."""
SECONDS_TO_START = 60.0
MEMORY = 1 << 29
"""Bytes of address space beyond those of the process at its start."""
LONGEST_TEXT = 1 << 24
"""Characters of a conversation."""


class Refused(Exception):
    """A template that cannot be rendered: the reason."""


class Renderer:
    """Renders templates elsewhere; safe for threads, and for processes that are forked from this one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def render(self, template: str, variables: Mapping[str, Any]) -> str:
        """The text.

        Raises:
            Refused: the template is broken, refuses its variables, or takes too long or too much.
            TypeError: a variable is no plain value.
        """
        request = marshal.dumps([template, _plain(variables)])
        with self._lock:
            try:
                process = self._started()
                assert process.stdin is not None
                process.stdin.write(len(request).to_bytes(8, "little") + request)
                process.stdin.flush()
                answer = json.loads(self._answer(SECONDS))
            except OSError as error:
                self.close()
                raise Refused(f"the process that renders it ended ({error.strerror or error})") from None
        if "reason" in answer:
            raise Refused(answer["reason"])
        text: str = answer["text"]
        return text

    def close(self) -> None:
        """End the process; the next conversation starts another."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):  # what it was still to read
                    stream.close()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            self.close()
            self._process = subprocess.Popen(  # noqa: S603 (this file, no shell)
                [sys.executable, "-P", __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            self._owner = os.getpid()
            self._answer(SECONDS_TO_START)
        return self._process

    def _answer(self, seconds: float) -> bytes:
        """The next message of the process, which is ended if it does not come in time."""
        assert self._process is not None
        assert self._process.stdout is not None
        deadline, handle = time.monotonic() + seconds, self._process.stdout.fileno()

        def read(size: int) -> bytes:
            content = bytearray()
            while len(content) < size:
                left = deadline - time.monotonic()
                if left <= 0 or not select.select([handle], [], [], left)[0]:
                    self.close()
                    raise Refused(f"it takes longer than {seconds:.0f} s")
                part = os.read(handle, min(size - len(content), 1 << 20))
                if not part:
                    self.close()
                    raise Refused("the process that renders it ended")
                content += part
            return bytes(content)

        return read(int.from_bytes(read(8), "little"))


def _plain(value: Any) -> Any:
    """The value of the built-in types alone."""
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, Mapping):
        return {_plain(key): _plain(inner) for key, inner in value.items()}
    for group in (list, tuple, set, frozenset):
        if isinstance(value, group):
            return group(map(_plain, value))
    raise TypeError(f"{str(value)[:80]!r} ({type(value).__name__}) cannot be given to a template")


# ------------------------------------------------------------------------------------------------- the other process


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer requests until there are no more."""
    _send(answers, {})
    while size := requests.read(8):
        template, variables = marshal.loads(requests.read(int.from_bytes(size, "little")))  # noqa: S302 (our own)
        signal.alarm(int(2 * SECONDS))  # should the parent be gone
        _send(answers, _rendered(template, variables))
        signal.alarm(0)


def _send(answers: IO[bytes], answer: Mapping[str, str]) -> None:
    content = json.dumps(answer).encode()
    answers.write(len(content).to_bytes(8, "little") + content)
    answers.flush()


def _rendered(template: str, variables: Mapping[str, Any]) -> dict[str, str]:
    try:
        text, length = [], 0
        for part in _compiled(template).generate(**variables):
            length += len(part)
            if length > LONGEST_TEXT:
                return {"reason": f"its text has more than {LONGEST_TEXT:,} characters"}
            text.append(part)
        return {"text": "".join(text)}
    except MemoryError:
        return {"reason": "it needs too much memory"}
    except Exception as error:  # whatever a foreign program raises is its own fault
        line = f" (line {error.lineno})" if hasattr(error, "lineno") else ""
        return {"reason": (" ".join(str(error)[:3000].split())[:300] or type(error).__name__) + line}


@lru_cache(maxsize=16)
def _compiled(template: str) -> Template:
    from jinja2 import ext, nodes
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(ext.Extension):
        """`{% generation %}` marks what the assistant says, for training on it alone; its text is as without."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals.update(raise_exception=_refuse, strftime_now=lambda form: datetime.now().strftime(form))
    return environment.from_string(template)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without the escapes for HTML that jinja2's own filter sets."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: str) -> NoReturn:
    from jinja2 import TemplateError

    raise TemplateError(message)


def _bounded() -> None:
    """Bound the memory of this process, where the system knows how."""
    try:
        import resource

        _compiled("")  # what is imported for the first template counts as its own
        pages = int(open("/proc/self/statm").read().split()[0])  # noqa: SIM115
        limit = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    except (ImportError, OSError, ValueError):
        return


if __name__ == "__main__":
    _bounded()
    serve(sys.stdin.buffer, sys.stdout.buffer)
else:
    RENDERER = Renderer()
    atexit.register(RENDERER.close)
