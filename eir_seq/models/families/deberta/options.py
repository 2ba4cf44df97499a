"""Options of deberta."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.bert.options import EncoderConfig
from eir_seq.models.options import ACTIVATIONS, option, rate, size

KINDS = ("c2p", "p2c")


@dataclass(frozen=True, kw_only=True)
class DisentangledConfig(EncoderConfig):
    """Options that both versions have."""

    type_vocab_size: int = option(0, "number of segment types (token_type_ids); 0: no segment embeddings", minimum=0)
    layer_norm_eps: float = option(1e-7, "added to the variance in layer norms", minimum=0.0)
    max_position_embeddings: int = size(
        512, "rows of the position table, the longest text in tokens where position_biased_input is on"
    )
    relative_attention: bool = option(
        False, "scores also compare contents with distances, with those that pos_att_type names"
    )
    max_relative_positions: int = option(
        -1, "largest distance with its own vectors; max_position_embeddings if below 1", minimum=-1
    )
    position_biased_input: bool = option(True, "vectors of positions are added to those of tokens")
    pos_att_type: list[str] | str | None = option(
        None,
        "what is compared with distances: queries (c2p), keys (p2c); a list or a text such as 'c2p|p2c'; each entry "
        "widens the scale of the scores",
    )
    pooler_dropout: float = rate(0, "dropout on the state that the classification head reads")
    pooler_hidden_act: str = option("gelu", "activation of the classification head's hidden layer", choices=ACTIVATIONS)
    cls_dropout: float | None = rate(None, "dropout of the classification head; hidden_dropout_prob if absent")
    legacy: bool = option(
        True, "the head of hidden tokens has the names of bert's (cls.predictions), else those of lm_predictions"
    )

    @property
    def compared(self) -> tuple[str, ...]:
        """The entries of `pos_att_type`."""
        given = self.pos_att_type or ()
        return tuple(entry.strip() for entry in given.lower().split("|")) if isinstance(given, str) else tuple(given)

    @property
    def max_distance(self) -> int:
        """The largest distance that has its own embedding."""
        given = self.max_relative_positions
        return self.max_position_embeddings if given < 1 else given

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        for entry in self.compared:
            if entry not in (*KINDS, "none"):
                yield "pos_att_type", f"{entry!r} is not one of 'c2p', 'p2c'"
        if len(set(self.compared)) < len(self.compared):
            yield "pos_att_type", f"names an entry twice: {', '.join(self.compared)}"
        if set(KINDS) & set(self.compared) and not self.relative_attention:
            yield "pos_att_type", "needs relative_attention: true"

    def position_limit(self) -> int | None:
        return self.max_position_embeddings if self.position_biased_input else None


@dataclass(frozen=True, kw_only=True)
class DebertaConfig(DisentangledConfig):
    """Options of deberta."""

    model_type: ClassVar[str] = "deberta"

    vocab_size: int = size(50265, "number of tokens in the vocabulary")
    talking_head: bool = option(False, "scores, and again weights, are mixed over the heads by learned matrices")
