"""Where operations with hand-written gradients may stand for several of torch's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules import module as shared


def is_eager() -> bool:
    """Whether operations run one by one: they are neither traced into a graph nor transformed by ``torch.func``."""
    return not torch.compiler.is_compiling() and not torch._C._are_functorch_transforms_active()


def is_hooked(module: nn.Module) -> bool:
    """Whether a hook sees what a call of the module gets or gives, so that it has to be called."""
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
        or shared._global_forward_hooks or shared._global_forward_pre_hooks
        or shared._global_backward_hooks or shared._global_backward_pre_hooks
    )  # fmt: skip


def gradients_with_graph(
    compute: Callable[..., Tensor], inputs: Sequence[Tensor | None], needed: Sequence[bool], gradient: Tensor
) -> list[Tensor | None]:
    """Gradients of ``compute(*inputs)``, in plain operations, that can be differentiated again.

    For backward passes by hand, where a graph of them is wanted (``torch.is_grad_enabled()``).
    """
    with torch.enable_grad():
        out = compute(*inputs)
        wanted = [x for x, needs in zip(inputs, needed, strict=True) if needs and x is not None]
        found = iter(torch.autograd.grad(out, wanted, gradient, create_graph=True))
    return [next(found) if needs else None for needs in needed]
