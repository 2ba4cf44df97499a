"""Hostile tables, pictures and experiments: names and makers, see `collection`."""

from __future__ import annotations

import bz2
import io
import json
import lzma
import os
import pickle
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet

from tests.hostile.collection import (
    EXPERIMENT,
    ROWS,
    Maker,
    ipc,
    link,
    picture,
    png,
    stream,
    table,
)
from tests.hostile.making import BOMB, DEEP, ESCAPE, MEGABYTE, SCRIPT, Change, data, fuzzed, text


def binary(write: Callable[[pa.Table, Any], object]) -> bytes:
    """A table in a binary format."""
    rows = {"id": list("01234567"), "text": [f"some words {i}" for i in range(8)], "label": list("abababab")}
    path = Path(tempfile.mkdtemp(prefix="hostile-")) / "a.arrow"
    write(pa.table(rows), path)
    content = path.read_bytes()
    shutil.rmtree(path.parent)
    return content


WRITERS: dict[str, Callable[[pa.Table, Any], object]] = {
    "a.arrow": ipc,
    "b.arrow": stream,
    "a.feather": lambda rows, path: pyarrow.feather.write_feather(rows, str(path)),
    "a.parquet": pyarrow.parquet.write_table,
}


def folder_of_texts(change: Change) -> Maker:
    """A folder of one text file per row, changed, beside a table of labels."""

    def make(folder: Path) -> list[str]:
        (folder / "texts").mkdir()
        for row in range(8):
            (folder / "texts" / f"{row}.txt").write_text(f"some words {row}")
        change(folder / "texts")
        return ["+experiment=texts", "data.train=texts", "data.labels=rows.csv", "data.id=id"]

    return make


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../outside.csv", b"0" * 64 * MEGABYTE)


def row(**cells: str) -> str:
    """Rows of which the first has these cells."""
    first = {"id": "0", "text": "some words", "label": "a", **cells}
    quoted = ",".join('"' + cell.replace('"', '""') + '"' for cell in first.values())
    return ROWS.replace("0,some words 0,a", quoted).replace(",a\n", f",{first['label']}\n")


