"""Answers in texts: scores of begin and end for each token, exact match and F1 of the most probable answer."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from eir_seq.config.outputs import NO_ANSWER
from eir_seq.config.strict import Strict
from eir_seq.errors import Fault, UserError
from eir_seq.models.layers.dropout import Dropout
from eir_seq.models.model import Model
from eir_seq.models.output import TokenStates
from eir_seq.models.published_head import published_class, published_head
from eir_seq.outputs.base import FittedOutput, Output, TargetRows, ids_of, row_names
from eir_seq.outputs.span.answers import Answer, Spans, best_answers, misplaced, read_answers
from eir_seq.outputs.span.config import SpanOutputConfig
from eir_seq.outputs.span.scores import exact_match, f1

log = logging.getLogger(__name__)

START, END, FROM, TO, WINDOW = range(5)
"""Last axis of raw outputs: scores of begin and end, the token's characters, and the number of its window (0: none)."""


class SpanState(Strict):
    """The state of a fitted output, fitted on the training rows."""

    type: Literal["span"] = "span"
    name: str
    config: SpanOutputConfig
    rows: int = Field(ge=1, description="training rows")
    unanswered: int = Field(ge=0, description="those of them without an answer")


class SpanHead(nn.Module):
    """Dropout and a linear layer with two scores on the state of each token."""

    def __init__(self, in_features: int, dropout: float) -> None:
        super().__init__()
        self.dropout, self.out = Dropout(dropout), nn.Linear(in_features, 2)

    def forward(self, tokens: TokenStates) -> Tensor:
        """(batch, places, 5): see `START`; the places of a row are those of its windows, one after another."""
        offsets, rows = tokens.inputs["offsets"], tokens.inputs["window_rows"]
        scores = self.out(self.dropout(tokens.states)).float()
        first = torch.searchsorted(rows, torch.arange(int(rows[-1]) + 1, device=rows.device))
        number = torch.arange(len(rows), device=rows.device) - first[rows]
        windows = (number[:, None] + 1) * tokens.mask
        found = torch.cat([scores, offsets.float(), windows[..., None].float()], dim=2)
        raw = found.new_zeros(len(first), int(number.max()) + 1, scores.shape[1], 5)
        raw[rows, number] = found
        return raw.flatten(1, 2)


