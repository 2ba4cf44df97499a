"""Formats that only close a text, by `</s>`: Pegasus, and Marian with a model for each side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenizers import AddedToken

from eir_seq.errors import Fault, UserError
from eir_seq.tokenizers.backend import Backend, Encoding, SpecialTokens
from eir_seq.tokenizers.batch import as_ids
from eir_seq.tokenizers.framing import FIRST, SECOND, Framing, Part
from eir_seq.tokenizers.tokenizer import Tokenizer


class ClosedTokenizer(Tokenizer):
    """Texts to token ids and back; a text, or two one after the other, is closed by `</s>`."""

    def __init__(self, backend: Backend, specials: SpecialTokens) -> None:
        number = None if specials.eos is None else backend.token_to_id(specials.eos)
        if number is None:
            raise UserError(Fault("eos_token", "this format needs it"))
        first, eos = Part(FIRST, 0), Part(number, 0)
        super().__init__(backend, specials, Framing(single=(first, eos), pair=(first, Part(SECOND, 0), eos)))

    def get_special_tokens_mask(
        self,
        token_ids_0: Any,
        token_ids_1: Any = None,
        already_has_special_tokens: bool = False,
    ) -> list[int]:
        """1 at special tokens, those within the texts included, but for unknown ones: they stand for a text."""
        special = self.all_special_ids - {self.unk_id}
        ids = as_ids(token_ids_0) if already_has_special_tokens else self.add_specials(token_ids_0, token_ids_1)[0]
        return [int(token_id in special) for token_id in ids]


class MarianTokenizer(ClosedTokenizer):
    """Sources are cut by one sentencepiece model, targets by another; mostly both share the ids of one vocabulary."""

    def __init__(self, source: Backend, target: Backend, specials: SpecialTokens, languages: tuple[str, ...]) -> None:
        super().__init__(source, specials)
        self._target = ClosedTokenizer(target, specials)
        self.supported_language_codes = languages
        """What a text can begin with to name the language of its translation, such as `>>fra<<`."""

    @property
    def target_framing(self) -> Framing:
        """The framing of a target text, with the ids of the targets."""
        return self._target.framing

    @property
    def target_vocab_size(self) -> int:
        """One more than the largest id of targets."""
        return self._target.vocab_size

    def encode_targets(self, texts: Sequence[str]) -> list[Encoding]:
        """As `encode_batch`, by the model and the ids of the targets."""
        return self._target.encode_batch(texts)

    def decode(
        self,
        token_ids: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        *,
        use_source_tokenizer: bool = False,
    ) -> str:
        """The text of token ids, which are those of a target unless `use_source_tokenizer`.

        Raises:
            ValueError: an id is outside of the vocabulary.
        """
        if use_source_tokenizer:
            return super().decode(token_ids, skip_special_tokens, clean_up_tokenization_spaces)
        clean = clean_up_tokenization_spaces
        clean = self.clean_up_tokenization_spaces if clean is None else clean
        return self._target.decode(token_ids, skip_special_tokens, clean)

    def _add(self, tokens: Sequence[AddedToken]) -> int:
        self._target._add(tokens)
        return super()._add(tokens)

    def seed_sampling(self, seed: int) -> None:
        """Restart what is drawn, on both sides."""
        super().seed_sampling(seed)
        self._target.seed_sampling(seed)
