"""Adversaries: the gradient that they reverse, probes, and that information leaves."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eir_seq.broker.adversary import ramp
from eir_seq.config.schema import ExperimentConfig
from eir_seq.errors import UserError
from eir_seq.training import adversaries
from eir_seq.training.assemble import Parts, assemble
from eir_seq.training.console import Console
from eir_seq.training.objective import batch_loss
from eir_seq.training.run import train
from tests.broker.rows import experiment
from tests.broker.test_parts import batch, connected, network

PLAIN = {"left": {"type": "tabular", "continuous": ["left"]}, "right": {"type": "tabular", "continuous": ["right"]}}


def test_the_ramp_is_that_of_the_paper() -> None:
    assert ramp(0, 100) == 0.0
    assert ramp(30, 100) == pytest.approx(2 / (1 + math.exp(-3)) - 1)
    assert ramp(100, 100) == ramp(5, 0) == 1.0


def test_the_gradient_of_a_layer_is_reversed_and_that_of_the_adversary_not() -> None:
    """A task (a sum of squares) and an adversary (a mean squared error) read the same layer."""
    adversary = {"from": "inputs.numbers.linear", "predict": "inputs.words", "weight": 0.3, "warmup": 50}
    net = connected(network(), adversaries=[adversary])
    opponent: Any = net.broker.listed_adversaries[0]  # type: ignore[union-attr]
    linear: Any = net.encoder("numbers").linear
    given = batch()

    def gradients(loss: Tensor, *tensors: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(loss, tensors, retain_graph=True))

    task = net.run(given)["y"].square().sum()
    found = adversaries.adversary_losses(net, {}, given, step=10)
    assert list(found.terms) == ["adversaries[0]"]
    own = found.total({}, 4)
    assert own is not None
    task_gradient, (total,) = gradients(task, linear.weight), gradients(task + own, linear.weight)
    read = linear(given["inputs"]["numbers"]["values"])
    target = net.encoder("words")(**given["inputs"]["words"]).detach()
    direct = (opponent.head(opponent.hidden(read)) - target).square().mean()
    torch.testing.assert_close(own, direct)
    against, *of_adversary = gradients(direct, linear.weight, *opponent.parameters())
    factor = 0.3 * (2 / (1 + math.exp(-2)) - 1)
    torch.testing.assert_close(total, task_gradient[0] - factor * against)
    for one, other in zip(gradients(own, *opponent.parameters()), of_adversary, strict=True):
        torch.testing.assert_close(one, other)
    words: Any = net.encoder("words")
    (unchanged,) = torch.autograd.grad(own, words.second.weight, allow_unused=True)
    assert unchanged is None, "what is predicted is a given"


def assembled(config: ExperimentConfig) -> Parts:
    with Console() as console:
        return assemble(config, console)


def test_targets_of_an_output(tmp_path: Path) -> None:
    """Its own loss, and with `probe` a head that changes nothing below it."""
    outputs = {"side": {"type": "classification", "column": "side"}, "other": {"type": "regression", "column": "other"}}
    adversary = {"from": "inputs.left", "predict": "outputs.side", "warmup": 0, "num_layers": 2}
    sections: dict[str, Any] = {"inputs": PLAIN, "outputs": outputs, "fusion": {"type": "concat"}, "rows": 60}
    parts = assembled(experiment(tmp_path, adversaries=[adversary], **sections))
    given = next(iter(parts.data.val_dataloader()))
    network = parts.network.eval()
    raw = network.run(given)
    assert network.broker is not None
    found = adversaries.adversary_losses(network, parts.outputs, given)
    opponent = network.broker.listed_adversaries[0]
    features = network.encoder("left")(**given["inputs"]["left"])
    expected = nn.functional.cross_entropy(
        opponent.head(opponent.hidden(features)), given["targets"]["side"].long(), reduction="none"
    )
    torch.testing.assert_close(found.terms["adversaries[0]"][:, 0], expected)
    below = list(network.encoder("left").parameters())
    assert all(g is None for g in torch.autograd.grad(raw["side"].sum(), below, allow_unused=True))
    assert all(g is not None for g in torch.autograd.grad(found.terms["adversaries[0]"].sum(), below))
    whole = batch_loss(network, parts.outputs, given, torch.device("cpu"))
    without = [parts.outputs[name].loss_terms(raw[name], given["targets"][name]).mean() for name in raw]
    torch.testing.assert_close(whole, sum(without) + expected.mean())
    ordinary = assembled(experiment(tmp_path, adversaries=[{**adversary, "probe": False}], **sections)).network
    raw, below = ordinary.run(given), list(ordinary.encoder("left").parameters())
    assert all(g is not None for g in torch.autograd.grad(raw["side"].sum(), below))


def test_messages(tmp_path: Path) -> None:
    def said(*opponents: dict[str, Any], **changes: Any) -> list[str]:
        with pytest.raises(UserError) as caught:
            experiment(tmp_path, adversaries=list(opponents), **changes)
        return str(caught.value).splitlines()

    assert said(
        {"from": "inputs.lft", "predict": "outputs.targt"},
        {"from": "fusion", "predict": "fusion"},
        {"from": "fusion", "predict": "inputs.left", "probe": False},
        {"from": "outputs.target.0", "predict": "outputs.target"},
    ) == [
        "adversaries[0].from: 'inputs.lft' is in none of inputs.left, inputs.right, outputs.target, outputs.other, "
        "fusion; did you mean 'inputs.left'?",
        "adversaries[0].predict: 'outputs.targt' is in none of inputs.left, inputs.right, outputs.target, "
        "outputs.other, fusion; did you mean 'outputs.target'?",
        "adversaries[1].predict: is what the adversary reads",
        "adversaries[2].probe: has no effect where a layer is predicted",
        "adversaries[3].from: is in the head of outputs.target itself",
    ]
    compiled = said({"from": "fusion", "predict": "outputs.target"}, trainer={"compile": True})
    assert compiled == [
        "trainer.compile: cannot be combined with adversaries: "
        "torch.compile does not trace what their hooks do between layers"
    ]
    shared = said({"from": "fusion", "predict": "outputs.target"}, trainer={"loss_weighting": "gradnorm"})
    assert shared[0].startswith("adversaries[0].probe: 'gradnorm' needs a layer that all outputs share")
    text = {"type": "sequence", "column": "left", "model": {"model_type": "bert"}}
    spans = {"type": "token_classification", "column": "target"}
    config: dict[str, Any] = {
        "inputs": {"text": text},
        "outputs": {"tags": spans, "other": {"type": "regression", "column": "other"}},
    }
    found = said({"from": "inputs.text", "predict": "outputs.tags"}, fusion={"type": "auto"}, **config)
    assert "adversaries[0].predict: outputs.tags (token_classification) has no targets of whole rows that a small" in (
        "\n".join(found)
    )
    written = {"type": "causal_lm"}
    message = {"from": "inputs.other", "to": "inputs.text.layers.0"}
    config = {"inputs": {"text": {**text, "model": {"model_type": "gpt2"}}, "other": PLAIN["right"]}}
    with pytest.raises(UserError) as caught:
        experiment(
            tmp_path,
            broker=[message],
            outputs={"text": written, "other": {"type": "regression", "column": "other"}},
            fusion={"type": "auto"},
            **config,
        )
    assert "broker[0].to: outputs.text writes by inputs.text alone, without the rest of the network" in str(
        caught.value
    )


@pytest.mark.slow
def test_information_leaves(tmp_path: Path) -> None:
    """A weak output has the features hold the left number; an adversary of its sign takes it out.

    On held-out rows the probe falls to chance, and so does the output of that number; the other output stays as good.
    """

    def scores(weight: float) -> tuple[float, float, float]:
        run = tmp_path / str(weight)
        linear = {"model_type": "linear", "model_init_config": {"hidden_size": 2}}
        adversary = {"from": "inputs.both", "predict": "outputs.side", "warmup": 100, "hidden_size": 32}
        config = experiment(
            tmp_path,
            rows=600,
            data={"batch_size": 32},
            inputs={"both": {"type": "tabular", "continuous": ["left", "right"], "model": linear}},
            fusion={"type": "concat"},
            outputs={
                "other": {"type": "regression", "column": "other"},
                "target": {"type": "regression", "column": "target", "loss_weight": 0.05},
                "side": {"type": "classification", "column": "side"},
            },
            adversaries=[{**adversary, "weight": weight}],
            # SGD without momentum settles; with it, as with Adam, both sides circle
            optimizer={"type": "sgd", "lr": 0.3, "momentum": 0.0, "weight_decay": 0.01},
            trainer={"max_epochs": 40, "validate_every": 600},
            run={"dir": str(run)},
        )
        found = train(config)["test"]
        return found["side"]["accuracy"], found["target"]["r2"], found["other"]["r2"]

    probe, target, other = scores(1e-6)
    assert min(probe, target, other) > 0.95
    probe, target, other = scores(0.5)
    assert probe < 0.65
    assert target < 0.2
    assert other > 0.95
