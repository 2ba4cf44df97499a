"""Contents of hostile files, and how they are written."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

Change = Callable[[Path], object]
MEGABYTE = 1 << 20
ESCAPE = "\x1b]0;owned\x07\x1b[2J"
SCRIPT = "<script>fetch('//elsewhere')</script>"
PADDING = {
    "strategy": {"Fixed": 10**9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
    "pad_token": "[UNK]",
}  # fmt: skip
DEEP = "[" * 100_000


def text(content: str | Callable[[], str]) -> Change:
    """A file of that text, which is made when it is written where it is long."""
    return lambda path: path.write_text(content if isinstance(content, str) else content())


def data(content: bytes | Callable[[], bytes]) -> Change:
    """A file of those bytes."""
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content())


def fuzzed(content: bytes, seed: int, count: int = 12) -> bytes:
    """A few bytes other than they were, a few left out and a few twice."""
    random, changed = Random(seed), bytearray(content)
    for _ in range(count):
        place = random.randrange(len(changed))
        match random.randrange(4):
            case 0:
                changed[place] ^= 1 << random.randrange(8)
            case 1:
                changed[place] = random.randrange(256)
            case 2:
                del changed[place : place + random.randrange(1, 9)]
            case _:
                changed[place:place] = changed[place : place + random.randrange(1, 9)]
    return bytes(changed)


def file(name: str, change: Change) -> Change:
    """A file of the folder, written anew."""

    def write(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        change(folder / name)

    return write


def safetensors(header: Any, body: bytes = bytes(64), size: int | None = None) -> Change:
    """A weights file of a header (JSON, or bytes) and what follows it."""

    def change(folder: Path) -> None:
        given = header() if callable(header) else header
        content = given if isinstance(given, bytes) else json.dumps(given).encode()
        length = struct.pack("<Q", len(content) if size is None else size)
        (folder / "model.safetensors").write_bytes(length + content + body)

    return change


def aliases(item: str) -> str:
    """Anchors, each of which repeats the one before."""
    return "".join(f"a{i}: &a{i} {item.format(before=f'*a{i - 1}')}\n" for i in range(1, 30))


BOMB = "a0: &a0 [x, x]\n" + aliases(f"[{', '.join(['{before}'] * 9)}]")
MERGES = "a0: &a0 {x: 1}\n" + aliases("{{<<: [{before}, {before}], y: {before}}}")