def tables() -> Iterator[tuple[str, Maker]]:
    for name, write in WRITERS.items():
        for seed in range(5):
            yield (
                f"{name} fuzzed {seed}",
                table(name, lambda p, w=write, s=seed: p.write_bytes(fuzzed(binary(w), s, 4))),
            )
    written: dict[str, tuple[str, Change]] = {
        "NULs": ("a.csv", text(ROWS.replace("words", "wo\0rds"))),
        "a field of 64 MB": ("a.csv", text(lambda: "id,text,label\n0," + "x" * 64 * MEGABYTE + ",a\n1,b,b\n")),
        "a quote never closed": ("a.csv", text(lambda: 'id,text,label\n0,"' + "x,y\n" * 4 * MEGABYTE)),
        "a million columns": ("a.csv", text(lambda: ",".join(map(str, range(10**6))) + "\n" + ROWS)),
        "a million columns of no name": ("a.csv", text(lambda: "," * 10**6 + "\n")),
        "carriage returns": ("a.csv", text(lambda: "\r" * 8 * MEGABYTE)),
        "UTF-16": ("a.csv", data(ROWS.encode("utf-16"))),
        "lone surrogates": ("a.jsonl", text('{"id": "\\ud800", "text": "\\udfff", "label": "a"}\n' * 4)),
        "JSON nested deeply": ("a.jsonl", text(f'{{"id": "0", "text": {DEEP}\n')),
        "JSON nested deeply, closed": ("a.json", text(DEEP + "]" * len(DEEP))),
        "JSON objects nested deeply": ("a.json", text('{"text":' * 100_000)),
        "a number of many digits": ("a.jsonl", text(f'{{"id": {"9" * 100_000}, "text": "a", "label": "a"}}\n')),
        "numbers beyond all": ("a.jsonl", text('{"id": 1e999, "text": -1e999, "label": NaN}\n' * 4)),
        "half a million keys": ("a.jsonl", text(lambda: json.dumps({str(i): i for i in range(500_000)}) + "\n")),
        "a list of 90 MB": ("a.json", text(lambda: "[" + ('{"id": 1, "text": "' + "x" * 4000 + '"},') * 24_000)),
        "a zip archive": ("a.csv", zipped),
        "a workbook": ("a.xlsx", zipped),
        "bzip2": ("a.csv.bz2", data(lambda: bz2.compress(bytes(64 * MEGABYTE)))),
        "xz": ("a.csv.xz", data(lambda: lzma.compress(bytes(64 * MEGABYTE), preset=1))),
        "xz under another name": ("a.csv", data(lambda: lzma.compress(bytes(MEGABYTE), preset=1))),
        "zstandard": ("a.csv.zst", data(b"\x28\xb5\x2f\xfd" + bytes(99))),
        "tags of many columns": ("a.conll", text(lambda: "word\t" * 2 * MEGABYTE)),
        "a pickle": ("a.pkl", data(pickle.dumps({"a": 1}))),
        "a link to nothing": ("a.csv", link("nothing-there")),
        "a link to itself": ("a.csv", link("a.csv")),
    }
    for title, (name, change) in written.items():
        yield title, table(name, change)
    folders: dict[str, Change] = {
        "a link out": lambda p: (p / "9.txt").symlink_to("/etc/hostname"),
        "a link to a folder": lambda p: (p / "9.txt").symlink_to("/etc"),
        "a pipe": lambda p: os.mkfifo(p / "9.txt"),
        "a device": lambda p: (p / "9.txt").symlink_to("/dev/zero"),
        "a loop": lambda p: (p / "9.txt").symlink_to("9.txt"),
        "a name that steers the terminal": lambda p: (p / f"{ESCAPE.replace('/', '')}.txt").write_bytes(b"\xff"),
        "a name that is not text": lambda p: Path(os.fsdecode(os.fsencode(p) + b"/\xff\xfe.txt")).write_text("a"),
    }
    for title, change in folders.items():
        yield f"texts: {title}", folder_of_texts(change)


CELLS = {
    "markup in cells": {"text": SCRIPT, "id": SCRIPT, "label": f"{SCRIPT}'\"--><svg/onload=x>"},
    "terminal codes in cells": {"text": ESCAPE, "id": ESCAPE, "label": ESCAPE},
    "formulas in cells": {"text": "=cmd|' /C calc'!A0", "id": "=1+1", "label": "@SUM(1)"},
    "paths as ids": {"id": "../../../outside/kept", "label": "../../outside/kept"},
    "right to left": {"text": "\u202egnp.exe", "id": "\u202e0", "label": "\u2066a"},
    "templates in cells": {"text": "{{ 9**9**9 }}", "id": "{{ self }}", "label": "{% for x in y %}${oc.env:HOME}"},
}


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_with(*chunks: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(4 * 13)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + pixels + chunk(b"IEND", b"")


def drawn(kind: str, **options: Any) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, kind, **options)
    return file.getvalue()


def _fuzzed_picture(kind: str, seed: int) -> bytes:
    return fuzzed(drawn(kind), seed)


def many_frames() -> bytes:
    from PIL import Image

    file = io.BytesIO()
    frames = [Image.new("P", (8, 8), i % 256) for i in range(2000)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], optimize=False)
    return file.getvalue()


