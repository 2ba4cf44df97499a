"""What an architecture learns on the CPU, for a device to repeat."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.testing import assert_close

from eir_seq.models.model import Model
from tests.models.tiny import Inputs, inputs, loss, noisy, targets, tiny


def learned(model_type: str, task: str = "base", *, pack: bool = False) -> tuple[Model, Inputs, Tensor, Inputs]:
    """A model without gradients, its inputs and targets, and what the CPU found: the loss and gradients."""
    model = noisy(tiny(model_type, task))
    model.pack = pack
    given = {**inputs(model), **targets(model)}
    expected = loss(model, model(**given))
    expected.backward()
    gradients = {name: x.grad.clone() for name, x in model.named_parameters() if x.grad is not None}
    model.zero_grad()
    return model, given, expected.detach(), gradients


def assert_gradients(
    model: Model, gradients: Inputs, read: Callable[[Tensor], Tensor], atol: float, rtol: float
) -> None:
    """The gradients of the model, copied to the CPU by `read`, are these."""
    for name, expected in gradients.items():
        found = model.get_parameter(name).grad
        assert found is not None, name
        assert_close(read(found), expected, atol=atol, rtol=rtol, msg=name)
