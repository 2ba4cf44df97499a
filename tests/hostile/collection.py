"""Hostile files and settings: a table of what is made, how it is used, and the words that the one line must hold.

A maker writes into the folder of a project (see `prepare`) and returns the arguments of the command line that meet what
it wrote. A new row is all that a new attack needs.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

Maker = Callable[[Path], list[str]]

EXPERIMENT = """\
# @package _global_
defaults:
  - override /data: table
  - override /trainer: cpu
inputs:
  t:
    type: sequence
    column: text
    max_length: 16
    model: {model_type: bert, model_init_config: {hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2}}
outputs:
  y: {type: classification, column: label}
data: {train: rows.csv, validation: 0.5, batch_size: 2}
trainer: {max_epochs: 1, threads: 1}
"""
PUBLISHED = re.sub("model: .*", "model: {model_type: ./published, pretrained_model: true}", EXPERIMENT)
PICTURES = """\
# @package _global_
defaults:
  - override /data: table
  - override /trainer: cpu
inputs:
  p:
    type: image
    column: picture
    size: 4
    colours: 2
    model: {model_type: imagegpt, model_init_config: {n_embd: 16, n_layer: 1, n_head: 2}}
outputs:
  y: {type: classification, column: label}
data: {train: pictures.jsonl, validation: 0.5, batch_size: 2}
trainer: {max_epochs: 1, threads: 1}
"""
ROWS = "id,text,label\n" + "".join(f"{i},some words {i},{'ab'[i % 2]}\n" for i in range(8))
TOKENIZER: dict[str, Any] = {
    "version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": None, "decoder": None,
    "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "some": 1, "words": 2}, "unk_token": "[UNK]"},
}  # fmt: skip
DOUBLING = {"type": "Replace", "pattern": {"String": "o"}, "content": "oo"}


def prepare(folder: Path) -> None:
    """A project with an experiment of texts, one of pictures, and a table."""
    for name, text in (("texts", EXPERIMENT), ("pictures", PICTURES), ("published", PUBLISHED)):
        path = folder / "conf" / "experiment" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "rows.csv").write_text(ROWS)


# ------------------------------------------------------------------------------------------------------------ tables


def table(name: str, write: Callable[[Path], object]) -> Maker:
    """A data file of that name."""

    def make(folder: Path) -> list[str]:
        write(folder / name)
        return ["+experiment=texts", f"data.train={name}"]

    return make


def unpacked_to(start: bytes, block: bytes, blocks: int = 3000) -> Callable[[Path], object]:
    """A gzip file that unpacks to `blocks` MB."""

    def write(path: Path) -> None:
        packer = zlib.compressobj(9, wbits=31)
        part = block * (2**20 // len(block))
        with path.open("wb") as file:
            file.write(packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH))
            once = packer.compress(part) + packer.flush(zlib.Z_FULL_FLUSH)
            again = packer.compress(part) + packer.flush(zlib.Z_FULL_FLUSH)
            file.write(once + again * blocks)  # each block stands alone, so that they can be repeated

    return write


def flipped(write: Callable[[pa.Table, Any], object], find: bytes, offset: int, bit: int) -> Callable[[Path], object]:
    """A table in a binary format, with one bit wrong at a distance from some bytes."""

    def damage(path: Path) -> None:
        rows = [f"some words {i}" for i in range(8)]
        write(pa.table({"id": list("01234567"), "text": rows, "label": list("abababab")}), path)
        content = bytearray(path.read_bytes())
        content[content.index(find) + offset] ^= 1 << bit
        path.write_bytes(content)

    return damage


def ipc(rows: pa.Table, path: Path) -> None:
    """An Arrow file without compression."""
    with pa.ipc.new_file(str(path), rows.schema) as writer:
        writer.write_table(rows)


def stream(rows: pa.Table, path: Path) -> None:
    """The same in the streaming format."""
    with pa.ipc.new_stream(str(path), rows.schema) as writer:
        writer.write_table(rows)


# ---------------------------------------------------------------------------------------------------------- pictures


def picture(write: Callable[[Path], object], cell: Any = "one.png") -> Maker:
    """A picture that the first row names."""

    def make(folder: Path) -> list[str]:
        data = folder / "data"
        data.mkdir()
        write(data / "one.png")
        rows = [{"picture": cell, "label": label} for label in "abab"]
        (data / "pictures.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return ["+experiment=pictures", "data.train=data/pictures.jsonl"]

    return make


def postscript(path: Path) -> None:
    """A program that writes a file and runs for ever."""
    canary = path.parent / "canary"
    path.write_text(f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({canary}) (w) file closefile\n{{}} loop\n")


def png(width: int, height: int) -> Callable[[Path], object]:
    """The header of a picture, and hardly any pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")
    return lambda path: path.write_bytes(content)


