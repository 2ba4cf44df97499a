"""Further hostile files, for the campaign: how each is made and the command that meets it.

As in `collection`, a maker writes into the folder of a project and returns arguments; here they begin with the command.
"""

from __future__ import annotations

import bz2
import hashlib
import io
import json
import lzma
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet

from tests.hostile.collection import (
    DOUBLING,
    EXPERIMENT,
    ROWS,
    TOKENIZER,
    Maker,
    ipc,
    link,
    picture,
    png,
    prepare,
    sequence,
    stream,
    table,
    tokenizer,
    words,
)

Change = Callable[[Path], object]
MEGABYTE = 1 << 20
ESCAPE = "\x1b]0;owned\x07\x1b[2J"
SCRIPT = "<script>fetch('//elsewhere')</script>"
DEEP = "[" * 100_000


def check(maker: Maker) -> Maker:
    """Meet it by `check`."""
    return lambda folder: ["check", *maker(folder)]


def train(maker: Maker) -> Maker:
    """Meet it by a whole run, report included."""
    return lambda folder: [*maker(folder), "run.dir=run"]


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


# ------------------------------------------------------------------------------------------------------------ tables


def binary(write: Callable[[pa.Table, Any], object]) -> bytes:
    """A table in a binary format."""
    rows = {"id": list("01234567"), "text": [f"some words {i}" for i in range(8)], "label": list("abababab")}
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"hostile-{os.getpid()}.arrow"  # noqa: S108
    write(pa.table(rows), path)
    content = path.read_bytes()
    path.unlink()
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
        "a list of 90 MB": ("a.json", text(lambda: "[" + '{"id": 1, "text": "some words", "label": "a"},' * 2 * MEGABYTE)),
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
    }  # fmt: skip
    for title, (name, change) in written.items():
        yield title, table(name, change)
    folders: dict[str, Change] = {
        "a link out": lambda p: (p / "9.txt").symlink_to("/etc/hostname"),
        "a link to a folder": lambda p: (p / "9.txt").symlink_to("/etc"),
        "a pipe": lambda p: os.mkfifo(p / "9.txt"),
        "a device": lambda p: (p / "9.txt").symlink_to("/dev/zero"),
        "a loop": lambda p: (p / "9.txt").symlink_to("9.txt"),
        "a name that steers the terminal": lambda p: (p / f"{ESCAPE.replace('/', '')}.txt").write_bytes(b"\xff"),
        "a name that is no text": lambda p: Path(os.fsdecode(os.fsencode(p) + b"/\xff\xfe.txt")).write_text("a"),
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

# ---------------------------------------------------------------------------------------------------------- pictures


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
        **{f"fuzzed {kind} {seed}": partial(_fuzzed_picture, kind, seed)
            for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP")
           for seed in range(2)},
    }  # fmt: skip
    for title, content in written.items():
        yield title, picture(data(content))
    for title, cell in (("a path out", "../../../../etc/hostname"), ("a name of terminal codes", f"{ESCAPE}.png"),
                        ("a name with a NUL", "a\0.png"), ("a long name", "x" * 10**6), ("an address", "http://x/a.png")):  # fmt: skip
        yield title, picture(png(4, 4), cell)


# -------------------------------------------------------------------------------------------------------- tokenizers


def other_vocabulary(**files: Any) -> Maker:
    """A tokenizer in other files than tokenizer.json."""

    def make(folder: Path) -> list[str]:
        (folder / "tokens").mkdir()
        for name, content in files.items():
            path = folder / "tokens" / name.replace("__", ".")
            content = content() if callable(content) else content
            path.write_bytes(content) if isinstance(content, bytes) else path.write_text(content)
        return ["+experiment=texts", "+inputs.t.tokenizer={type: published, path: ./tokens}"]

    return make


def sentencepiece_model() -> bytes:
    """A small model, trained here."""
    import sentencepiece

    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["some words and more words", "other words"] * 20), model_writer=file, vocab_size=30,
        hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    return file.getvalue()


