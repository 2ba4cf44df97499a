"""From text to ids and back, whatever made the vocabulary; how ids are framed, saved and fingerprinted."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import cached_property
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from eir_seq.errors import Fault, UserError
from eir_seq.tokenizers.backend import ROLES, Backend, Encoding, SpecialTokens
from eir_seq.tokenizers.batch import as_ids, cleaned_up
from eir_seq.tokenizers.chat import templates_as_json
from eir_seq.tokenizers.framing import Framing
from eir_seq.tokenizers.plain_subwords import PlainBytes, PlainWordIds
from eir_seq.tokenizers.vocabulary import Vocabulary

CONFIG_FILE = "tokenizer_config.json"
_SENTINEL = re.compile(r"<extra_id_\d+>")
SURROGATE = re.compile("[\ud800-\udfff]")
BYTES_AT_ONCE = 1 << 22
"""Bytes of texts that are encoded at once; each takes about 20 for a while."""


class TokenizerCore(Vocabulary):
    """What a `Tokenizer` does without the calls of published names."""

    padding_side: str = "right"
    model_max_length: int | None = None
    clean_up_tokenization_spaces: bool = False
    gives_mask: bool = True
    pad_token_type_id: int = 0

    def __init__(self, backend: Backend, specials: SpecialTokens, framing: Framing) -> None:
        self._backend = backend
        self.specials = specials
        self.framing = framing
        self.vocab_size = backend.vocab_size
        self.chat_templates: dict[str, str] = {}
        self.token_type_ids_pattern: str | None = None
        ids = {role: None if (token := getattr(specials, role)) is None else self._id(token) for role in ROLES}
        self.bos_id, self.eos_id, self.unk_id = ids["bos"], ids["eos"], ids["unk"]
        self.sep_id, self.pad_id, self.cls_id, self.mask_id = ids["sep"], ids["pad"], ids["cls"], ids["mask"]

    def _id(self, token: str) -> int:
        token_id = self._backend.token_to_id(token)
        assert token_id is not None, f"special token {token!r} is not in the vocabulary"
        return token_id

    def set_type_ids(self, pattern: str) -> None:
        """Number the texts of a pair by a pattern: "all_zeros", or "bert_style" with 1 from the second text on."""
        as_before = self.gives_type_ids  # whether the format's model takes them does not change
        self.token_type_ids_pattern = pattern
        self.framing = self.framing.typed(pattern)
        self.gives_type_ids = as_before

    @cached_property
    def gives_type_ids(self) -> bool:
        """Whether a call gives `token_type_ids` unasked: where special tokens tell the texts of a pair apart, too."""
        pair = self.framing.pair
        return any(part.type_id for part in pair) and any(part.token >= 0 for part in pair)

    @property
    def model_input_names(self) -> list[str]:
        """What a call gives unasked."""
        types = ["token_type_ids"] if self.gives_type_ids else []
        return ["input_ids", *types, *(["attention_mask"] if self.gives_mask else [])]

    @property
    def target_framing(self) -> Framing:
        """The framing of a text that a sequence-to-sequence model is to write."""
        return self.framing

    @property
    def target_vocab_size(self) -> int:
        """One more than the largest id of a target text."""
        return self.vocab_size

    @property
    def target_language_id(self) -> int | None:
        """The token that names the language to write in, None if the format names none."""
        return None

    @property
    def add_prefix_space(self) -> bool | None:
        """Whether a byte-level vocabulary reads the first word as any other, None if there is no such choice."""
        option: bool | None = self._backend.options().get("add_prefix_space")
        return option

    def encode_batch(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, offsets: bool = False
    ) -> list[Encoding]:
        """Tokens of each text (followed by those of its pair), untruncated and without special tokens around them.

        Lone surrogates, which no encoding can express, are read as U+FFFD.

        Raises:
            UserError: the vocabulary came from a broken or hostile file and cannot encode a text.
        """
        assert pairs is None or len(pairs) == len(texts), "as many pairs as texts"
        everything = [*texts, *(pairs or ())]
        try:
            "".join(everything).encode()
        except UnicodeEncodeError:
            everything = [SURROGATE.sub("\ufffd", text) for text in everything]
        encoded = self._backend.encode(everything, offsets=offsets)
        if pairs is None:
            return [Encoding(ids, [0] * len(ids), spans) for ids, spans in encoded]
        return [
            Encoding(
                first + second,
                [0] * len(first) + [1] * len(second),
                None if first_spans is None or second_spans is None else first_spans + second_spans,
            )
            for (first, first_spans), (second, second_spans) in zip(
                encoded[: len(texts)], encoded[len(texts) :], strict=True
            )
        ]

    def encode_column(self, texts: pa.StringArray) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The ids of a column of texts as `encode_batch` gives them, one after the other, and where each text begins.

        Args:
            texts: without nulls.

        Returns:
            The ids of all texts, ``(tokens,)``, and their bounds, ``(texts + 1,)``.

        Raises:
            UserError: as `encode_batch`.
        """
        ends = np.cumsum(pc.binary_length(texts).to_numpy(zero_copy_only=False).astype(np.int64))
        if not len(ends) or ends[-1] <= BYTES_AT_ONCE:
            return self._encode_column(texts)
        cuts = np.unique(ends // BYTES_AT_ONCE, return_index=True)[1].tolist()
        parts = [self._encode_column(texts[start:stop]) for start, stop in pairwise([*cuts, len(texts)])]
        sizes = np.concatenate([np.diff(bounds) for _, bounds in parts])
        return np.concatenate([ids for ids, _ in parts]), np.concatenate([[0], np.cumsum(sizes)])

    def _encode_column(self, texts: pa.StringArray) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        plain: PlainBytes | PlainWordIds | None = getattr(self._backend, "plain", None)
        if plain is None:
            return _joined([encoding.ids for encoding in self.encode_batch(texts.to_pylist())])
        ids, pieces = plain.encode(texts)
        if not len(pieces.left):
            return ids, pieces.bounds
        others = self.encode_batch(texts.take(pa.array(pieces.left)).to_pylist())
        found, bounds = _joined([encoding.ids for encoding in others])
        sizes = np.diff(pieces.bounds)
        own = np.repeat(np.arange(len(texts)), sizes)
        sizes[pieces.left] = np.diff(bounds)
        rows = np.concatenate([own, np.repeat(pieces.left, np.diff(bounds))])
        order = np.argsort(rows, kind="stable")
        return np.concatenate([ids, found])[order], np.concatenate([[0], np.cumsum(sizes)])

    def add_specials(self, ids: Any, pair_ids: Any = None) -> tuple[list[int], list[int]]:
        """Token ids with the special tokens of the format around them, and their type ids; each `(length,)`."""
        return self.framing.apply(as_ids(ids), None if pair_ids is None else as_ids(pair_ids))

    def add_target_specials(self, ids: Any) -> tuple[list[int], list[int]]:
        """As `add_specials`, for a text that a sequence-to-sequence model is to write.

        Most formats make no difference; those that name the language of a text name that of the target.
        """
        return self.target_framing.apply(as_ids(ids))

    def encode_targets(self, texts: Sequence[str]) -> list[Encoding]:
        """As `encode_batch`, for texts that a sequence-to-sequence model is to write."""
        return self.encode_batch(texts)

    def num_specials(self, pair: bool = False) -> int:
        """How many tokens `add_specials` adds."""
        return self.framing.count(pair=pair)

    def decode(
        self, token_ids: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> str:
        """The text of token ids; exact for byte and byte-level vocabularies, else as near as the vocabulary allows.

        Args:
            token_ids: of one text, in a list, an array or a tensor; or a single id.
            skip_special_tokens: leave special tokens out.
            clean_up_tokenization_spaces: take the spaces before punctuation marks away; as the attribute of that
                name if None.

        Raises:
            ValueError: an id is outside of the vocabulary, or these are not the ids of one text.
        """
        ids = as_ids(token_ids)
        self._check_range(ids)
        text = self._backend.decode(ids, skip_specials=skip_special_tokens)
        clean = clean_up_tokenization_spaces
        clean = self.clean_up_tokenization_spaces if clean is None else clean
        return cleaned_up(text) if clean else text

    def known_ids(self, token_ids: Iterable[int]) -> list[int]:
        """Those of ids that are in the vocabulary: models may write others, as many have spare embeddings."""
        return [int(token) for token in token_ids if 0 <= token < self.vocab_size]

    def tokens(self, ids: Any) -> list[str]:
        """The vocabulary entry of each id.

        Raises:
            ValueError: as `decode`.
        """
        known = as_ids(ids)
        self._check_range(known)
        return [self._backend.id_to_token(token_id) or "" for token_id in known]

    def _check_range(self, ids: Sequence[int]) -> None:
        if len(ids) and not (min(ids) >= 0 and max(ids) < self.vocab_size):
            raise ValueError(f"token ids must lie between 0 and {self.vocab_size - 1}: {min(ids)} to {max(ids)} given")

    def token_to_id(self, token: str) -> int | None:
        """Id of a vocabulary entry, None if there is no such entry."""
        return self._backend.token_to_id(token)

    def seed_sampling(self, seed: int) -> None:
        """Restart what `sp_model_kwargs` lets the vocabulary draw; the same calls then give the same tokens."""
        self._backend.seed(seed)

    @cached_property
    def all_special_ids(self) -> frozenset[int]:
        """Ids of the tokens that play a role, and of further special tokens."""
        roles = (self._backend.token_to_id(token) for token in asdict(self.specials).values() if token is not None)
        return self._backend.special_ids.union(token_id for token_id in roles if token_id is not None)

    def get_sentinel_tokens(self) -> list[str]:
        """The tokens that stand for gaps (`<extra_id_0>`, `<extra_id_1>` ...), in order; T5's have falling ids."""
        specials = (self._backend.id_to_token(token_id) or "" for token_id in self._backend.special_ids)
        return sorted(filter(_SENTINEL.fullmatch, specials), key=lambda token: int(token[10:-1]))

    def get_sentinel_token_ids(self) -> list[int]:
        """Ids of `get_sentinel_tokens`."""
        return [self._id(token) for token in self.get_sentinel_tokens()]

    def save_vocabulary(self, save_directory: str | Path, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write the published files of the vocabulary alone; their paths."""
        folder, prefix = Path(save_directory), f"{filename_prefix}-" if filename_prefix else ""
        if not folder.is_dir():
            raise UserError(Fault(str(folder), "no such folder"))
        paths = []
        for name, content in self._backend.vocabulary_files().items():
            (folder / f"{prefix}{name}").write_bytes(content)
            paths.append(str(folder / f"{prefix}{name}"))
        return tuple(paths)

    def fingerprint(self) -> str:
        """Hash of all that decides the ids of a text; equal for a tokenizer and its saved copy."""
        state = hashlib.sha256()
        for name, content in sorted(self._backend.files().items()):
            state.update(name.encode() + b"\0" + len(content).to_bytes(8, "big") + content)
        settings = (asdict(self.specials), asdict(self.framing), self._options())
        state.update(json.dumps(settings, sort_keys=True).encode())
        return state.hexdigest()

    def _options(self) -> dict[str, Any]:
        return self._backend.options()

    def save(self, folder: str | Path) -> None:
        """Write the published files of the vocabulary and a `tokenizer_config.json` into `folder` (made if absent).

        `load_tokenizer(folder)` gives an equal tokenizer back, and so do other readers of the published formats.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self._backend.files().items():
            (folder / name).write_bytes(content)
        config = {f"{role}_token": getattr(self.specials, role) for role in ROLES} | self._options()
        config |= templates_as_json(self.chat_templates) | {"padding_side": self.padding_side}
        config |= {"clean_up_tokenization_spaces": self.clean_up_tokenization_spaces}
        config |= {"model_input_names": self.model_input_names}
        further = {"model_max_length": self.model_max_length, "token_type_ids_pattern": self.token_type_ids_pattern}
        config |= {name: value for name, value in further.items() if value is not None}
        (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    save_pretrained = save

    def __len__(self) -> int:
        return self.vocab_size

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self._backend).__name__}, vocab_size={self.vocab_size})"


def _joined(rows: Sequence[Sequence[int]]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """All ids, one row after the other, and the bounds of the rows."""
    bounds = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)])
    return np.fromiter(chain.from_iterable(rows), np.int32, int(bounds[-1])), bounds
