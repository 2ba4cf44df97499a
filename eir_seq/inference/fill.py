"""Have a pretrained model fill the gaps of prompts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eir_seq.config.corruption import RemovedSpans
from eir_seq.config.schema import ExperimentConfig
from eir_seq.errors import Fault, UserError, nearest
from eir_seq.modalities.sequence.corruption import Vocabulary
from eir_seq.models.heads.base import IGNORED
from eir_seq.outputs.base import FittedOutput
from eir_seq.outputs.generation.completion import check_generation
from eir_seq.outputs.generation.source import TextSource
from eir_seq.outputs.generation.writing import Writer
from eir_seq.outputs.predictions import write_predictions
from eir_seq.randomness import derive_seed
from eir_seq.tokenizers import Tokenizer
from eir_seq.tokenizers.targets import target_frame
from eir_seq.training.bundle import Bundle
from eir_seq.training.console import Console
from eir_seq.training.devices import pick_device

CANDIDATES = 5
"""Tokens that are named for each mask, unless `generation.top_k` says otherwise."""


def gap_filler(bundle: Bundle) -> FittedOutput | None:
    """The output of a bundle that can fill gaps."""
    output = next(iter(bundle.outputs.values()))
    return output if output.config.FILLS else None


def fill_gaps(
    bundle: Bundle,
    output: FittedOutput,
    config: ExperimentConfig,
    prompts: Mapping[str, str],
    generation: Mapping[str, Any],
    destination: Path,
    console: Console,
    *,
    csv_safe: bool = False,
) -> None:
    """Fill the gaps of prompts; the table has the columns id, NAME_prompt, NAME, the text without gaps.

    Gaps are written as the tokenizer's mask token or, of `span_corruption`, as its sentinels <extra_id_0> ... For masks
    of a masked language model there is NAME_candidates, too: for each of them the most likely tokens and their
    probabilities, as JSON.

    Args:
        bundle: with the output.
        config: of the run, for these prompts: its batch sizes, device and seed.
        prompts: by id.
        generation: options of `generate` in place of the run's; for a masked language model `top_k` alone.
        csv_safe: as of `write_predictions`.

    Raises:
        UserError: prompts without a gap or too long, options that mean nothing, a table that cannot be written.
    """
    network = bundle.network.to(pick_device(config.trainer.accelerator)).eval()
    fill = _Filler(bundle.inputs[output.input], output, network.encoder(output.input), generation, config.seed)
    rows = fill.read(prompts)
    size = config.data.eval_batch_size or config.data.batch_size
    texts: list[str] = []
    candidates: list[list[list[tuple[str, float]]]] = []
    for start in range(0, len(rows), size):
        filled, most_likely = fill(rows[start : start + size], start)
        texts += filled
        candidates += most_likely
        console.progress("filling", len(texts), len(rows))
    columns: dict[str, list[Any]] = {f"{output.name}_prompt": list(prompts.values()), output.name: texts}
    if candidates:
        columns[f"{output.name}_candidates"] = [json.dumps(found, ensure_ascii=False) for found in candidates]
    write_predictions(destination, list(prompts), {output.name: columns}, csv_safe=csv_safe)
    if len(texts) == 1:
        for number, found in enumerate(candidates[0] if candidates else (), 1):
            console.say(f"gap {number}: " + ", ".join(f"{token.strip()!r} {share:.3f}" for token, share in found))
        console.say(texts[0])


class _Filler:
    """Rows of ids with gaps to texts without."""

    def __init__(
        self, fitted: Any, output: FittedOutput, encoder: Any, generation: Mapping[str, Any], seed: int
    ) -> None:
        self.fitted, self.output, self.encoder, self.seed = fitted, output, encoder, seed
        self.tokenizer: Tokenizer = fitted.tokenizer
        self.vocabulary = Vocabulary.of(fitted.tokenizer)
        self.device = next(encoder.parameters()).device
        self.writer: Writer | None = None
        self.spans = isinstance(output.config.corruption, RemovedSpans)
        self.top_k, faults = generation.get("top_k", CANDIDATES), list[Fault]()
        if output.config.generation_options is not None:
            self.writer = self._writer(output.writing_with(generation))
        else:
            for key in sorted(generation.keys() - {"top_k"}):
                hint = nearest(key, ["top_k"])
                faults.append(Fault(f"generation.{key}", f"has no effect on a masked language model; top_k has{hint}"))
        if not isinstance(self.top_k, int) or not 0 < self.top_k <= len(self.vocabulary.ordinary):
            message = f"{self.top_k!r} is not an integer from 1 to {len(self.vocabulary.ordinary)}"
            faults.append(Fault("generation.top_k", message))
        if faults:
            raise UserError(*faults)

    def _writer(self, output: FittedOutput) -> Writer:
        options = output.config.generation_options or {}
        check_generation(options, "generation")
        before, after = target_frame(self.tokenizer, f"inputs.{self.fitted.name}.tokenizer")
        places, longest = self.encoder.backbone.config.target_positions(), self.fitted.max_length
        longest = longest if places is None else min(longest, places - 1)
        source = TextSource(
            [self.fitted.name], lambda batch: batch, self.encoder, self.tokenizer, before, after, after[-1], longest
        )
        return Writer(self.output.name, options, source, sources=(), true=(), rows=frozenset(), seed=self.seed)

    @property
    def marks(self) -> dict[str, int]:
        """How gaps are written, and their ids."""
        if self.spans:
            return dict(zip(self.tokenizer.get_sentinel_tokens(), self.vocabulary.sentinels, strict=True))
        assert self.tokenizer.specials.mask is not None
        assert self.tokenizer.mask_id is not None
        return {self.tokenizer.specials.mask: self.tokenizer.mask_id}

    def read(self, prompts: Mapping[str, str]) -> list[list[int]]:
        """The ids of prompts in their frame; raises `UserError` for those without a gap, and for too long ones."""
        rows, faults, marks = [], [], self.marks
        first = next(iter(marks))
        for name, prompt in prompts.items():
            ids = self._ids(prompt, marks)
            row = self.fitted.framed(ids)
            place = "prompt" if len(prompts) == 1 else f"prompt {name}"
            if not set(ids) & set(marks.values()) and (self.spans or self.writer is None):
                faults.append(Fault(place, f"has no gap; write {first} where something is missing"))
            elif len(row) > self.fitted.max_length:
                faults.append(Fault(place, f"has {len(row)} tokens, the model reads {self.fitted.max_length} at most"))
            rows.append([token for token in row if token is not None])
        if faults:
            raise UserError(*faults)
        return rows

    def _ids(self, prompt: str, marks: Mapping[str, int]) -> list[int]:
        """Marks are found here where the tokenizer, like all that are trained here, reads none from a text."""
        first, number = next(iter(marks.items()))
        if number in self.tokenizer.encode_batch([first])[0].ids:
            return self.tokenizer.encode_batch([prompt])[0].ids
        parts = re.split(f"({'|'.join(map(re.escape, marks))})", prompt)
        tokenizer = self.fitted.config.tokenizer
        if tokenizer is None or not tokenizer.SPACES_APART:
            # a space belongs to the word after it, which is missing
            parts = [part.rstrip() if mark else part for part, mark in zip(parts, [*parts[1:], ""], strict=True)]
        encodings = iter(self.tokenizer.encode_batch([part for part in parts[::2] if part]))
        return [
            token
            for number, part in enumerate(parts)
            for token in ([marks[part]] if number % 2 else next(encodings).ids if part else [])
        ]

    @torch.inference_mode()
    def __call__(
        self, rows: Sequence[Sequence[int]], start: int
    ) -> tuple[list[str], list[list[list[tuple[str, float]]]]]:
        """The texts; of a masked language model also the candidates for each gap."""
        lengths = np.array([len(row) for row in rows])
        pad = self.tokenizer.pad_id or 0
        ids = np.full((len(rows), lengths.max()), pad, np.int64)
        mask = np.arange(lengths.max()) < lengths[:, None]
        ids[mask] = np.concatenate(rows)
        tensors = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        tensors = {name: x.to(self.device) for name, x in tensors.items()}
        if self.writer is not None:
            new = self.writer.generated(tensors, derive_seed(self.seed, "gaps", start)).cpu().numpy()
            return [self._restored(row, found[found != IGNORED]) for row, found in zip(rows, new, strict=True)], []
        tokens = self.encoder.read(**tensors)
        gaps = (ids == self.tokenizer.mask_id) & mask
        scores = tokens.head.scores(tokens.states[torch.from_numpy(gaps).to(self.device)]).float()
        ordinary = torch.from_numpy(self.vocabulary.ordinary).to(self.device)
        shares, best = scores.softmax(dim=-1)[:, ordinary].topk(self.top_k)
        found = ordinary[best].cpu().numpy()
        ids[gaps] = found[:, 0]
        named = [
            [(self._text([token]), round(share, 6)) for token, share in zip(*pair, strict=True)]
            for pair in zip(found.tolist(), shares.tolist(), strict=True)
        ]
        ends = np.cumsum(gaps.sum(axis=1))[:-1]
        parts = np.split(np.arange(len(named)), ends)
        texts = [self._text(row[real]) for row, real in zip(ids, mask, strict=True)]
        return texts, [[named[number] for number in part] for part in parts]

    def _restored(self, row: Sequence[int], written: NDArray[np.int64]) -> str:
        """The text that was written, or with `spans` the prompt with them."""
        if not self.spans:
            return self._text(written)
        spans: dict[int, list[int]] = {}
        sentinels, span = set(self.vocabulary.sentinels), []
        for token in written.tolist():
            if token in sentinels:
                span = spans.setdefault(token, [])
            else:
                span.append(token)
        return self._text(
            [token for place in row for token in (spans.get(place, []) if place in sentinels else [place])]
        )

    def _text(self, ids: Any) -> str:
        return self.tokenizer.decode(self.tokenizer.known_ids(ids), skip_special_tokens=True)
