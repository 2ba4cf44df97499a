"""The one tokenizer class: text to ids and back, whatever made the vocabulary."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from eir_seq.tokenizers.framing import Framing

ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")  # in the order in which missing ones get ids
CONFIG_FILE = "tokenizer_config.json"
_SURROGATE = re.compile("[\ud800-\udfff]")

Offsets = list[tuple[int, int]]


@dataclass(frozen=True)
class Encoding:
    """The tokens of a text, or of a text and its pair, before special tokens are set around them.

    `ids`, `type_ids` and `offsets` are equally long. `type_ids` say which text a token is from (0 or 1). `offsets`
    are (start, end) in characters of that text, None unless they were asked for.
    """

    ids: list[int]
    type_ids: list[int]
    offsets: Offsets | None = None


@dataclass(frozen=True)
class SpecialTokens:
    """Which token plays which role; None where the format has no such token."""

    bos: str | None = None
    eos: str | None = None
    unk: str | None = None
    sep: str | None = None
    pad: str | None = None
    cls: str | None = None
    mask: str | None = None


class Backend(Protocol):
    """What turns one text into ids: the `tokenizers` library or sentencepiece."""

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""

    def encode(self, texts: list[str], *, offsets: bool) -> list[tuple[list[int], Offsets | None]]:
        """Ids of each text without special tokens around it, and offsets in characters if wanted."""

    def decode(self, ids: list[int], *, skip_specials: bool) -> str:
        """Text of the ids."""

    def token_to_id(self, token: str) -> int | None:
        """Id of a token, None if it has none."""

    def id_to_token(self, token_id: int) -> str | None:
        """Token of an id, None if there is none."""

    def files(self) -> dict[str, bytes]:
        """All that is needed to build it again, by file name."""

    def options(self) -> dict[str, Any]:
        """What the tokenizer config has to say beside those files."""


class Tokenizer:
    """Texts to token ids and back.

    Encoding neither truncates nor adds special tokens, so that the caller can choose which part of a long text to
    keep; `add_specials` then frames what is left as the format wants it.
    """

    def __init__(self, backend: Backend, specials: SpecialTokens, framing: Framing) -> None:
        self._backend = backend
        self.specials = specials
        self.framing = self.target_framing = framing
        self.vocab_size = backend.vocab_size
        ids = {role: None if (token := getattr(specials, role)) is None else self._id(token) for role in ROLES}
        self.bos_id, self.eos_id, self.unk_id = ids["bos"], ids["eos"], ids["unk"]
        self.sep_id, self.pad_id, self.cls_id, self.mask_id = ids["sep"], ids["pad"], ids["cls"], ids["mask"]

    def _id(self, token: str) -> int:
        token_id = self._backend.token_to_id(token)
        assert token_id is not None, f"special token {token!r} is not in the vocabulary"
        return token_id

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
            everything = [_SURROGATE.sub("\ufffd", text) for text in everything]
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

    def add_specials(self, ids: Sequence[int], pair_ids: Sequence[int] | None = None) -> tuple[list[int], list[int]]:
        """Token ids with the special tokens of the format around them, and their type ids; each `(length,)`."""
        return self.framing.apply(ids, pair_ids)

    def add_target_specials(self, ids: Sequence[int]) -> tuple[list[int], list[int]]:
        """As `add_specials`, for a text that a sequence-to-sequence model is to write.

        Most formats make no difference; those that name the language of a text name that of the target.
        """
        return self.target_framing.apply(ids)

    def encode_targets(self, texts: Sequence[str]) -> list[Encoding]:
        """As `encode_batch`, for texts that a sequence-to-sequence model is to write."""
        return self.encode_batch(texts)

    def num_specials(self, pair: bool = False) -> int:
        """How many tokens `add_specials` adds."""
        return self.framing.count(pair=pair)

    def decode(self, ids: Sequence[int], *, skip_specials: bool = True) -> str:
        """The text of token ids; exact for byte and byte-level vocabularies, else as near as the vocabulary allows.

        Raises:
            ValueError: an id is outside of the vocabulary.
        """
        self._check_range(ids)
        return self._backend.decode(list(ids), skip_specials=skip_specials)

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The vocabulary entry of each id.

        Raises:
            ValueError: an id is outside of the vocabulary.
        """
        self._check_range(ids)
        return [self._backend.id_to_token(token_id) or "" for token_id in ids]

    def _check_range(self, ids: Sequence[int]) -> None:
        if len(ids) and not (min(ids) >= 0 and max(ids) < self.vocab_size):
            raise ValueError(f"token ids must lie between 0 and {self.vocab_size - 1}: {min(ids)} to {max(ids)} given")

    def token_to_id(self, token: str) -> int | None:
        """Id of a vocabulary entry, None if there is no such entry."""
        return self._backend.token_to_id(token)

    def fingerprint(self) -> str:
        """Hash of all that decides the ids of a text; equal for a tokenizer and its saved copy."""
        state = hashlib.sha256()
        for name, content in sorted(self._backend.files().items()):
            state.update(name.encode() + b"\0" + len(content).to_bytes(8, "big") + content)
        settings = (asdict(self.specials), asdict(self.framing), self._backend.options())
        state.update(json.dumps(settings, sort_keys=True).encode())
        return state.hexdigest()

    def save(self, folder: str | Path) -> None:
        """Write the published files of the vocabulary and a `tokenizer_config.json` into `folder` (made if absent).

        `load_tokenizer(folder)` gives an equal tokenizer back, and so do other readers of the published formats.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self._backend.files().items():
            (folder / name).write_bytes(content)
        config = {f"{role}_token": getattr(self.specials, role) for role in ROLES} | self._backend.options()
        (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def __len__(self) -> int:
        return self.vocab_size

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self._backend).__name__}, vocab_size={self.vocab_size})"
