"""Every architecture on a GPU, as far as a machine without one can tell: devices are not mixed, values stay."""

from __future__ import annotations

import pytest
import torch

from eir_seq.errors import UserError
from eir_seq.models.layers.attention import packed_kernels
from tests.devices.learning import assert_gradients, learned
from tests.devices.simulated import move, moved, on_cpu, simulated_device, values
from tests.models.tiny import EVERY_TASK, loss
from tests.sampled import sampled

WAITING = {
    "aten._to_copy.default to the CPU": "experts need the number of their tokens",
    "aten._local_scalar_dense.default": "checks that raise errors",
    "aten.nonzero.default": "global tokens",
    "aten.index.Tensor": "global tokens, and labels of some rows",
    "aten.index_put_.default": "global tokens",
}


@pytest.mark.parametrize(
    ("model_type", "task"), sampled(EVERY_TASK, 0.05, always=lambda x: x[1] == "base" and x[0] < "e")
)
def test_values_and_gradients_are_those_of_the_cpu(model_type: str, task: str) -> None:
    model, given, expected, gradients = learned(model_type, task)
    with simulated_device() as device:
        move(model)
        output = model(**moved(given))
        waits = set(device.waits)
        found = loss(model, on_cpu(output))
        found.backward()
    assert waits <= set(WAITING)
    torch.testing.assert_close(found.detach(), expected)
    assert_gradients(model, gradients, values, atol=1e-5, rtol=1e-4)


PACKED = [case for case in EVERY_TASK if case != ("xlnet", "base")]  # stays padded, and its loss is of padding, too


@pytest.mark.parametrize(
    ("model_type", "task"), sampled(PACKED, 0.02, always=lambda x: x in (("bert", "base"), ("longformer", "base")))
)
def test_packed_texts_without_a_kernel_for_them(model_type: str, task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """FlexAttention has no dropout, and the flash kernel not all sizes of heads; then texts stay packed."""
    model, given, expected, gradients = learned(model_type, task, pack=True)
    monkeypatch.setattr(packed_kernels, "flex", lambda *_, **__: None)
    with simulated_device():
        try:
            model.set_attn_implementation("flex_attention")
        except UserError:
            pytest.skip("its attention knows no packed texts on a GPU")
        move(model)
        output = model(**moved(given))
        found = loss(model, on_cpu(output))
        found.backward()
    torch.testing.assert_close(found.detach(), expected)
    assert_gradients(model, gradients, values, atol=1e-5, rtol=1e-4)
