"""Backend on the `tokenizers` library: every vocabulary that has, or can get, a tokenizer.json."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tokenizers import AddedToken
from tokenizers import Tokenizer as RustTokenizer
from tokenizers.models import Unigram

from eir_seq.errors import Fault, UserError
from eir_seq.tokenizers.backend import Offsets
from eir_seq.tokenizers.byte_level import option_of, text_of_tokens
from eir_seq.tokenizers.plain_subwords import PlainBytes, PlainWordIds

TOKENIZER_FILE = "tokenizer.json"

# The thread pool of the library does not survive a fork. Set once, it neither warns nor hangs: the main
# process tokenizes in parallel, forked workers do not.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: os.environ.__setitem__("TOKENIZERS_PARALLELISM", "false"))


@contextmanager
def library_errors(place: str, message: str) -> Iterator[None]:
    """Turn what the library raises, panics included (they are no `Exception`), into a `UserError`."""
    try:
        yield
    except BaseException as error:
        if type(error) is Exception or type(error).__name__ == "PanicException":
            reason = " ".join(str(error).split())[:300]
            raise UserError(Fault(place, f"{message}: {reason}")) from error
        raise


class RustBackend:
    """A `tokenizers.Tokenizer`, without its truncation and padding.

    `errors`: see `byte_level.ERRORS`; of byte-level vocabularies alone. `published` options (the class above all) are
    written to the tokenizer config, for formats that tokenizer.json cannot express.
    """

    def __init__(
        self,
        rust: RustTokenizer,
        *,
        place: str,
        specials_in_text: bool,
        errors: str = "replace",
        published: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        rust.no_truncation()
        rust.no_padding()
        # Whether "[SEP]" within a text is the special token (published formats) or five characters like any others.
        rust.encode_special_tokens = not specials_in_text
        self._rust = rust
        self._place = place
        self._errors = errors
        self._published = dict(published)

    def __getstate__(self) -> dict[str, Any]:
        # The library's own pickling forgets `encode_special_tokens`.
        specials_in_text = not self._rust.encode_special_tokens
        given = {"place": self._place, "specials_in_text": specials_in_text, "published": self._published}
        given["errors"] = self._errors
        return {"json": self._rust.to_str(), **given}

    def __setstate__(self, state: dict[str, Any]) -> None:
        RustBackend.__init__(self, RustTokenizer.from_str(state.pop("json")), **state)

    @cached_property
    def vocab_size(self) -> int:
        """One more than the largest id (vocabularies may have holes)."""
        return 1 + max(self._rust.get_vocab(with_added_tokens=True).values(), default=-1)

    def encode(self, texts: list[str], *, offsets: bool) -> list[tuple[list[int], Offsets | None]]:
        """Ids of each text, and offsets in characters if wanted."""
        with library_errors(self._place, "this tokenizer cannot encode a text"):
            if offsets:
                return [(e.ids, e.offsets) for e in self._rust.encode_batch(texts, add_special_tokens=False)]
            return [(e.ids, None) for e in self._rust.encode_batch_fast(texts, add_special_tokens=False)]

    @cached_property
    def plain(self) -> PlainBytes | PlainWordIds | None:
        """What encodes texts faster, with the same ids; None where this vocabulary takes more than that."""

        def tokenize(words: list[str]) -> list[list[int]]:
            model = self._rust.model
            with library_errors(self._place, "this tokenizer cannot encode a text"):
                return [[token.id for token in model.tokenize(word)] for word in words]

        def encode(texts: list[str]) -> list[list[int]]:
            return [ids for ids, _ in self.encode(texts, offsets=False)]

        return PlainBytes.of(self._rust) or PlainWordIds.of(self._rust, tokenize, encode)

    def decode(self, ids: list[int], *, skip_specials: bool) -> str:
        """Text of the ids."""
        if self._errors != "replace":
            added = self._rust.get_added_tokens_decoder()
            kept = [i for i in ids if not (skip_specials and i in added and added[i].special)]
            return text_of_tokens([(self.id_to_token(i) or "", i not in added) for i in kept], self._errors)
        with library_errors(self._place, "this tokenizer cannot decode"):
            text: str = self._rust.decode(ids, skip_special_tokens=skip_specials)
        return text

    def token_to_id(self, token: str) -> int | None:
        """Id of a token, None if it has none."""
        number: int | None = self._rust.token_to_id(token)
        return number

    def id_to_token(self, token_id: int) -> str | None:
        """Token of an id, None if there is none."""
        token: str | None = self._rust.id_to_token(token_id)
        return token

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids of the added tokens that are special."""
        return frozenset(i for i, token in self._rust.get_added_tokens_decoder().items() if token.special)

    def vocabulary(self) -> dict[str, int]:
        """All tokens with their ids."""
        tokens: dict[str, int] = self._rust.get_vocab(with_added_tokens=True)
        return tokens

    def added_vocabulary(self) -> dict[str, int]:
        """The added tokens with their ids."""
        return {token.content: i for i, token in sorted(self._rust.get_added_tokens_decoder().items())}

    def add_tokens(self, tokens: Sequence[AddedToken]) -> int:
        """Set tokens outside the vocabulary; how many of them are new."""
        before = self._rust.get_vocab_size(with_added_tokens=True)
        with library_errors("new_tokens", "cannot be added"):
            self._rust.add_tokens(list(tokens))
        for cached in ("vocab_size", "plain"):
            self.__dict__.pop(cached, None)
        count: int = self._rust.get_vocab_size(with_added_tokens=True) - before
        return count

    def seed(self, seed: int) -> None:
        """Nothing is drawn here."""

    def vocabulary_files(self) -> dict[str, bytes]:
        """vocab.txt, or vocab.json with merges.txt, as the library writes them for the kind of vocabulary."""
        with tempfile.TemporaryDirectory() as folder:
            return {Path(path).name: Path(path).read_bytes() for path in self._rust.model.save(folder)}

    def files(self) -> dict[str, bytes]:
        """The standard tokenizer.json."""
        content: str = self._rust.to_str()
        if isinstance(self._rust.model, Unigram):
            # The library reads long decimals with an error in the last place: write some that it reads back exactly.
            for _ in range(20):
                read_again: str = RustTokenizer.from_str(content).to_str()
                if read_again == content:
                    break
                content = read_again
        return {TOKENIZER_FILE: content.encode()}

    def options(self) -> dict[str, Any]:
        """The class by which other readers open the folder, and what tokenizer.json cannot hold."""
        options: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "split_special_tokens": self._rust.encode_special_tokens,
        }
        prefix_space = option_of(self._rust, "pre_tokenizer", "add_prefix_space")
        byte_level: dict[str, Any] = {} if prefix_space is None else {"add_prefix_space": prefix_space}
        if self._errors != "replace":
            byte_level["errors"] = self._errors
        return options | byte_level | self._published