def tokenizers() -> Iterator[tuple[str, Maker]]:
    plain = json.dumps(TOKENIZER)
    parts: dict[str, dict[str, Any]] = {
        "a negative id": {"model": words(far=-1)},
        "an id that is no number": {"model": words(far=1.5)},
        "an id of 64 bits": {"model": words(far=2**64)},
        "padding to 10^9": {"padding": {"strategy": {"Fixed": 10**9}, "direction": "Right", "pad_to_multiple_of": None,
                                        "pad_id": 0, "pad_type_id": 0, "pad_token": "[UNK]"}},
        "truncation to nothing": {"truncation": {"direction": "Right", "max_length": 0, "strategy": "LongestFirst",
                                                 "stride": 9}},
        "an expression that backtracks": {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+|s+|o+|.)*$x"},
                                                            "behavior": "Isolated", "invert": False}},
        "an expression that is none": {"normalizer": {"type": "Replace", "pattern": {"Regex": "(("}, "content": ""}},
        "replacement of nothing": {"normalizer": sequence(*[{"type": "Replace", "pattern": {"Regex": "x*"},
                                                             "content": "y" * 99}] * 3)},
        "a decoder that grows": {"decoder": sequence(*[DOUBLING] * 40)},
        "a charsmap of noise": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAAAAECAwQF"}},
        "a template of unknown tokens": {"post_processor": {"type": "TemplateProcessing", "pair": [], "special_tokens": {},
                                         "single": [{"SpecialToken": {"id": "[X]", "type_id": 0}}]}},
        "empty added tokens": {"added_tokens": [{"id": 3, "content": "", "single_word": False, "lstrip": False,
                                                 "rstrip": False, "normalized": False, "special": True}]},
        "a unigram of NaN": {"model": {"type": "Unigram", "unk_id": 99, "vocab": [["a", -1e400], ["b", 0.0]]}},
        "merges of unknown tokens": {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["x", "y"]] * 9}},
        "WordPiece of no characters": {"model": {"type": "WordPiece", "unk_token": "[UNK]", "max_input_chars_per_word": 0,
                                       "continuing_subword_prefix": "#" * MEGABYTE, "vocab": {"[UNK]": 0}}},
    }  # fmt: skip
    for title, changes in parts.items():
        yield f"tokenizer.json: {title}", tokenizer(**changes)
    for seed in range(6):
        yield f"tokenizer.json: fuzzed {seed}", tokenizer(data(fuzzed(plain.encode(), seed, 3)))
    settings: dict[str, Any] = {
        "a class by path": {"tokenizer_class": "../../x"},
        "code of its own": {"auto_map": {"AutoTokenizer": ["x.py", None]}, "tokenizer_class": "X"},
        "an endless length": {"model_max_length": 10**400},
        "a length below nothing": {"model_max_length": -1},
        "an added id of 10^9": {"added_tokens_decoder": {"999999999": {"content": "[X]"}}},
        "an added id that is none": {"added_tokens_decoder": {"-1": {"content": "[X]"}}},
        "a chat template that loops": {"chat_template": "{% for a in range(9**9) %}{% endfor %}"},
        "tokens of wrong kinds": {"cls_token": [1], "unk_token": {"content": {}}},
    }
    for title, content in settings.items():
        given = {"tokenizer__json": plain, "tokenizer_config__json": json.dumps(content)}
        yield f"tokenizer_config.json: {title}", other_vocabulary(**given)
    files: dict[str, dict[str, Any]] = {
        "special_tokens_map.json nested deeply": {"tokenizer__json": plain, "special_tokens_map__json": DEEP},
        "vocab.txt of two million lines": {"vocab__txt": lambda: "\n".join(map(str, range(2 * MEGABYTE)))},
        "vocab.txt of NULs": {"vocab__txt": "\0" * MEGABYTE},
        "vocab.txt of one token": {"vocab__txt": "[UNK]\n" * 1000},
        "vocab.json of a list": {"vocab__json": "[]", "merges__txt": "a b"},
        "vocab.json of texts": {"vocab__json": '{"a": "0"}', "merges__txt": "a b"},
        "vocab.json nested deeply": {"vocab__json": DEEP, "merges__txt": "a b"},
        "merges.txt of noise": {"vocab__json": '{"a": 0, "b": 1}', "merges__txt": "\0 \n" * 99},
        "sentencepiece of noise": {"spiece__model": bytes(range(256)) * 99},
    }
    for title, given in files.items():
        yield title, other_vocabulary(**given)
    for seed in range(6):
        yield (
            f"sentencepiece fuzzed {seed}",
            lambda folder, s=seed: other_vocabulary(
                **{"spiece__model": fuzzed(sentencepiece_model(), s, 4), "config__json": '{"model_type": "t5"}'}
            )(folder),
        )


