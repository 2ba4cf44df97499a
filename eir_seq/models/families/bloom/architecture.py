"""Bloom (https://arxiv.org/abs/2211.05100)."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Fused, Row, Same, for_layers
from eir_seq.models.families.bloom.options import BloomConfig
from eir_seq.models.families.gpt2.heads import last_token_classification, next_token
from eir_seq.models.heads.spans_and_tokens import QuestionAnswering, TokenClassification
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.embeddings import Embeddings
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.positions.alibi import Alibi
from eir_seq.models.layers.residual import Layer, LayerPlan, PreNorm
from eir_seq.models.options import ModelConfig


def _token_classification(c: ModelConfig) -> TokenClassification.Config:
    return TokenClassification.Config.of(c, dropout=getattr(c, "hidden_dropout", 0.1))


HEADS = {
    "causal-lm": TaskHead("ForCausalLM", next_token, (Same("lm_head", "out"),)),
    "sequence-classification": TaskHead(
        "ForSequenceClassification", last_token_classification, (Same("score", "out"),)
    ),
    "token-classification": TaskHead("ForTokenClassification", _token_classification, (Same("classifier", "out"),)),
    "question-answering": TaskHead("ForQuestionAnswering", QuestionAnswering.Config.of, (Same("qa_outputs", "out"),)),
}


class NormedResidual(Layer):
    """Norm before each sublayer; what is added to is normed too."""

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        """States of the context's layout -> the same."""
        x = self.mixer_norm(x)
        x = self.mlp_norm(x + self.mixer_dropout(self.mixer(x, ctx)))
        return x + self.dropout(self.mlp(x))


def bloom_plan(c: BloomConfig) -> StackPlan:
    """Normed token vectors, pre-norm layers, a final norm."""
    norm = LayerNorm.Config(eps=c.layer_norm_epsilon)
    layer = LayerPlan(
        residual=NormedResidual if c.apply_residual_connection_post_layernorm else PreNorm,
        hidden_size=c.hidden_size,
        norm=norm,
        mixer=Attention.Config(
            hidden_size=c.hidden_size, num_heads=c.n_head, causal=True, dropout=c.attention_dropout, alibi=Alibi()
        ),
        mlp=Mlp.Config(hidden_size=c.hidden_size, inner_size=4 * c.hidden_size, activation="gelu_pytorch_tanh"),
        dropout=c.hidden_dropout,
    )
    return StackPlan(
        embeddings=Embeddings.Config(vocab_size=c.vocab_size, hidden_size=c.hidden_size, norm=norm),
        layers=(layer,) * c.n_layer,
        final_norm=norm,
        cached=c.use_cache,
    )


def bloom_rows(c: BloomConfig) -> Iterator[Row]:
    """The key map of the body."""
    yield Same("word_embeddings", "embeddings.tokens")
    yield Same("word_embeddings_layernorm", "embeddings.norm")
    published, native = "h.{i}.", "layers.{i}."
    mixer = f"{native}mixer."
    yield from for_layers(
        c.n_layer,
        Same(f"{published}input_layernorm", f"{native}mixer_norm"),
        Fused(
            f"{published}self_attention.query_key_value",
            (f"{mixer}query", f"{mixer}key", f"{mixer}value"),
            groups=c.n_head,
        ),
        Same(f"{published}self_attention.dense", f"{mixer}out"),
        Same(f"{published}post_attention_layernorm", f"{native}mlp_norm"),
        Same(f"{published}mlp.dense_h_to_4h", f"{native}mlp.up"),
        Same(f"{published}mlp.dense_4h_to_h", f"{native}mlp.down"),
    )
    yield Same("ln_f", "final_norm")


BLOOM = Architecture(
    tasks=declare_tasks("Bloom", "transformer", bloom_plan, bloom_rows, HEADS),
    prefixes=("transformer",),
    initialization=lambda c: Initialization(c.initializer_range),
)
