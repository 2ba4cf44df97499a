"""16-mixed, which runs on GPUs only, with the same gradient scaler on the CPU, where torch has float16 kernels, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins import MixedPrecision

from eir_seq.training import evaluation
from eir_seq.training import fit as fit_module
from tests.training.harness import Watcher, experiment, outcome, run, same


@pytest.fixture(autouse=True)
def _scaler_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def trainer(*, precision: str, plugins: list[Any], **rest: Any) -> Trainer:
        assert precision == "16-mixed"
        scaler = torch.amp.GradScaler("cpu", growth_interval=5)
        return Trainer(plugins=[*plugins, MixedPrecision("16-mixed", "cpu", scaler)], **rest)

    monkeypatch.setattr(fit_module, "Trainer", trainer)


CONFIG = experiment(trainer={"precision": "16-mixed", "checkpoint_every": 3, "accumulate": 2})


class Killed(BaseException):
    pass


def test_a_resumed_run_has_the_scale_of_the_uninterrupted_one(tmp_path: Path) -> None:
    expected = outcome(tmp_path / "whole", run(CONFIG, tmp_path / "whole"))

    def kill(step: int) -> None:
        if step == 8:
            raise Killed

    with pytest.raises(Killed):
        run(CONFIG, tmp_path / "killed", Watcher(at_step=kill))
    assert same(outcome(tmp_path / "killed", run(CONFIG, tmp_path / "killed")), expected)


def test_a_gradient_that_overflows_is_skipped_by_the_scaler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []

    class Overflowing(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            return gradient * torch.inf if len(seen) < 4 else gradient

    def forward(self: Any, values: torch.Tensor) -> torch.Tensor:
        if self.training:
            seen.append(self.linear.weight.detach().clone())
        return Overflowing.apply(self.linear(values))  # type: ignore[no-any-return]

    monkeypatch.setattr("tests.training.fakes.Encoder.forward", forward)
    loop = run(CONFIG, tmp_path)
    assert torch.equal(seen[0], seen[2]), "the first step did nothing"
    assert not torch.equal(seen[4], seen[6]), "a later one did"
    assert all(bool(value.isfinite().all()) for value in loop.module.network.state_dict().values())


def test_evaluation_is_in_half_precision_too() -> None:
    with evaluation.autocast(torch.device("cpu"), "16-mixed"):
        assert torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype == torch.float16
