"""An encoder and a decoder that attends to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from eir_seq.models.backbones.stack import Stack, StackPlan
from eir_seq.models.layers.cache import Cache
from eir_seq.models.output import ModelOutput


@dataclass(frozen=True, kw_only=True)
class EncoderDecoderPlan:
    """Two stacks; with `shared_tokens` they have one table of token embeddings.

    `shift`: source tokens (batch, length) -> those of the decoder, where none are given; None if they must be.
    `has_encoder`: False for a decoder alone, which attends to `encoder_outputs` that others make.
    """

    encoder: StackPlan
    decoder: StackPlan
    shared_tokens: bool = True
    shift: Callable[[Tensor], Tensor] | None = None
    has_encoder: bool = True

    @property
    def hidden_size(self) -> int:
        """Width of the decoder's states."""
        return self.decoder.hidden_size

    @property
    def inputs(self) -> tuple[str, ...]:
        """Documented inputs of the architecture itself."""
        return self.encoder.inputs if self.has_encoder else ()

    def build(self) -> EncoderDecoder:
        """The backbone."""
        return EncoderDecoder(self)


class EncoderDecoder(nn.Module):
    """Reads a source text and, token by token, a target text."""

    def __init__(self, plan: EncoderDecoderPlan) -> None:
        super().__init__()
        self.plan = plan
        self.encoder: Any = None
        if plan.has_encoder:
            self.encoder = plan.encoder.build()
        self.decoder: Stack = plan.decoder.build()
        if plan.has_encoder and plan.shared_tokens:
            self.decoder.embeddings.tokens = self.encoder.embeddings.tokens

    @property
    def embeddings(self) -> nn.Module:
        """The embeddings whose token table a language-model head may share."""
        return self.decoder.embeddings

    @property
    def pack(self) -> bool:
        """Whether padding is left out of the computation."""
        return self._stacks[0].pack

    @pack.setter
    def pack(self, pack: bool) -> None:
        for stack in self._stacks:
            stack.pack = pack

    def drop_encoder(self) -> None:
        """Keep the decoder alone, which then attends to `encoder_outputs` that others make."""
        self.encoder = None

    @property
    def _stacks(self) -> list[Stack]:
        return [self.decoder] if self.encoder is None else [self.encoder, self.decoder]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        head_mask: Tensor | None = None,
        decoder_head_mask: Tensor | None = None,
        cross_attn_head_mask: Tensor | None = None,
        encoder_outputs: Mapping[str, Any] | Sequence[Any] | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        decoder_position_ids: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        output_router_logits: bool | None = None,
        **features: Tensor,
    ) -> ModelOutput:
        """One pass; arguments as in transformers, see `Stack.forward` for shapes.

        `encoder_outputs`: those of an earlier pass, or a sequence: last state, states of the layers, attention weights,
        scores of routers.

        Raises:
            ValueError: no decoder tokens, or the faults that `Stack.forward` names.
        """
        if encoder_outputs is None:
            if self.encoder is None:
                raise ValueError("there is no encoder: give encoder_outputs")
            encoded = self.encoder(
                input_ids,
                attention_mask,
                inputs_embeds=inputs_embeds,
                head_mask=head_mask,
                output_hidden_states=output_hidden_states,
                output_attentions=output_attentions,
                output_router_logits=self._asks(self.encoder, output_router_logits),
                **features,
            )
        elif isinstance(encoder_outputs, ModelOutput):
            encoded = encoder_outputs
        else:
            names = ("last_hidden_state", "hidden_states", "attentions", "router_logits")
            if not isinstance(encoder_outputs, Mapping):  # else that of another library's encoder
                encoder_outputs = dict(zip(names, encoder_outputs, strict=False))
            encoded = ModelOutput.of(**{name: encoder_outputs.get(name) for name in names})
        if decoder_input_ids is None and decoder_inputs_embeds is None and self.plan.shift and input_ids is not None:
            decoder_input_ids = self.plan.shift(input_ids)
        if (decoder_input_ids is None) == (decoder_inputs_embeds is None):
            raise ValueError("give exactly one of decoder_input_ids and decoder_inputs_embeds")
        decoded = self.decoder(
            decoder_input_ids,
            decoder_attention_mask,
            position_ids=decoder_position_ids,
            inputs_embeds=decoder_inputs_embeds,
            head_mask=decoder_head_mask,
            cross_attn_head_mask=cross_attn_head_mask,
            encoder_hidden_states=encoded.last_hidden_state,
            encoder_attention_mask=attention_mask,
            past_key_values=past_key_values,
            use_cache=use_cache,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
            output_router_logits=self._asks(self.decoder, output_router_logits),
        )
        return ModelOutput.of(
            last_hidden_state=decoded.last_hidden_state,
            last_hidden_state_ngram=decoded.last_hidden_state_ngram,
            past_key_values=decoded.past_key_values,
            decoder_hidden_states=decoded.hidden_states,
            decoder_ngram_hidden_states=decoded.hidden_states_ngram,
            decoder_attentions=decoded.attentions,
            decoder_ngram_attentions=decoded.ngram_attentions,
            cross_attentions=decoded.cross_attentions,
            decoder_router_logits=decoded.router_logits,
            encoder_last_hidden_state=encoded.last_hidden_state,
            encoder_hidden_states=encoded.hidden_states,
            encoder_attentions=encoded.attentions,
            encoder_global_attentions=encoded.global_attentions,
            encoder_router_logits=encoded.router_logits,
        )

    def _asks(self, side: Stack, wanted: bool | None) -> bool | None:
        """Whether the scores of a side's routers are requested: not if only the other one has any."""
        routed = [stack for stack in self._stacks if stack.plan.output_router_logits is not None]
        return wanted if side in routed or not routed else None
