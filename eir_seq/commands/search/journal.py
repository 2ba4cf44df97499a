"""The file of a study: Optuna's journal with a checksum in each line, which survives writers that are killed."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from optuna.storages.journal import BaseJournalBackend, JournalFileSymlinkLock

from eir_seq.errors import Fault, UserError

_SUM, _PLAIN = b'{"crc":"%08x",', b'{"op_code":'
"""How a line begins here, and in a journal that Optuna wrote itself."""
_BLOCK = 1 << 16
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class Journal(BaseJournalBackend):
    """A file to which all workers of a study append.

    Optuna's own takes a line that a kill or a full disk cut off for the beginning of the next one, which makes the
    study unreadable, and after a kill it waits half a minute for its lock.

    Args:
        path: of the file; it is made if there is none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._starts = [0]
        path.open("ab").close()

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """The entries from a number on.

        Raises:
            UserError: one of them is damaged.
        """
        number = min(log_number_from, len(self._starts) - 1)
        with self._path.open("rb") as file:
            file.seek(self._starts[number])
            for line in file:
                if not line.endswith(b"\n"):  # it is being written, or its writer was killed
                    return
                entry = self._entry(line, number)
                number += 1
                if number == len(self._starts):
                    self._starts.append(self._starts[-1] + len(line))
                if number > log_number_from:
                    yield entry

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add entries, all or none."""
        lines = (json.dumps(log, separators=(",", ":")).encode() for log in logs)
        content = b"".join(_SUM % zlib.crc32(line) + line[1:] + b"\n" for line in lines)
        with self._path.open("a+b", buffering=0) as file, self._locked(file):
            end = _end_of_lines(file)
            file.truncate(end)
            try:
                if file.write(content) < len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
                os.fsync(file.fileno())
            except OSError:
                with suppress(OSError):
                    file.truncate(end)
                raise

    @contextmanager
    def _locked(self, file: IO[bytes]) -> Iterator[None]:
        """The kernel frees this lock when its process ends; a few file systems of clusters have none."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            lock = JournalFileSymlinkLock(str(self._path))
            lock.acquire()
            try:
                yield
            finally:
                lock.release()
        else:
            yield

    def _entry(self, line: bytes, number: int) -> dict[str, Any]:
        with suppress(ValueError):
            size = len(_SUM % 0)
            text = b"{" + line[size:-1]
            if line[:size] == _SUM % zlib.crc32(text) or (text := line).startswith(_PLAIN):
                found = json.loads(text)
                if isinstance(found, dict):
                    return found
        hint = f"sweep.start=[{self._path.parent}] in another sweep.dir begins with the best of its trials"
        raise UserError(Fault(str(self._path), f"line {number + 1} is damaged; {hint}"))


def _end_of_lines(file: IO[bytes]) -> int:
    """Where the last whole line ends."""
    end = file.seek(0, os.SEEK_END)
    while end:
        begin = max(0, end - _BLOCK)
        file.seek(begin)
        found = file.read(end - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0