# ------------------------------------------------------------------------------------------------------------ models


class Payload:
    """What a pickle has called when it is read."""

    def __init__(self, name: str, *arguments: Any) -> None:
        self.name, self.arguments = name, arguments

    def __reduce__(self) -> Any:
        module, _, attribute = self.name.rpartition(".")
        found = __import__(module)
        for part in [*module.split(".")[1:], attribute]:
            found = getattr(found, part)
        return found, self.arguments


PAYLOADS: dict[str, tuple[Any, ...]] = {
    "a shell": ("os.system", "touch canary"),
    "a process": ("subprocess.Popen", ["touch", "canary"]),
    "an expression": ("builtins.eval", "open('canary', 'w')"),
    "statements": ("builtins.exec", "open('canary', 'w')"),
    "a file": ("io.open", "canary", "w"),
    "a file to be removed": ("os.remove", "rows.csv"),
    "a module": ("importlib.import_module", "antigravity"),
    "another pickle": ("pickle.loads", b"cos\nsystem\n(S'touch canary'\ntR."),
    "torch.load": ("torch.load", "rows.csv"),
    "an address": ("urllib.request.urlopen", "http://127.0.0.1:9/"),
    "a large tensor": ("torch.zeros", 10**12),
}


def published(change: Change) -> Maker:
    """The published model of the project, changed."""

    def make(folder: Path) -> list[str]:
        change(folder / "published")
        return ["+experiment=published"]

    return make


