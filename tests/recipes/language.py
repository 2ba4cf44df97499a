"""The tasks of EIR whose outputs are texts: language models of words that say nothing."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eir_seq.config.validation import validate_experiment
from eir_seq.training.run import train
from tests.recipes.cells import TEXT, Cell
from tests.recipes.words import KEYWORDS, POOL

KNOWN = {*POOL, *(word for words in KEYWORDS for word in words)}
"""All words of the texts."""
PROMPTS, CHARACTERS = 10, 8
"""Texts that are continued, and how much of each is given."""
LOSS, WORDS = "loss", "known words"


@dataclass(frozen=True, kw_only=True)
class LanguageCell(Cell):
    """A language model, scored by its loss per token on held-out rows, and by the known words that it writes: the
    fewest of all texts, not counting the words of the prompt.

    Attributes:
        tokenizer: section of the input.
        length: tokens of a block.
    """

    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    length: int = 32

    def missed(self, scores: Mapping[str, float]) -> dict[str, float]:
        """A loss that is not below the bar, and texts of less than two known words."""
        bars = {LOSS: scores[LOSS] < self.bar, WORDS: scores[WORDS] >= 2}
        return {name: scores[name] for name, there in bars.items() if not there}

    def run(
        self, folder: Path, seed: int, *, per_class: int | None = None, epochs: int | None = None
    ) -> dict[str, float]:
        """Train it in a folder; gives the loss and the known words."""
        tables = self.tables(folder, seed, per_class)
        with tables.test.open(encoding="utf-8", newline="") as file:
            texts = [row["text"] for row in csv.DictReader(file)][:PROMPTS]
        options = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": self.length, "resid_pdrop": 0.0}
        model = {"model_type": "gpt2", "model_init_config": {**options, "embd_pdrop": 0.0, "attn_pdrop": 0.0}}
        source = {"type": "sequence", "column": "text", "max_length": self.length, "tokenizer": self.tokenizer}
        prompts = ["lyn", "elephant ", *(text[:CHARACTERS] for text in texts)]
        run = folder / "run"
        train(
            validate_experiment(
                {
                    "seed": seed,
                    "data": {
                        "train": str(tables.train),
                        "test": str(tables.test),
                        "id": "id",
                        "batch_size": 32,
                        "validation": 0.05,
                        "cache_dir": str(folder / "cache"),
                    },
                    "inputs": {"text": {**source, "model": model}},
                    "outputs": {
                        "text": {"type": "causal_lm", "prompts": prompts, "generation": {"max_new_tokens": self.length}}
                    },
                    "optimizer": {"type": "adamw", "lr": 2e-3, "weight_decay": 1e-3},
                    "scheduler": {"type": "linear", "warmup": 0.1},
                    "trainer": {"accelerator": "cpu", "max_epochs": epochs or self.epochs},
                    "run": {"dir": str(run)},
                }
            )
        )
        measured = json.loads((run / "result.json").read_text(encoding="utf-8"))["test"]["text"]
        with (run / "samples.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        last = [row for row in rows if row["step"] == rows[-1]["step"]]
        return {LOSS: measured["loss"], WORDS: float(min(known_words(row["prompt"], row["text"]) for row in last))}


def known_words(prompt: str, written: str) -> int:
    """How many words of what was written after a prompt are known; the first one may be begun in the prompt."""
    begun = prompt.rpartition(" ")[2]
    return sum(word in KNOWN for word in (begun + written).split())


LANGUAGE = [
    LanguageCell(
        name="language model, characters, blocks of 32",
        makes=TEXT,
        inputs={},
        outputs={},
        bar=1.5,
        epochs=15,
        tokenizer={"type": "character"},
    ),
    LanguageCell(
        name="language model, BPE, blocks of 128",
        makes=TEXT,
        inputs={},
        outputs={},
        bar=2.5,
        epochs=15,
        tokenizer={"type": "bpe", "vocab_size": 320},
        length=128,
    ),
]
