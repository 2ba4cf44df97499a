"""The largest batches are tried after the first step, and nothing of that stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eir_seq.errors import RunFailed
from eir_seq.training import loop
from eir_seq.training.network import Network
from eir_seq.training.rehearsal import rehearse
from tests.training.fakes import FakeData, collate, experiment, fitted_outputs, network
from tests.training.harness import outcome, run, same


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_is_the_same_to_the_last_bit(accumulate: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = experiment(trainer={"accumulate": accumulate, "validate_every": 1})
    without = outcome(tmp_path / "without", run(config, tmp_path / "without"))
    tried: list[Any] = []
    monkeypatch.setattr(loop, "REHEARSED_STEPS", 1)

    def noted(*args: Any, **named: Any) -> None:
        tried.append(args)
        rehearse(*args, **named)

    monkeypatch.setattr(loop, "rehearse", noted)
    rehearsed = outcome(tmp_path / "rehearsed", run(config, tmp_path / "rehearsed"))
    assert len(tried) == 1
    assert same(without, rehearsed)


class Counting(nn.Module):
    """An encoder with statistics in buffers and random numbers; `fails` when it is to run out of memory."""

    output_size = 6

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5))
        self.modes: list[tuple[bool, bool]] = []
        self.fails: bool | None = None

    def forward(self, values: Tensor) -> Tensor:
        self.modes.append((self.training, torch.is_grad_enabled()))
        if self.fails is self.training:
            raise torch.OutOfMemoryError("CUDA out of memory")
        found: Tensor = self.layers(values)
        return found


@pytest.fixture
def tried() -> Any:
    config = experiment()
    data = FakeData(config)
    outputs = fitted_outputs(config, data)
    parts = network(config, outputs)
    parts = Network({"x": Counting()}, parts.fusion, dict(zip(outputs, parts.heads.values(), strict=True))).train()
    batches = collate([data.train[row] for row in range(8)]), collate([data.validation[row] for row in range(3)])

    def call(accumulates: bool = False) -> None:
        rehearse(parts, outputs, *batches, device=torch.device("cpu"), precision="32", accumulates=accumulates)

    return parts, call


@pytest.mark.parametrize("accumulates", [False, True])
def test_weights_buffers_and_random_numbers_stay(accumulates: bool, tried: Any) -> None:
    parts, call = tried
    before = {name: value.clone() for name, value in parts.state_dict().items()}
    state = torch.get_rng_state()
    call(accumulates)
    assert parts.encoder("x").modes == [(True, True), (False, False)]
    assert parts.training
    assert all(torch.equal(value, before[name]) for name, value in parts.state_dict().items())
    assert all(parameter.grad is None for parameter in parts.parameters())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("training", "what"), [(True, "training batch"), (False, "batch of an evaluation")])
def test_out_of_memory(training: bool, what: str, tried: Any) -> None:
    parts, call = tried
    parts.encoder("x").fails = training
    with pytest.raises(
        RunFailed, match=f"out of memory in the largest {what} of the run.*batch of {8 if training else 3}"
    ):
        call()
