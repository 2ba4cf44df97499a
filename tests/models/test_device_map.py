"""A model whose layers are on several devices computes what it does on one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from eir_seq.errors import UserError
from eir_seq.models import from_pretrained
from eir_seq.models.device_map import DeviceMap, Layers, _evenly
from tests.models.tiny import inputs, noisy, tiny

TWO_CPUS = ("cpu", "cpu:0")
"""Two names, so that states and all that layers share are handed over; a machine without a GPU has no two devices."""
DEVICES = [
    TWO_CPUS,
    pytest.param(
        ("cuda:0", "cpu"), marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
    ),
]


def to(device: str, given: dict[str, Any]) -> dict[str, Any]:
    return {name: x.to(device) if isinstance(x, torch.Tensor) else x for name, x in given.items()}


def depth(model: Any) -> int:
    return max(len(part) for name, part in model.named_modules() if name.endswith("layers"))


@pytest.mark.parametrize("pack", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("devices", DEVICES, ids=str)
@pytest.mark.parametrize("model_type", ["bert", "longformer", "mixtral", "mt5", "mvp", "qwen2", "t5gemma", "xlm"])
def test_states_are_the_same(model_type: str, devices: tuple[str, str], pack: bool) -> None:
    model = noisy(tiny(model_type))
    given = inputs(model)
    model.pack = pack
    before = model(**given, output_hidden_states=True)
    first, second = devices
    model.parallelize({first: [0], second: range(1, depth(model))})
    after = model(**to(first, given), output_hidden_states=True)
    for name in ("last_hidden_state", "encoder_last_hidden_state"):
        if before.get(name) is not None:
            torch.testing.assert_close(after[name].cpu(), before[name], atol=1e-5, rtol=1e-5)
    for name in ("hidden_states", "decoder_hidden_states"):
        for moved, stayed in zip(after.get(name) or (), before.get(name) or (), strict=True):
            torch.testing.assert_close(moved.cpu(), stayed, atol=1e-5, rtol=1e-5)
    after.last_hidden_state.square().mean().backward()
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in model.parameters())
    model.deparallelize()
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.equal(model(**given).last_hidden_state, before.last_hidden_state)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("devices", DEVICES, ids=str)
def test_texts_are_the_same(devices: tuple[str, str], beams: int) -> None:
    model: Any = noisy(tiny("mt5", "seq2seq-lm"))
    given = {name: x for name, x in inputs(model).items() if not name.startswith("decoder")}
    before = model.generate(**given, max_new_tokens=6, num_beams=beams)
    model.parallelize({devices[0]: [0, 2], devices[1]: [1]})
    assert torch.equal(model.generate(**to(devices[0], given), max_new_tokens=6, num_beams=beams).cpu(), before)


BAD: dict[str, Layers] = {
    "layer 1 is named twice": {"cpu": [0, 1], "cpu:0": [1, 2]},
    "no device for the layers 1, 2": {"cpu": [0]},
    "there is no layer 3; they are 0 to 2": {"cpu": [0, 1, 2, 3]},
}


@pytest.mark.parametrize("message", BAD)
def test_maps_that_cannot_be(message: str) -> None:
    with pytest.raises(UserError, match=f"device_map: {message}"):
        tiny("mt5").parallelize(BAD[message])


def test_layers_are_divided_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="there are no GPUs"):
            tiny("mt5").parallelize()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    divided = {device: list(numbers) for device, numbers in _evenly(6).items()}
    assert divided == {0: [0, 1], 1: [2, 3], 2: [4, 5]}


@pytest.fixture
def published(tmp_path: Path) -> Path:
    noisy(tiny("mt5", "seq2seq-lm")).save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("where", ["cpu", torch.device("cpu"), {"": "cpu"}, {"cpu": [0, 2], "cpu:0": [1]}, "auto"])
def test_weights_are_loaded_to_where_they_belong(
    published: Path, where: DeviceMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    model: Any = from_pretrained(published, device_map=where)
    assert model.device.type == "cpu"
    assert bool(model._parallel) == (isinstance(where, dict) and "" not in where)
    given = {name: x for name, x in inputs(model).items() if not name.startswith("decoder")}
    before: Any = from_pretrained(published)
    assert torch.equal(model.generate(**given, max_new_tokens=4), before.generate(**given, max_new_tokens=4))


@pytest.mark.parametrize("count", [1, 3])
def test_gpus_share_what_is_loaded(published: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU, where weights go is all that can be seen."""
    moved: list[Any] = []

    def to(module: torch.nn.Module, where: Any) -> torch.nn.Module:
        moved.append(where)
        return module

    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.nn.Module, "to", to)
    for where in ("auto", "balanced"):
        moved.clear()
        model: Any = from_pretrained(published, device_map=where)
        devices = [device for device in moved if isinstance(device, torch.device)]
        assert {device.index for device in devices} == set(range(count))
        assert [device.index for device in model._parallel.devices] == [0, 1, 2] if count > 1 else not model._parallel


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("sequential", "'sequential' is no device ('auto', 'balanced', 'cpu', 'cuda', 'cuda:1', 'mps' ...)"),
        ("blanced", "'blanced' is no device .*; did you mean 'balanced'"),
        ("cuda:0", "there is no cuda:0; this machine has 0 GPUs"),
        (2, "there is no cuda:2; this machine has 0 GPUs"),
        ("balanced", "there is no cuda:0; this machine has 0 GPUs"),
        ("meta", "'meta' holds no numbers, so nothing could be loaded"),
        ({"shared": 0, "encoder": 0}, "names modules; say which device has which layers, e.g. {0: [0, 1, 2]"),
        ({"cpu": [0]}, "no device for the layers 1, 2"),
    ],
)
def test_where_weights_cannot_be(
    published: Path, where: DeviceMap, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match=f"^device_map: {re.escape(message) if '.*' not in message else message}"):
        from_pretrained(published, device_map=where)
