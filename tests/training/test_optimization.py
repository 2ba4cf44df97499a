from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from eir_seq.config.optimization import AdamWConfig, SchedulerConfig, SgdConfig
from eir_seq.config.schema import TrainerConfig
from eir_seq.errors import UserError
from eir_seq.training.optimization import (
    build_optimizer,
    build_scheduler,
    learning_rate_factor,
    parameter_groups,
    total_steps,
)


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(2))
        self.final_norm = nn.LayerNorm(3)

    def layer_of(self, name: str) -> int | None:
        if name.startswith("embedding"):
            return 0
        return int(name.split(".")[1]) + 1 if name.startswith("layers") else None


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(Backbone())
        self.head = nn.Linear(3, 2)


def by_parameter(net: nn.Module, config: Any) -> dict[str, tuple[float, float]]:
    names = {parameter: name for name, parameter in net.named_parameters()}
    return {
        names[parameter]: (group["lr"], group["weight_decay"])
        for group in parameter_groups(net, config)
        for parameter in group["params"]
    }


def test_vectors_do_not_decay() -> None:
    found = by_parameter(Net(), AdamWConfig(lr=0.1, weight_decay=0.2))
    assert {name for name, (_, decay) in found.items() if decay == 0} == {
        "encoder.0.layers.0.bias",
        "encoder.0.layers.1.bias",
        "encoder.0.final_norm.weight",
        "encoder.0.final_norm.bias",
        "head.bias",
    }
    assert {lr for lr, _ in found.values()} == {0.1}


def test_deeper_layers_learn_more_slowly() -> None:
    found = {name: lr for name, (lr, _) in by_parameter(Net(), AdamWConfig(lr=1.0, layer_decay=0.5)).items()}
    assert found["head.weight"] == found["encoder.0.final_norm.weight"] == 1.0
    assert found["encoder.0.layers.1.weight"] == found["encoder.0.layers.1.bias"] == 0.5
    assert found["encoder.0.layers.0.weight"] == 0.25
    assert found["encoder.0.embedding.weight"] == 0.125


def test_frozen_parameters_are_left_out() -> None:
    net = Net()
    net.encoder.requires_grad_(False)
    assert by_parameter(net, SgdConfig()).keys() == {"head.weight", "head.bias"}


def test_layers_keep_their_share_of_the_scheduled_rate() -> None:
    optimizer = build_optimizer(Net(), SgdConfig(lr=1.0, layer_decay=0.5))
    scheduler = build_scheduler(optimizer, SchedulerConfig(type="linear", warmup=0), 4)
    for _ in range(2):
        optimizer.step()
        scheduler.step()
    assert sorted({group["lr"] for group in optimizer.param_groups}) == [0.0625, 0.125, 0.25, 0.5]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"type": "constant", "warmup": 0}, [1, 1, 1, 1]),
        ({"type": "constant", "warmup": 2}, [1 / 3, 2 / 3, 1, 1]),
        ({"type": "linear", "warmup": 0}, [1, 0.75, 0.5, 0.25]),
        ({"type": "linear", "warmup": 0, "final_ratio": 0.2}, [1, 0.8, 0.6, 0.4]),
        ({"type": "linear", "warmup": 0.5}, [1 / 3, 2 / 3, 1, 0.5]),
        ({"type": "cosine", "warmup": 0}, [1, 0.853553, 0.5, 0.146447]),
        ({"type": "one-cycle", "warmup": 0.5}, [0.04, 0.52, 1, 0.500002]),
    ],
)
def test_schedules(config: dict[str, Any], expected: list[float]) -> None:
    factor = learning_rate_factor(SchedulerConfig.model_validate(config), 4)
    assert [factor(step) for step in range(4)] == pytest.approx(expected, abs=1e-6)


def test_one_cycle_is_that_of_torch() -> None:
    total, warmup = 20, 6
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=total + 1, pct_start=(warmup + 1) / (total + 1), cycle_momentum=False
    )
    ours = learning_rate_factor(SchedulerConfig(type="one-cycle", warmup=warmup), total)
    for step in range(total):
        assert ours(step) == pytest.approx(reference.get_last_lr()[0], abs=1e-9), step
        optimizer.step()
        reference.step()


def test_the_earlier_limit_ends_the_run() -> None:
    assert total_steps(TrainerConfig(max_epochs=3), 7) == 21
    assert total_steps(TrainerConfig(max_epochs=3, accumulate=2), 7) == 12
    assert total_steps(TrainerConfig(max_epochs=3, max_steps=5), 7) == 5
    assert total_steps(TrainerConfig(max_epochs=None, max_steps=50), 7) == 50
    with pytest.raises(UserError, match=r"trainer\.max_epochs: .* never end"):
        total_steps(TrainerConfig(max_epochs=None), 7)


def test_nesterov_needs_momentum() -> None:
    with pytest.raises(UserError, match=r"optimizer\.nesterov"):
        build_optimizer(Net(), SgdConfig(momentum=0.0, nesterov=True))
