"""T5gemma (https://arxiv.org/abs/2504.06225): encoder and decoder of gemma 2's layers, which may differ in size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.backbones.encoder_decoder import EncoderDecoder, EncoderDecoderPlan
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same, for_layers
from eir_seq.models.families.llama.architecture import GATED, QKV
from eir_seq.models.families.t5gemma.attention import BoundedScorer, ReaderAttention, ReaderScorer, bounded
from eir_seq.models.families.t5gemma.options import T5GemmaConfig, T5GemmaModuleConfig
from eir_seq.models.heads.base import Inputs, Targets
from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.heads.sequence_classification import SequenceClassification, shifted_right
from eir_seq.models.heads.spans_and_tokens import TokenClassification
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.embeddings import Embeddings
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.norms.rms_norm import CenteredRMSNorm
from eir_seq.models.layers.positions.rotary import Rotary
from eir_seq.models.layers.residual import LayerPlan, Sandwich
from eir_seq.models.output import ModelOutput


def _attention(
    c: T5GemmaConfig, side: T5GemmaModuleConfig, window: int | None, *, causal: bool, memory_size: int | None = None
) -> Attention.Config:
    return Attention.Config(
        hidden_size=side.hidden_size,
        num_heads=side.num_attention_heads,
        head_size=side.head_dim,
        num_kv_heads=side.kv_heads,
        memory_size=memory_size,
        bias=side.attention_bias,
        out_bias=side.attention_bias,
        causal=causal,
        scale=side.query_pre_attn_scalar**-0.5,
        dropout=c.attention_dropout,
        rotary=Rotary(base=side.rope_theta),
        window=window,
        scorer=BoundedScorer(side.attn_logit_softcapping),
    )


def _stack(c: T5GemmaConfig, *, decoder: bool) -> StackPlan:
    side = c.decoder_side if decoder else c.encoder_side
    norm = CenteredRMSNorm.Config(eps=side.rms_norm_eps)
    memory_size = c.encoder_side.hidden_size
    return StackPlan(
        embeddings=Embeddings.Config(
            vocab_size=c.vocab_size,
            hidden_size=side.hidden_size,
            scale=side.hidden_size**0.5,
            padding_id=c.pad_token_id,
            dropout=c.dropout_rate,
        ),
        layers=tuple(
            LayerPlan(
                residual=Sandwich,
                hidden_size=side.hidden_size,
                norm=norm,
                mixer=_attention(c, side, window, causal=decoder),
                cross=_attention(c, side, None, causal=False, memory_size=memory_size) if decoder else None,
                mlp=Mlp.Config(
                    hidden_size=side.hidden_size,
                    inner_size=side.intermediate_size,
                    activation=side.hidden_activation,
                    gated=True,
                    bias=False,
                    inner_dropout=c.dropout_rate,
                ),
                dropout=c.dropout_rate,
            )
            for window in side.windows()
        ),
        final_norm=norm,
        final_dropout=c.dropout_rate,
        cached=decoder and side.use_cache,
    )


def _plan(c: T5GemmaConfig) -> EncoderDecoderPlan:
    return EncoderDecoderPlan(encoder=_stack(c, decoder=False), decoder=_stack(c, decoder=True), shared_tokens=False)


def _encoder_plan(c: T5GemmaConfig) -> StackPlan:
    return _stack(c, decoder=False)


class Reader(EncoderDecoder):
    """Reads one text on both sides; its states are those of its decoder, and it keeps nothing."""

    plan: ReaderPlan

    def forward(self, input_ids: Tensor | None = None, *args: Any, **inputs: Any) -> ModelOutput:
        """See `EncoderDecoder.forward`; padding among the decoder's tokens is masked where no mask is given."""
        ids = inputs.get("decoder_input_ids")
        if ids is None and inputs.get("decoder_inputs_embeds") is None and input_ids is not None:
            inputs["decoder_input_ids"] = ids = shifted_right(input_ids, self.plan.start_id, self.plan.padding_id or 0)
        if inputs.get("decoder_attention_mask") is None and ids is not None and self.plan.padding_id is not None:
            inputs["decoder_attention_mask"] = ids != self.plan.padding_id
        output = super().forward(input_ids, *args, **{**inputs, "use_cache": False})
        return ModelOutput.of(
            last_hidden_state=output.last_hidden_state,
            hidden_states=output.decoder_hidden_states,
            attentions=output.decoder_attentions,
        )


@dataclass(frozen=True, kw_only=True)
class ReaderPlan(EncoderDecoderPlan):
    """`start_id`, `padding_id`: what the decoder's tokens begin with, and padding among them."""

    start_id: int | None
    padding_id: int | None

    def build(self) -> Reader:
        """The backbone."""
        return Reader(self)


def _reader_plan(c: T5GemmaConfig) -> EncoderDecoderPlan | StackPlan:
    if not c.is_encoder_decoder:
        return _encoder_plan(c)
    decoder = _stack(c, decoder=True)
    scorer = ReaderScorer(c.decoder_side.attn_logit_softcapping)
    layers = tuple(
        replace(layer, mixer=ReaderAttention.Config(**{**vars(layer.mixer), "scorer": scorer}))  # type: ignore[type-var,attr-defined]
        for layer in decoder.layers
    )
    # padding on the left follows the decoder's first token: left out, it would bring that into others' windows
    sides = {**vars(_plan(c)), "decoder": replace(decoder, layers=layers, packs_right_padding_only=True)}
    return ReaderPlan(**sides, start_id=c.bos_token_id, padding_id=c.pad_token_id)


