"""How the weighted sums of attention are computed: eagerly, weights spelled out, or by torch's kernels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from eir_seq.errors import Fault, UserError
from eir_seq.models.layers.attention import spelled_out
from eir_seq.models.layers.build import Configured
from eir_seq.models.layers.dropout import drop
from eir_seq.native import attention as native

EAGER, SDPA, FLASH, FLEX = IMPLEMENTATIONS = ("eager", "sdpa", "flash_attention_2", "flex_attention")
"""Documented names: scores and weights spelled out; torch's choice of a kernel; its flash kernel; FlexAttention."""
ON_GPU = (FLASH, FLEX)
"""Those that compute packed texts on a GPU alone."""
UNMASKED, MASKED = (
    [SDPBackend.FLASH_ATTENTION],
    [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH],
)
"""Kernels that `FLASH` stands for: it knows no masks, which steps of a padded batch with a cache need."""


class DotProduct(Configured):
    """A module that computes softmax(Q K^T) V; `attn_implementation` says how, `implementations` are those it can."""

    attn_implementation = SDPA

    @property
    def implementations(self) -> tuple[str, ...]:
        """What `attn_implementation` may be: by default with masks or biases in every call."""
        return (EAGER, SDPA)

    def _product(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        dropout: float,
        scale: float,
        *,
        causal: bool = False,
    ) -> Tensor:
        """(..., heads, length, head_size) each -> (..., heads, queries, head_size).

        `mask`: bool, True where a query may look, or what is added to scores. `causal`: each query sees the keys up to
        its own place, besides. Fewer heads of keys and values are shared by groups of query heads.
        """
        if self.attn_implementation == EAGER:
            groups = query.shape[-3] // key.shape[-3]
            key, value = (x.repeat_interleave(groups, -3) for x in (key, value))
            scores = query @ key.transpose(-1, -2) * scale
            mask = _with_past(mask, query, key) if causal else mask
            if mask is not None:
                hidden = torch.finfo(scores.dtype).min
                scores = scores.masked_fill(~mask, hidden) if mask.dtype == torch.bool else scores + mask
            return drop(scores.softmax(-1), dropout).to(value.dtype) @ value
        if self.attn_implementation == FLASH:
            refuse_single_precision(query)
            with sdpa_kernel(UNMASKED if mask is None else MASKED, set_priority=True):
                return kernel(query, key, value, mask, dropout, scale, causal=causal)
        return kernel(query, key, value, mask, dropout, scale, causal=causal)


def kernel(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float,
    scale: float,
    *,
    causal: bool,
) -> Tensor:
    """Torch's, or what is faster, see `DotProduct._product`; here a mask may come on top of `causal`."""
    added = mask is None or mask.is_floating_point()
    if query.dim() == 4 and query.shape[2] > 1 and added and native.serves(query, key) and not _sees_nothing(mask):
        return native.batched(query, key, value, mask, causal=causal, dropout=dropout, scale=scale)
    if query.dim() == 4 and spelled_out.serves(query, mask, dropout):
        return spelled_out.attention(query, key, value, mask, dropout, scale, causal=causal)
    if causal and mask is not None:
        mask, causal = _with_past(mask, query, key), False
    shared = bool(query.shape[-3] != key.shape[-3])
    return F.scaled_dot_product_attention(query, key, value, mask, dropout, causal, scale=scale, enable_gqa=shared)


def refuse_single_precision(query: Tensor) -> None:
    """Raises UserError for numbers that the flash kernel does not compute with."""
    if query.dtype not in (torch.float16, torch.bfloat16):
        found = str(query.dtype).removeprefix("torch.")
        message = f"{FLASH!r} computes in float16 or bfloat16, not in {found}"
        raise UserError(Fault("attn_implementation", f"{message}; load with dtype=torch.bfloat16, or autocast"))


def in_dtype(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to scores, in their dtype; its smallest numbers stay finite."""
    if mask.dtype is dtype:
        return mask
    return mask.clamp(min=max(torch.finfo(x).min for x in (dtype, mask.dtype))).to(dtype)


def _with_past(mask: Tensor | None, query: Tensor, key: Tensor) -> Tensor:
    """A mask of both kinds, without what a query of a causal product does not see."""
    past = causal_mask(query, key)
    if mask is None:
        return past
    return mask & past if mask.dtype is torch.bool else mask.masked_fill(~past, torch.finfo(mask.dtype).min)


def _sees_nothing(mask: Tensor | None) -> bool:
    """Whether all scores of some query get the least number: torch weighs its keys alike, native kernels give zeros."""
    return mask is not None and bool((mask.amax(-1) <= torch.finfo(mask.dtype).min / 2).any())


def causal_mask(query: Tensor, key: Tensor) -> Tensor:
    """(queries, keys) bool: each query sees the keys up to its own place; the queries are the last of the keys."""
    queries, keys = query.shape[-2], key.shape[-2]
    return torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril(keys - queries)
