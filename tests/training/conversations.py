"""Tiny experiments on conversations: what tests of instruction tuning, of preferences and of `chat` train."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from eir_seq.config.schema import ExperimentConfig
from eir_seq.config.validation import validate_experiment

LLAMA = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 96,
}
COLOURS = ("red", "blue", "gold", "pink", "gray")


def write_json_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def questions(rows: int, seed: int = 0) -> list[dict[str, Any]]:
    """One or two words to be repeated; of a pair of answers, that in capitals is preferred."""
    draw = random.Random(seed)
    found = []
    for number in range(rows):
        words = " ".join(draw.choices(COLOURS, k=draw.choice((1, 2))))
        found.append(
            {
                "id": f"q{seed}-{number}",
                "question": f"say {words}",
                "answer": words,
                "better": words.upper(),
                "worse": words,
            }
        )
    return found


def talks(rows: int, seed: int = 0) -> list[dict[str, Any]]:
    """Conversations of one to three questions and their answers, some with a system message."""
    draw, found = random.Random(seed), []
    for number in range(rows):
        messages = [{"role": "system", "content": "repeat"}] if number % 3 == 0 else []
        for one in questions(draw.choice((1, 2, 3)), draw.randrange(10**6)):
            messages += [{"role": "user", "content": one["question"]}, {"role": "assistant", "content": one["answer"]}]
        found.append({"id": f"t{number}", "messages": messages})
    return found


def raw(folder: Path, **changes: Any) -> dict[str, Any]:
    config: dict[str, Any] = {
        "name": "talker",
        "data": {
            "train": str(folder / "train.jsonl"),
            "validation": 12,
            "batch_size": 8,
            "cache_dir": str(folder / "c"),
        },
        "inputs": {
            "chat": {
                "type": "sequence",
                "max_length": 64,
                "tokenizer": {"type": "character"},
                "model": {"model_type": "llama", "model_init_config": LLAMA},
            }
        },
        "outputs": {"answer": {"type": "causal_lm", "prompt": "question", "response": "answer", "generate_rows": 6}},
        "optimizer": {"type": "adamw", "lr": 0.01},
        "trainer": {"max_epochs": 2, "accelerator": "cpu"},
        "run": {"dir": str(folder / "run")},
    }
    for section, values in changes.items():
        replaced = section in ("inputs", "outputs", "optimizer") or not isinstance(values, dict)
        config[section] = values if replaced else {**config.get(section, {}), **values}
    return config


def experiment(folder: Path, **changes: Any) -> ExperimentConfig:
    return validate_experiment(raw(folder, **changes))


def with_model(model: dict[str, Any], **source: Any) -> dict[str, Any]:
    """The section `inputs` with this model."""
    return {"chat": {"type": "sequence", "max_length": 64, "model": model, **source}}


PREFERENCE = {"type": "preference", "prompt": "question", "chosen": "better", "rejected": "worse", "generate_rows": 0}
