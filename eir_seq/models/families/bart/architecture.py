"""Bart and similar encoder-decoders, which differ in norms, positions and classes.

Bart (https://arxiv.org/abs/1910.13461), mbart (https://arxiv.org/abs/2001.08210), plbart
(https://arxiv.org/abs/2103.06333), blenderbot and blenderbot-small (https://arxiv.org/abs/2004.13637), pegasus
(https://arxiv.org/abs/1912.08777), marian (https://arxiv.org/abs/1804.00344).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from eir_seq.models.architecture import Architecture, Task, TaskHead, declare_tasks
from eir_seq.models.backbones.encoder_decoder import EncoderDecoderPlan
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Computed, Row, Same
from eir_seq.models.families.bart.options import LikeBart
from eir_seq.models.families.opt.architecture import OFFSET, toolkit_rows
from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.heads.linear_nll import Factors
from eir_seq.models.heads.sequence_classification import SequenceClassification, shifted_right
from eir_seq.models.heads.spans_and_tokens import QuestionAnswering
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.build import Part
from eir_seq.models.layers.embeddings import Embeddings
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.positions.absolute import LearnedPositions, PositionsConfig, SinesThenCosines
from eir_seq.models.layers.residual import Layer, LayerPlan, PostNorm, PreNorm

# ------------------------------------------------------------------------------------------ what varies, and plans


def offset_positions(c: LikeBart) -> LearnedPositions.Config:
    """Learned vectors with two unused rows before the first position's."""
    return LearnedPositions.Config(count=c.max_position_embeddings, offset=OFFSET)


def learned_positions(c: LikeBart) -> LearnedPositions.Config:
    """Learned vectors."""
    return LearnedPositions.Config(count=c.max_position_embeddings)


def sinusoidal_positions(c: LikeBart) -> SinesThenCosines.Config:
    """A frozen table of sinusoids."""
    return SinesThenCosines.Config(count=c.max_position_embeddings)


def bart_layer(c: LikeBart, residual: type[Layer], number: int, *, decoder: bool) -> LayerPlan:  # noqa: ARG001
    """One layer of a side."""
    heads = c.decoder_attention_heads if decoder else c.encoder_attention_heads
    attention = partial(Attention.Config, hidden_size=c.d_model, num_heads=heads, dropout=c.attention_dropout)
    return LayerPlan(
        residual=residual,
        hidden_size=c.d_model,
        norm=LayerNorm.Config(),
        mixer=attention(causal=decoder),
        cross=attention(memory_size=c.d_model) if decoder else None,
        mlp=Mlp.Config(
            hidden_size=c.d_model,
            inner_size=c.decoder_ffn_dim if decoder else c.encoder_ffn_dim,
            activation=c.activation_function,
            inner_dropout=c.activation_dropout,
        ),
        dropout=c.dropout,
        skipped=c.decoder_layerdrop if decoder else c.encoder_layerdrop,
    )


