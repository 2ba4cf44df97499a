"""A tag for each word of an input: read at the word's first token, scored by words and by whole entities."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from eir_seq.config.strict import Strict
from eir_seq.errors import Fault, UserError, nearest
from eir_seq.models.layers.dropout import Dropout
from eir_seq.models.output import TokenStates
from eir_seq.outputs.base import FittedOutput, Output, TargetRows, row_names
from eir_seq.outputs.classes.names import sorted_classes
from eir_seq.outputs.token_classification.config import TokenClassificationOutputConfig
from eir_seq.outputs.token_classification.spans import OUTSIDE, are_entity_tags, entity_scores

NO_WORD = -100
"""Target after the last word of a row."""


class TokenClassificationState(Strict):
    """The state of a fitted output, fitted on the training rows."""

    type: Literal["token_classification"] = "token_classification"
    name: str
    config: TokenClassificationOutputConfig
    tags: list[str] = Field(min_length=2, description="tags; their positions are the class indices")
    counts: list[int] = Field(description="training words of each tag")


class TokenClassificationHead(nn.Module):
    """Dropout and a linear layer on the state of each word's first token."""

    def __init__(self, in_features: int, num_tags: int, dropout: float) -> None:
        super().__init__()
        self.dropout, self.out = Dropout(dropout), nn.Linear(in_features, num_tags)

    def forward(self, tokens: TokenStates) -> Tensor:
        """(batch, words, tags + 1): scores, and after them 1 for a word, -1 for one that was not read, 0 for none.

        A word is not read where truncation leaves it out, or where the tokenizer makes nothing of it.
        """
        words, counts = tokens.inputs["word_ids"], tokens.inputs["word_counts"]
        rows, places = _first_tokens(words)
        scores = self.out(self.dropout(tokens.states[rows, places]))
        width = int(counts.max())
        raw: Tensor = scores.new_zeros(len(words), width, scores.shape[1] + 1)
        raw[..., -1] = (torch.arange(width, device=words.device) < counts[:, None]) * -1.0
        raw[rows, words[rows, places]] = functional.pad(scores, (0, 1), value=1.0)
        return raw


