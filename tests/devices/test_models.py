"""Every architecture on a GPU, as far as a machine without one can tell: devices are not mixed, values stay."""

from __future__ import annotations

import pytest
import torch

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
