"""Options of deberta-v2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.deberta.options import DisentangledConfig
from eir_seq.models.options import ACTIVATIONS, layers, option, size


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
    conv_kernel_size: int = option(0, "kernel size of a convolution parallel to the first layer; 0: none", minimum=0)
    conv_groups: int = size(1, "groups of channels of that convolution")
    conv_act: str = option("tanh", "activation after that convolution", choices=ACTIVATIONS)
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
        if self.buckets is not None and not 4 <= self.buckets <= 2 * (self.max_distance - 2):
            yield "position_buckets", f"{self.buckets} must be at least 4 and less than twice the farthest distance"
        if self.conv_kernel_size and self.conv_kernel_size % 2 == 0:
            yield "conv_kernel_size", f"{self.conv_kernel_size} must be odd, so that a text keeps its length"
        if self.hidden_size % self.conv_groups:
            yield "conv_groups", f"{self.conv_groups} does not divide hidden_size {self.hidden_size}"
        if self.attention_head_size not in (None, self.hidden_size // self.num_attention_heads):
            yield "attention_head_size", "must be hidden_size / num_attention_heads: the output of heads has that width"