def _first_tokens(words: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and places of each word's first token, by the number of each token's word, (batch, length)."""
    before = functional.pad(words[:, :-1], (1, 0), value=-1)
    rows, places = ((words >= 0) & (words != before)).nonzero(as_tuple=True)
    return rows, places


class FittedTokenClassification(FittedOutput):
    """A token classification output that knows its tags.

    Targets are (rows, words), `NO_WORD` after the last of a row. A word that truncation leaves out has no part in the
    loss; its prediction is empty, and counts as wrong.
    """

    FITTED_FIELDS = ("tags",)

    config: TokenClassificationOutputConfig

    def __init__(self, state: TokenClassificationState) -> None:
        super().__init__(state)
        self.tags = state.tags
        self._index = {tag: index for index, tag in enumerate(state.tags)}

    @property
    def output_size(self) -> int:
        """Number of tags, and one for what is known of the word."""
        return len(self.tags) + 1

    def truth(self, rows: TargetRows) -> dict[str, list[Any]]:
        """The column NAME_true with the tags of each row, as a JSON list."""
        lists = (json.loads(value) for value in rows[self.config.column])
        return {f"{self.name}_true": [json.dumps(tags, ensure_ascii=False) for tags in lists]}

    def unknown_labels(self, rows: TargetRows) -> dict[int, str]:
        """Rows with a tag that the training rows do not have."""
        tags = {row: json.loads(value) for row, value in enumerate(rows[self.config.column]) if value is not None}
        unknown = {row: next((tag for tag in found if tag not in self._index), None) for row, found in tags.items()}
        return {
            row: f"tag {tag!r} of {self.config.column!r} is not one of the training rows"
            for row, tag in unknown.items()
            if tag is not None
        }

    def targets(self, rows: TargetRows, ids: Sequence[str] | None = None) -> Tensor:
        """Indices of tags, (rows, words)."""
        lists = [json.loads(value) for value in rows[self.config.column]]
        unknown: dict[str, list[int]] = {}
        for row, tags in enumerate(lists):
            for tag in set(tags) - self._index.keys():
                unknown.setdefault(tag, []).append(row)
        if unknown:
            where = f"of {self.config.column!r} is not one of the training rows"
            messages = (
                f"tag {tag!r} {where}{nearest(tag, self.tags)} ({row_names(found, ids)})"
                for tag, found in sorted(unknown.items())
            )
            raise UserError(*(Fault(f"outputs.{self.name}.column", message) for message in messages))
        target = torch.full((len(lists), max(map(len, lists), default=0)), NO_WORD)
        for row, tags in enumerate(lists):
            target[row, : len(tags)] = torch.tensor([self._index[tag] for tag in tags])
        return target

    def build_head(self, in_features: int) -> TokenClassificationHead:
        """The head, on states of that width."""
        return TokenClassificationHead(in_features, len(self.tags), self.config.dropout)

    def loss_terms(self, raw: Tensor, target: Tensor) -> Tensor:
        """The summed loss of each row's words that were read, (batch, 1)."""
        return self._losses(raw, target)[0].sum(dim=1, keepdim=True)

    def loss_counts(self, inputs: Mapping[str, Mapping[str, Tensor]], target: Tensor) -> Tensor:
        """The words of each row that are read and have a tag, (batch, 1)."""
        words = inputs[self.input]["word_ids"]
        rows, places = _first_tokens(words)
        tagged = target[rows, words[rows, places]] != NO_WORD
        return torch.bincount(rows[tagged], minlength=len(words))[:, None]

    def evaluate(self, raw: Tensor, target: Tensor) -> dict[str, float]:
        """Loss over the words that were read; of all words accuracy, and F1 over all tags (`f1`, their mean) and over
        all words together but those outside of entities (`f1_micro`); `read`, the share of words that truncation left.

        Where tags mark entities (BIO, BIOES, BILOU), also precision, recall and F1 of whole entities.
        """
        losses, read = self._losses(raw, target)
        words = target != NO_WORD
        guess = self._guess(raw, target.shape[1])
        true, predicted = target[words], guess[words]
        count = len(self.tags)
        # what was not read is its own tag, which no word has
        confusion = torch.zeros(count, count + 1).index_put((true, predicted), torch.ones(()), accumulate=True).double()
        hits, there, guessed = confusion[:, :count].diag(), confusion.sum(1), confusion.sum(0)[:count]
        f1 = 2 * hits / (there + guessed).clamp(min=1)
        inside = torch.tensor([tag != OUTSIDE for tag in self.tags])
        values = {
            "loss": float(losses.double().sum() / read.sum().clamp(min=1)),
            "accuracy": float(hits.sum() / there.sum()),
            "f1": float(f1[there + guessed > 0].mean()),
            "f1_micro": float(2 * hits[inside].sum() / (there + guessed)[inside].sum().clamp(min=1)),
            "read": float(read.sum() / words.sum()),
        }
        if are_entity_tags(self.tags):
            tags = [[self._names(row[kept]) for row, kept in zip(rows, words, strict=True)] for rows in (target, guess)]
            values |= entity_scores(*tags)
        return values

    def undefined(self, target: Tensor) -> dict[str, str]:
        """Scores of entities where the tags mark none."""
        del target
        if are_entity_tags(self.tags):
            return {}
        reason = f"tags such as {', '.join(map(repr, self.tags[:3]))} mark no entities (O, and types after B- and I-)"
        return dict.fromkeys(("entity_f1", "entity_precision", "entity_recall"), reason)

    def errors(self, raw: Tensor, target: Tensor) -> Tensor:
        """Share of each row's words whose tag is wrong."""
        words = target != NO_WORD
        wrong = (self._guess(raw, target.shape[1]) != target) & words
        return wrong.sum(dim=1) / words.sum(dim=1).clamp(min=1)

    def decode(self, raw: Tensor) -> dict[str, list[Any]]:
        """The column NAME with the most probable tag of each word, as a JSON list; "" where a word was not read."""
        guess, words = self._guess(raw, raw.shape[1]), raw[..., -1] != 0
        named = (self._names(row[kept]) for row, kept in zip(guess, words, strict=True))
        return {self.name: [json.dumps(tags, ensure_ascii=False) for tags in named]}

    def describe(self) -> dict[str, Any]:
        """Tags with their training words."""
        return {
            "type": "token_classification",
            "column": self.config.column,
            "input": self.config.input,
            "tags": dict(zip(self.tags, self._state.counts, strict=True)),
        }

    def _losses(self, raw: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of each word, zero where it was not read, and whether it was; (batch, words of `raw`)."""
        width = min(raw.shape[1], target.shape[1])
        raw, target = raw[:, :width].float(), target[:, :width]
        read = (raw[..., -1] > 0) & (target != NO_WORD)
        losses = functional.cross_entropy(
            raw[..., :-1].transpose(1, 2), target.masked_fill(~read, NO_WORD), ignore_index=NO_WORD, reduction="none"
        )
        return losses, read

    def _guess(self, raw: Tensor, words: int) -> Tensor:
        """The most probable tag of each word, (batch, words); one more than the last where a word was not read."""
        found = raw[..., :-1].argmax(dim=-1).masked_fill(raw[..., -1] <= 0, len(self.tags))[:, :words]
        return functional.pad(found, (0, words - found.shape[1]), value=len(self.tags))

    def _names(self, indices: Tensor) -> list[str]:
        return [self.tags[index] if index < len(self.tags) else "" for index in indices.tolist()]


class TokenClassification(Output):
    """A token classification output as declared; `fit` learns the tags."""

    STATE = TokenClassificationState
    FITTED = FittedTokenClassification
    config: TokenClassificationOutputConfig

    def fit(self, train_rows: TargetRows) -> FittedTokenClassification:
        """The tags of the training rows; raises `UserError` for fewer than two."""
        found = Counter(tag for cell in train_rows[self.config.column] for tag in json.loads(cell))
        if len(found) < 2:
            message = f"column {self.config.column!r} has the tags {list(found)} in the training rows; need 2"
            raise UserError(Fault(f"outputs.{self.name}.column", message))
        tags = sorted_classes(found)
        counts = [found[tag] for tag in tags]
        state = TokenClassificationState(name=self.name, config=self.config, tags=tags, counts=counts)
        return FittedTokenClassification(state)
