"""Batches of texts that something was taken out of, new in each epoch of training, always the same in evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eir_seq.config.corruption import HiddenTokens, RemovedSpans
from eir_seq.config.outputs import OutputBase
from eir_seq.modalities.base import LENGTH, Collator, RowSource
from eir_seq.modalities.sequence.batches import SequenceCollator
from eir_seq.modalities.sequence.corruption import (
    Corruption,
    Denoising,
    Hiding,
    SpanCorruption,
    Vocabulary,
    masked,
    require_tokens,
)
from eir_seq.models.heads.base import IGNORED
from eir_seq.randomness import Draw
from eir_seq.tokenizers import Tokenizer
from eir_seq.tokenizers.framing import FIRST
from eir_seq.tokenizers.targets import padded_labels, target_frame


@dataclass(frozen=True)
class MaskingCollator:
    """Hides tokens of what another collator makes. With `draws` there is also a random number for each token."""

    inner: Collator
    name: str
    vocabulary: Vocabulary
    hiding: Hiding
    mask_share: float
    random_share: float
    draws: bool = False

    def __call__(self, encoded: RowSource, rows: Sequence[int], draw: Draw) -> dict[str, Tensor]:
        """The tensors with hidden tokens in `input_ids`; `labels` (batch, length) are these tokens, else `IGNORED`.

        `draws`: (batch, length) from 0 to 1.
        """
        tensors = self.inner(encoded, rows, draw)
        ids = tensors["input_ids"].numpy()
        candidates = tensors["attention_mask"].numpy() & ~self.vocabulary.special[ids]
        hidden, labels = ids.copy(), np.full_like(ids, IGNORED)
        draws = np.zeros(ids.shape, np.float32)
        for index, row in enumerate(rows):
            generator = draw.generator(self.name, row, "corruption")
            words = self._words(tensors, index, ids[index], candidates[index])
            places = self.hiding(generator, candidates[index], words)
            labels[index, places] = chosen = ids[index, places]
            shares = {"mask_share": self.mask_share, "random_share": self.random_share}
            hidden[index, places] = masked(generator, chosen, self.vocabulary, **shares)
            if self.draws:
                draws[index, places] = generator.random(len(places), np.float32)
        found = {**tensors, "input_ids": torch.from_numpy(hidden), "labels": torch.from_numpy(labels)}
        return found | ({"draws": torch.from_numpy(draws)} if self.draws else {})

    def _words(self, tensors: dict[str, Tensor], index: int, ids: Any, candidates: Any) -> Any:
        if not self.hiding.whole_words:
            return None
        if "word_ids" in tensors:
            return tensors["word_ids"][index].numpy()
        return self.vocabulary.words(ids, candidates)


@dataclass(frozen=True)
class RestoringCollator:
    """Takes something out of what another collator makes; the target becomes `labels`.

    `front`, `back`: special tokens around a text. `before`, `after`: those around a target.
    """

    inner: Collator
    name: str
    corruption: Corruption
    front: int
    back: int
    before: tuple[int, ...]
    after: tuple[int, ...]
    pad_id: int

    def __call__(self, encoded: RowSource, rows: Sequence[int], draw: Draw) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask` (batch, length) of the sources, `labels` (batch, target length)."""
        tensors = self.inner(encoded, rows, draw)
        ids, mask = tensors["input_ids"].numpy(), tensors["attention_mask"].numpy()
        sources, targets = [], []
        for index, row in enumerate(rows):
            text = ids[index, mask[index]]
            end = len(text) - self.back
            source, target = self.corruption(draw.generator(self.name, row, "corruption"), text[self.front : end])
            sources.append(np.concatenate([text[: self.front], source, text[end:]]))
            targets.append(np.concatenate([self.before, target, self.after]))
        lengths = np.array([len(source) for source in sources])
        input_ids = np.full((len(rows), lengths.max()), self.pad_id, np.int64)
        real = np.arange(lengths.max()) < lengths[:, None]
        input_ids[real] = np.concatenate(sources)
        return {
            "input_ids": torch.from_numpy(input_ids),
            "attention_mask": torch.from_numpy(real),
            "labels": padded_labels(targets),
        }

    def target_lengths(self, encoded: RowSource) -> NDArray[Any]:
        """Tokens of the target of each row, at most, by which batches are made."""
        return self.corruption.target_lengths(encoded.numbers(LENGTH))


def corrupting_collator(
    inner: SequenceCollator, name: str, tokenizer: Tokenizer, config: OutputBase, *, has_words: bool
) -> MaskingCollator | RestoringCollator:
    """What makes batches of an input for an output that restores its texts.

    Args:
        inner: makes batches of the texts as they are.
        name: that of the input.
        tokenizer: of the input.
        config: the output.
        has_words: whether the texts are words, so that none is divided.

    Raises:
        UserError: the tokenizer lacks tokens that this needs.
    """
    vocabulary, wanted = Vocabulary.of(tokenizer), config.corruption
    place, kind = f"inputs.{name}.tokenizer", config.type
    assert wanted is not None
    if isinstance(wanted, HiddenTokens):
        split = wanted.whole_words and not has_words
        require_tokens(vocabulary, place, kind, mask=True, words=split)
        hiding = Hiding(wanted.probability, wanted.mean_span_length, wanted.whole_words)
        shares = (wanted.mask_share, wanted.random_share)
        return MaskingCollator(inner, name, vocabulary, hiding, *shares, wanted.draws)
    corruption: Corruption
    if isinstance(wanted, RemovedSpans):
        require_tokens(vocabulary, place, kind, sentinels=True)
        corruption = SpanCorruption(wanted.density, wanted.mean_span_length, vocabulary.sentinels)
    else:
        require_tokens(vocabulary, place, kind, mask=True)
        mask = vocabulary.mask
        assert mask is not None
        corruption = Denoising(
            wanted.mask_share,
            wanted.mean_span_length,
            wanted.permute_sentences,
            wanted.delete_probability,
            mask,
            vocabulary.ends,
        )
    before, after = target_frame(tokenizer, place)
    parts = [part.token for part in tokenizer.framing.single]
    front = parts.index(FIRST)
    back = len(parts) - front - 1
    return RestoringCollator(inner, name, corruption, front, back, tuple(before), tuple(after), inner.pad_id)