class FittedSpan(FittedOutput):
    """An output that answers questions.

    Targets are (rows, 3): characters of the first answer, -1 for none, and the number under which the row's text and
    answers are found again: metrics compare texts.
    """

    FITTED_FIELDS = ()
    config: SpanOutputConfig

    def __init__(self, state: SpanState) -> None:
        super().__init__(state)
        self._known: list[tuple[TargetRows, int, int]] = []
        assert state.config.context is not None, "resolved with the experiment"
        self._text = state.config.context

    @property
    def output_size(self) -> int:
        """Values per token."""
        return 5

    def truth(self, rows: TargetRows) -> dict[str, list[Any]]:
        """NAME_true, a JSON list of the answers' texts."""
        answers = checked_answers(self.config, self.name, rows, None)
        return {f"{self.name}_true": [json.dumps(_texts(own), ensure_ascii=False) for own in answers]}

    def targets(self, rows: TargetRows, ids: Sequence[str] | None = None) -> Tensor:
        """Characters of the first answer and the number of the row, (rows, 3).

        Raises:
            UserError: a cell has no answers as SQuAD has them, or an answer is not where it is said to be.
        """
        found = checked_answers(self.config, self.name, rows, ids)
        spans = [(own[0][1], own[0][1] + len(own[0][0])) if own else (-1, -1) for own in found]
        begin = self._known[-1][2] if self._known else 0
        self._known.append((rows, begin, begin + len(spans)))
        return torch.tensor([(*span, number) for number, span in enumerate(spans, begin)]).reshape(-1, 3)

    def build_head(self, in_features: int) -> SpanHead:
        """The head, on states of that width."""
        return SpanHead(in_features, self.config.dropout)

    def load_published_head(self, head: nn.Module, encoder: nn.Module) -> None:
        """Start from the published head for question answering, where it is one linear layer on the same states."""
        model: Any = getattr(encoder, "backbone", None)
        if not isinstance(model, Model) or model.folder is None:
            return
        own, found = head.state_dict(), published_head(model, "question-answering")
        if {name: x.shape for name, x in found.items()} == {name: x.shape for name, x in own.items()}:
            head.load_state_dict(found)
            log.info("outputs.%s: starts from the head of %s", self.name, model.folder)
        elif "QuestionAnswering" in (name := published_class(model) or ""):
            message = "outputs.%s: starts with a new head, as that of %s (%s) is not one linear layer with two scores"
            log.warning(f"{message} per token", self.name, name, model.folder)

    def loss_terms(self, raw: Tensor, target: Tensor) -> Tensor:
        """Mean cross-entropy of begin and end over the tokens of a window; its mean over a row's windows, (batch, 1).

        Where a window has not the whole answer, its first token is begin and end.
        """
        total, count = raw.new_zeros(len(raw)), raw.new_zeros(len(raw))
        begin, end = target[:, None, 0], target[:, None, 1]
        start, stop = raw[..., FROM], raw[..., TO]
        for window in range(1, int(raw[..., WINDOW].max()) + 1):
            here = raw[..., WINDOW] == window
            there = here.any(dim=1)
            first = here & (start >= 0) & (start <= begin) & (begin < stop)
            last = here & (start >= 0) & (start < end) & (end <= stop)
            none = (here & (start == NO_ANSWER)).int().argmax(dim=1)
            whole = first.any(dim=1) & last.any(dim=1)
            for side, hit in ((START, first), (END, last)):
                place = torch.where(whole, hit.int().argmax(dim=1), none)
                # a row without that window has no finite score otherwise
                scores = raw[..., side].masked_fill(~here & there[:, None], -torch.inf)
                total = total + functional.cross_entropy(scores, place, reduction="none") / 2 * there
            count = count + there
        return (total / count.clamp(min=1))[:, None]

    def evaluate(self, raw: Tensor, target: Tensor) -> dict[str, float]:
        """Loss, and of the most probable answers exact match and F1 of words (the better of several true answers)."""
        matches = self._compared(raw, target)
        values = {"loss": float(self.loss_terms(raw, target).double().mean())}
        return values | {"exact_match": float(matches[:, 0].mean()), "f1": float(matches[:, 1].mean())}

    def errors(self, raw: Tensor, target: Tensor) -> Tensor:
        """1 - F1 of each row, (rows,)."""
        return torch.from_numpy(1 - self._compared(raw, target)[:, 1])

    def decode(self, raw: Tensor) -> dict[str, list[Any]]:
        """NAME, the characters of the most probable answer as START:END, and the rest of `decode_rows`."""
        return self._columns(raw, None)

    def decode_rows(self, raw: Tensor, rows: Callable[[], TargetRows]) -> dict[str, list[Any]]:
        """NAME, the most probable answer, empty for none; its place and probability; NAME_best, the best n as JSON."""
        return self._columns(raw, rows()[self._text])

    def describe(self) -> dict[str, Any]:
        """Training rows, and those of them without an answer."""
        counts = {"rows": self._state.rows, "unanswered": self._state.unanswered}
        return {"type": "span", "column": self.config.answers, "input": self.config.input, **counts}

    def _columns(self, raw: Tensor, texts: Sequence[str] | None) -> dict[str, list[Any]]:
        found = [self._best(row, self.config.n_best) for row in raw.detach().float().cpu().numpy()]

        def shown(row: int, answer: Answer) -> str:
            if answer.start < 0:
                return ""
            return f"{answer.start}:{answer.end}" if texts is None else texts[row][answer.start : answer.end]

        best = [[{"text": shown(row, one), **vars(one)} for one in answers] for row, answers in enumerate(found)]
        return {
            self.name: [answers[0]["text"] for answers in best],
            f"{self.name}_start": [answers[0].start for answers in found],
            f"{self.name}_end": [answers[0].end for answers in found],
            f"{self.name}_p": [answers[0].probability for answers in found],
            f"{self.name}_best": [json.dumps(answers, ensure_ascii=False) for answers in best],
        }

    def _best(self, raw: NDArray[np.float32], count: int) -> list[Answer]:
        return best_answers(raw, count, self.config.max_answer_length, may_lack=self._state.unanswered > 0)

    def _compared(self, raw: Tensor, target: Tensor) -> NDArray[np.float64]:
        """Exact match and F1 of each row, (rows, 2)."""
        found, numbers, values = np.zeros((len(raw), 2)), target[:, 2].numpy(), raw.float().numpy()
        for rows, begin, end in self._known:
            places = np.flatnonzero((numbers >= begin) & (numbers < end))
            if not len(places):
                continue
            texts, answers = rows[self._text], checked_answers(self.config, self.name, rows, None)
            for place, row in zip(places.tolist(), (numbers[places] - begin).tolist(), strict=True):
                answer, true = self._best(values[place], 1)[0], _texts(answers[row])
                text = texts[row][answer.start : answer.end] if answer.start >= 0 else ""
                found[place] = exact_match(text, true), f1(text, true)
        return found


