"""Has a sequence-to-sequence model write texts for rows, and measures them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from eir_seq.errors import UserError
from eir_seq.models.generation.generate import check_call
from eir_seq.outputs.base import FittedOutput
from eir_seq.outputs.generation.completion import HasEncoders, completer
from eir_seq.outputs.language.decoder_head import Seq2SeqLmHead
from eir_seq.randomness import derive_seed
from eir_seq.tokenizers import Tokenizer

if TYPE_CHECKING:
    from eir_seq.rows import Rows

IGNORED = -100


@dataclass
class Writer:
    """Writes texts for the rows of a split, batch by batch.

    Attributes:
        name: of the output.
        generation: options of `generate`.
        input: what texts are written from.
        encoder: of that input, called by its `read`; its `backbone` generates.
        tokenizer: of both sides.
        end: the token that ends a text.
        before: special tokens in front of a target.
        behind: those behind it.
        longest: tokens that a text has at most, where `generation` does not say.
        sources: the text of each row.
        true: what should be written from it, None where that is not known.
        rows: those to write for.
        seed: of texts that are drawn.
        measure: metrics of written texts and the true ones.
        texts: what was written, by row.
        scores: mean log-probability of its tokens, by row.
    """

    name: str
    generation: Mapping[str, Any]
    input: str
    encoder: Any
    tokenizer: Tokenizer
    end: int
    before: Sequence[int]
    behind: Sequence[int]
    longest: int
    sources: Sequence[str]
    true: Sequence[str | None]
    rows: frozenset[int]
    seed: int
    measure: Callable[[Sequence[str], Sequence[str]], dict[str, float]] | None = None
    texts: dict[int, str] = field(default_factory=dict)
    scores: dict[int, float] = field(default_factory=dict)

    def write(self, rows: Sequence[int], tensors: Mapping[str, Tensor]) -> None:
        """Write for those of a batch's rows that are wanted; `tensors` (batch, ...) are the encoder's."""
        wanted = [place for place, row in enumerate(rows) if row in self.rows]
        if not wanted:
            return
        chosen = {name: x[wanted] for name, x in tensors.items() if name != "labels"}
        labels = self.generated(chosen, derive_seed(self.seed, "texts", self.name, rows[wanted[0]]))
        sums, counts = Seq2SeqLmHead(0.0)(self.encoder.read(**chosen, labels=labels)).float().unbind(dim=1)
        found = zip(wanted, labels.tolist(), (-sums / counts.clamp(min=1)).tolist(), strict=True)
        for place, ids, score in found:
            known = [token for token in ids if 0 <= token < self.tokenizer.vocab_size]  # models may have spare ids
            text = self.tokenizer.decode(known, skip_special_tokens=True)
            self.texts[rows[place]], self.scores[rows[place]] = text, score

    def generated(self, tensors: Mapping[str, Tensor], seed: int) -> Tensor:
        """What the decoder writes up to the end, (rows, length), framed as targets are; `IGNORED` behind that."""
        own = {name: x for name, x in tensors.items() if name not in ("word_ids", "word_counts")}
        ids: Tensor = self._asked(self.encoder.backbone.generate, seed, **self.encoder.inputs_of(**own))
        start, new = ids[:, : self.encoder.begun], ids[:, 1:]  # a decoder begins with one token
        ended = (new == self.end).cumsum(dim=1)
        return torch.cat((start, new.masked_fill((ended > 1) | ((ended == 1) & (new != self.end)), IGNORED)), dim=1)

    def check(self) -> None:
        """Raise `UserError` for options of `generation` by which nothing could be written, and write nothing."""
        model = self.encoder.backbone
        self._asked(partial(check_call, model), 0, input_ids=torch.tensor([[self.end]], device=model.device))

    def _asked(self, generate: Callable[..., Any], seed: int, **inputs: Tensor) -> Any:
        """What `generate` makes of inputs with the options of this output."""
        options: dict[str, Any] = {"eos_token_id": self.end, **self.generation}
        if options.get("max_length") is None:
            options["max_new_tokens"] = options.get("max_new_tokens") or self.longest
        if options.get("do_sample"):
            options.setdefault("seed", seed)
        model = self.encoder.backbone
        if before := self.before[self.encoder.begun :]:  # texts begin as targets do: with the token of their language
            options.setdefault("forced_bos_token_id", before[0])
        if model.head.config.decoder_start_id is None:  # its training begins with the token that a target ends with
            options.setdefault("decoder_start_token_id", self.behind[-1])
        try:
            return generate(**inputs, tokenizer=self.tokenizer, **options)
        except UserError as error:
            raise UserError(*(fault.under(f"outputs.{self.name}.generation") for fault in error.faults)) from None

    def metrics(self) -> dict[str, float]:
        """Those of the texts that were written where there is a true one; none where there is no such text."""
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


def spread(rows: int, count: int) -> frozenset[int]:
    """`count` of so many rows, evenly spread; all where there are no more."""
    return frozenset(range(rows)) if count >= rows else frozenset(i * rows // count for i in range(count))


def build_writers(
    network: HasEncoders,
    inputs: Mapping[str, Any],
    outputs: Mapping[str, FittedOutput],
    rows: Rows,
    *,
    seed: int,
    all_rows: bool,
) -> list[Writer]:
    """One writer per output that learns to write texts: for all rows of the split, or as many as its config says."""
    found = []
    for output in outputs.values():
        wanted, generation = output.config.target_text, output.config.generation_options
        if wanted is None:
            continue
        assert generation is not None
        fitted = inputs[output.input]
        encoder = network.encoder(output.input)
        backbone = encoder.backbone
        longest, count = int(fitted.target_statistics["max"]), rows.num_rows
        if (most := backbone.config.target_positions()) is not None:
            longest = min(longest, most - 1)
        before, behind = fitted.target_frame
        true = list(rows[wanted.column]) if wanted.column in rows.column_names else [None] * count
        found.append(
            Writer(
                output.name,
                generation,
                output.input,
                encoder,
                fitted.tokenizer,
                fitted.end,
                before,
                behind,
                longest,
                sources=fitted.show(rows[:]),
                true=true,
                rows=frozenset(range(count)) if all_rows else spread(count, wanted.generate_rows),
                seed=seed,
                measure=output.measure_texts,
            )
        )
    return found


def check_writing(
    network: HasEncoders,
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
