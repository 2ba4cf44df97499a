"""Ways in which a file can be damaged."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from random import Random

Damage = Callable[[Path, Random], None]


def flip(path: Path, random: Random) -> None:
    """One wrong bit."""
    content = bytearray(path.read_bytes())
    content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    path.write_bytes(content)


def flip_many(path: Path, random: Random) -> None:
    """Wrong bits in many places."""
    for _ in range(20):
        flip(path, random)


def flip_digit(path: Path, random: Random) -> None:
    """Another digit in the place of one, which leaves most formats well-formed."""
    content = bytearray(path.read_bytes())
    places = [place for place, byte in enumerate(content) if chr(byte).isdigit()] or [0]
    content[random.choice(places)] ^= 1
    path.write_bytes(content)


def cut(path: Path, random: Random) -> None:
    """The beginning alone."""
    os.truncate(path, random.randrange(1, path.stat().st_size))


def cut_one(path: Path, random: Random) -> None:
    """All but the last byte."""
    os.truncate(path, path.stat().st_size - 1)


def empty(path: Path, random: Random) -> None:
    """No bytes."""
    os.truncate(path, 0)


def remove(path: Path, random: Random) -> None:
    """No file."""
    path.unlink()


def folder(path: Path, random: Random) -> None:
    """A folder of that name."""
    remove(path, random)
    (path / "inside").mkdir(parents=True)


def pipe(path: Path, random: Random) -> None:
    """A named pipe."""
    remove(path, random)
    os.mkfifo(path)


def link(path: Path, random: Random) -> None:
    """A link to a device, to nothing or to itself."""
    remove(path, random)
    path.symlink_to(random.choice(["/dev/zero", "nothing-there", path.name]))


def other(path: Path, random: Random) -> None:
    """What another file holds."""
    others = [found for found in path.parent.rglob("*") if found.is_file() and found.stat().st_size]
    source = random.choice(sorted(others))
    content = source.read_bytes() if source != path else b"some text\n" * 9
    remove(path, random)
    path.write_bytes(content)


def zeros(path: Path, random: Random) -> None:
    """A block of zeros, as after a crash of the machine."""
    size = path.stat().st_size
    start = random.randrange(size)
    with path.open("r+b") as file:
        file.seek(start)
        file.write(bytes(min(512, size - start)))


def append(path: Path, random: Random) -> None:
    """More bytes behind the end."""
    with path.open("ab") as file:
        file.write(random.randbytes(random.randrange(1, 99)))


DAMAGES: tuple[Damage, ...] = (
    flip, flip_digit, flip_many, cut, cut_one, empty, remove, folder, pipe, link, other, zeros, append,
)  # fmt: skip
