"""Texts of every architecture on the simulated device: the tokens of the CPU, and one wait for each."""

from __future__ import annotations

from typing import Any

import pytest
import torch

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
