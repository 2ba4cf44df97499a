"""One prediction per token: the next one, a hidden one, or the target's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from eir_seq.models.heads.base import Head, Inputs, Targets, token_loss
from eir_seq.models.heads.linear_nll import Factors
from eir_seq.models.heads.sequence_classification import shifted_right
from eir_seq.models.layers.build import Sized
from eir_seq.models.layers.feed_forward.activations import activation
from eir_seq.models.layers.linear import Linear
from eir_seq.models.output import ModelOutput

Predicts = Literal["next", "hidden", "target"]


class LanguageModel(Head):
    """An optional hidden layer with a norm, then scores over the vocabulary, by the token table where `tied`."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Head.Config):
        """`predicts`: the next token of the text, tokens hidden in it, or those of another text (by a decoder).

        `dense`: activation of the hidden layer, None for none; `embedding_size`: its width where the token table is
        narrower than the states. `scale`: factor on the states. `padding_id`, `decoder_start_id`: see
        `shifted_right`, which makes a decoder's tokens of its labels.
        """

        predicts: Predicts
        hidden_size: int
        vocab_size: int
        tied: bool
        dense: str | None = None
        embedding_size: int | None = None
        norm: Sized | None = None
        bias: bool = False
        scale: float = 1.0
        padding_id: int = 0
        decoder_start_id: int | None = None

        @classmethod
        def of(cls, c: Any, **own: Any) -> Self:
            """From the options of an architecture that all name alike, and what it has of its `own`."""
            return cls(**{"hidden_size": c.width, "vocab_size": c.vocab_size, "tied": c.tie_word_embeddings, **own})

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        size = config.embedding_size or config.hidden_size
        self.dense = Linear(config.hidden_size, size) if config.dense else None
        self.activation = activation(config.dense or "linear")
        self.norm = config.norm.build(size) if config.norm else None
        self.out = Linear(size, config.vocab_size, bias=False)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size)) if config.bias else None

    def tie(self, body: nn.Module) -> None:
        """Score by the body's token table."""
        if self.config.tied:
            self.out.weight = body.embeddings.tokens.weight  # type: ignore[union-attr,assignment]

    def prepare(self, inputs: Inputs, targets: Targets) -> Inputs:
        """Decoder tokens are the labels moved by one, where they are not given."""
        given = inputs.get("decoder_input_ids") is not None or inputs.get("decoder_inputs_embeds") is not None
        labels = targets.get("labels")
        if self.config.predicts == "target" and labels is not None and not given:
            # a look at the labels is cheap on a CPU only
            looks = labels.device.type == "cpu" and labels.numel() > 0 and not torch.compiler.is_compiling()
            if looks and (most := int(labels.max())) >= self.config.vocab_size:
                raise ValueError(f"label {most} is none of the {self.config.vocab_size} tokens; -100 is left out")
            shifted = shifted_right(labels, self.config.decoder_start_id, self.config.padding_id)
            return {**inputs, "decoder_input_ids": shifted}
        return inputs

    def forward(self, output: ModelOutput, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """`logits`: (batch, length, vocabulary)."""
        return {"logits": self.scores(output.last_hidden_state)}

    def scores(self, x: Tensor) -> Tensor:
        """States (..., hidden) -> (..., vocabulary)."""
        scores: Tensor = self.out(self._scored(x))
        return scores if self.bias is None else scores + self.bias

    def factors(self, x: Tensor) -> Factors | None:
        """What the scores of states (tokens, hidden) are the product of; None if they are more than a product."""
        changed = type(self).scores is not LanguageModel.scores
        return None if changed or self.out.lora is not None else Factors(self._scored(x), self.out.weight, self.bias)

    def _scored(self, x: Tensor) -> Tensor:
        """States (..., hidden) -> (..., in) what is multiplied by the table."""
        if self.dense is not None:
            x = self.activation(self.dense(x))
        if self.norm is not None:
            x = self.norm(x)
        return x if self.config.scale == 1.0 else x * self.config.scale

    def label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy over the tokens whose label is not -100."""
        if self.config.predicts == "next":
            # states of other tokens may precede the text
            return token_loss(logits[:, -labels.shape[1] : -1], labels[:, 1:])
        return token_loss(logits, labels)
