"""A model whose layers are on several devices computes what it does on one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from eir_seq.errors import UserError
from eir_seq.models.spread import _evenly
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


BAD = {
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
