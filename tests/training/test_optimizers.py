"""Optimizers: each is that of its reference, groups as declared, states saved and loaded."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.optim import AdamW, Muon

from eir_seq.config.kinds import OptimizerConfig
from eir_seq.config.optimizers import AdaBeliefConfig, MuonConfig
from eir_seq.registry import OPTIMIZERS
from eir_seq.training.optimization import build_optimizer, hidden_matrices, parameter_groups
from eir_seq.training.optimizers import MuonWithAdamW, never_compiled


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(7, 4)
        self.hidden = nn.Linear(4, 6)
        self.heads = nn.ModuleDict({"of_y": nn.Linear(6, 2)})

    def forward(self, tokens: Tensor) -> Tensor:
        result: Tensor = self.heads["of_y"](self.hidden(self.embedding(tokens)).tanh())
        return result


def declared(name: str, **options: Any) -> Any:
    return TypeAdapter(OptimizerConfig).validate_python({"type": name, **options})


def train(net: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
    losses = []
    for step in steps:
        tokens = torch.randint(7, (8,), generator=torch.Generator().manual_seed(step))
        loss = nn.functional.cross_entropy(net(tokens), tokens % 2)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_learns_and_goes_on_from_its_state(name: str) -> None:
    net = Net()
    config = declared(name, lr=1.0 if name == "adadelta" else 0.03)
    optimizer = build_optimizer(net, config)
    losses = train(net, optimizer, range(60))
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    twin = copy.deepcopy(net)
    again = build_optimizer(twin, config)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(net, optimizer, range(60, 65))
    train(twin, again, range(60, 65))
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), twin.parameters(), strict=True))


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "muon"])
def test_options_are_arguments_of_the_class(name: str) -> None:
    config = declared(name)
    optimizer = build_optimizer(Net(), config)
    for option, value in config.options().items():
        assert all(group[option] == value for group in optimizer.param_groups), option
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, config.weight_decay}


@pytest.mark.parametrize(
    ("kind", "options"), [(AdamW, {"fused": True}), (AdamW, {}), (torch.optim.SGD, {"momentum": 0.9}), (Muon, {})]
)
def test_an_optimizer_that_is_never_compiled_makes_the_same_steps(kind: Any, options: dict[str, Any]) -> None:
    nets = [Net(), Net()]
    for net, built in zip(nets, (kind, never_compiled(kind)), strict=True):
        matrices = [p for p in net.parameters() if p.dim() == 2]
        optimizer = built(matrices, lr=0.1, **options)
        assert isinstance(optimizer, kind)
        assert type(optimizer).__name__ == kind.__name__
        train(net, optimizer, range(5))
        assert not any(p.grad is not None and p.grad.requires_grad for p in matrices)
    assert all(torch.equal(left, right) for left, right in zip(nets[0].parameters(), nets[1].parameters(), strict=True))


def test_an_optimizer_of_another_package_is_left_alone() -> None:
    assert never_compiled(MuonWithAdamW) is MuonWithAdamW


@pytest.mark.parametrize("decoupled", [True, False])
def test_adabelief_is_that_of_the_paper(decoupled: bool) -> None:
    lr, (beta1, beta2), eps, decay = 0.1, (0.8, 0.9), 1e-3, 0.2
    weight = nn.Parameter(torch.tensor([[1.0, -2.0]], dtype=torch.float64))
    config = AdaBeliefConfig(lr=lr, betas=[beta1, beta2], eps=eps, weight_decay=decay, decoupled_weight_decay=decoupled)
    optimizer = build_optimizer(nn.ParameterList([weight]), config)
    expected, m, s = weight.detach().clone(), torch.zeros(1, 2), torch.zeros(1, 2)
    for t in range(1, 6):
        optimizer.zero_grad()
        (weight**4).sum().backward()
        optimizer.step()
        g = 4 * expected**3
        if decoupled:
            expected = expected * (1 - lr * decay)
        else:
            g = g + decay * expected
        m = beta1 * m + (1 - beta1) * g
        s = beta2 * s + (1 - beta2) * (g - m) ** 2 + eps
        expected = expected - lr * (m / (1 - beta1**t)) / ((s / (1 - beta2**t)).sqrt() + eps)
        torch.testing.assert_close(weight.detach(), expected)


def test_muon_takes_the_hidden_matrices_and_adamw_the_rest() -> None:
    assert hidden_matrices(Net()) == {"hidden.weight"}
    config = MuonConfig(lr=0.02, adamw_lr=0.005, weight_decay=0.1)
    net, twin = Net(), Net()
    optimizer = build_optimizer(net, config)
    assert isinstance(optimizer, MuonWithAdamW)
    of_muon = Muon([twin.hidden.weight], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    vectors = [twin.hidden.bias, twin.heads["of_y"].bias]
    matrices = [twin.embedding.weight, twin.heads["of_y"].weight]
    of_adamw = AdamW(
        [{"params": vectors, "weight_decay": 0.0}, {"params": matrices, "weight_decay": 0.1}],
        lr=0.005,
        betas=(0.9, 0.95),
        fused=True,
    )
    train(net, optimizer, range(5))
    for step in range(5):
        tokens = torch.randint(7, (8,), generator=torch.Generator().manual_seed(step))
        twin.zero_grad()
        nn.functional.cross_entropy(twin(tokens), tokens % 2).backward()
        of_muon.step()
        of_adamw.step()
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), twin.parameters(), strict=True))


def test_muon_without_matrices_is_adamw() -> None:
    net = nn.ParameterList([torch.ones(3)])
    build_optimizer(net, MuonConfig()).step()
    assert [group["matrices"] for group in parameter_groups(net, MuonConfig())] == [False]


def test_parameters_beside_the_network_are_not_decayed() -> None:
    beside = nn.Parameter(torch.zeros(2))
    groups = parameter_groups(Net(), declared("adamw", weight_decay=0.1, layer_decay=0.5), [beside])
    found = next(group for group in groups if any(parameter is beside for parameter in group["params"]))
    assert (found["lr"], found["weight_decay"]) == (1e-3, 0.0)