def pictures() -> Iterator[tuple[str, Maker]]:

    def bomb() -> bytes:
        return zlib.compress(bytes(200 * MEGABYTE), 9)

    written: dict[str, bytes | Callable[[], bytes]] = {
        "SVG": f"<svg xmlns='http://www.w3.org/2000/svg'>{SCRIPT}</svg>".encode(),
        "a font": b"\x01fcp" + bytes(999),
        "WMF": b"\xd7\xcd\xc6\x9a" + bytes(999),
        "PSD": b"8BPS\0\1" + bytes(999),
        "a JPEG cut": lambda: drawn("JPEG")[:200],
        "a PNG cut": lambda: drawn("PNG")[:-30],
        "a GIF of 2,000 frames": many_frames,
        "a TIFF": lambda: drawn("TIFF"),
        "a profile that unpacks to 200 MB": lambda: png_with(chunk(b"iCCP", b"x\0\0" + bomb())),
        "a comment that unpacks to 200 MB": lambda: png_with(chunk(b"zTXt", b"x\0\0" + bomb())),
        "100,000 comments": lambda: png_with(*[chunk(b"tEXt", b"x\0y")] * 100_000),
        "a BMP of negative size": lambda: drawn("BMP")[:18] + struct.pack("<ii", -(2**31), -8) + drawn("BMP")[26:],
        "EXIF that refers to itself": lambda: drawn("JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(9)),
        **{
            f"fuzzed {kind} {seed}": partial(_fuzzed_picture, kind, seed)
            for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP")
            for seed in range(2)
        },
    }
    for title, content in written.items():
        yield title, picture(data(content))
    for title, cell in (
        ("a path out", "../../../../etc/hostname"),
        ("a name of terminal codes", f"{ESCAPE}.png"),
        ("a name with a NUL", "a\0.png"),
        ("a long name", "x" * 10**6),
        ("an address", "http://x/a.png"),
    ):
        yield title, picture(png(4, 4), cell)


def experiment(content: str | Change) -> Maker:
    """An experiment file from elsewhere."""

    def make(folder: Path) -> list[str]:
        path = folder / "conf" / "experiment" / "given.yaml"
        path.write_text(content) if isinstance(content, str) else content(path)
        return ["+experiment=given"]

    return make


def experiments() -> Iterator[tuple[str, Maker]]:
    texts: dict[str, str] = {
        "aliases of aliases": BOMB,
        "merges of merges": "a0: &a0 {x: 1}\n"
        + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}], y{i}: *a{i - 1}}}\n" for i in range(1, 40)),
        "an alias of itself": "a: &a [*a]",
        "a tag that calls": "note: !!python/object/apply:os.system ['touch canary']",
        "a tag that is made": "note: !!python/object/new:subprocess.Popen [[touch, canary]]",
        "a target": "note: {_target_: os.system, command: touch canary}",
        "callbacks": "hydra: {callbacks: {x: {_target_: os.system, command: touch canary}}}",
        "a search path": "hydra: {searchpath: ['file:///etc']}",
        "a launcher": "hydra: {launcher: {_target_: os.system, command: touch canary}}",
        "an interpolation of itself": "note: ${note}",
        "interpolations in a ring": "name: ${note}\nnote: ${name}",
        "interpolations that grow": "note: " + "${note}" * 10_000,
        "an unknown resolver": "note: ${eval:1+1}",
        "nested deeply": "note: " + "{a: " * 10_000,
        "lists nested deeply": "note: " + DEEP,
        "100,000 keys": "\n".join(f"a{i}: 1" for i in range(100_000)),
        "defaults of itself": "defaults: [/experiment: given]",
        "defaults out of the folder": "defaults: [/experiment: ../../../../etc/hostname]",
        "a name by path": "name: ../../outside/kept",
        "a name of terminal codes": f"name: {json.dumps(ESCAPE)}",
        "inputs by path": "inputs: {../../x: {column: text, model: {model_type: bert}}}",
        "keys that are no words": "? [a, b]\n: 1\n",
        "a long number": f"seed: {'9' * 100_000}",
        "a number of base 60": f"seed: {':59' * 20_000}"[:7] + "1" + ":59" * 20_000,
        "NULs": "note: '\0'",
        "5 MB": f"note: {'x' * 5 * MEGABYTE}",
        "folders for the cache": "data: {cache_dir: ../outside/kept}",
    }
    for title, content in texts.items():
        whole = content if content.startswith(("?", "a0", "a:", "defaults")) else f"{EXPERIMENT}{content}\n"
        yield title, experiment(f"# @package _global_\n{whole}")
    written: dict[str, Change] = {"a pipe": os.mkfifo, "a device": link("/dev/zero"), "a folder": lambda p: p.mkdir()}
    for title, change in written.items():
        yield title, experiment(change)
