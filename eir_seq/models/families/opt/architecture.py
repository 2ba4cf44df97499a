"""Opt (https://arxiv.org/abs/2205.01068), and what biogpt and xglm share with it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same, for_layers
from eir_seq.models.families.gpt2.heads import last_token_classification, next_token
from eir_seq.models.families.opt.options import OPTConfig
from eir_seq.models.heads.spans_and_tokens import QuestionAnswering
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.build import Sized
from eir_seq.models.layers.embeddings import Embeddings
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.linear import Linear
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.positions.absolute import LearnedPositions
from eir_seq.models.layers.positions.position_ids import MaskPositionIds
from eir_seq.models.layers.residual import LayerPlan, PostNorm, PreNorm

OFFSET = 2
"""Rows of the position table before that of position 0; the second one is for masked tokens."""

CAUSAL_LM = TaskHead("ForCausalLM", next_token, (Same("lm_head", "out"),))

CLASSIFICATION = TaskHead("ForSequenceClassification", last_token_classification, (Same("score", "out"),))


def toolkit_rows(count: int, front: str = "", own: str = "") -> Iterator[Row]:
    """The key map of the layers and of the token table; `front` and `own` precede published and native names."""
    yield Same(f"{front}embed_tokens", f"{own}embeddings.tokens")
    prefix, native = f"{front}layers.{{i}}.", f"{own}layers.{{i}}."
    attentions = (
        (f"{prefix}self_attn", f"{native}mixer"),
        (f"{prefix}encoder_attn", f"{native}cross"),
    )
    yield from for_layers(
        count,
        *(
            Same(f"{published}.{name}_proj", f"{own}.{part}")
            for published, own in attentions
            for name, part in (("q", "query"), ("k", "key"), ("v", "value"), ("out", "out"))
        ),
        *(Same(f"{published}_layer_norm", f"{own}_norm") for published, own in attentions),
        Same(f"{prefix}fc1", f"{native}mlp.up"),
        Same(f"{prefix}fc2", f"{native}mlp.down"),
        Same(f"{prefix}final_layer_norm", f"{native}mlp_norm"),
    )


class WidenedTokens(Embeddings):
    """Token vectors of another width, projected before positions are added."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Embeddings.Config):
        """`narrow`: width of the token table."""

        narrow: int

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.tokens = nn.Embedding(config.vocab_size, config.narrow, padding_idx=config.padding_id)
        self.widen = Linear(config.narrow, config.hidden_size, bias=False)

    def token_vectors(self, ids: Tensor | None, vectors: Tensor | None, segments: Tensor | None) -> Tensor:
        """Token ids (...) or vectors (..., narrow) -> (..., size)."""
        widened: Tensor = self.widen(super().token_vectors(ids, vectors, segments))
        return widened


@dataclass(frozen=True, kw_only=True)
class PlainNorm:
    """A layer norm without parameters."""

    def build(self, size: int) -> nn.Module:
        """A norm of states of width `size`."""
        return nn.LayerNorm(size, elementwise_affine=False)


@dataclass(frozen=True, kw_only=True)
class Narrowing:
    """What follows the last layer: an optional norm, and a linear layer to the width of the token table."""

    norm: Sized | None
    size: int

    def build(self, size: int) -> nn.Module:
        """A module for states of width `size`."""
        parts = {"norm": self.norm.build(size)} if self.norm else {}
        return nn.Sequential(OrderedDict({**parts, "project": Linear(size, self.size, bias=False)}))


@dataclass(frozen=True, kw_only=True)
class NarrowedPlan(StackPlan):
    """A stack whose last states have another width."""

    last_size: int

    @property
    def hidden_size(self) -> int:
        """Width of the last states."""
        return self.last_size


def opt_plan(c: OPTConfig) -> StackPlan:
    """Learned positions of the tokens that are not masked; tokens and last states may be narrower than the layers."""
    norm: Sized = LayerNorm.Config() if c.layer_norm_elementwise_affine else PlainNorm()
    last = norm if c.do_layer_norm_before and not c._remove_final_layer_norm else None
    layer = LayerPlan(
        residual=PreNorm if c.do_layer_norm_before else PostNorm,
        hidden_size=c.hidden_size,
        norm=norm,
        mixer=Attention.Config(
            hidden_size=c.hidden_size,
            num_heads=c.num_attention_heads,
            bias=c.enable_bias,
            out_bias=c.enable_bias,
            causal=True,
            dropout=c.attention_dropout,
        ),
        mlp=Mlp.Config(
            hidden_size=c.hidden_size, inner_size=c.ffn_dim, activation=c.activation_function, bias=c.enable_bias
        ),
        dropout=c.dropout,
        skipped=c.layerdrop,
    )
    tables: dict[str, Any] = {
        "vocab_size": c.vocab_size,
        "hidden_size": c.hidden_size,
        "positions": LearnedPositions.Config(
            count=c.max_position_embeddings, numbering=MaskPositionIds(), offset=OFFSET
        ),
        "padding_id": c.pad_token_id,
    }
    narrow = c.width != c.hidden_size
    return NarrowedPlan(
        embeddings=WidenedTokens.Config(**tables, narrow=c.width) if narrow else Embeddings.Config(**tables),
        layers=(layer,) * c.num_hidden_layers,
        final_norm=Narrowing(norm=last, size=c.width) if narrow else last,
        last_size=c.width,
        cached=c.use_cache,
    )


def opt_rows(c: OPTConfig) -> Iterator[Row]:
    """The key map of the body."""
    yield from toolkit_rows(c.num_hidden_layers, "decoder.")
    yield Same("decoder.embed_positions", "embeddings.positions")
    yield Same("decoder.project_in", "embeddings.widen")
    yield Same("decoder.project_out", "final_norm.project")
    yield Same("decoder.final_layer_norm", "final_norm" if c.width == c.hidden_size else "final_norm.norm")


OPT = Architecture(
    tasks=declare_tasks(
        "OPT",
        "model",
        opt_plan,
        opt_rows,
        {
            "causal-lm": CAUSAL_LM,
            "sequence-classification": CLASSIFICATION,
            "question-answering": TaskHead(
                "ForQuestionAnswering", QuestionAnswering.Config.of, (Same("qa_outputs", "out"),)
            ),
        },
    ),
    prefixes=("model",),
    initialization=lambda c: Initialization(c.init_std),
)
