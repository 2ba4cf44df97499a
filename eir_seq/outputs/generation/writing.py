"""Has a sequence-to-sequence model write texts for rows, and measures them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from eir_seq.errors import UserError
from eir_seq.models.generation.generate import check_call
from eir_seq.models.heads.base import IGNORED
from eir_seq.outputs.base import FittedOutput
from eir_seq.outputs.generation.answers import Answering
from eir_seq.outputs.generation.completion import completer
from eir_seq.outputs.generation.source import TextSource, WritingNetwork, shown
from eir_seq.outputs.language.decoder_head import Seq2SeqLmHead
from eir_seq.randomness import derive_seed

if TYPE_CHECKING:
    from eir_seq.rows import Rows


class RowWriter(Protocol):
    """What generates something for rows of a split, batch by batch: texts, arrays, pictures."""

    @property
    def name(self) -> str:
        """Of the output."""
        ...

    def write(self, rows: Sequence[int], batch: Mapping[str, Any]) -> None:
        """Generate for those of a batch's rows that are wanted; `rows` are their positions in the split."""
        ...

    def check(self) -> None:
        """Raise `UserError` for options by which nothing could be generated."""
        ...

    def take(self) -> tuple[dict[str, Tensor], Any]:
        """What was generated, as tensors and a JSON value for `give`; it is forgotten."""
        ...

    def give(self, tensors: Mapping[str, Tensor], state: Any) -> None:
        """Add what the writer of another process has generated."""
        ...

    def metrics(self) -> dict[str, float]:
        """Metrics of what was generated."""
        ...

    def columns(self) -> dict[str, list[Any]]:
        """Prediction columns by name, a cell for each row of the split, "" where nothing was generated."""
        ...

    def arrays(self) -> tuple[list[int], Tensor, Tensor] | None:
        """Of rows with a target their positions in the split, what was generated, as `FittedOutput.samples` reads it,
        and the targets; None for texts."""
        ...

    def samples(self, count: int) -> list[tuple[str, str, str]]:
        """Of up to `count` rows the text that was read, the one that was written, and the true one."""
        ...


@dataclass
class Writer:
    """Writes texts for the rows of a split, batch by batch.

    Attributes:
        name: of the output.
        generation: options of `generate`.
        source: what it writes from, and with.
        sources: the text of each row.
        true: what should be written from it, None if that is not known.
        rows: those to write for.
        seed: of texts that are drawn.
        measure: metrics of written texts and the true ones.
        texts: what was written, by row.
        scores: mean log-probability of its tokens, by row.
    """

    name: str
    generation: Mapping[str, Any]
    source: TextSource
    sources: Sequence[str]
    true: Sequence[str | None]
    rows: frozenset[int]
    seed: int
    measure: Callable[[Sequence[str], Sequence[str]], dict[str, float]] | None = None
    texts: dict[int, str] = field(default_factory=dict)
    scores: dict[int, float] = field(default_factory=dict)

    def write(self, rows: Sequence[int], batch: Mapping[str, Any]) -> None:
        """Write for those of a batch's rows that are wanted."""
        wanted = [place for place, row in enumerate(rows) if row in self.rows]
        if not wanted:
            return
        encoder, tokenizer = self.source.encoder, self.source.tokenizer
        chosen = {name: x[wanted] for name, x in self.source.read(batch).items() if name != "labels"}
        labels = self.generated(chosen, derive_seed(self.seed, "texts", self.name, rows[wanted[0]]))
        sums, counts = Seq2SeqLmHead(0.0)(encoder.read(**chosen, labels=labels)).float().unbind(dim=1)
        found = zip(wanted, labels.tolist(), (-sums / counts.clamp(min=1)).tolist(), strict=True)
        for place, ids, score in found:
            text = tokenizer.decode(tokenizer.known_ids(ids), skip_special_tokens=True)
            self.texts[rows[place]], self.scores[rows[place]] = text, score

    def generated(self, tensors: Mapping[str, Tensor], seed: int) -> Tensor:
        """What the decoder writes up to the end, (rows, length), framed as targets are; `IGNORED` after that."""
        own = {name: x for name, x in tensors.items() if name not in ("word_ids", "word_counts")}
        encoder, end = self.source.encoder, self.source.end
        ids: Tensor = self._with_options(encoder.backbone.generate, seed, **encoder.inputs_of(**own))
        start, new = ids[:, : encoder.given_tokens], ids[:, 1:]  # a decoder begins with one token
        ended = (new == end).cumsum(dim=1)
        return torch.cat((start, new.masked_fill((ended > 1) | ((ended == 1) & (new != end)), IGNORED)), dim=1)

    def take(self) -> tuple[dict[str, Tensor], Any]:
        """Texts and scores by row."""
        state = [[row, text, self.scores[row]] for row, text in self.texts.items()]
        self.texts, self.scores = {}, {}
        return {}, state

    def give(self, tensors: Mapping[str, Tensor], state: Any) -> None:
        """See `take`."""
        del tensors
        for row, text, score in state:
            self.texts[row], self.scores[row] = text, score

    def check(self) -> None:
        """Raise `UserError` for options of `generation` by which nothing could be written, and write nothing."""
        encoder = self.source.encoder
        self._with_options(partial(check_call, encoder.backbone), 0, **encoder.example(self.source.end))

    def _with_options(self, generate: Callable[..., Any], seed: int, **inputs: Any) -> Any:
        """What `generate` makes of inputs with the options of this output."""
        source = self.source
        options: dict[str, Any] = {"eos_token_id": source.end, **self.generation}
        if options.get("max_length") is None:
            options["max_new_tokens"] = options.get("max_new_tokens") or source.longest
        if options.get("do_sample"):
            options.setdefault("seed", seed)
        model = source.encoder.backbone
        if before := source.before[
            source.encoder.given_tokens :
        ]:  # texts begin as targets do: with that of their language
            options.setdefault("forced_bos_token_id", before[0])
        if model.head.config.decoder_start_id is None:  # its training begins with the token that a target ends with
            options.setdefault("decoder_start_token_id", source.after[-1])
        try:
            return generate(**inputs, tokenizer=source.tokenizer, **options)
        except UserError as error:
            raise UserError(*(fault.under(f"outputs.{self.name}.generation") for fault in error.faults)) from None

    def metrics(self) -> dict[str, float]:
        """Those of the texts that were written where there is a true one; none if there is no such text."""
        pairs = [(text, true) for row, text in self.texts.items() if (true := self.true[row]) is not None]
        if not pairs or self.measure is None:
            return {}
        return self.measure([text for text, _ in pairs], [true for _, true in pairs])

    def columns(self) -> dict[str, list[Any]]:
        """The columns NAME, "" where nothing was written, and NAME_score, the mean log-probability of its tokens."""
        rows = range(len(self.sources))
        return {
            self.name: [self.texts.get(row, "") for row in rows],
            f"{self.name}_score": [self.scores.get(row, "") for row in rows],
        }

    def arrays(self) -> None:
        """None: it writes texts."""

    def samples(self, count: int) -> list[tuple[str, str, str]]:
        """The first texts that have a true one."""
        known = [row for row in sorted(self.texts) if self.true[row] is not None]
        return [(self.sources[row], self.texts[row], self.true[row] or "") for row in known[:count]]


