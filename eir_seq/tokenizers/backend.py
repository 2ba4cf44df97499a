"""What turns one text into ids, as every tokenizer uses it, and what it gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tokenizers import AddedToken

ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")  # in the order in which missing ones get ids

Offsets = list[tuple[int, int]]


@dataclass(frozen=True)
class Encoding:
    """The tokens of a text, or of a text and its pair, before special tokens are set around them.

    `ids`, `type_ids` and `offsets` are equally long. `type_ids` say which text a token is from (0 or 1). `offsets`
    are (start, end) in characters of that text, None unless they were requested.
    """

    ids: list[int]
    type_ids: list[int]
    offsets: Offsets | None = None


@dataclass(frozen=True)
class SpecialTokens:
    """Which token plays which role; None if the format has no such token."""

    bos: str | None = None
    eos: str | None = None
    unk: str | None = None
    sep: str | None = None
    pad: str | None = None
    cls: str | None = None
    mask: str | None = None


class RoleToken:
    """The token of a role under its published name, `eos_token` say, read only; None if the format has none."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name, self.role = name, name.partition("_")[0]

    def __get__(self, tokenizer: Any, owner: type) -> str | None:
        token: str | None = getattr(tokenizer.specials, self.role)
        return token

    def __set__(self, tokenizer: Any, value: Any) -> None:
        token = self.name.removesuffix("_id")
        raise AttributeError(f"{self.name} is read only; load_tokenizer(..., {token}='...') gives the role to a token")


class RoleId(RoleToken):
    """The id of that token, `eos_token_id` say."""

    def __get__(self, tokenizer: Any, owner: type) -> Any:
        return getattr(tokenizer, f"{self.role}_id")


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

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids of the tokens that decoding can leave out."""

    def vocabulary(self) -> dict[str, int]:
        """All tokens with their ids."""

    def added_vocabulary(self) -> dict[str, int]:
        """The tokens outside the vocabulary with their ids."""

    def add_tokens(self, tokens: Sequence[AddedToken]) -> int:
        """Set tokens outside the vocabulary; how many of them are new."""

    def seed(self, seed: int) -> None:
        """Restart the random state, if there is any."""

    def files(self) -> dict[str, bytes]:
        """All that is needed to build it again, by file name."""

    def vocabulary_files(self) -> dict[str, bytes]:
        """The published files of the vocabulary alone."""

    def options(self) -> dict[str, Any]:
        """What the tokenizer config adds to those files."""
