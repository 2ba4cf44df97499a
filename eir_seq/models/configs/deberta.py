"""Options of deberta and deberta-v2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.configs.bert import EncoderConfig
from eir_seq.models.options import ACTIVATIONS, layers, option, rate, size

KINDS = ("c2p", "p2c")


@dataclass(frozen=True, kw_only=True)
class DisentangledConfig(EncoderConfig):
    """Options that both versions have."""

    type_vocab_size: int = option(0, "number of segment types (token_type_ids); 0: segments are not told", minimum=0)
    layer_norm_eps: float = option(1e-7, "added to the variance in layer norms", minimum=0.0)
    max_position_embeddings: int = size(
        512, "rows of the position table, the longest text in tokens where position_biased_input is on"
    )
    relative_attention: bool = option(
        False, "scores also compare contents with distances, with those that pos_att_type names"
    )
    max_relative_positions: int = option(
        -1, "farthest distance with vectors of its own; max_position_embeddings if below 1", minimum=-1
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
    def farthest(self) -> int:
        """The farthest distance that is told from nearer ones."""
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


@dataclass(frozen=True, kw_only=True)
class DebertaV2Config(DisentangledConfig):
    """Options of deberta-v2, and those that the released checkpoints of its versions 2 and 3 add."""

    model_type: ClassVar[str] = "deberta-v2"

    vocab_size: int = size(128100, "number of tokens in the vocabulary")
    hidden_size: int = size(1536, "width of the token states")
    num_hidden_layers: int = layers(24, "number of layers")
    num_attention_heads: int = size(24, "attention heads per layer; they divide hidden_size")
    intermediate_size: int = size(6144, "inner width of the feed-forward block")
    position_buckets: int = option(
        -1, "distances from half this number on share vectors on a logarithmic scale; below 1: none do", minimum=-1
    )
    share_att_key: bool = option(False, "distances are projected by the layers' own queries and keys")
    norm_rel_ebd: str = option("none", "norm on the vectors of distances", choices=("none", "layer_norm"))
    conv_kernel_size: int = option(0, "width of a convolution beside the first layer; 0: there is none", minimum=0)
    conv_groups: int = size(1, "groups of channels of that convolution")
    conv_act: str = option("tanh", "activation behind that convolution", choices=ACTIVATIONS)
    attention_head_size: int | None = size(None, "width of a head: hidden_size / num_attention_heads")

    @property
    def buckets(self) -> int | None:
        """Rows of distances for one direction, where distances share rows."""
        return self.position_buckets if self.position_buckets > 0 else None

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        relative = {
            "position_buckets": self.buckets is not None,
            "share_att_key": self.share_att_key,
            "norm_rel_ebd": self.norm_rel_ebd != "none",
        }
        for name in (name for name, given in relative.items() if given and not self.relative_attention):
            yield name, "needs relative_attention: true"
        if self.buckets is not None and not 4 <= self.buckets <= 2 * (self.farthest - 2):
            yield "position_buckets", f"{self.buckets} must be at least 4 and less than twice the farthest distance"
        if self.conv_kernel_size and self.conv_kernel_size % 2 == 0:
            yield "conv_kernel_size", f"{self.conv_kernel_size} must be odd, so that a text keeps its length"
        if self.hidden_size % self.conv_groups:
            yield "conv_groups", f"{self.conv_groups} does not divide hidden_size {self.hidden_size}"
        if self.attention_head_size not in (None, self.hidden_size // self.num_attention_heads):
            yield "attention_head_size", "must be hidden_size / num_attention_heads: the output of heads has that width"
