"""Where operations with hand-written gradients may stand for several of torch's."""

from __future__ import annotations

import torch


def is_eager() -> bool:
    """Whether operations run one by one: they are neither traced into a graph nor transformed by ``torch.func``."""
    return not torch.compiler.is_compiling() and not torch._C._are_functorch_transforms_active()
