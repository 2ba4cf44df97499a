"""The files that examples of the documents name: tables, and checkpoints of a tiny size under the published names."""

from __future__ import annotations

import csv
import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

from eir_seq.models.catalogue import config_class
from eir_seq.models.options import describe
from eir_seq.tokenizers import load_tokenizer
from tests.models.tiny import OPTIONS, tiny
from tests.tokenizers.architecture_folders import RECIPES, make
from tests.tokenizers.translation_folders import make as make_translator

PUBLISHED = {
    "gpt2": ("gpt2", "causal-lm"),
    "facebook/bart-base": ("bart", "seq2seq-lm"),
    "facebook/bart-large": ("bart", "seq2seq-lm"),
    "facebook/m2m100_418M": ("m2m_100", "seq2seq-lm"),
    "google-t5/t5-small": ("t5", "seq2seq-lm"),
    "google/mt5-small": ("mt5", "seq2seq-lm"),
    "google/t5gemma-2b-2b-ul2-it": ("t5gemma", "seq2seq-lm"),
    "microsoft/git-base": ("git", "causal-lm"),
    "microsoft/git-base-coco": ("git", "causal-lm"),
    "openai/imagegpt-small": ("imagegpt", "causal-lm"),
    "prajjwal1/bert-tiny": ("bert", "masked-lm"),
    "Qwen/Qwen2-0.5B": ("qwen2", "causal-lm"),
    "runs/reader/pretrained/text": ("bert", "masked-lm"),
}
"""Checkpoints that the documents name, on the Hub or of an earlier run: architecture and task of the weights."""
POSITIONS = ("max_position_embeddings", "n_positions")
"""Options that bound the length of a text; the documents rely on published bounds."""
CHAT = "{% for m in messages %}<start_of_turn>{{ m.role }}\n{{ m.content }}<end_of_turn>\n{% endfor %}"
_WORDS = ["the", "a", "red", "old", "small", "kite", "boat", "dog", "sees", "finds", "and", "or", "again", "never"]


def published(name: str, folder: Path) -> None:
    """Write the checkpoint `name` below a folder, if it is not there: configuration, weights and tokenizer."""
    path = folder / name
    if path.exists():
        return
    model_type, task = PUBLISHED[name]
    more: dict[str, Any] = {}
    if model_type == "m2m_100":
        shutil.copytree(make_translator("m2m100", folder / "m2m100", folder).slow, path)
    elif model_type in RECIPES:
        make(model_type, path)
    if model_type == "t5gemma":
        kind = {"tokenizer_class": "GemmaTokenizer", "chat_template": CHAT}
        (path / "tokenizer_config.json").write_text(json.dumps(kind))
    if path.exists():
        (path / "config.json").write_text(json.dumps({"model_type": model_type}))
        more = _vocabulary(model_type, len(load_tokenizer(path)))
    more |= {
        name: 1024
        for name in POSITIONS
        if model_type != "imagegpt" and name in {option["name"] for option in describe(config_class(model_type))}
    }
    tiny(model_type, task, **more).save_pretrained(path)


def _vocabulary(model_type: str, size: int) -> dict[str, Any]:
    options = OPTIONS[model_type]
    sides = {side: {**options[side], "vocab_size": size} for side in ("encoder", "decoder") if side in options}
    return {"vocab_size": size, **sides}


def named_in(text: str) -> list[str]:
    """The published names that stand in a text."""
    return [name for name in PUBLISHED if re.search(rf"(?<![\w/]){re.escape(name)}(?![\w/-])", text)]


def tables(folder: Path, rows: int = 48) -> None:
    """Tables and texts with all names and columns that the commands of the documents use."""
    draw = random.Random(0)
    records = []
    for number in range(rows):
        text = " ".join(draw.choices(_WORDS, k=12))
        kind = draw.choice(["negative", "positive"])
        record = {"id": f"r{number}", "text": text, "body": text, "source": text, "en": text, "target": text}
        records.append(record | {"de": text, "summary": text[:20], "sentiment": kind, "label": kind, "topic": kind})
    renamed = [{"body": each["body"], "label": each["label"]} for each in records]
    _write(folder / "mine.csv", renamed)
    _write(folder / "reviews.csv", records)
    for name in ("news", "train", "dev", "test", "val", "pairs", "new", "prompts"):  # no row stands in two of them
        _write(folder / f"{name}.csv", [record | {"id": f"{name}{record['id']}"} for record in records])
    for name, times in (("novel", 20), ("input", 20), ("prompts", 1), ("lines", 1)):
        (folder / f"{name}.txt").write_text("\n".join(record["text"] for record in records[:4] * times))
    (folder / "shards").mkdir()
    _write(folder / "shards" / "part-0.csv", records)
    (folder / "texts").mkdir()
    for record in records:
        (folder / "texts" / f"{record['id']}.txt").write_text(record["text"])
    shutil.copy(folder / "reviews.csv", folder / "labels.csv")


def _write(path: Path, records: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, records[0].keys())
        writer.writeheader()
        writer.writerows(records)