@dataclass(frozen=True, kw_only=True)
class Design:
    """How an architecture of the lineage differs from the others.

    `residual`: where norms are; `normed_embeddings`, `final_norm`: whether there is one after the embeddings, after
    all layers. `positions`: options -> their table. `shifts`: decoder tokens that are not given come from the source's.
    `wraps`: a shifted text begins with its own last token. `logits_bias`: files hold a bias of the scores that is not
    trained. `scales_given`: a decoder scales given vectors too. `decoder_embeddings`: how a decoder makes its first
    states. `layer`: options, residual, number and side of a layer -> it.
    """

    residual: type[Layer] = PostNorm
    normed_embeddings: bool = True
    final_norm: bool = False
    positions: Callable[[Any], PositionsConfig] = offset_positions
    shifts: bool = False
    wraps: bool = False
    logits_bias: bool = True
    scales_given: bool = False
    decoder_embeddings: type[Embeddings] = Embeddings
    layer: Callable[..., Part] = bart_layer

    def stack(self, c: LikeBart, *, decoder: bool) -> StackPlan:
        """One side."""
        norm = LayerNorm.Config()
        embeddings = self.decoder_embeddings if decoder else Embeddings
        layers = range(c.decoder_layers if decoder else c.encoder_layers)
        return StackPlan(
            embeddings=embeddings.Config(
                vocab_size=c.target_vocabulary() if decoder else c.vocab_size,
                hidden_size=c.d_model,
                positions=self.positions(c),
                norm=norm if self.normed_embeddings else None,
                scale=c.d_model**0.5 if c.scale_embedding else 1.0,
                scales_given=decoder and self.scales_given,
                padding_id=c.pad_token_id,
                dropout=c.dropout,
            ),
            layers=tuple(self.layer(c, self.residual, number, decoder=decoder) for number in layers),
            final_norm=norm if self.final_norm else None,
            cached=decoder and c.use_cache,
        )

    def plan(self, c: LikeBart) -> EncoderDecoderPlan:
        """Both sides, with one token table unless the options say otherwise."""
        return EncoderDecoderPlan(
            encoder=self.stack(c, decoder=False),
            decoder=self.stack(c, decoder=True),
            shared_tokens=shares_tokens(c),
            shift=partial(shifted_right, start_id=self.start(c), padding_id=c.pad_token_id) if self.shifts else None,
        )

    def encoder_plan(self, c: LikeBart) -> StackPlan:
        """The encoder alone."""
        return self.plan(c).encoder

    def decoder_plan(self, c: LikeBart) -> StackPlan:
        """The decoder alone, which can attend to states that are given if the options say so."""
        stack = self.stack(c, decoder=True)
        if c.add_cross_attention:
            return stack
        layers: tuple[Any, ...] = stack.layers
        return replace(stack, layers=tuple(replace(layer, cross=None) for layer in layers))

    def start(self, c: LikeBart) -> int | None:
        """What shifted texts begin with; None for their own last token."""
        return None if self.wraps else c.start()

    def rows(self, c: LikeBart) -> Iterator[Row]:
        """The key map of both sides; files hold any name of the one token table."""
        if shares_tokens(c):
            yield Same("shared", "encoder.embeddings.tokens")
        yield from self.side_rows(c, "encoder.", "encoder.", decoder=False)
        yield from self.side_rows(c, "decoder.", "decoder.", decoder=True)

    def encoder_rows(self, c: LikeBart) -> Iterator[Row]:
        """The key map of the encoder alone."""
        yield from self.side_rows(c, "", "", decoder=False)
        if shares_tokens(c):
            yield Same("shared", "embeddings.tokens")

    def decoder_rows(self, c: LikeBart) -> Iterator[Row]:
        """The key map of the decoder alone, which files of both sides may hold."""
        yield from self.side_rows(c, "decoder.", "", decoder=True)
        if shares_tokens(c):
            yield Same("shared", "embeddings.tokens")

    def side_rows(self, c: LikeBart, published: str, native: str, *, decoder: bool) -> Iterator[Row]:
        """The key map of one side."""
        yield from toolkit_rows(c.decoder_layers if decoder else c.encoder_layers, published, native)
        table = (f"{published}embed_positions.weight", f"{native}embeddings.positions.weight")
        sinusoids = isinstance(self.positions(c), SinesThenCosines.Config)
        yield Computed(*table, make=partial(_sinusoids, c)) if sinusoids else Same(*table)
        yield Same(f"{published}layernorm_embedding", f"{native}embeddings.norm")
        yield Same(f"{published}layer_norm", f"{native}final_norm")


def _sinusoids(c: LikeBart) -> Tensor:
    return SinesThenCosines.sinusoids(torch.arange(c.max_position_embeddings), c.d_model)


def shares_tokens(c: LikeBart) -> bool:
    """Whether both sides have one token table."""
    return getattr(c, "share_encoder_decoder_embeddings", True)


# ----------------------------------------------------------------------------------------------------------- heads


class BiasedScores(LanguageModel):
    """Scores with a bias that is saved and never trained."""

    def __init__(self, config: LanguageModel.Config) -> None:
        super().__init__(config)
        self.register_buffer("final_logits_bias", torch.zeros(1, config.vocab_size))

    def scores(self, x: Tensor) -> Tensor:
        """States (..., hidden) -> (..., vocabulary)."""
        bias: Any = self.final_logits_bias
        return super().scores(x) + bias[0]

    def factors(self, x: Tensor) -> Factors | None:
        """What they are the product of."""
        bias: Any = self.final_logits_bias
        own = bias[0] if self.bias is None else self.bias + bias[0]
        return None if self.out.lora is not None else Factors(self._scored(x), self.out.weight, own)


def _target(design: Design, c: LikeBart) -> LanguageModel.Config:
    head = BiasedScores if design.logits_bias else LanguageModel
    return head.Config.of(
        c,
        predicts="target",
        vocab_size=c.target_vocabulary(),
        padding_id=c.pad_token_id,
        decoder_start_id=design.start(c),
    )


def _target_rows(c: LikeBart) -> tuple[Row, ...]:
    bias = "final_logits_bias"
    return Same("lm_head", "out"), Computed(bias, bias, make=lambda: torch.zeros(1, c.target_vocabulary()))