def spread(rows: int, count: int) -> frozenset[int]:
    """`count` of that many rows, evenly spread; all if there are no more."""
    return frozenset(range(rows)) if count >= rows else frozenset(i * rows // count for i in range(count))


def build_writers(
    network: WritingNetwork,
    inputs: Mapping[str, Any],
    outputs: Mapping[str, FittedOutput],
    rows: Rows,
    *,
    seed: int,
    all_rows: bool,
) -> list[RowWriter]:
    """One writer per output that learns to generate: for all rows of the split, or as many as its config says."""
    found: list[RowWriter] = []
    for output in outputs.values():
        if (own := output.row_writer(network, rows, seed=seed, all_rows=all_rows)) is not None:
            found.append(own)
            continue
        source = output.text_source(network, inputs)
        if source is None:
            continue
        if isinstance(source, Answering):
            wanted = frozenset(range(rows.num_rows)) if all_rows else spread(rows.num_rows, source.rows)
            found.append(source.writer(rows, wanted, seed, inputs))
            continue
        column, generation, count = source.column, output.config.generation_options, rows.num_rows
        assert generation is not None
        found.append(
            Writer(
                output.name,
                generation,
                source,
                sources=shown(inputs, source.inputs, rows),
                true=list(rows[column]) if column in rows.column_names else [None] * count,
                rows=frozenset(range(count)) if all_rows else spread(count, source.rows),
                seed=seed,
                measure=output.measure_texts,
            )
        )
    return found


def check_writing(
    network: WritingNetwork,
    inputs: Mapping[str, Any],
    outputs: Mapping[str, FittedOutput],
    rows: Rows | None,
    *,
    seed: int,
) -> None:
    """Raise `UserError` for options of generation by which these models could not write, before they are trained."""
    for output in outputs.values():
        if output.config.sample_prompts:
            try:
                completer(output, inputs, network).check()
            except UserError as error:
                place = f"outputs.{output.name}.generation"
                raise UserError(*(fault.under(place) for fault in error.faults)) from None
    if rows is not None:
        for writer in build_writers(network, inputs, outputs, rows.select(range(1)), seed=seed, all_rows=True):
            writer.check()
