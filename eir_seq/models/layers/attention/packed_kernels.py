"""Kernels that know where each of several packed texts begins: one call, no padding, no copies of keys.

They compute on a GPU: torch's flash attention for texts of varying length (https://arxiv.org/abs/2307.08691), its
attention of nested tensors, which has dropout, and FlexAttention (https://arxiv.org/abs/2412.05496), which adds biases.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.models.layers.positions.relative import DistanceBias

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

LARGEST_HEAD = 256
"""Sizes of heads that the flash kernel knows are multiples of eight up to this."""
LEAST_HEAD = 16
"""The smallest size of heads that FlexAttention knows on a GPU."""


def flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_lengths: Sequence[int],
    key_lengths: Sequence[int],
    *,
    causal: bool,
    window: int | None,
    dropout: float,
    scale: float,
) -> Tensor | None:
    """See `packed_attention`; None for what torch's flash kernels do not compute.

    These are odd sizes of heads and, with dropout, windows and empty texts.
    """
    if query.shape[-1] > LARGEST_HEAD or query.shape[-1] % 8:
        return None
    ends, key_ends = (_ends(tuple(lengths), query.device) for lengths in (query_lengths, key_lengths))
    longest, most_keys = max(query_lengths), max(key_lengths)
    if not dropout and (varlen_attn := _varlen_attn()) is not None:
        reach = -1 if window is None else window - 1
        found: Tensor = varlen_attn(
            query,
            key,
            value,
            ends,
            key_ends,
            longest,
            most_keys,
            scale=scale,
            window_size=(reach, 0 if causal else reach),
            enable_gqa=query.shape[1] != key.shape[1],
        )
        return found
    if (window is not None and window < max(longest, most_keys)) or not (all(query_lengths) and all(key_lengths)):
        return None
    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, 1) if groups > 1 else x for x in (key, value))
    q = _nested(query, ends, query_lengths)
    k, v = (_nested(x, key_ends, key_lengths) for x in (key, value))
    mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=causal, scale=scale)
    return mixed.transpose(1, 2).values()


def flex(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_lengths: Sequence[int],
    key_lengths: Sequence[int],
    *,
    causal: bool,
    window: int | None,
    bias: DistanceBias | None,
    scale: float,
) -> Tensor | None:
    """See `packed_attention`, with a bias by distance and without dropout; None for heads too small for a GPU."""
    if query.shape[-1] < LEAST_HEAD and query.device.type != "cpu":
        return None
    blocks, places, key_places = _blocks(tuple(query_lengths), tuple(key_lengths), causal, window, query.device)
    heads, biased = query.shape[1], None
    if bias is not None:
        values, origin = bias.values.expand(heads, -1), bias.origin

        def biased(score: Tensor, _: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
            return score + values[head, key_places[k] - places[q] + origin]

    q, k, v = (x.transpose(0, 1)[None] for x in (query, key, value))
    how: dict[str, Any] = {"block_mask": blocks, "scale": scale, "enable_gqa": heads != key.shape[1]}
    mixed: Tensor = _flex_of(query.device.type)(q, k, v, score_mod=biased, **how)
    return mixed[0].transpose(0, 1)


def _varlen_attn() -> Callable[..., Any] | None:
    """Torch's function, in versions in which it has windows, scales and shared heads."""
    from torch.nn.attention.varlen import varlen_attn

    return varlen_attn if "window_size" in inspect.signature(varlen_attn).parameters else None


@lru_cache(maxsize=2)
def _flex_of(device: str) -> Any:
    """Compiled where a GPU computes; elsewhere all pairs are spelled out, which serves to compare."""
    from torch.nn.attention.flex_attention import flex_attention

    return flex_attention if device == "cpu" else torch.compile(flex_attention, dynamic=True)


@lru_cache(maxsize=32)
@torch.inference_mode(mode=False)  # what is kept serves training, too
def _ends(lengths: tuple[int, ...], device: torch.device) -> Tensor:
    """(texts + 1,) int32: where each text begins, and the last one ends."""
    return torch.tensor([*accumulate(lengths, initial=0)], dtype=torch.int32).to(device, non_blocking=True)


def _nested(x: Tensor, ends: Tensor, lengths: Sequence[int]) -> Tensor:
    """(tokens, heads, head_size) -> a nested tensor (texts, heads, *, head_size)."""
    nested = torch.nested.nested_tensor_from_jagged(x, ends, min_seqlen=min(lengths), max_seqlen=max(lengths))
    return nested.transpose(1, 2)


@lru_cache(maxsize=16)
@torch.inference_mode(mode=False)
def _blocks(
    query_lengths: tuple[int, ...],
    key_lengths: tuple[int, ...],
    causal: bool,
    window: int | None,
    device: torch.device,
) -> tuple[BlockMask, Tensor, Tensor]:
    """Which blocks of keys the queries see, and the place of each query and of each key in its text."""
    from torch.nn.attention.flex_attention import create_block_mask

    (texts, places), (key_texts, key_places) = (_places(x, device) for x in (query_lengths, key_lengths))

    def visible(_: Tensor, __: Tensor, q: Tensor, k: Tensor) -> Tensor:
        apart = key_places[k] - places[q]
        seen = texts[q] == key_texts[k]
        if window is not None:
            seen = seen & (apart > -window) & (apart < window)
        return seen & (apart <= 0) if causal else seen

    blocks = create_block_mask(visible, None, None, len(texts), len(key_texts), device=device)
    return blocks, places, key_places


def _places(lengths: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """(tokens,) each: the number of a token's text, and the token's place in it."""
    texts = torch.repeat_interleave(torch.tensor(lengths))
    places = torch.cat([torch.arange(length) for length in lengths])
    return texts.to(device), places.to(device)