def checked_answers(config: SpanOutputConfig, name: str, rows: TargetRows, ids: Sequence[str] | None) -> list[Spans]:
    """Answers of rows; raises `UserError` for those that cannot be read or are not where they are said to be."""
    found = _answers(config, rows)
    reasons = {row: problem for row, (_, problem) in enumerate(found) if problem is not None}
    if reasons:
        message = f"column {config.answers!r} {reasons[min(reasons)]} ({row_names(sorted(reasons), ids)})"
        raise UserError(Fault(f"outputs.{name}.answers", message))
    return [answers for answers, _ in found]


def _answers(config: SpanOutputConfig, rows: TargetRows) -> list[tuple[Spans, str | None]]:
    """The answers of each row, and what is wrong with them."""
    assert config.context is not None, "resolved with the experiment"
    starts = None if config.answer_start is None else rows[config.answer_start]
    read = zip(read_answers(rows[config.answers], starts), rows[config.context], strict=True)
    return [([], own) if isinstance(own, str) else (own, next(misplaced(own, text), None)) for own, text in read]


def _texts(answers: Spans) -> list[str]:
    return [text for text, _ in answers]


class Span(Output):
    """An output that answers questions, as declared; `fit` learns whether there may be no answer."""

    STATE = SpanState
    FITTED = FittedSpan
    config: SpanOutputConfig

    @property
    def checked_columns(self) -> tuple[str, ...]:
        """The answers, and the texts that they are parts of."""
        assert self.config.context is not None, "resolved with the experiment"
        return (*self.config.columns(), self.config.context)

    def faulty_rows(self, rows: TargetRows) -> Iterator[tuple[int, str]]:
        """Rows whose answers cannot be read, or are not where they are said to be."""
        there = zip(*(rows[column] for column in self.checked_columns), strict=True)
        known = [row for row, values in enumerate(there) if None not in values]
        columns = {column: [rows[column][row] for row in known] for column in self.checked_columns}
        for place, (_, problem) in enumerate(_answers(self.config, columns)):
            if problem is not None:
                yield known[place], f"{self.config.answers!r} {problem}"

    def fit(self, train_rows: TargetRows) -> FittedSpan:
        """Which training rows have an answer; raises `UserError` if none has, or where answers are not in place."""
        answers = checked_answers(self.config, self.name, train_rows, ids_of(train_rows))
        lacking = sum(not own for own in answers)
        if lacking == len(answers):
            message = f"column {self.config.answers!r} has no answer in the {lacking:,} training rows"
            raise UserError(Fault(f"outputs.{self.name}.answers", message))
        return FittedSpan(SpanState(name=self.name, config=self.config, rows=len(answers), unanswered=lacking))
