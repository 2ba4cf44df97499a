"""The tokens of a tokenizer by name, and how it gets more of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tokenizers import AddedToken

from eir_seq.errors import Fault, UserError, nearest
from eir_seq.tokenizers.backend import ROLES, Backend, SpecialTokens

ADDITIONAL = "additional_special_tokens"


class Vocabulary:
    """What a `Tokenizer` does with its vocabulary."""

    _backend: Backend
    specials: SpecialTokens
    vocab_size: int

    def get_vocab(self) -> dict[str, int]:
        """All tokens with their ids, added ones included."""
        return self._backend.vocabulary()

    def get_added_vocab(self) -> dict[str, int]:
        """The tokens outside the vocabulary, special ones above all, with their ids."""
        return self._backend.added_vocabulary()

    def add_tokens(
        self, new_tokens: str | AddedToken | Sequence[str | AddedToken], special_tokens: bool = False
    ) -> int:
        """Read texts as whole tokens from now on; those that are no entries yet get the next ids.

        A model needs rows for them: ``model.resize_token_embeddings(len(tokenizer))``.

        Args:
            new_tokens: a token or several, each a text or an `AddedToken` of the library `tokenizers`.
            special_tokens: whether decoding can leave them out (`skip_special_tokens`).

        Returns:
            How many tokens are new.

        Raises:
            UserError: what is no token.

        Example:
            >>> from eir_seq.tokenizers import train_tokenizer
            >>> tokenizer = train_tokenizer("character", ["abc"])
            >>> tokenizer.add_tokens(["<x>", "cab"]), tokenizer.tokenize("acab<x>")
            (2, ['a', 'cab', '<x>'])
        """
        listed = [new_tokens] if isinstance(new_tokens, str | AddedToken) else list(new_tokens)
        return self._add([_token("new_tokens", token, special_tokens) for token in listed if str(token)])

    def add_special_tokens(
        self, special_tokens_dict: Mapping[str, Any], replace_additional_special_tokens: bool = True
    ) -> int:
        """Give roles to tokens, which are added where they are no entries yet; how a text is framed stays.

        Args:
            special_tokens_dict: tokens by role (``{"pad_token": "<pad>"}``); a list of ``additional_special_tokens``.
            replace_additional_special_tokens: True or False; earlier ones stay special tokens in any case.

        Returns:
            How many tokens are new.

        Raises:
            UserError: an unknown role, or what is no token.
        """
        del replace_additional_special_tokens
        roles = {f"{role}_token": role for role in ROLES}
        faults = [
            Fault(
                name, f"is no role of a token ({', '.join((*roles, ADDITIONAL))}){nearest(name, [*roles, ADDITIONAL])}"
            )
            for name in special_tokens_dict
            if name not in roles and name != ADDITIONAL
        ]
        if faults:
            raise UserError(*faults)
        named = {name: _token(name, token, True) for name, token in special_tokens_dict.items() if name in roles}
        further = [_token(ADDITIONAL, token, True) for token in special_tokens_dict.get(ADDITIONAL, ())]
        count = self._add([*named.values(), *further])
        self.specials = replace(self.specials, **{roles[name]: token.content for name, token in named.items()})
        for name, token in named.items():
            setattr(self, f"{roles[name]}_id", self._backend.token_to_id(token.content))
        return count

    def _add(self, tokens: Sequence[AddedToken]) -> int:
        count = self._backend.add_tokens(tokens)
        self.vocab_size = self._backend.vocab_size
        self.__dict__.pop("all_special_ids", None)
        return count


def _token(place: str, token: Any, special: bool) -> AddedToken:
    if isinstance(token, AddedToken):
        flags = {name: getattr(token, name) for name in ("single_word", "lstrip", "rstrip", "normalized")}
        return AddedToken(token.content, special=special or token.special, **flags)
    if not isinstance(token, str) or not token:
        raise UserError(Fault(place, f"a token is a text that is not empty, not {token!r}"))
    return AddedToken(token, special=special, normalized=not special)
