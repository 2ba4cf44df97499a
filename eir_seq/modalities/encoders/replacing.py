"""A backbone that reads texts in which a generator, a small masked language model, has put tokens (Electra)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from eir_seq.errors import Fault, UserError
from eir_seq.modalities.encoders.backbone import SequenceEncoder
from eir_seq.models import create_model
from eir_seq.models.catalogue import REPLACED_TOKENS
from eir_seq.models.heads.token_nll import SCORES, row_sums, token_nll
from eir_seq.models.options import fields, overridden
from eir_seq.models.output import TokenStates

SHARED = ("tokens", "positions", "segments")
"""Tables that generator and backbone have in common where they are of one size."""


class ReplacingEncoder(nn.Module):
    """Hidden tokens are drawn from a generator before the backbone reads the text."""

    def __init__(self, encoder: SequenceEncoder, generator: Any) -> None:
        super().__init__()
        self.encoder, self.generator = encoder, generator
        self.output_size, self.state_size = encoder.output_size, encoder.state_size
        small, large = (dict(model.body.embeddings.named_children()) for model in (generator, self.backbone))
        for table in small.keys() & set(SHARED):
            for name, weight in large[table].named_parameters():
                if getattr(small[table], name).shape == weight.shape:
                    setattr(small[table], name, weight)
        generator.head.tie(generator.body)

    @property
    def backbone(self) -> Any:
        """The model that learns to detect."""
        return self.encoder.backbone

    def published_models(self) -> dict[str, Any]:
        """Models that others can load, by the folder below that of the input."""
        return {"": self.backbone, "generator": self.generator}

    def read(
        self, input_ids: Tensor, attention_mask: Tensor, *, labels: Tensor, draws: Tensor, **tensors: Any
    ) -> TokenStates:
        """States of the backbone, and among their inputs what its head is to find.

        Args:
            input_ids: (batch, length), some tokens hidden.
            attention_mask: (batch, length), True at real tokens.
            labels: (batch, length), the hidden tokens, negative elsewhere.
            draws: (batch, length), random numbers from 0 to 1 for hidden tokens.
            tensors: what else the input has.

        The inputs also have: `replaced` (batch, length) bool, tokens that are not the text's own; `generator_nll`
        (batch,), the generator's summed negative log-likelihood; `hidden` (batch,), the number of hidden tokens.
        """
        hidden, head = labels >= 0, self.generator.head
        own = {name: x for name, x in tensors.items() if name not in ("word_ids", "word_counts")}
        inputs = self.encoder.inputs_of(input_ids, attention_mask, **own)
        states = head.states(self.generator.run_body(inputs))[hidden]
        nll = token_nll(states, labels[hidden], head.scores, factors=head.factors)
        text = torch.where(hidden, labels, input_ids)
        read = input_ids.masked_scatter(hidden, drawn(states, draws[hidden], head.scores))
        found = self.encoder.read(read, attention_mask, **tensors)
        found_tokens = {"replaced": read != text, "generator_nll": row_sums(nll, hidden), "hidden": hidden.sum(dim=1)}
        return replace(found, inputs={**found.inputs, **found_tokens})


@torch.no_grad()
def drawn(states: Tensor, draws: Tensor, scores: Callable[[Tensor], Tensor]) -> Tensor:
    """Tokens (n,) drawn from their distribution by the random numbers `draws` (n,), so that the same give the same."""
    if not len(states):
        return draws.long()
    chunk, found = max(1, SCORES // scores(states[:1]).shape[-1]), []
    for x, draw in zip(torch.split(states, chunk), torch.split(draws, chunk), strict=True):
        below = scores(x).double().softmax(dim=-1).cumsum(dim=-1)
        place = torch.searchsorted(below, (draw.double() * below[:, -1])[:, None], right=True).squeeze(1)
        found.append(place.clamp(max=below.shape[1] - 1))
    return torch.cat(found)


def with_generator(encoder: nn.Module, changes: Mapping[str, Any], input_: str, output: str) -> ReplacingEncoder:
    """The encoder with a generator: its backbone's options at a quarter of the width, and `changes`.

    Raises `UserError` for a backbone whose pretraining is another one, or options that cannot work.
    """
    assert isinstance(encoder, SequenceEncoder)
    config: Any = encoder.backbone.config
    if config.model_type not in REPLACED_TOKENS:
        listed = ", ".join(REPLACED_TOKENS)
        message = f"{config.model_type!r} does not learn to detect replaced tokens; these do: {listed}"
        raise UserError(Fault(f"inputs.{input_}.model.model_type", message))
    width = max(1, config.hidden_size // 4)
    smaller = {
        "hidden_size": width,
        "num_attention_heads": math.gcd(width, max(1, config.num_attention_heads // 4)),
        "intermediate_size": max(1, config.intermediate_size // 4),
    }
    own = {name: getattr(config, name) for name in fields(type(config))}
    try:
        options = overridden(type(config), {**own, **smaller}, changes)
        return ReplacingEncoder(encoder, create_model(config.model_type, options, task="masked-lm"))
    except UserError as error:
        place = f"outputs.{output}.generator.model_init_config"
        raise UserError(*(fault.under(place) for fault in error.faults)) from None