def link(target: str) -> Callable[[Path], object]:
    """A link instead of the file."""
    return lambda path: path.symlink_to(target)


# ------------------------------------------------------------------------------------------------ models, tokenizers


def model(change: Callable[[Path], object]) -> Maker:
    """A published model, changed."""

    def make(folder: Path) -> list[str]:
        from tests.models.tiny import tiny

        tiny("bert").save_pretrained(folder / "published")
        (folder / "published" / "tokenizer.json").write_text(json.dumps(TOKENIZER))
        change(folder / "published")
        return ["+experiment=published"]

    return make


def config(**changes: Any) -> Callable[[Path], object]:
    """Entries of config.json."""

    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def instead(name: str, write: Callable[[Path], object]) -> Callable[[Path], object]:
    """Another file in the place of one."""

    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        write(folder / name)

    return change


def one_weight(folder: Path) -> None:
    """A deep config beside a file of one tensor."""
    config(num_hidden_layers=900)(folder)
    text = json.dumps({"pooler.dense.bias": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))


def tokenizer(write: Callable[[Path], object] | None = None, **changes: Any) -> Maker:
    """A published tokenizer, changed."""

    def make(folder: Path) -> list[str]:
        (folder / "tokens").mkdir()
        path = folder / "tokens" / "tokenizer.json"
        path.write_text(json.dumps({**TOKENIZER, **changes})) if write is None else write(path)
        return ["+experiment=texts", "+inputs.t.tokenizer={type: published, path: ./tokens}"]

    return make


def words(**ids: int) -> dict[str, Any]:
    """A vocabulary of further words."""
    return {**TOKENIZER["model"], "vocab": {**TOKENIZER["model"]["vocab"], **ids}}


def sequence(*normalizers: dict[str, Any]) -> dict[str, Any]:
    """One after the other."""
    return {"type": "Sequence", "normalizers": list(normalizers)}


def pipe(folder: Path) -> list[str]:
    """An experiment that never ends."""
    os.mkfifo(folder / "conf" / "experiment" / "pipe.yaml")
    return ["+experiment=pipe"]


def long_number(folder: Path) -> list[str]:
    """An experiment with a number that Python does not write."""
    (folder / "conf" / "experiment" / "digits.yaml").write_text(f"{EXPERIMENT}seed: {'9' * 5000}\n")
    return ["+experiment=digits"]


def settings(*given: str) -> Maker:
    """Nothing but a command line."""
    return lambda _: ["+experiment=texts", *given]


def options(**given: Any) -> Maker:
    """Options of the model."""
    return settings(*(f"++inputs.t.model.model_init_config.{name}={value}" for name, value in given.items()))


# ------------------------------------------------------------------------------------------------------------- table

