"""A task whose explanation is known: the class of a text depends on one word of it.

Each row has one word of its class, anywhere among others that say nothing. ``python -m tests.recipes.known_word``
counts the held-out rows in which this word has the largest attribution.
"""

from __future__ import annotations

import csv
import random
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from eir_seq.config.schema import ExperimentConfig
from eir_seq.config.validation import validate_experiment
from eir_seq.training.run import train

KNOWN = {"fruit": ("apple", "plum"), "metal": ("iron", "zinc"), "river": ("rhine", "loire")}
"""The words of each class."""
OTHERS = [
    f"{first}{second}" for first in ("ba", "do", "fe", "gu", "ki", "lo") for second in ("ma", "ne", "pi", "ro", "su")
]
WORDS = {word for words in KNOWN.values() for word in words}
MODELS: dict[str, dict[str, Any]] = {
    "bert": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2},
    "llama": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
    "sequence-default": {"embedding_dim": 32, "num_heads": 2, "num_layers": 2},
}


def write_rows(path: Path, rows: int, seed: int) -> Path:
    """Columns id, text, note (a text without a word of a class), kind and size (how many words the text has)."""
    draw = random.Random(seed)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "note", "kind", "size"])
        for row in range(rows):
            kind = list(KNOWN)[row % len(KNOWN)]
            words, note = (draw.choices(OTHERS, k=draw.randint(low, high)) for low, high in ((6, 14), (2, 4)))
            words.insert(draw.randint(0, len(words)), draw.choice(KNOWN[kind]))
            writer.writerow([f"{path.stem}-{row}", " ".join(words), " ".join(note), kind, len(words)])
    return path


def experiment(
    folder: Path, model_type: str = "bert", *, rows: int = 600, test: int = 60, **sections: Any
) -> ExperimentConfig:
    """The experiment on rows in `folder`, which are written; the run goes to ``folder/run``."""
    seed = sections.get("seed", 0)
    model = {"model_type": model_type, "model_init_config": MODELS[model_type]}
    config: dict[str, Any] = {
        "data": {
            "train": str(write_rows(folder / "train.csv", rows, seed=seed)),
            "test": str(write_rows(folder / "test.csv", test, seed=1000 + seed)),
            "validation": 0.1,
            "id": "id",
            "cache_dir": str(folder / "cache"),
        },
        "inputs": {
            "text": {
                "type": "sequence",
                "column": "text",
                "max_length": 18,
                "model": model,
                "interpretation": {"rows": test},
            }
        },
        "outputs": {"kind": {"type": "classification", "column": "kind"}},
        "optimizer": {"type": "adamw", "lr": 3e-3},
        "trainer": {"max_epochs": 6, "accelerator": "cpu", "threads": 1},
        "run": {"dir": str(folder / "run")},
    }
    return validate_experiment({**config, **sections})


def hits(run: Path) -> tuple[int, int, int]:
    """Explained rows, those of them that are predicted right, and those in which the known word has the largest
    attribution to the predicted class."""
    with (run / "predictions" / "attributions.csv").open(encoding="utf-8", newline="") as file:
        tokens = [row for row in csv.DictReader(file) if row["input"] == "text" and "predicted" in row["role"]]
    best: dict[str, dict[str, str]] = {}
    for token in tokens:
        held = best.setdefault(token["id"], token)
        best[token["id"]] = max(held, token, key=lambda found: float(found["attribution"]))
    right = sum("true" in found["role"] for found in best.values())
    return len(best), right, sum(found["token"] in WORDS for found in best.values())


def main(model_types: Iterable[str], baselines: Iterable[str]) -> None:
    """Train each model with three seeds, and print a table of shares of 100 held-out rows."""
    print("| model | baseline | predicted right | the known word is first |\n|---|---|---|---|")
    for model_type in model_types:
        for baseline in baselines:
            found = []
            for seed in range(3):
                with TemporaryDirectory() as folder:
                    given = experiment(Path(folder), model_type, test=100, seed=seed).model_dump(mode="json")
                    given["inputs"]["text"]["interpretation"] = {"rows": 100, "baseline": baseline}
                    train(validate_experiment(given))
                    found.append(hits(Path(folder) / "run"))
            right, first = (", ".join(f"{row[place] / row[0]:.2f}" for row in found) for place in (1, 2))
            print(f"| {model_type} | {baseline} | {right} | {first} |", flush=True)


if __name__ == "__main__":
    chosen = [name for name in sys.argv[1:] if name in MODELS]
    main(
        chosen or MODELS, [name for name in sys.argv[1:] if name not in MODELS] or ("tokens", "mean", "padding", "zero")
    )