def pickled(content: bytes | None = None, payload: tuple[Any, ...] | None = None, *, zipped: bool = True) -> Change:
    """Weights in the old format."""

    def change(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        stored = pickle.dumps({"a": Payload(*payload)}, 2) if payload else content or b""
        path = folder / "pytorch_model.bin"
        if zipped:
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("archive/data.pkl", stored)
                archive.writestr("archive/version", "3\n")
                archive.writestr("archive/byteorder", "little")
        else:
            path.write_bytes(stored)

    return change


def safetensors(header: Any, body: bytes = bytes(64), size: int | None = None) -> Change:
    """A weights file of a header (JSON, or bytes) and what follows it."""

    def change(folder: Path) -> None:
        content = header if isinstance(header, bytes) else json.dumps(header).encode()
        length = struct.pack("<Q", len(content) if size is None else size)
        (folder / "model.safetensors").write_bytes(length + content + body)

    return change


def index(weight_map: Any, prepare: Change = lambda _: None) -> Change:
    """An index of weight files."""

    def change(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        prepare(folder)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

    return change


def entries(**changes: Any) -> Change:
    """Entries of config.json."""

    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def file(name: str, change: Change) -> Change:
    """A file of the folder, written anew."""

    def write(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        change(folder / name)

    return write


def adapter(config: Any, write: Change = lambda _: None) -> Maker:
    """An adapter beside the published model."""

    def make(folder: Path) -> list[str]:
        (folder / "adapter").mkdir()
        path = folder / "adapter" / "adapter_config.json"
        config(path) if callable(config) else path.write_text(json.dumps(config))
        if not (folder / "adapter" / "adapter_model.safetensors").exists():
            safetensors({})(folder / "adapter")
            (folder / "adapter" / "model.safetensors").rename(folder / "adapter" / "adapter_model.safetensors")
        write(folder / "adapter")
        return ["+experiment=published", "+inputs.t.model.lora={adapter: ./adapter}"]

    return make


def models() -> Iterator[tuple[str, Maker]]:
    one = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    changes: dict[str, Change] = {
        "a header of 2^63 bytes": safetensors({}, size=2**63),
        "a header longer than the file": safetensors({}, size=10**6),
        "no header": safetensors(b""),
        "a header that is a list": safetensors([]),
        "a header nested deeply": safetensors(DEEP.encode()),
        "tensors that overlap": safetensors({"a": one, "b": one}),
        "a tensor twice": safetensors(b'{"a": %s, "a": %s}' % ((json.dumps(one).encode(),) * 2)),
        "300,000 tensors": safetensors({str(i): {**one, "data_offsets": [4 * i, 4 * i + 4]} for i in range(300_000)}),
        "a shape beyond 64 bits": safetensors({"a": {**one, "shape": [2**40, 2**40]}}),
        "a negative shape": safetensors({"a": {**one, "shape": [-1]}}),
        "offsets beyond the file": safetensors({"a": {**one, "data_offsets": [0, 2**40], "shape": [2**38]}}),
        "an unknown number format": safetensors({"a": {**one, "dtype": "X1"}}),
        "a name of terminal codes": safetensors({ESCAPE: one}, bytes(4)),
        "weights that are empty": file("model.safetensors", text("")),
        "weights that are a pipe": file("model.safetensors", os.mkfifo),
        "weights that are a device": file("model.safetensors", link("/dev/zero")),
        "an index out of the folder": index({"a": "../../outside/kept"}),
        "an index of an absolute path": index({"a": "/etc/passwd"}),
        "an index of a device": index({"a": "x.safetensors"}, lambda f: (f / "x.safetensors").symlink_to("/dev/zero")),
        "an index of a pipe": index({"a": "x.safetensors"}, lambda f: os.mkfifo(f / "x.safetensors")),
        "an index of numbers": index({"a": 1}),
        "an index of 100,000 files": index({str(i): f"{i}.safetensors" for i in range(100_000)}),
        "an index nested deeply": lambda f: (index({})(f), (f / "model.safetensors.index.json").write_text(DEEP)),
        "config.json nested deeply": file("config.json", text(DEEP)),
        "config.json of 64 MB": file("config.json", text(lambda: " " * 64 * MEGABYTE)),
        "config.json in UTF-16": file("config.json", data("{}".encode("utf-16"))),
        "config.json is a list": file("config.json", text("[1]")),
        "a model type by path": entries(model_type="../../x"),
        "a model type of terminal codes": entries(model_type=ESCAPE),
        "code of its own": entries(auto_map={"AutoModel": "x.X"}, architectures=["os.system"]),
        "no heads": entries(num_attention_heads=0),
        "a negative size": entries(hidden_size=-16),
        "a size that is no number": entries(hidden_size="16; import os"),
        "sizes beyond all": entries(hidden_size=10**9, intermediate_size=10**9),
        "10^10 positions": entries(max_position_embeddings=10**10),
        "NaN": entries(layer_norm_eps=float("nan"), hidden_dropout_prob=float("inf")),
        "heads pruned without end": entries(pruned_heads={str(i): list(range(99)) for i in range(9999)}),
        "quantization": entries(quantization_config={"quant_method": "../x", "load_in_4bit": True}),
        "a dtype by attribute": entries(torch_dtype="__class__"),
        "generation_config.json is a pipe": file("generation_config.json", os.mkfifo),
        "generation_config.json nested deeply": file("generation_config.json", text(DEEP)),
        "a pickle of noise": pickled(bytes(range(256)), zipped=False),
        "a pickle that grows": pickled(b"\x80\x02]q\0" + b"(h\0h\0h\0h\0eq\0" * 4000 + b".", zipped=False),
        "a zip that unpacks to 200 MB": lambda f: (f / "model.safetensors").unlink() or zipped_bin(f),
        **{f"a pickle of {title}": pickled(payload=payload) for title, payload in PAYLOADS.items()},
        **{f"an old pickle of {title}": pickled(payload=payload, zipped=False)
           for title, payload in list(PAYLOADS.items())[:4]},
    }  # fmt: skip
    for title, change in changes.items():
        yield title, published(change)
    kind = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["query"], "task_type": None}
    adapters: dict[str, tuple[Any, Change]] = {
        "a rank of 10^9": ({**kind, "r": 10**9}, lambda _: None),
        "an expression that backtracks": ({**kind, "target_modules": "(a+|e+|.)*$x"}, lambda _: None),
        "another base": ({**kind, "base_model_name_or_path": "../../etc"}, lambda _: None),
        "a config that is a pipe": (os.mkfifo, lambda _: None),
        "a config nested deeply": (text(DEEP), lambda _: None),
        "a pickle": (kind, lambda f: ((f / "adapter_model.safetensors").unlink(),
                                      (f / "adapter_model.bin").write_bytes(pickle.dumps(Payload("os.system", "touch canary"))))),
    }  # fmt: skip
    for title, (content, write) in adapters.items():
        yield f"adapter: {title}", adapter(content, write)


def zipped_bin(folder: Path) -> None:
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(200 * MEGABYTE))


# ------------------------------------------------------------------------------------------------------- experiments


def experiment(content: str | Change) -> Maker:
    """An experiment file from elsewhere."""

    def make(folder: Path) -> list[str]:
        path = folder / "conf" / "experiment" / "given.yaml"
        path.write_text(content) if isinstance(content, str) else content(path)
        return ["+experiment=given"]

    return make


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30))


