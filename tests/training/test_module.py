from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from eir_seq.errors import RunFailed, UserError
from eir_seq.fusion import build_fusion
from eir_seq.training.evaluation import evaluate
from eir_seq.training.network import Network
from tests.training.fakes import Encoder, FakeData, Rows, collate, fitted_outputs, network
from tests.training.harness import Watcher, experiment, run

PLAIN = {"dropout": 0.0, "stochastic_depth": 0.0}


def final_weights(config: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    monkeypatch.setattr("tests.training.fakes.Encoder.forward", lambda self, values: self.linear(values))
    return run(config, folder).module.network.state_dict()


@pytest.mark.parametrize("clip", [None, 0.5])
def test_a_group_of_small_batches_is_one_large_batch(
    clip: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 26 rows: 3 batches of 8 and one of 2 are groups of (8 + 8) and (8 + 2) rows; the same rows as 16 and 10.
    # Equal up to the order of summation in float32: about 1e-7 of values of order 1, over six steps.
    shared = {"max_epochs": 3, "gradient_clip": clip}
    optimizer = {"type": "sgd", "lr": 0.1}
    small = experiment(data={"batch_size": 8}, trainer={**shared, "accumulate": 2}, fusion=PLAIN, optimizer=optimizer)
    large = experiment(data={"batch_size": 16}, trainer=shared, fusion=PLAIN, optimizer=optimizer)
    one = final_weights(small, tmp_path / "small", monkeypatch)
    other = final_weights(large, tmp_path / "large", monkeypatch)
    start = network(small, fitted_outputs(small, FakeData(small))).state_dict()
    assert any((one[name] - start[name]).abs().max() > 0.01 for name in one), "something was learnt"
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], atol=2e-6, rtol=0)


def test_a_loss_that_is_not_finite_stops_before_the_step(tmp_path: Path) -> None:
    config = experiment(trainer={"checkpoint_every": 1})
    data = FakeData(config, poisoned=17)
    order = [row for batch in data.batches for row in batch]
    step = order.index(17) // 4 + 1
    assert step > 1
    watcher = Watcher()
    with pytest.raises(RunFailed) as failed:
        run(config, tmp_path, watcher, data=data)
    assert str(failed.value).startswith(f"step {step}: the loss of outputs.y is not finite on row 'train-17'; ")
    assert watcher.steps[-1] == step - 1
    kept = sorted(path.name for path in (tmp_path / "checkpoints").glob("step-*"))
    assert kept[-1] == f"step-{step - 1:08d}"


