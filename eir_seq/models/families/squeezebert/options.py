"""Options of squeezebert."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.bert.options import EncoderConfig
from eir_seq.models.options import option, size


@dataclass(frozen=True, kw_only=True)
class SqueezeBertConfig(EncoderConfig):
    """Options of squeezebert."""

    model_type: ClassVar[str] = "squeezebert"

    layer_norm_eps: float = option(
        1e-12,
        "added to the variance in the norms of embeddings and heads; those of layers always add 1e-12",
        minimum=0.0,
    )
    embedding_size: int = size(768, "width of the tables, which must be hidden_size")
    q_groups: int = size(4, "groups of channels in the projection to queries")
    k_groups: int = size(4, "groups of channels in the projection to keys")
    v_groups: int = size(4, "groups of channels in the projection to values")
    post_attention_groups: int = size(1, "groups of channels in the output projection of attention")
    intermediate_groups: int = size(4, "groups of channels in the first layer of the feed-forward block")
    output_groups: int = size(4, "groups of channels in the second layer of the feed-forward block")

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.embedding_size != self.hidden_size:
            yield "embedding_size", f"{self.embedding_size} must be hidden_size {self.hidden_size}"
        wide = ("intermediate_groups", "output_groups")
        for name in ("q_groups", "k_groups", "v_groups", "post_attention_groups", *wide):
            widths = ("hidden_size", "intermediate_size") if name in wide else ("hidden_size",)
            for width in (width for width in widths if getattr(self, width) % getattr(self, name)):
                yield name, f"{getattr(self, name)} does not divide {width} {getattr(self, width)}"
