"""Options of longformer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.roberta.options import CountedPositions
from eir_seq.models.options import ModelConfig, option, size


@dataclass(frozen=True, kw_only=True)
class Windowed(ModelConfig):
    """Options of encoders with an attention window."""

    windowed_layers: ClassVar[str] = "num_hidden_layers"
    """The option that says how many layers have one."""

    attention_window: list[int] | int = option(
        512, "tokens that a token sees around itself, half on each side; one even number, or one per layer", minimum=2
    )

    attention_dilation: list[int] | int = option(
        1,
        "distance of the tokens that a window holds; gaps need a kernel that torch does not have, so none but 1 can be",
        minimum=1,
    )

    def windows(self) -> tuple[int, ...]:
        """The attention window of each layer."""
        if isinstance(self.attention_window, int):
            return (self.attention_window,) * self._layers()
        return tuple(self.attention_window)

    def _layers(self) -> int:
        return int(getattr(self, self.windowed_layers))

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        dilation = self.attention_dilation
        if any(step != 1 for step in ([dilation] if isinstance(dilation, int) else dilation)):
            yield (
                "attention_dilation",
                f"{dilation}: windows with gaps need a kernel that torch does not have, and no released weights use "
                "them; widen attention_window instead (1: no gaps)",
            )
        windows = self.windows()
        if len(windows) != self._layers():
            yield "attention_window", f"has {len(windows)} entries for {self._layers()} layers"
        if any(window % 2 for window in windows):
            yield "attention_window", f"{self.attention_window!r}: each window must be even (half on each side)"


@dataclass(frozen=True, kw_only=True)
class LongformerConfig(Windowed, CountedPositions):
    """Options of longformer: roberta's encoder with an attention window."""

    model_type: ClassVar[str] = "longformer"

    sep_token_id: int = option(2, "id of the separator; questions end with the first one")
    vocab_size: int = size(30522, "number of tokens in the vocabulary")
    layer_norm_eps: float = option(1e-12, "added to the variance in layer norms", minimum=0.0)
    onnx_export: bool = option(False, "kept for published files; exporting needs no switch here", choices=(False,))
