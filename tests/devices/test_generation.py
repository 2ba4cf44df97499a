"""Texts of every architecture on the simulated device: the tokens of the CPU, and one wait for each."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from eir_seq.models.generation.decode import past
from eir_seq.models.generation.decode.program import Program
from tests.devices.simulated import move, moved, on_cpu, simulated_device
from tests.models.tiny import EVERY_TASK, inputs, noisy, tiny
from tests.sampled import sampled

SAMPLING = {
    "top_p": 0.8, "min_p": 0.05, "typical_p": 0.9, "epsilon_cutoff": 1e-3, "eta_cutoff": 1e-3, "temperature": 0.7,
}  # fmt: skip
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "beams": {"num_beams": 3},
    "sampled": {"do_sample": True, "seed": 3, "num_return_sequences": 2, **SAMPLING},
    "sampled beams": {"do_sample": True, "seed": 1, "num_beams": 3, "num_return_sequences": 2},
    "diverse beams": {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
    "penalties": {
        "repetition_penalty": 1.3, "encoder_repetition_penalty": 1.2, "no_repeat_ngram_size": 2,
        "encoder_no_repeat_ngram_size": 2, "bad_words_ids": [[3], [4, 5]], "min_new_tokens": 3,
    },
}  # fmt: skip
STATIC: dict[str, Any] = {"cache_implementation": "static", "use_cache": True}
WRITERS = [
    (model_type, task, way) for model_type, task in EVERY_TASK if task in ("causal-lm", "seq2seq-lm") for way in WAYS
]
STEPS = 5


@pytest.mark.parametrize(
    ("model_type", "task", "way"), sampled(WRITERS, 0.01, always=lambda case: case[:2] == ("gpt2", "causal-lm"))
)
def test_texts_are_those_of_the_cpu(model_type: str, task: str, way: str) -> None:
    model = noisy(tiny(model_type, task))
    given = {name: x for name, x in inputs(model).items() if not name.startswith("decoder")}
    if task == "causal-lm":  # whose prompts are padded on the left
        given = {name: x[:1] for name, x in given.items()}
    expected = model.generate(**given, max_new_tokens=STEPS, **WAYS[way])
    with simulated_device() as device:
        move(model)
        found = on_cpu(model.generate(**moved(given), max_new_tokens=STEPS, **WAYS[way]))
    assert torch.equal(torch.as_tensor(found), torch.as_tensor(expected))
    if way == "greedy" and model_type in ("gpt2", "llama", "t5", "bart"):
        assert device.waits["aten._to_copy.default to the CPU"] <= STEPS + 1


@pytest.mark.parametrize("way", ["greedy", "beams", "sampled"])
@pytest.mark.parametrize(
    ("model_type", "task"),
    sampled(
        [(model_type, task) for model_type, task, way in WRITERS if way == "greedy"],
        0.2,
        always=lambda case: case[0] in ("gpt2", "llama", "t5", "bloom"),
    ),
)
def test_steps_are_replayed_as_graphs(model_type: str, task: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each number of columns that is read is captured once, and the tokens are those of the CPU."""
    monkeypatch.setattr(past, "READ", 8)
    model = noisy(tiny(model_type, task))
    given = {name: x for name, x in inputs(model).items() if not name.startswith("decoder")}
    if task == "causal-lm":
        given = {name: x[:1] for name, x in given.items()}
    how = {"max_new_tokens": 12, "min_new_tokens": 12, **WAYS[way]}
    expected = model.generate(**given, **how)
    with simulated_device() as device:
        move(model)
        found = on_cpu(model.generate(**moved(given), **how, **STATIC))
    assert torch.equal(torch.as_tensor(found), torch.as_tensor(expected))
    if model_type in ("gpt2", "llama", "t5", "bloom"):
        replays = [graph.replays for graph in device.recorder.graphs]
        assert len(replays) >= 2
        assert sum(replays) >= 6  # of 11 steps: the first of each number of columns runs as it is


def test_a_refused_capture_leaves_steps_as_they_are(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Experts ask the device how many tokens each of them gets."""
    monkeypatch.setattr(Program, "repeats", True)
    model = noisy(tiny("mixtral", "causal-lm"))
    given = {name: x[:1] for name, x in inputs(model).items()}
    expected = model.generate(**given, max_new_tokens=STEPS)
    with simulated_device() as device:
        move(model)
        found = on_cpu(model.generate(**moved(given), max_new_tokens=STEPS, **STATIC))
    assert torch.equal(torch.as_tensor(found), torch.as_tensor(expected))
    assert not device.recorder.graphs
    assert "steps of generation are not replayed: operation not permitted" in caplog.text
