"""Threads by the size of steps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from eir_seq.config.schema import ExperimentConfig
from eir_seq.training import threads
from eir_seq.training.assemble import Parts, assemble
from eir_seq.training.check import check
from eir_seq.training.console import Console
from eir_seq.training.threads import operations, threads_for
from tests.training.table import table_experiment

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def used(parts: Parts, config: ExperimentConfig) -> int:
    with threads_for(config, parts.network, parts.outputs, parts.data, CPU) as found:
        assert torch.get_num_threads() == found
    assert torch.get_num_threads() == 2
    return found


def test_small_steps_get_one_thread_and_large_ones_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = table_experiment(tmp_path)
    with Console() as console:
        parts = assemble(config, console)
    state, weights = torch.get_rng_state(), {name: x.clone() for name, x in parts.network.state_dict().items()}
    count = operations(parts.network, parts.outputs, parts.data)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(x, weights[name]) for name, x in parts.network.state_dict().items())
    assert parts.network.training
    assert count > 0
    monkeypatch.setattr(threads, "available", lambda: False)
    assert used(parts, config) == 1
    monkeypatch.setattr(threads, "WORK", count / 1.9)
    assert used(parts, config) == 1
    monkeypatch.setattr(threads, "WORK", count / 9)
    assert used(parts, config) == 2
    monkeypatch.setattr(threads, "available", lambda: True)
    assert used(parts, config) == 1
    monkeypatch.setattr(threads, "WORK_OF_KERNELS", count / 9)
    assert used(parts, config) == 2
    monkeypatch.setattr(threads, "WORK_OF_KERNELS", 10 * count)
    given = config.model_copy(update={"trainer": config.trainer.model_copy(update={"threads": 2})})
    assert used(parts, given) == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert used(parts, config) == 2


def test_check_says_it(tmp_path: Path) -> None:
    assert "1 of 2: for steps of this size more do not pay" in str(check(table_experiment(tmp_path)))
