"""Small tables in which only an architecture's own tensor tells the class, and experiments on them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from eir_seq.config.schema import ExperimentConfig
from eir_seq.config.tokenizers import WordTokenizerConfig
from eir_seq.tokenizers import train_tokenizer

Row = dict[str, Any]
WORDS = ("one", "two", "three", "four", "five", "six")
TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
TINY_XLM = {"emb_dim": 16, "n_layers": 1, "n_heads": 2}


def words_of(draw: random.Random) -> list[str]:
    return [draw.choice(WORDS) for _ in range(draw.randint(2, 9))]


def boxes(draw: random.Random, right: bool, folder: Path, number: int) -> Row:
    words = words_of(draw)
    left = 600 if right else 100
    found = [[left + draw.randint(0, 50), 10, left + 100, 30] for _ in words]
    return {"content": words, "boxes": found}


def xpaths(draw: random.Random, listed: bool, folder: Path, number: int) -> Row:
    words = words_of(draw)
    path = "/html/body/ul/li[2]" if listed else "/html/body/div[3]/p"
    return {"content": words, "xpaths": [path] * len(words)}


def html(draw: random.Random, listed: bool, folder: Path, number: int) -> Row:
    tag = "li" if listed else "p"
    items = "".join(f"<{tag}>{word}</{tag}>" for word in words_of(draw))
    return {"content": f"<html><body>{items}<script>no text</script></body></html>"}


def entities(draw: random.Random, city: bool, folder: Path, number: int) -> Row:
    text = " ".join([*words_of(draw), "lima"])
    name = draw.choice(("Lima (city)", "Lima")) if city else draw.choice(("Lima (bean)", "Lima (name)"))
    return {"content": text, "entities": [{"start": len(text) - 4, "end": len(text), "name": name}]}


def regions(draw: random.Random, bright: bool, folder: Path, number: int) -> Row:
    count = draw.randint(0, 3) + 1
    vectors = np.array([[draw.gauss(2 if bright else -2, 1) for _ in range(6)] for _ in range(count)], np.float32)
    text = " ".join(words_of(draw))
    if number % 2:
        return {"content": text, "regions": vectors.round(3).tolist()}
    (folder / "regions").mkdir(exist_ok=True)
    np.save(folder / "regions" / f"{number}.npy", vectors)
    return {"content": text, "regions": f"regions/{number}.npy"}


def pictures(draw: random.Random, bright: bool, folder: Path, number: int) -> Row:
    """A bright or a dark corner, in pictures of many shapes."""
    width, height = draw.randint(20, 60), draw.randint(20, 60)
    random_ = np.random.default_rng(number)
    pixels = random_.integers(60, 160, (height, width, 3), np.uint8)
    corner = slice(height // 2 - 8, height // 2), slice(width // 2 - 8, width // 2)
    pixels[corner] = 250 if bright else 5
    (folder / "pictures").mkdir(exist_ok=True)
    Image.fromarray(pixels).save(folder / "pictures" / f"{number}.png")
    return {"content": " ".join(words_of(draw)), "picture": f"pictures/{number}.png"}


def videos(draw: random.Random, up: bool, folder: Path, number: int) -> Row:
    """Two frames, of which the second is brighter or darker."""
    first = pictures(draw, False, folder, number)
    name = f"pictures/{number}-b.png"
    pixels = np.full((20, 20, 3), 230 if up else 20, np.uint8)
    Image.fromarray(pixels).save(folder / name)
    return {"content": first["content"], "picture": [first["picture"], name]}


def languages(draw: random.Random, french: bool, folder: Path, number: int) -> Row:
    return {"content": " ".join(words_of(draw)), "lang": "fr" if french else "en"}


def languages_of_words(draw: random.Random, french: bool, folder: Path, number: int) -> Row:
    words = words_of(draw)
    return {"content": words, "lang": ["fr" if french else "en"] * len(words)}


def tasks(draw: random.Random, second: bool, folder: Path, number: int) -> Row:
    return {"content": " ".join(words_of(draw)), "task": 2 if second else 1}


def signs(draw: random.Random, round_: bool, folder: Path, number: int) -> Row:
    # words of either class look alike, and no word of the test rows is known from training
    low = 0 if number < 1000 else 40
    syllables = [f"w{draw.randrange(low, low + 40) * 2 + round_}" for _ in range(draw.randint(2, 5))]
    return {"content": " ".join(syllables)}


def write_sign_files(folder: Path) -> None:
    """A published tokenizer with looks and sounds by token: even words look like 1, odd ones like 2."""
    words = [f"w{number}" for number in range(200)]
    tokenizer = train_tokenizer(WordTokenizerConfig(), [" ".join(words)])
    tokenizer.save(folder / "tokenizer")
    looks = {"[UNK]": 0} | {word: 1 + int(word[1:]) % 2 for word in words}
    (folder / "tokenizer" / "word_shape.json").write_text(json.dumps(looks))
    (folder / "tokenizer" / "word_pronunciation.json").write_text(json.dumps(dict.fromkeys(["[UNK]", *words], 3)))


@dataclass(frozen=True)
class Case:
    """How one kind of tensor gets into an experiment."""

    make: Callable[[random.Random, bool, Path, int], Row]
    model_type: str
    options: dict[str, Any]
    tensors: dict[str, Any]
    input: dict[str, Any] = field(default_factory=dict)
    prepare: Callable[[Path], None] = lambda folder: None


SPLIT = {"is_split_into_words": True}
CASES = {
    "layoutlm": Case(boxes, "layoutlm", TINY, {"bbox": {"column": "boxes"}}, SPLIT),
    "markuplm": Case(xpaths, "markuplm", {**TINY, "max_depth": 6}, {"xpaths": {"column": "xpaths"}}, SPLIT),
    "markuplm-html": Case(html, "markuplm", {**TINY, "max_depth": 6}, {"xpaths": {"html": True}}),
    "luke": Case(entities, "luke", {**TINY, "entity_emb_size": 8}, {"entities": {"column": "entities"}}),
    "visual_bert": Case(
        regions, "visual_bert", {**TINY, "visual_embedding_dim": 6}, {"visual_embeds": {"column": "regions"}}
    ),
    "git": Case(
        pictures,
        "git",
        {**TINY, "vision_config": {**TINY, "image_size": 16, "patch_size": 8}},
        {"pixel_values": {"column": "picture"}},
    ),
    "git-video": Case(
        videos,
        "git",
        {**TINY, "num_image_with_embedding": 2, "vision_config": {**TINY, "image_size": 16, "patch_size": 8}},
        {"pixel_values": {"column": "picture"}},
    ),
    "xlm": Case(languages, "xlm", TINY_XLM, {"langs": {"column": "lang"}}),
    "flaubert": Case(languages_of_words, "flaubert", TINY_XLM, {"langs": {"column": "lang"}}, SPLIT),
    "ernie": Case(tasks, "ernie", {**TINY, "use_task_id": True}, {"task_type_ids": {"column": "task"}}),
    "roc_bert": Case(
        signs,
        "roc_bert",
        {**TINY, "shape_vocab_size": 4, "pronunciation_vocab_size": 4, "shape_embed_dim": 8},
        {"input_shape_ids": {}, "input_pronunciation_ids": {}},
        prepare=write_sign_files,
    ),
}


def write_rows(path: Path, rows: list[Row]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def make_rows(case: Case, folder: Path, count: int, seed: int) -> list[Row]:
    draw = random.Random(seed)
    kinds = [draw.random() < 0.5 for _ in range(count)]
    return [
        {
            "id": f"{seed}-{number}",
            **case.make(draw, kind, folder, seed * 1000 + number),
            "kind": "yes" if kind else "no",
        }
        for number, kind in enumerate(kinds)
    ]


def tensor_experiment(name: str, folder: Path, rows: int = 96, **changes: Any) -> ExperimentConfig:
    """The experiment of a case; tables are written into `folder`, the run goes to ``folder/run``."""
    case = CASES[name]
    case.prepare(folder)
    tokenizer = {"type": "published", "path": str(folder / "tokenizer")} if name == "roc_bert" else {"type": "word"}
    config: dict[str, Any] = {
        "name": "tensors",
        "data": {
            "train": write_rows(folder / "train.jsonl", make_rows(case, folder, rows, 0)),
            "validation": 0.2,
            "test": write_rows(folder / "test.jsonl", make_rows(case, folder, 24, 1)),
            "id": "id",
            "batch_size": 8,
            "cache_dir": str(folder / "cache"),
        },
        "inputs": {
            "page": {
                "column": "content",
                "max_length": 16,
                "tokenizer": tokenizer,
                "tensors": case.tensors,
                "model": {"model_type": case.model_type, "model_init_config": case.options},
                **case.input,
            }
        },
        "fusion": {"type": "concat"},
        "outputs": {"kind": {"type": "classification", "column": "kind"}},
        "optimizer": {"type": "adamw", "lr": 0.01},
        "trainer": {"max_epochs": 6, "accelerator": "cpu"},
        "run": {"dir": str(folder / "run")},
    }
    for key, value in changes.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    return ExperimentConfig.model_validate(config)
