"""Hostile tokenizers, models and adapters: names and makers, see `collection`."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.hostile.collection import (
    DOUBLING,
    TOKENIZER,
    Maker,
    link,
    sequence,
    tokenizer,
    words,
)
from tests.hostile.making import DEEP, ESCAPE, MEGABYTE, PADDING, Change, data, file, fuzzed, safetensors, text


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
        sentence_iterator=iter(["some words and more words", "other words"] * 20),
        model_writer=file,
        vocab_size=30,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return file.getvalue()


def tokenizers() -> Iterator[tuple[str, Maker]]:
    plain = json.dumps(TOKENIZER)
    unknown = {
        "type": "TemplateProcessing", "pair": [], "special_tokens": {},
        "single": [{"SpecialToken": {"id": "[X]", "type_id": 0}}],
    }  # fmt: skip
    no_characters = {
        "type": "WordPiece", "unk_token": "[UNK]", "max_input_chars_per_word": 0, "vocab": {"[UNK]": 0},
        "continuing_subword_prefix": "#" * MEGABYTE,
    }  # fmt: skip
    parts: dict[str, dict[str, Any]] = {
        "a negative id": {"model": words(far=-1)},
        "an id that is no number": {"model": words(far=1.5)},
        "an id of 64 bits": {"model": words(far=2**64)},
        "padding to 10^9": {"padding": PADDING},
        "truncation to nothing": {
            "truncation": {"direction": "Right", "max_length": 0, "strategy": "LongestFirst", "stride": 9}
        },
        "an expression that backtracks": {
            "pre_tokenizer": {
                "type": "Split",
                "pattern": {"Regex": "(a+|s+|o+|.)*$x"},
                "behavior": "Isolated",
                "invert": False,
            }
        },
        "an expression that is none": {"normalizer": {"type": "Replace", "pattern": {"Regex": "(("}, "content": ""}},
        "replacement of nothing": {
            "normalizer": sequence(*[{"type": "Replace", "pattern": {"Regex": "x*"}, "content": "y" * 99}] * 3)
        },
        "a decoder that grows": {"decoder": sequence(*[DOUBLING] * 40)},
        "a charsmap of noise": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAAAAECAwQF"}},
        "a template of unknown tokens": {"post_processor": unknown},
        "empty added tokens": {
            "added_tokens": [
                {
                    "id": 3,
                    "content": "",
                    "single_word": False,
                    "lstrip": False,
                    "rstrip": False,
                    "normalized": False,
                    "special": True,
                }
            ]
        },
        "a unigram of NaN": {"model": {"type": "Unigram", "unk_id": 99, "vocab": [["a", -1e400], ["b", 0.0]]}},
        "merges of unknown tokens": {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["x", "y"]] * 9}},
        "WordPiece of no characters": {"model": no_characters},
    }
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


def _pickled_adapter(folder: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Payload("os.system", "touch canary")))


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
        "300,000 tensors": safetensors(lambda: {str(i): {**one, "data_offsets": [i, i]} for i in range(300_000)}),
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
        **{
            f"an old pickle of {title}": pickled(payload=payload, zipped=False)
            for title, payload in list(PAYLOADS.items())[:4]
        },
    }
    for title, change in changes.items():
        yield title, published(change)
    kind = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["query"], "task_type": None}
    adapters: dict[str, tuple[Any, Change]] = {
        "a rank of 10^9": ({**kind, "r": 10**9}, lambda _: None),
        "an expression that backtracks": ({**kind, "target_modules": "(a+|e+|.)*$x"}, lambda _: None),
        "another base": ({**kind, "base_model_name_or_path": "../../etc"}, lambda _: None),
        "a config that is a pipe": (os.mkfifo, lambda _: None),
        "a config nested deeply": (text(DEEP), lambda _: None),
        "a pickle": (kind, _pickled_adapter),
    }
    for title, (content, write) in adapters.items():
        yield f"adapter: {title}", adapter(content, write)


def zipped_bin(folder: Path) -> None:
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(200 * MEGABYTE))
