"""Options of longformer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.configs.bert import CountedPositions
from eir_seq.models.options import option, size


@dataclass(frozen=True, kw_only=True)
class LongformerConfig(CountedPositions):
    """Options of longformer: roberta's encoder with an attention window."""

    model_type: ClassVar[str] = "longformer"

    attention_window: list[int] | int = option(
        512, "tokens that a token sees around itself, half on each side; one even number, or one per layer", minimum=2
    )
    sep_token_id: int = option(2, "id of the separator; questions end with the first one")
    vocab_size: int = size(30522, "number of tokens in the vocabulary")
    layer_norm_eps: float = option(1e-12, "added to the variance in layer norms", minimum=0.0)
    onnx_export: bool = option(False, "kept for published files; exporting needs no switch here", choices=(False,))

    def windows(self) -> tuple[int, ...]:
        """The attention window of each layer."""
        if isinstance(self.attention_window, int):
            return (self.attention_window,) * self.num_hidden_layers
        return tuple(self.attention_window)

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        windows = self.windows()
        if len(windows) != self.num_hidden_layers:
            yield "attention_window", f"has {len(windows)} entries for {self.num_hidden_layers} layers"
        if any(window % 2 for window in windows):
            yield "attention_window", f"{self.attention_window!r}: each window must be even (half on each side)"
