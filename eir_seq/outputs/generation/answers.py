"""Has a language model answer in the conversations of rows, and measures the answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor

from eir_seq.errors import UserError
from eir_seq.outputs.base import FittedOutput, TargetRows
from eir_seq.outputs.generation.completion import Completer, completer
from eir_seq.outputs.generation.source import shown
from eir_seq.outputs.language.conversation_config import WRITTEN
from eir_seq.randomness import derive_seed
from eir_seq.tokenizers.conversation_rows import answers_of

if TYPE_CHECKING:
    from eir_seq.rows import Rows


@dataclass
class AnswerWriter:
    """Answers in the conversations of some rows of a split, batch by batch.

    Attributes:
        name: of the output.
        complete: continues tokens.
        prompts: makes the tokens of a row up to the answer.
        sources: what is answered, for people.
        true: what should be answered, None if that is not known.
        rows: those to answer.
        seed: of answers that are drawn.
        measure: metrics of answers and the true ones.
        texts: what was answered, by row.
    """

    name: str
    complete: Completer
    prompts: Callable[[int], list[int]]
    sources: Sequence[str]
    true: Sequence[str | None]
    rows: frozenset[int]
    seed: int
    measure: Callable[[Sequence[str], Sequence[str]], dict[str, float]]
    texts: dict[int, str] = field(default_factory=dict)

    def write(self, rows: Sequence[int], batch: Mapping[str, Any]) -> None:
        """Answer those of a batch's rows that are wanted."""
        del batch  # its conversations may have the answers
        wanted = [row for row in rows if row in self.rows]
        if wanted:
            seed = derive_seed(self.seed, "answers", self.name, wanted[0])
            found = self.complete.after([self.prompts(row) for row in wanted], seed=seed)
            self.texts |= dict(zip(wanted, found, strict=True))

    def take(self) -> tuple[dict[str, Tensor], Any]:
        """Answers by row."""
        state, self.texts = list(self.texts.items()), {}
        return {}, state

    def give(self, tensors: Mapping[str, Tensor], state: Any) -> None:
        """See `take`."""
        del tensors
        self.texts |= dict(state)

    def check(self) -> None:
        """Raise `UserError` for options of `generation` by which nothing could be written, and write nothing."""
        try:
            self.complete.check()
        except UserError as error:
            raise UserError(*(fault.under(f"outputs.{self.name}.generation") for fault in error.faults)) from None

    def metrics(self) -> dict[str, float]:
        """Those of the answers that were written where there is a true one; none if there is no such."""
        pairs = [(text, true) for row, text in self.texts.items() if (true := self.true[row]) is not None]
        return self.measure([text for text, _ in pairs], [true for _, true in pairs]) if pairs else {}

    def columns(self) -> dict[str, list[Any]]:
        """The columns NAME_prompt and NAME, "" where nothing was written."""
        rows = range(len(self.sources))
        return {f"{self.name}_prompt": list(self.sources), self.name: [self.texts.get(row, "") for row in rows]}

    def arrays(self) -> None:
        """None: it writes texts."""

    def samples(self, count: int) -> list[tuple[str, str, str]]:
        """The first answers, each with what is answered and the true one."""
        known = sorted(self.texts)[:count]
        return [(self.sources[row], self.texts[row], self.true[row] or "") for row in known]


@dataclass(frozen=True)
class Answering:
    """What an output answers with; see `eir_seq.outputs.generation.writing.build_writers`."""

    output: FittedOutput
    fitted: Any
    complete: Completer

    def writer(self, rows: Rows, wanted: frozenset[int], seed: int, inputs: Mapping[str, Any]) -> AnswerWriter:
        """Answers in these rows of a split."""
        truth = true_answers(self.output, rows)
        true = next(iter(truth.values()), [None] * rows.num_rows)
        sources = shown(inputs, [self.output.input], rows)
        prompts, measure = partial(self._prompt, rows), self.output.measure_texts
        return AnswerWriter(self.output.name, self.complete, prompts, sources, true, wanted, seed, measure)

    def _prompt(self, rows: Rows, row: int) -> list[int]:
        ids: list[int] = self.fitted.prompt_of_row(rows[row : row + 1], self.complete.room)
        return ids

    @property
    def rows(self) -> int:
        """Of a validation split that are answered at each evaluation."""
        count: int = self.output.config.generate_rows  # type: ignore[attr-defined]  # outputs of conversations have it
        return count


def answering(output: FittedOutput, network: Any, inputs: Mapping[str, Any]) -> Answering | None:
    """What answers in conversations by an output; None where it has none."""
    if output.config.conversation is None:
        return None
    return Answering(output, inputs[output.input], completer(output, inputs, network))


def true_answers(output: FittedOutput, rows: TargetRows) -> dict[str, list[Any]]:
    """The column NAME_true of an output with conversations: the answers, those that are preferred, or the last ones."""
    spoken = output.config.conversation
    if spoken is None:
        return {}
    return {f"{output.name}_true": answers_of(spoken, rows)[0]}  # type: ignore[arg-type]


def measure_answers(written: Sequence[str], true: Sequence[str]) -> dict[str, float]:
    """Exact match and ROUGE-L of answers, each with its reference.

    >>> measure_answers(["a b", "c"], ["a b", "d"])
    {'exact_match': 0.5, 'rougeL': 0.5}
    """
    from eir_seq.outputs.seq2seq_lm.text_metrics import text_metrics

    found = text_metrics(written, true)
    return {name: found[name] for name in WRITTEN}
