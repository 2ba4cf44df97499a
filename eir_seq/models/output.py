"""What a model returns: documented field names, as attributes and as a mapping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

FIELDS = frozenset({
    "last_hidden_state", "pooler_output", "hidden_states", "attentions", "cross_attentions", "global_attentions",
    "past_key_values", "logits", "loss", "start_logits", "end_logits", "prediction_logits",
    "seq_relationship_logits", "sop_logits", "encoder_last_hidden_state",
    "encoder_hidden_states", "encoder_attentions", "encoder_global_attentions",
    "decoder_hidden_states", "decoder_attentions",
    "entity_last_hidden_state", "entity_hidden_states", "entity_logits", "mlm_loss", "mep_loss", "mc_logits", "mc_loss",
    "mems", "start_top_log_probs", "start_top_index", "end_top_log_probs", "end_top_index", "cls_logits",
    "cache_params", "state",
    "router_logits", "aux_loss",
    "encoder_router_logits", "decoder_router_logits",
    "encoder_z_loss", "encoder_aux_loss", "decoder_z_loss", "decoder_aux_loss",
    "last_hidden_state_ngram", "hidden_states_ngram", "ngram_attentions", "logits_ngram",
    "decoder_ngram_hidden_states", "decoder_ngram_attentions",
})  # fmt: skip


class ModelOutput(dict[str, Any]):
    """The fields that a call produced; a documented field that it did not produce reads as None."""

    def __getattr__(self, name: str) -> Any:
        if name in FIELDS:
            return self.get(name)
        raise AttributeError(f"a model output has no field {name!r}")

    @classmethod
    def of(cls, **fields: Any) -> ModelOutput:
        """An output of these fields, without those that are None."""
        return cls((name, value) for name, value in fields.items() if value is not None)


@dataclass(frozen=True)
class TokenStates:
    """What a backbone made of a batch, token by token, for heads that predict from tokens and not from a pooled vector.

    Attributes:
        states: (batch, length, hidden).
        mask: (batch, length) bool, True at real tokens; what stands in `states` elsewhere means nothing.
        inputs: the tensors that were read, by name: input_ids (batch, length) and what else the input has.
        head: the backbone's own head, where it was built with one.
        pooler_output: (batch, hidden), of the backbone's own pooler.
        further_loss: a scalar, what the documented loss of that head has besides that of its targets.
    """

    states: Tensor
    mask: Tensor
    inputs: Mapping[str, Tensor] = field(default_factory=dict)
    head: nn.Module | None = None
    pooler_output: Tensor | None = None
    further_loss: Tensor | None = None
