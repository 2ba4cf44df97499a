"""The case of one more token per text, in which a recurrence is one step and nothing is in parallel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eir_seq.models.layers.context import Context


def one_token(mixer: nn.Module, ctx: Context) -> tuple[Tensor, ...] | None:
    """The state that the cache holds for `mixer`, if the pass is over one real token of each text."""
    layout = ctx.layout
    alone = layout.length == 1 and layout.mask is None and not layout.packed and ctx.cache is not None
    if not alone or torch.compiler.is_exporting():
        return None
    assert ctx.cache is not None
    return ctx.cache.state(mixer)
