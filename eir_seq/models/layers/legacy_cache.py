"""A cache in the older form of transformers: for each layer a tuple of keys and values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.cache import Cache

Tuples = Sequence[Sequence[Tensor]]
"""For each layer of a decoder, keys and values of the tokens so far, and where it attends to a memory, of that one too;
each (batch, heads, tokens, head_size)."""


def cache_of(past: Tuples, decoder: nn.Module) -> Cache:
    """The cache that holds them for the layers of a decoder.

    Raises:
        ValueError: other layers, tensors of another shape, or a decoder that keeps something else.
    """
    layers: Iterable[nn.Module] = getattr(decoder, "layers", ())
    mixers = [(getattr(layer, "mixer", None), getattr(layer, "cross", None)) for layer in layers]
    if not mixers or not all(isinstance(own, Attention) for own, _ in mixers):
        raise ValueError("past_key_values: this model keeps no keys and values; give what it returned as a cache")
    if len(past) != len(mixers):
        raise ValueError(f"past_key_values has {len(past)} layers, the decoder {len(mixers)}")
    cache = Cache()
    for number, (kept, (own, cross)) in enumerate(zip(past, mixers, strict=True)):
        if len(kept) not in ((2, 4) if cross is not None else (2,)) or any(x.dim() != 4 for x in kept):
            what = "(batch, heads, tokens, head_size) of keys and values"
            twice = ", and those of the memory" if cross is not None else ""
            raise ValueError(f"past_key_values: layer {number} must be tensors {what}{twice}")
        assert isinstance(own, Attention)
        cache.extend(own, kept[0], kept[1])
        if len(kept) == 4:
            assert cross is not None
            cache.keep_memory(cross, kept[2].transpose(1, 2), kept[3].transpose(1, 2))
    cache.length = past[0][0].shape[2]
    return cache
