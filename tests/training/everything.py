"""A table with a column for each kind of input and output, and small experiments on any of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SEQUENCE: dict[str, Any] = {
    "model_type": "sequence-default",
    "model_init_config": {"embedding_dim": 8, "num_layers": 1, "num_heads": 2},
}
DECODER: dict[str, Any] = {
    "model_type": "bart",
    "model_init_config": {
        "d_model": 8, "decoder_layers": 1, "decoder_attention_heads": 2,
        "decoder_ffn_dim": 8, "max_position_embeddings": 32,
    },
}  # fmt: skip
VIT = {"patch_size": 4, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
TRANSFORMER = {"patch_size": [1, 3], "embedding_dim": 8, "num_layers": 1, "num_heads": 2}

INPUTS: dict[str, dict[str, Any]] = {
    "tabular": {"type": "tabular", "categorical": ["ward"], "continuous": ["age"]},
    "array": {"type": "array", "column": "array", "missing_mask": True},
    "omics": {"type": "omics", "column": "genes", "snp_file": "snps.bim", "model": {"model_type": "genome-local-net"}},
    "image": {"type": "image", "column": "picture", "size": 8, "model": {"model_type": "cnn"}},
    "bytes": {"type": "bytes", "column": "file", "max_length": 12, "model": SEQUENCE},
    "template": {"type": "sequence", "text": "{title}: {body}", "max_length": 10, "model": SEQUENCE},
}
"""One input of each kind."""

OTHER_ENCODERS: dict[str, dict[str, Any]] = {
    "ft-transformer": {
        **INPUTS["tabular"],
        "model": {
            "model_type": "ft-transformer",
            "model_init_config": {"hidden_size": 8, "num_heads": 2, "num_layers": 1},
        },
    },
    "linear table": {**INPUTS["tabular"], "model": {"model_type": "linear"}},
    "lcl": {"type": "array", "column": "numbers", "model": {"model_type": "lcl"}},
    "transformer": {
        "type": "array",
        "column": "numbers",
        "model": {"model_type": "transformer", "model_init_config": TRANSFORMER},
    },
    "linear array": {"type": "array", "column": "array", "normalization": "element", "model": {"model_type": "linear"}},
    "identity": {"type": "array", "column": "array", "model": {"model_type": "identity"}},
    "cnn of genes": {"type": "omics", "column": "genes", "model": {"model_type": "cnn"}},
    "lcl-simple": {"type": "omics", "column": "genes", "model": {"model_type": "lcl-simple"}},
    "linear genes": {"type": "omics", "column": "genes", "model": {"model_type": "linear"}},
    "identical genes": {"type": "omics", "column": "genes", "model": {"model_type": "identity"}},
    "vit": {
        "type": "image",
        "column": "picture",
        "size": 8,
        "model": {"model_type": "vit", "model_init_config": VIT},
    },
    "resnet": {
        "type": "image",
        "column": "picture",
        "size": 8,
        "resize": "random-crop",
        "model": {"model_type": "resnet"},
    },
    "flat text": {"type": "sequence", "column": "title", "max_length": 10, "model": {**SEQUENCE, "pool": "none"}},
}
"""Other encoders of the same kinds."""

OUTPUTS: dict[str, dict[str, Any]] = {
    "classification": {"type": "classification", "column": "label", "thresholds": "f1"},
    "costs": {"type": "classification", "column": "label", "costs": {"yes": {"no": 3}}, "class_weights": "balanced"},
    "multi_label": {"type": "multi_label", "columns": ["a", "b"], "thresholds": "f1"},
    "tags": {"type": "multi_label", "column": "tags"},
    "ordinal": {"type": "ordinal", "column": "grade", "order": ["low", "mid", "high"]},
    "gaussian": {"type": "regression", "columns": ["height", "weight"], "loss": "gaussian"},
    "quantile": {"type": "regression", "column": "height", "loss": "quantile"},
    "poisson": {"type": "regression", "column": "count", "loss": "poisson"},
    "cox": {"type": "survival", "time": "days", "event": "died", "model": "cox"},
    "discrete": {
        "type": "survival",
        "time": "days",
        "event": "cause",
        "causes": ["x", "y"],
        "model": "discrete",
        "bins": 3,
    },
    "text": {"type": "seq2seq_lm", "column": "reply", "model": DECODER, "max_length": 6, "generate_rows": 2},
    "wave": {"type": "array", "column": "wave", "normalization": "element"},
    "codes": {"type": "array", "column": "codes", "loss": "categorical", "model": {"model_type": "lcl"}},
    "drawing": {"type": "image", "column": "drawing", "size": 6, "mode": "L"},
}
"""One output of each kind that any input can serve, and forms of them."""

SPAN: dict[str, Any] = {
    "inputs": {"context": {"type": "sequence", "column": "context", "max_length": 24, "model": SEQUENCE}},
    "outputs": {"answer": {"type": "span", "input": "context", "question": "title", "answers": "answers"}},
}
"""A text and the output that answers questions on it."""

SNPS = 40


def write_rows(folder: Path, name: str, rows: int, seed: int, gaps: bool = False) -> Path:
    """A table of all columns, and the files that its cells name; with `gaps` rows lack some inputs and targets."""
    random = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    write_bim(folder / "snps.bim", SNPS)
    table = []
    for number in range(rows):
        stem, positive = f"{name}{number}", bool(number % 2)
        array = random.normal(size=(2, 12)).astype(np.float32) + positive
        array[0, number % 12] = np.nan
        np.save(folder / f"{stem}.npy", array)
        codes = random.integers(0, 4, SNPS)
        np.save(folder / f"{stem}.genes.npy", (codes == np.arange(3)[:, None]).astype(np.int8))
        pixels = random.integers(0, 100, (9, 10, 3), np.uint8) + 100 * positive
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{stem}.png")
        (folder / f"{stem}.bin").write_bytes(bytes(random.integers(0, 256, 5 + number % 10, np.uint8)))
        words = random.choice(["warm", "cold", "day", "kind"], 5).tolist()
        row: dict[str, Any] = {
            "ward": "north" if positive else "south", "age": float(random.integers(20, 90)), "array": f"{stem}.npy",
            "numbers": random.normal(size=9).round(3).tolist(), "genes": f"{stem}.genes.npy",
            "picture": f"{stem}.png", "file": f"{stem}.bin", "title": " ".join(words[:2]), "body": " ".join(words[2:]),
            "context": " ".join(words),
            "label": "yes" if positive else "no", "a": int(positive), "b": int(random.integers(2)),
            "tags": ["p"] * positive + ["q"] * int(random.integers(2)), "grade": ["low", "mid", "high"][number % 3],
            "height": float(random.normal() + positive), "weight": float(random.normal()),
            "count": int(random.integers(5)), "days": float(random.integers(1, 50)), "died": int(random.integers(2)),
            "cause": ["0", "x", "y"][int(random.integers(3))], "reply": "good day" if positive else "no way",
            "answers": {"text": [words[0]], "answer_start": [0]},
            "wave": array.tolist() if number % 3 else f"{stem}.npy", "codes": (array > 1).astype(int).tolist(),
            "drawing": f"{stem}.png",
        }  # fmt: skip
        if gaps:
            inputs = [["ward", "age"], ["array"], ["numbers"], ["genes"], ["picture"], ["file"], ["title", "body"]]
            for columns in [inputs[number % len(inputs)], TARGETS[number % len(TARGETS)]]:
                row |= dict.fromkeys(columns)
        table.append({"id": stem, **row})
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in table), encoding="utf-8")
    return path


TARGETS = [
    ["label"], ["a"], ["a", "b"], ["tags"], ["grade"], ["height"], ["height", "weight"], ["count"], ["days"],
    ["died", "cause"], ["reply"], ["wave"], ["codes", "drawing"],
]  # fmt: skip
"""Targets that rows lack together."""


def write_bim(path: Path, snps: int) -> None:
    """The names of the SNPs."""
    lines = (f"1\trs{number}\t0\t{number * 100}\tA\tG\n" for number in range(snps))
    path.write_text("".join(lines), encoding="utf-8")


def experiment(
    folder: Path, inputs: dict[str, Any], outputs: dict[str, Any], run: str = "run", **sections: Any
) -> dict[str, Any]:
    """An experiment on ``train.jsonl`` in `folder`; `sections` change the usual settings."""
    settings: dict[str, Any] = {
        "data": {
            "train": str(folder / "train.jsonl"),
            "validation": 8,
            "id": "id",
            "batch_size": 8,
            "cache_dir": str(folder / "cache"),
        },
        "fusion": {"type": "mlp-residual", "hidden_size": 8, "num_layers": 1},
        "optimizer": {"type": "adamw", "lr": 0.01},
        "trainer": {"max_epochs": 1, "accelerator": "cpu"},
        "run": {"dir": str(folder / run)},
    }
    inputs = json.loads(json.dumps(inputs))
    for given in inputs.values():
        if "snp_file" in given:
            given["snp_file"] = str(folder / given["snp_file"])
    for name, section in sections.items():
        settings[name] = {**settings.get(name, {}), **section} if isinstance(section, dict) else section
    return {"inputs": inputs, "outputs": outputs, **settings}