HOSTILE: dict[str, tuple[Maker, str]] = {
    "gzip: rows": (table("a.csv.gz", unpacked_to(b"id,text,label\n", b"1,some words,a\n" + b"x" * 4081)), "packed to"),
    "gzip: one cell": (table("a.csv.gz", unpacked_to(b"id,text,label\n1,", b"x")), "packed to less than 1/200"),
    "gzip: zeros": (table("a.csv.gz", unpacked_to(b"id,text,label\n", b"\0")), "packed to less than 1/200"),
    "gzip: one JSON line": (table("a.jsonl.gz", unpacked_to(b'{"text": "', b"x")), "packed to less than 1/200"),
    "gzip: a JSON list": (table("a.json.gz", unpacked_to(b"[", b"[],")), "a list where a JSON object is expected"),
    "gzip: tags": (table("a.conll.gz", unpacked_to(b"", b"x")), "packed to less than 1/200"),
    "gzip: cut": (table("a.csv.gz", lambda path: path.write_bytes(gzip.compress(ROWS.encode())[:30])), "damaged"),
    "table: a pipe": (table("a.csv", os.mkfifo), "is a pipe, socket or device"),
    "table: a device": (table("a.csv", link("/dev/zero")), "is a pipe, socket or device"),
    "arrow: an offset": (table("a.arrow", flipped(ipc, b"some words 0", -10, 6)), "truncated or damaged"),
    "arrow: not UTF-8": (table("a.arrow", flipped(ipc, b"some words 3", 2, 7)), "truncated or damaged"),
    "picture: PostScript": (picture(postscript), "it is none of PNG, JPEG"),
    "picture: a pipe": (picture(os.mkfifo), "a pipe, socket or device"),
    "picture: a device": (picture(png(4, 4), "/dev/zero"), "outside of the folder"),
    "picture: a link": (picture(link("/etc/hostname")), "a link that leads out of the folder"),
    "picture: a file as it is kept": (picture(png(4, 4), ["/dev/zero", 1, 1]), "not the name of a file"),
    "picture: 10^9 pixels": (picture(png(32_000, 32_000)), "it has too many pixels"),
    "picture: 10^8 pixels": (picture(png(10_000, 10_000)), "at most 67,108,864"),
    "picture: no pixels": (picture(png(4, 4)), "cannot be read to its end"),
    "model: config is a pipe": (model(instead("config.json", os.mkfifo)), "no readable config.json"),
    "model: config is a device": (model(instead("config.json", link("/dev/zero"))), "no readable config.json"),
    "model: millions of labels": (model(config(id2label={str(i): "x" for i in range(2**19)})), "no readable config"),
    "model: 20,000 layers": (model(config(num_hidden_layers=20_000)), "20000 is above the greatest value 1000"),
    "model: few weights": (model(one_weight), "make more than 1,064 tensors, and its weights are 1"),
    "model: a vocabulary of 10^12": (model(config(vocab_size=10**12)), "has shape"),
    "tokenizer: an id of 4,000,000,000": (tokenizer(model=words(far=4_000_000_000)), "largest token id is 4,000,000"),
    "tokenizer: replacements": (
        tokenizer(normalizer=sequence(*[DOUBLING] * 40)), "1,099,511,627,776 times as long",
    ),
    "tokenizer: nested replacements": (
        tokenizer(normalizer=sequence(*[sequence(*[DOUBLING] * 9)] * 9)), "times as long",
    ),
    "tokenizer: bytes of bytes": (
        tokenizer(normalizer=sequence(*[{"type": "ByteLevel"}] * 30)), "times as long",
    ),
    "tokenizer: nested too deeply": (tokenizer(lambda path: path.write_text("[" * 10**6)), "tokenizer.json"),
    "tokenizer: a pipe": (tokenizer(os.mkfifo), "no tokenizer in"),
    "tokenizer: a device": (tokenizer(link("/dev/zero")), "no tokenizer in"),
    "config: a large vocabulary": (options(vocab_size=999_999_999, hidden_size=1024), "does not fit into memory"),
    "config: wide": (options(hidden_size=2 * 10**9, intermediate_size=10**9), "does not fit into memory"),
    "config: deep": (options(num_hidden_layers=20_000), "20000 is above the greatest value 1000"),
    "config: threads": (settings("trainer.threads=100000"), "trainer.threads"),
    "config: workers": (settings("data.num_workers=100000"), "data.num_workers"),
    "config: a vocabulary to be learnt": (
        settings("+inputs.t.tokenizer={type: bpe, vocab_size: 999999999}"), "<= 2000000",
    ),
    "config: a number of many digits": (long_number, "seed: a number of 5,000 digits (conf/experiment/digits.yaml:1"),
    "config: a pipe": (pipe, "conf/experiment/pipe.yaml is a pipe"),
}  # fmt: skip
"""Name, maker, and words of the line."""
