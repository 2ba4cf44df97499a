"""Options of qwen2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.llama.options import KV_HEADS, LlamaLikeConfig
from eir_seq.models.options import option, size


@dataclass(frozen=True, kw_only=True)
class Qwen2Config(LlamaLikeConfig):
    """Options of qwen2."""

    model_type: ClassVar[str] = "qwen2"

    vocab_size: int = size(151936, "number of tokens in the vocabulary")
    intermediate_size: int = size(22016, "inner width of the feed-forward block")
    num_key_value_heads: int | None = size(32, KV_HEADS)
    max_position_embeddings: int = size(32768, "the longest text in tokens; a rope_scaling may lengthen it")
    bos_token_id: int | None = option(None, "id of the token that begins a text")
    eos_token_id: int | list[int] | None = option(None, "id (or ids) of the token that ends a text")
    use_sliding_window: bool = option(False, "upper layers see sliding_window tokens instead of the whole text")
    sliding_window: int | None = size(
        4096, "sliding window: how many tokens those layers attend to, the current one included"
    )
    max_window_layers: int = option(28, "how many layers from below see the whole text even so", minimum=0)
    layer_types: list[str] | None = option(
        None, "per layer, full_attention or sliding_attention; by max_window_layers if absent"
    )

    def windows(self) -> tuple[int | None, ...]:
        """Per layer, how many tokens are seen; None for the whole text."""
        window = self.sliding_window if self.use_sliding_window else None
        if self.layer_types is not None:
            return tuple(window if kind == "sliding_attention" else None for kind in self.layer_types)
        return tuple(window if i >= self.max_window_layers else None for i in range(self.num_hidden_layers))

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.layer_types is None:
            return
        if len(self.layer_types) != self.num_hidden_layers:
            yield "layer_types", f"has {len(self.layer_types)} entries for {self.num_hidden_layers} layers"
        for kind in sorted({*self.layer_types} - {"full_attention", "sliding_attention"}):
            yield "layer_types", f"{kind!r} is not one of 'full_attention', 'sliding_attention'"
        if "sliding_attention" in self.layer_types and not (self.use_sliding_window and self.sliding_window):
            yield "layer_types", "sliding_attention needs use_sliding_window: true and a sliding_window"