def experiments() -> Iterator[tuple[str, Maker]]:
    texts: dict[str, str] = {
        "aliases of aliases": BOMB,
        "merges of merges": "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}], y{i}: *a{i - 1}}}\n" for i in range(1, 40)),
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
    }  # fmt: skip
    for title, content in texts.items():
        whole = content if content.startswith(("?", "a0", "a:", "defaults")) else f"{EXPERIMENT}{content}\n"
        yield title, experiment(f"# @package _global_\n{whole}")
    written: dict[str, Change] = {"a pipe": os.mkfifo, "a device": link("/dev/zero"), "a folder": lambda p: p.mkdir()}
    for title, change in written.items():
        yield title, experiment(change)


# ------------------------------------------------------------------------------------------- bundles and run folders


def bundle(change: Change) -> Maker:
    """A bundle from elsewhere whose hashes fit what it holds."""

    def make(folder: Path) -> list[str]:
        place = folder / "bundle"
        change(place)
        manifest = place / "manifest.json"
        if manifest.is_file() and not manifest.is_symlink():
            files = sorted(path for path in place.rglob("*") if path.is_file() and path.name != "manifest.json")
            regular = [path for path in files if path.resolve() == path.absolute()]
            found = {
                path.relative_to(place).as_posix(): {
                    "bytes": path.stat().st_size,
                    "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                }
                for path in regular
            }
            content = json.loads(manifest.read_text())
            manifest.write_text(json.dumps({**content, "files": {**found, **content.get("more", {})}}))
        return ["predict", "run=bundle", "data.test=rows.csv", "output=out.csv"]

    return make


def in_config(old: str, new: str) -> Change:
    """Other words in config.yaml."""

    def change(place: Path) -> None:
        path = place / "config.yaml"
        before = path.read_text()
        assert old in before, old
        path.write_text(before.replace(old, new))

    return change


def in_json(name: str, **changes: Any) -> Change:
    """Other entries of a JSON file."""

    def change(place: Path) -> None:
        path = place / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def bundles() -> Iterator[tuple[str, Maker]]:
    weights: Callable[..., Change] = safetensors
    tokens = "inputs/t/tokenizer/tokenizer.json"
    changes: dict[str, Change] = {
        "config.yaml of aliases": lambda p: (p / "config.yaml").write_text(BOMB),
        "config.yaml nested deeply": lambda p: (p / "config.yaml").write_text(DEEP),
        "config.yaml with a tag": in_config("seed: 0", "seed: !!python/object/apply:os.system ['touch canary']"),
        "config.yaml is a pipe": file("config.yaml", os.mkfifo),
        "config.yaml is a device": file("config.yaml", link("/dev/zero")),
        "config.yaml of 64 MB": lambda p: (p / "config.yaml").write_text("#" * 64 * MEGABYTE),
        "an input by path": in_config("  t:\n", "  ../../outside:\n"),
        "a wide model": in_config("hidden_size: 16\n", "hidden_size: 16384\n"),
        "a deep model": in_config("num_hidden_layers: 1\n", "num_hidden_layers: 1000\n"),
        "a wide fusion": in_config("fusion:\n", "fusion:\n  hidden_size: 30000\n"),
        "a path as model": in_config("model_type: bert", "model_type: ../../outside/kept"),
        "manifest.json is a pipe": file("manifest.json", os.mkfifo),
        "manifest.json is a device": file("manifest.json", link("/dev/zero")),
        "manifest.json nested deeply": file("manifest.json", text(DEEP)),
        "manifest.json of 64 MB": file("manifest.json", text(lambda: " " * 64 * MEGABYTE)),
        "manifest.json names what is outside": in_json("manifest.json", more={"../../../../dev/zero": {"bytes": 0, "sha256": ""}}),
        "weights of noise": file("model.safetensors", data(bytes(range(256)) * 9)),
        "weights of no tensors": weights({}),
        "weights of 300,000 tensors": weights({str(i): {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(300_000)}, b""),
        "a header of 2^63 bytes": weights({}, size=2**63),
        "input.json nested deeply": file("inputs/t/input.json", text(DEEP)),
        "input.json of another kind": in_json("inputs/t/input.json", type="../x"),
        "input.json without a config": file("inputs/t/input.json", text('{"type": "sequence"}')),
        "a length of 10^12": in_json("inputs/t/input.json", max_length=10**12),
        "a tokenizer of growth": in_json(tokens, normalizer=sequence(*[DOUBLING] * 40)),
        "a tokenizer of padding": in_json(tokens, padding={"strategy": {"Fixed": 10**9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "x"}),
        "a tokenizer of far ids": in_json(tokens, model=words(far=4_000_000_000)),
        "a tokenizer of other ids": in_json(tokens, model=words(far=9_999)),
        "an output nested deeply": file("outputs/y.json", text(DEEP)),
        "an output of another kind": file("outputs/y.json", text('{"type": "os.system"}')),
        "classes of markup": lambda p: (p / "outputs/y.json").write_text((p / "outputs/y.json").read_text().replace('"a"', json.dumps(SCRIPT))),
        "classes of terminal codes": lambda p: (p / "outputs/y.json").write_text((p / "outputs/y.json").read_text().replace('"a"', json.dumps(ESCAPE))),
        "a base by path": lambda p: (p / "base.json").write_text(json.dumps({"t": {"model": "/dev", "sha256": ""}})),
        "a base of an unknown input": lambda p: (p / "base.json").write_text(json.dumps({"../x": {"model": "/dev", "sha256": ""}})),
        "base.json of a list": lambda p: (p / "base.json").write_text("[1]"),
        "base.json nested deeply": lambda p: (p / "base.json").write_text(DEEP),
    }  # fmt: skip
    for title, change in changes.items():
        yield title, bundle(change)


def run_folder(change: Change, *command: str) -> Maker:
    """A run folder from elsewhere, in which a run is to go on."""

    def make(folder: Path) -> list[str]:
        change(folder / "run")
        return list(command) or ["+experiment=texts", "run.dir=run"]

    return make


def run_folders() -> Iterator[tuple[str, Maker]]:
    kept = "../../outside/kept"
    steps = "checkpoints/step-00000002"
    unfinished: Change = lambda p: (p / "result.json").unlink()
    changes: dict[str, Change] = {
        **{f"{name} is a link out": lambda p, n=name: (unfinished(p), file(n, link(kept))(p))
           for name in (".owner", "log.txt", "metrics.csv", "config.yaml", "manifest.json")},
        "the report's folder is a link out": lambda p: (_without(p / "report"), (p / "report").symlink_to("../../outside")),
        "the checkpoints are a link out": lambda p: (unfinished(p), _without(p / "checkpoints"), (p / "checkpoints").symlink_to("../../outside")),
        **{f"{name} is a pipe": file(name, os.mkfifo)
           for name in (".owner", "log.txt", "metrics.csv", "config.yaml", "manifest.json", "result.json", "checksums.sha256",
                        "report/data.json", "predictions/validation.csv")},
        **{f"{name} is a device": file(name, link("/dev/zero"))
           for name in ("config.yaml", "manifest.json", "result.json", "metrics.csv", "report/data.json")},
        **{f"{name} of 64 MB": file(name, text(lambda: " " * 64 * MEGABYTE)) for name in ("config.yaml", "manifest.json", "result.json")},
        **{f"{name} nested deeply": file(name, text(DEEP)) for name in ("config.yaml", "manifest.json", "result.json")},
        "config.yaml of aliases": file("config.yaml", text(BOMB)),
        "state.json nested deeply": lambda p: (unfinished(p), file(f"{steps}/state.json", text(DEEP))(p)),
    }  # fmt: skip
    for title, change in changes.items():
        yield title, run_folder(change)
    compared: dict[str, Change] = {
        "config.yaml of aliases": file("config.yaml", text(BOMB)),
        "config.yaml is a pipe": file("config.yaml", os.mkfifo),
        "manifest.json of a list": file("manifest.json", text("[1]")),
        "result.json of terminal codes": lambda p: (file("checksums.sha256", text(""))(p), file("result.json", text(json.dumps({"validation": {ESCAPE: {SCRIPT: 1.0}}})))(p)),
        "result.json of texts": lambda p: (file("checksums.sha256", text(""))(p), file("result.json", text('{"validation": {"y": {"loss": "x"}}, "loss": [1]}'))(p)),
        "a name of terminal codes": lambda p: p.rename(p.with_name(ESCAPE.replace("/", ""))),
        "jobs/0.json is a pipe": lambda p: ((p.parent / "jobs").mkdir(), os.mkfifo(p.parent / "jobs" / "0.json")),
        "jobs/0.json of terminal codes": lambda p: ((p.parent / "jobs").mkdir(), (p.parent / "jobs" / "0.json").write_text(json.dumps({"number": 0, "overrides": [ESCAPE], "status": "failed", "message": ESCAPE}))),
        "jobs/0.json of a list": lambda p: ((p.parent / "jobs").mkdir(), (p.parent / "jobs" / "0.json").write_text("[1]")),
    }  # fmt: skip
    for title, change in compared.items():
        yield f"compare: {title}", run_folder(change, "runs", "compare", ".")


def _without(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


def every() -> Iterator[tuple[str, Maker]]:
    """All of them, by kind and name."""
    kinds: dict[str, Callable[[], Iterator[tuple[str, Maker]]]] = {
        "table": tables, "picture": pictures, "tokenizer": tokenizers, "model": models, "experiment": experiments,
    }  # fmt: skip
    for kind, makers in kinds.items():
        for name, maker in makers():
            yield f"{kind}: {name}", check(maker)
    for name, cells in CELLS.items():
        yield f"report: {name}", train(table("a.csv", text(row(**cells))))
    for name, maker in bundles():
        yield f"bundle: {name}", maker
    for name, maker in run_folders():
        yield f"run: {name}", maker


__all__ = ["ESCAPE", "SCRIPT", "every", "partial", "prepare"]