NORMS = {"self_attn": "mixer", "cross_attn": "cross", "feedforward": "mlp"}


def _side_rows(c: T5GemmaConfig, published: str, native: str, *, decoder: bool) -> Iterator[Row]:
    side = c.decoder_side if decoder else c.encoder_side
    layer, own = published + "layers.{i}.", native + "layers.{i}."
    modules = {**QKV, "self_attn.o_proj": "mixer.out", **GATED}
    if decoder:
        modules |= {
            name.replace("self_attn", "cross_attn"): place.replace("mixer", "cross")
            for name, place in modules.items()
            if name.startswith("self_attn")
        }
    yield Same(f"{published}embed_tokens", f"{native}embeddings.tokens")
    yield from for_layers(
        side.num_hidden_layers,
        *(Same(layer + name, own + place) for name, place in modules.items()),
        *(Same(f"{layer}pre_{name}_layernorm.weight", f"{own}{place}_norm.excess") for name, place in NORMS.items()),
        *(
            Same(f"{layer}post_{name}_layernorm.weight", f"{own}{place}_end_norm.excess")
            for name, place in NORMS.items()
        ),
    )
    yield Same(f"{published}norm.weight", f"{native}final_norm.excess")


def _rows(c: T5GemmaConfig) -> Iterator[Row]:
    yield from _side_rows(c, "encoder.", "encoder.", decoder=False)
    yield from _side_rows(c, "decoder.", "decoder.", decoder=True)


def _encoder_rows(c: T5GemmaConfig) -> Iterator[Row]:
    return _side_rows(c, "encoder.", "", decoder=False)


def _reader_rows(c: T5GemmaConfig) -> Iterator[Row]:
    return _rows(c) if c.is_encoder_decoder else _encoder_rows(c)


class BoundedScores(LanguageModel):
    """Scores of tokens that are bounded."""

    @dataclass(frozen=True, kw_only=True)
    class Config(LanguageModel.Config):
        """`bound`: of the scores; `table`: the side whose table of tokens they are computed with."""

        bound: float | None
        table: str | None

    config: Config

    def tie(self, body: nn.Module) -> None:
        """Score by the token table of a side."""
        if self.config.table is not None:
            self.out.weight = getattr(body, self.config.table).embeddings.tokens.weight

    def scores(self, x: Tensor) -> Tensor:
        """States (..., hidden) -> (..., vocabulary)."""
        return bounded(super().scores(x), self.config.bound)


class LastTokenClassification(SequenceClassification):
    """By the decoder's state at the last real token, which is one place later there."""

    def prepare(self, inputs: Inputs, targets: Targets) -> Inputs:  # noqa: ARG002
        """The end of the text is known by its tokens."""
        if inputs.get("input_ids") is None:
            raise ValueError("give input_ids: this head looks for the end of the text in them")
        return inputs

    def _state(self, output: ModelOutput, inputs: Mapping[str, Any]) -> Tensor:
        ids: Tensor = inputs["input_ids"]
        states: Tensor = output.last_hidden_state
        if self.config.marker_id is None:
            return super()._state(output, inputs)
        places = torch.arange(ids.shape[1], device=ids.device)
        last = (places * (ids != self.config.marker_id)).argmax(-1) + 1
        return states[torch.arange(len(ids), device=ids.device), last.clamp(max=states.shape[1] - 1)]


def _language_model(c: T5GemmaConfig) -> BoundedScores.Config:
    return BoundedScores.Config.of(
        c,
        predicts="target",
        padding_id=c.pad_token_id or 0,
        decoder_start_id=c.bos_token_id,
        bound=c.decoder_side.final_logit_softcapping,
        table=c.head_table,
    )


def _classification(c: T5GemmaConfig) -> SequenceClassification.Config:
    head = LastTokenClassification if c.is_encoder_decoder else SequenceClassification
    return head.Config.of(c, reads="last", dropout=c.classifier_dropout_rate, marker_id=c.pad_token_id)


def _token_classification(c: T5GemmaConfig) -> TokenClassification.Config:
    return TokenClassification.Config.of(c, dropout=c.classifier_dropout_rate)


class NarrowerOutput(Initialization):
    """The more a head predicts, the smaller its weights."""

    def _set(self, module: nn.Module, name: str, parameter: Tensor) -> None:
        super()._set(module, name, parameter)
        if name == "head.out.weight":
            parameter.mul_(len(parameter) ** -0.5)


def _initialization(c: T5GemmaConfig) -> Initialization:
    decoder = c.decoder_side.initializer_range
    stds = {"*.excess": 0.0, "head.*": decoder, "body.decoder.*": decoder}
    return NarrowerOutput(c.encoder_side.initializer_range, stds)


SCORE = (Same("score.out_proj", "out"),)

T5GEMMA = Architecture(
    tasks=declare_tasks(
        "T5Gemma",
        "model",
        _plan,
        _rows,
        {
            "encoder": TaskHead("EncoderModel", None, plan=_encoder_plan, body_rows=_encoder_rows, prefix=""),
            "seq2seq-lm": TaskHead("ForConditionalGeneration", _language_model, (Same("lm_head.out_proj", "out"),)),
            "sequence-classification": TaskHead(
                "ForSequenceClassification", _classification, SCORE, plan=_reader_plan, body_rows=_reader_rows
            ),
            "token-classification": TaskHead(
                "ForTokenClassification", _token_classification, SCORE, plan=_reader_plan, body_rows=_reader_rows
            ),
        },
    ),
    prefixes=("model",),
    initialization=_initialization,
)