def _next(c: LikeBart) -> LanguageModel.Config:
    # published decoders alone score each label at its own place: who trains them moves the labels
    return LanguageModel.Config.of(c, predicts="hidden", vocab_size=c.target_vocabulary())


def _classification(c: Any) -> SequenceClassification.Config:
    return SequenceClassification.Config.of(
        c,
        reads="last-eos",
        dense="tanh",
        dense_dropout=c.classifier_dropout,
        dropout=c.classifier_dropout,
        marker_id=c.eos_token_id,
    )


CLASSIFICATION = TaskHead(
    "ForSequenceClassification",
    _classification,
    (Same("classification_head.dense", "dense"), Same("classification_head.out_proj", "out")),
)
ANSWERS = TaskHead("ForQuestionAnswering", QuestionAnswering.Config.of, (Same("qa_outputs", "out"),))


TEXT_HEADS = {"sequence-classification": CLASSIFICATION, "question-answering": ANSWERS}


def bart_like_tasks(
    family: str,
    design: Design,
    heads: Mapping[str, TaskHead] = MappingProxyType({}),
    *,
    generator: str = "ForConditionalGeneration",
    prefix: str = "model",
) -> dict[str, Task]:
    """The classes that all have, and further `heads`.

    `generator`: what the class of generation is called after the family's name. `prefix`: what names of the body
    begin with in classes with a head.
    """
    lm_rows = _target_rows if design.logits_bias else (Same("lm_head", "out"),)
    every = {
        "encoder": TaskHead(
            "Encoder",
            None,
            plan=design.encoder_plan,
            body_rows=design.encoder_rows,
            prefix="",
            prefixes=(f"{prefix}.encoder", "encoder"),
        ),
        "seq2seq-lm": TaskHead(generator, partial(_target, design), lm_rows),
        "causal-lm": TaskHead(
            "ForCausalLM", _next, (Same("lm_head", "out"),), plan=design.decoder_plan, body_rows=design.decoder_rows
        ),
        **heads,
    }
    return declare_tasks(family, prefix, design.plan, design.rows, every)


def bart_like_architecture(tasks: dict[str, Task]) -> Architecture:
    """An architecture of the lineage."""
    return Architecture(
        tasks=tasks,
        prefixes=(tasks["seq2seq-lm"].prefix,),
        initialization=lambda c: Initialization(c.init_std),
        ignored=(r"coder\.version$",),
    )


class NormedTokens(Embeddings):
    """Token vectors are normed before positions are added, and so without a scale."""

    def __init__(self, config: Embeddings.Config) -> None:
        super().__init__(replace(config, scale=1.0))

    def forward(
        self,
        ids: Tensor | None,
        vectors: Tensor | None,
        positions: Tensor,
        segments: Tensor | None,
        features: dict[str, Tensor],  # noqa: ARG002
    ) -> Tensor:
        """Token ids (...) or vectors (..., hidden) and position ids (...) -> (..., hidden)."""
        assert self.norm is not None
        assert self.positions is not None
        x: Tensor = self.norm(self.token_vectors(ids, vectors, segments))
        return self.dropout(x + self.positions(positions).to(x.dtype))


BART = bart_like_architecture(bart_like_tasks("Bart", Design(shifts=True), TEXT_HEADS))
MBART = bart_like_architecture(
    bart_like_tasks("MBart", Design(residual=PreNorm, final_norm=True, shifts=True, wraps=True), TEXT_HEADS)
)
PLBART = bart_like_architecture(
    bart_like_tasks("PLBart", Design(shifts=True, wraps=True), {"sequence-classification": CLASSIFICATION})
)
BLENDERBOT = bart_like_architecture(
    bart_like_tasks(
        "Blenderbot",
        Design(residual=PreNorm, normed_embeddings=False, final_norm=True, positions=learned_positions),
    )
)
BLENDERBOT_SMALL = bart_like_architecture(
    bart_like_tasks("BlenderbotSmall", Design(positions=learned_positions, decoder_embeddings=NormedTokens))
)
PEGASUS = bart_like_architecture(
    bart_like_tasks(
        "Pegasus",
        Design(
            residual=PreNorm,
            normed_embeddings=False,
            final_norm=True,
            positions=sinusoidal_positions,
            scales_given=True,
        ),
    )
)
MARIAN = bart_like_architecture(
    bart_like_tasks(
        "Marian",
        Design(normed_embeddings=False, positions=sinusoidal_positions, scales_given=True),
        generator="MTModel",
    )
)
