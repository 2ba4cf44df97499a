"""T5 (https://arxiv.org/abs/1910.10683) and mt5 (https://arxiv.org/abs/2010.11934)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.backbones.encoder_decoder import EncoderDecoderPlan
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same, for_layers
from eir_seq.models.families.t5.options import LikeT5, T5Config
from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.heads.sequence_classification import SequenceClassification, shifted_right
from eir_seq.models.heads.spans_and_tokens import QuestionAnswering, TokenClassification
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.embeddings import Embeddings
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.norms.rms_norm import RMSNorm
from eir_seq.models.layers.positions.relative import RelativeBuckets
from eir_seq.models.layers.residual import LayerPlan, PreNorm


def t5_attention(c: LikeT5, *, causal: bool = False, cross: bool = False) -> Attention.Config:
    """Attention without biases and without scaling of the scores."""
    return Attention.Config(
        hidden_size=c.d_model,
        num_heads=c.num_heads,
        head_size=c.d_kv,
        memory_size=c.d_model if cross else None,
        bias=False,
        out_bias=False,
        causal=causal,
        scale=1.0,
        dropout=c.dropout_rate,
    )


def t5_stack(c: LikeT5, *, decoder: bool) -> StackPlan:
    """One side: pre-norm with RMS norms and a final norm, one table of relative biases for all layers."""
    norm = RMSNorm.Config(eps=c.layer_norm_epsilon)
    layer = LayerPlan(
        residual=PreNorm,
        hidden_size=c.d_model,
        norm=norm,
        mixer=t5_attention(c, causal=decoder),
        cross=t5_attention(c, cross=True) if decoder else None,
        mlp=Mlp.Config(
            hidden_size=c.d_model,
            inner_size=c.d_ff,
            activation=c.activation(),
            gated=c.gated(),
            bias=False,
            inner_dropout=c.dropout_rate,
        ),
        dropout=c.dropout_rate,
    )
    return StackPlan(
        embeddings=Embeddings.Config(vocab_size=c.vocab_size, hidden_size=c.d_model, dropout=c.dropout_rate),
        layers=(layer,) * c.layers(decoder=decoder),
        final_norm=norm,
        final_dropout=c.dropout_rate,
        score_bias=RelativeBuckets.Config(
            num_buckets=c.relative_attention_num_buckets,
            max_distance=c.relative_attention_max_distance,
            num_heads=c.num_heads,
            bidirectional=not decoder,
        ),
        cached=decoder and c.use_cache,
    )


def t5_plan(c: T5Config) -> EncoderDecoderPlan:
    """Encoder and decoder with one token table."""
    return EncoderDecoderPlan(encoder=t5_stack(c, decoder=False), decoder=t5_stack(c, decoder=True))


def t5_reader_plan(c: T5Config) -> EncoderDecoderPlan:
    """The same for one text: the decoder reads it, too, where it is given no other."""
    shift = partial(shifted_right, start_id=_decoder_start(c), padding_id=c.pad_token_id or 0)
    return replace(t5_plan(c), shift=shift)


def t5_encoder_plan(c: T5Config) -> StackPlan:
    """The encoder alone."""
    return t5_stack(c, decoder=False)


def t5_side_rows(c: LikeT5, published: str, native: str, *, decoder: bool) -> Iterator[Row]:
    """The key map of one side."""
    count = c.layers(decoder=decoder)
    block, layer = published + "block.{i}.layer.", native + "layers.{i}."
    yield Same(f"{published}block.0.layer.0.SelfAttention.relative_attention_bias", f"{native}score_bias.table")
    for place, name, mixer in ((0, "SelfAttention", "mixer"), (1, "EncDecAttention", "cross"))[: 1 + decoder]:
        yield from for_layers(
            count,
            Same(f"{block}{place}.layer_norm", f"{layer}{mixer}_norm"),
            Same(f"{block}{place}.{name}.q", f"{layer}{mixer}.query"),
            Same(f"{block}{place}.{name}.k", f"{layer}{mixer}.key"),
            Same(f"{block}{place}.{name}.v", f"{layer}{mixer}.value"),
            Same(f"{block}{place}.{name}.o", f"{layer}{mixer}.out"),
        )
    feed_forward = f"{block}{1 + decoder}."
    up = (("wi_0", "gate"), ("wi_1", "up")) if c.gated() else (("wi", "up"),)
    yield from for_layers(
        count,
        Same(feed_forward + "layer_norm", layer + "mlp_norm"),
        *(Same(f"{feed_forward}DenseReluDense.{name}", f"{layer}mlp.{part}") for name, part in (*up, ("wo", "down"))),
    )
    yield Same(published + "final_layer_norm", native + "final_norm")


def t5_rows(c: T5Config) -> Iterator[Row]:
    """The key map of both sides."""
    for name in ("shared", "encoder.embed_tokens", "decoder.embed_tokens"):  # one table; files hold any of its names
        yield Same(name, "encoder.embeddings.tokens")
    yield from t5_side_rows(c, "encoder.", "encoder.", decoder=False)
    yield from t5_side_rows(c, "decoder.", "decoder.", decoder=True)


def t5_encoder_rows(c: T5Config) -> Iterator[Row]:
    """The key map of the encoder alone."""
    for name in ("shared", "encoder.embed_tokens"):
        yield Same(name, "embeddings.tokens")
    yield from t5_side_rows(c, "encoder.", "", decoder=False)


def _decoder_start(c: LikeT5) -> int:
    return next(value for value in (c.decoder_start_token_id, c.pad_token_id, 0) if value is not None)


def _classification(c: T5Config) -> SequenceClassification.Config:
    return SequenceClassification.Config.of(
        c,
        reads="last-eos",
        dense="tanh",
        dense_dropout=c.classifier_dropout,
        dropout=c.classifier_dropout,
        marker_id=c.eos_token_id,
    )


def _token_classification(c: T5Config) -> TokenClassification.Config:
    return TokenClassification.Config.of(c, dropout=c.classifier_dropout)


def t5_language_model(c: LikeT5, head: type[LanguageModel] = LanguageModel, **own: Any) -> LanguageModel.Config:
    """Scores of a target's tokens by `head`; `own`: what else its config has."""
    return head.Config.of(
        c,
        predicts="target",
        scale=c.d_model**-0.5 if c.tie_word_embeddings else 1.0,
        padding_id=c.pad_token_id or 0,
        decoder_start_id=_decoder_start(c),
        **own,
    )


