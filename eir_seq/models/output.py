"""What a model returns: transformers' fields by name and by place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

FIELDS = (
    "loss", "aux_loss", "mc_loss", "mlm_loss", "mep_loss",
    "logits", "mc_logits", "prediction_logits", "seq_relationship_logits", "sop_logits", "start_logits", "end_logits",
    "start_top_log_probs", "start_top_index", "end_top_log_probs", "end_top_index", "cls_logits",
    "encoder_z_loss", "decoder_z_loss", "encoder_aux_loss", "decoder_aux_loss", "logits_ngram", "entity_logits",
    "last_hidden_state", "last_hidden_state_ngram", "pooler_output", "past_key_values", "mems", "cache_params", "state",
    "hidden_states", "entity_last_hidden_state", "entity_hidden_states", "hidden_states_ngram",
    "decoder_hidden_states", "decoder_ngram_hidden_states", "attentions", "ngram_attentions",
    "decoder_attentions", "decoder_ngram_attentions", "decoder_router_logits", "cross_attentions", "global_attentions",
    "encoder_last_hidden_state", "encoder_hidden_states", "encoder_attentions", "encoder_global_attentions",
    "router_logits", "encoder_router_logits",
)  # fmt: skip
"""In the order of transformers' outputs, each of which has some of them."""
BEHIND_ATTENTIONS = ("cross_attentions", "global_attentions", "entity_last_hidden_state", "entity_hidden_states")
POOLED_FIELDS = (
    *FIELDS[: FIELDS.index("past_key_values")], "hidden_states", "past_key_values", "attentions", *BEHIND_ATTENTIONS
)  # fmt: skip
"""The order of outputs with a `pooler_output`, whose cache and entities have another place."""


class ModelOutput(dict[str, Any]):
    """The fields that a call produced, in their order in transformers: by name, by place and as attributes.

    A field that was not produced reads as None and has no place. Iteration gives names, as for any mapping;
    an index, a slice and `to_tuple` give values. It is a pytree, so that `torch.export` and `torch.func` take it.

    Example:
        >>> import torch
        >>> output = ModelOutput.of(logits=torch.zeros(2), loss=torch.ones(()))
        >>> loss, logits = output[:2]
        >>> output[0] is output["loss"] is output.loss
        True
    """

    def __getattr__(self, name: str) -> Any:
        if name in FIELDS:
            return self.get(name)
        raise AttributeError(f"a model output has no field {name!r}")

    def __getitem__(self, key: str | int | slice) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def to_tuple(self) -> tuple[Any, ...]:
        """The values, without names."""
        return tuple(self.values())

    @classmethod
    def of(cls, **fields: Any) -> ModelOutput:
        """An output of these fields in their order in transformers, without those that are None."""
        found = {name: value for name, value in fields.items() if value is not None}
        order = POOLED_FIELDS if "pooler_output" in found else FIELDS
        return cls((name, found[name]) for name in sorted(found, key=order.index))


def _flatten(output: ModelOutput) -> tuple[list[Any], list[str]]:
    return list(output.values()), list(output)


def _flatten_with_keys(output: ModelOutput) -> tuple[list[tuple[pytree.KeyEntry, Any]], list[str]]:
    return [(pytree.MappingKey(name), value) for name, value in output.items()], list(output)


def _unflatten(values: Iterable[Any], names: list[str]) -> ModelOutput:
    return ModelOutput(zip(names, values, strict=True))


pytree.register_pytree_node(
    ModelOutput,
    _flatten,
    _unflatten,
    serialized_type_name="eir_seq.models.output.ModelOutput",
    flatten_with_keys_fn=_flatten_with_keys,
)


@dataclass(frozen=True)
class TokenStates:
    """What a backbone made of a batch, token by token, for heads that predict from tokens and not from a pooled vector.

    Attributes:
        states: (batch, length, hidden).
        mask: (batch, length) bool, True at real tokens; what is in `states` elsewhere means nothing.
        inputs: the tensors that were read, by name: input_ids (batch, length) and what else the input has.
        head: the backbone's own head, where it was built with one.
        pooler_output: (batch, hidden), of the backbone's own pooler.
        further_loss: a scalar, what transformers' loss of that head has besides that of its targets.
    """

    states: Tensor
    mask: Tensor
    inputs: Mapping[str, Tensor] = field(default_factory=dict)
    head: nn.Module | None = None
    pooler_output: Tensor | None = None
    further_loss: Tensor | None = None