def test_a_gradient_that_is_not_finite_stops_before_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Explosive(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            return gradient * torch.inf

    monkeypatch.setattr(
        "tests.training.fakes.Encoder.forward", lambda self, values: Explosive.apply(self.linear(values))
    )
    with pytest.raises(RunFailed, match=r"step 1: the gradient is not finite \(batch of rows 'train-\d+', "):
        run(experiment(), tmp_path)


def test_randomness_depends_on_the_seed_and_the_step_alone(tmp_path: Path) -> None:
    def losses(seed: int, folder: str, before: int) -> list[float | None]:
        torch.manual_seed(before)
        watcher = Watcher()
        run(experiment(seed=seed, trainer={"max_epochs": 1}), tmp_path / folder, watcher)
        return watcher.losses

    assert losses(1, "a", before=5) == losses(1, "b", before=6) != losses(2, "c", before=5)


def test_dropout_differs_between_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[float] = []
    monkeypatch.setattr(
        "tests.training.fakes.Encoder.forward",
        lambda self, values: (drawn.append(float(torch.rand(()))), self.linear(values))[1],
    )
    run(experiment(trainer={"max_epochs": 2}), tmp_path, validate=False)
    assert len(drawn) == len(set(drawn)) == 14


def test_bf16_runs_and_evaluates_in_the_same_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()

    def forward(self: Encoder, values: torch.Tensor) -> torch.Tensor:
        out = self.linear(values)
        seen.add((self.training, out.dtype))
        return out

    monkeypatch.setattr("tests.training.fakes.Encoder.forward", forward)
    run(experiment(trainer={"precision": "bf16-mixed", "max_epochs": 1}), tmp_path)
    assert seen == {(True, torch.bfloat16), (False, torch.bfloat16)}


@pytest.mark.parametrize("optimizer", [{"type": "sgd", "nesterov": True}, {"type": "adafactor"}, {"type": "adamw"}])
def test_every_optimizer_learns(optimizer: dict[str, Any], tmp_path: Path) -> None:
    config = experiment(
        optimizer={**optimizer, "lr": 0.03}, trainer={"max_epochs": 20}, fusion=PLAIN, data={"batch_size": 13}
    )
    data = FakeData(config)
    loop = run(config, tmp_path, data=data)
    batch = collate([data.train[row] for row in range(len(data.train))])
    found = evaluate(loop.module.network, loop.outputs, [batch], device=torch.device("cpu"))
    assert found.values["y", "accuracy"] > 0.85  # the labels are a linear function of the values


def test_evaluation_restores_modes_and_row_order() -> None:
    config = experiment()
    data = FakeData(config)
    outputs = fitted_outputs(config, data)
    net = network(config, outputs)
    net.encoders["of_x"].eval()  # as a frozen backbone
    rows = Rows("validation", 10)
    batches = [collate([rows[i] for i in part]) for part in ([7, 2, 9], [0, 1, 8], [3, 4, 5, 6])]
    found = evaluate(net, outputs, batches, device=torch.device("cpu"))
    assert found.ids == [f"validation-{i}" for i in range(10)]
    torch.testing.assert_close(found.targets["y"], rows.labels)
    with torch.inference_mode():
        raw = net.eval()({"x": {"values": rows.values}})["y"]
    # the same rows in other batches: matrix products of other shapes round differently in the last place
    torch.testing.assert_close(found.raw["y"], raw, atol=1e-6, rtol=0)
    assert found.values["", "loss"] == found.values["y", "loss"]


def test_evaluation_leaves_frozen_parts_in_evaluation_mode() -> None:
    config = experiment()
    outputs = fitted_outputs(config, FakeData(config))
    net = network(config, outputs)
    net.encoders["of_x"].eval()
    evaluate(net, outputs, [collate([Rows("validation")[0]])], device=torch.device("cpu"))
    assert net.training
    assert net.fusion.training
    assert not net.encoders["of_x"].training


def test_the_sum_of_losses_is_weighted() -> None:
    base = {"type": "classification", "column": "label"}
    config = experiment(outputs={"y": base, "z": {**base, "loss_weight": 3.0}})
    data = FakeData(config)
    outputs = fitted_outputs(config, data)
    batch = collate([data.train[row] for row in range(8)])
    batch["targets"]["z"] = 1 - batch["targets"]["y"]
    found = evaluate(network(config, outputs), outputs, [batch], device=torch.device("cpu"))
    assert found.values["", "loss"] == pytest.approx(found.values["y", "loss"] + 3 * found.values["z", "loss"])


def test_rows_without_labels_are_predicted_and_not_measured() -> None:
    base = {"type": "classification", "column": "label"}
    config = experiment(outputs={"y": base, "z": base})
    data = FakeData(config)
    outputs = fitted_outputs(config, data)
    batch = collate([data.train[row] for row in range(8)])
    found = evaluate(network(config, outputs), outputs, [batch], device=torch.device("cpu"))
    assert found.raw["z"].shape == (8, 2)
    assert found.targets.keys() == found.by_output().keys() == {"y"}
    assert ("", "loss") not in found.values


def test_parameters_are_counted_by_part() -> None:
    config = experiment()
    outputs = fitted_outputs(config, FakeData(config))
    net = network(config, outputs)
    net.encoders["of_x"].requires_grad_(False)
    counts = net.count_parameters()
    assert counts["inputs.x"] == 4 * 6 + 6
    assert counts["total"] == sum(p.numel() for p in net.parameters())
    assert counts["total"] == counts["inputs.x"] + counts["fusion"] + counts["outputs.y"]
    assert counts["trainable"] == counts["total"] - counts["inputs.x"]


def test_names_of_methods_are_good_names_for_inputs() -> None:
    fusion = build_fusion(experiment().fusion, {"keys": 6}, ["values"])
    net = Network({"keys": Encoder()}, fusion, {"values": nn.Linear(fusion.output_size, 2)})
    assert net({"keys": {"values": torch.randn(3, 4)}})["values"].shape == (3, 2)


def test_a_network_that_cannot_learn_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "tests.training.harness.network", lambda config, outputs: network(config, outputs).requires_grad_(False)
    )
    with pytest.raises(UserError, match="every parameter of the network is frozen"):
        run(experiment(), tmp_path)