def t5_initialization(c: LikeT5) -> Initialization:
    """Deviations by the width that each weight reads, so that unscaled scores start near one."""
    factor, width = c.initializer_factor, c.d_model**-0.5
    heads = (c.num_heads * c.d_kv) ** -0.5
    return Initialization(
        factor * width,
        {
            "*.embeddings.tokens.weight": factor,
            "head.out.weight": factor,
            "*.query.weight": factor * width * c.d_kv**-0.5,
            "*.mixer.out.weight": factor * heads,
            "*.cross.out.weight": factor * heads,
            "*.mlp.down.weight": factor * c.d_ff**-0.5,
        },
    )


LANGUAGE_MODEL = TaskHead("ForConditionalGeneration", t5_language_model, (Same("lm_head", "out"),))
ENCODER = TaskHead("EncoderModel", None, plan=t5_encoder_plan, body_rows=t5_encoder_rows)
HEADS = {
    "encoder": ENCODER,
    "seq2seq-lm": LANGUAGE_MODEL,
    "sequence-classification": TaskHead(
        "ForSequenceClassification",
        _classification,
        (Same("classification_head.dense", "dense"), Same("classification_head.out_proj", "out")),
        plan=t5_reader_plan,
        prefix="transformer",
    ),
    "token-classification": TaskHead(
        "ForTokenClassification",
        _token_classification,
        (Same("classifier", "out"),),
        plan=t5_encoder_plan,
        body_rows=t5_encoder_rows,
        prefix="transformer",
    ),
    "question-answering": TaskHead(
        "ForQuestionAnswering", QuestionAnswering.Config.of, (Same("qa_outputs", "out"),), plan=t5_reader_plan
    ),
}


def t5_architecture(family: str) -> Architecture:
    """An architecture of t5's plan, under its own options."""
    return Architecture(
        tasks=declare_tasks(family, "", t5_plan, t5_rows, HEADS),
        prefixes=("transformer",),
        initialization=t5_initialization,
        ignored=(r"^decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias",),
    )


T5 = t5_architecture("T5")
MT5 = t5_architecture("MT5")
