"""The files of a published tokenizer: found, bounded in size, read, and every fault told with the file's name."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from eir_seq.errors import Fault, UserError
from eir_seq.tokenizers.tokenizer import CONFIG_FILE, ROLES, SpecialTokens

MEGABYTE = 2**20
MAX_BYTES = 256 * MEGABYTE  # the largest published vocabularies have about 35 MB
MAX_CONFIG_BYTES = 16 * MEGABYTE
SENTENCEPIECE_FILES = ("spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "sentencepiece.model")
VOCABULARY_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", *SENTENCEPIECE_FILES)
CONFIG_FILES = (CONFIG_FILE, "special_tokens_map.json", "added_tokens.json", "config.json")


class TokenizerFiles:
    """The folder of a published tokenizer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, name: str) -> bool:
        """Whether the folder holds that file."""
        return (self.folder / name).is_file()

    def read(self, name: str, max_bytes: int = MAX_BYTES) -> bytes:
        """Content of a file.

        Raises:
            UserError: it cannot be read, is empty or too large.
        """
        path = self.folder / name
        try:
            size = path.stat().st_size
            if size > max_bytes:
                raise self.fault(name, f"{size / MEGABYTE:.0f} MB; at most {max_bytes // MEGABYTE} MB are read")
            content = path.read_bytes()
        except OSError as error:
            raise self.fault(name, error.strerror or str(error)) from error
        if not content:
            raise self.fault(name, "empty file")
        return content

    def text(self, name: str) -> str:
        """Content of a UTF-8 file, a byte order mark left out.

        Raises:
            UserError: as `read`, or it is not UTF-8.
        """
        try:
            return self.read(name).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise self.fault(name, f"not UTF-8 at byte {error.start}") from error

    def json(self, name: str, max_bytes: int = MAX_CONFIG_BYTES) -> dict[str, Any]:
        """The JSON object of a file.

        Raises:
            UserError: as `read`, or it is not a JSON object.
        """
        try:
            value = json.loads(self.read(name, max_bytes))
        except (ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise self.fault(name, f"not valid JSON: {reason}") from error
        if not isinstance(value, dict):
            raise self.fault(name, f"a JSON object is expected, not {type(value).__name__}")
        return value

    def optional_json(self, name: str) -> dict[str, Any]:
        """As `json`, empty where the file is absent."""
        return self.json(name) if self.has(name) else {}

    def fault(self, name: str, message: str) -> UserError:
        """The error about one file."""
        return UserError(Fault(os.fspath(self.folder / name), message))


class TokenizerConfigFiles:
    """What the JSON files beside a vocabulary say about it: its class, its special and its added tokens."""

    def __init__(self, files: TokenizerFiles) -> None:
        self._files = files
        self.options = files.optional_json(CONFIG_FILE)
        self._added = self._added_tokens()
        if "added_tokens_decoder" not in self.options:  # the older layout, in which the map has the last word
            self.options = {**self.options, **files.optional_json("special_tokens_map.json")}

    def lineage(self) -> str | None:
        """The format's name in lower-case letters and digits (`xlmroberta`), from the class or the model type."""
        named = self.options.get("tokenizer_class")
        if not named or named == "PreTrainedTokenizerFast":
            config = self._files.optional_json("config.json")
            named = config.get("tokenizer_class") or config.get("model_type")
        if not isinstance(named, str):
            return None
        name = named.removesuffix("Fast").removesuffix("Tokenizer")
        return "".join(character for character in name.lower() if character.isalnum())

    def flag(self, name: str, default: bool | None) -> bool | None:
        """A boolean option of the tokenizer config.

        Raises:
            UserError: it is something else.
        """
        value = self.options.get(name, default)
        if value is not None and not isinstance(value, bool):
            raise self._files.fault(CONFIG_FILE, f"{name}: true or false is expected, not {value!r}")
        return value

    def specials(self, defaults: SpecialTokens) -> SpecialTokens:
        """The roles; those of which the files say nothing are the format's own."""
        roles = {}
        for role in ROLES:
            value = self.options.get(f"{role}_token", getattr(defaults, role))
            roles[role] = None if value is None else self._token(f"{role}_token", value).content
        return SpecialTokens(**roles)

    def additional(self) -> list[AddedToken] | None:
        """The additional special tokens, None if the files do not say."""
        tokens = self.options.get("additional_special_tokens")
        if tokens is None:
            return None
        if not isinstance(tokens, list):
            raise self._files.fault(CONFIG_FILE, "additional_special_tokens: a list is expected")
        return [self._token("additional_special_tokens", token) for token in tokens]

    def role_token(self, role: str, content: str, *, lstrip: bool = False) -> AddedToken:
        """The token of a role with the flags that the files give it."""
        for token in self._added.values():
            if token.content == content:
                return token
        value = self.options.get(f"{role}_token")
        if isinstance(value, dict):
            return self._token(f"{role}_token", value)
        return AddedToken(content, lstrip=lstrip, special=True, normalized=False)

    def added(self) -> dict[int, AddedToken]:
        """The tokens that the files add to the vocabulary, by id."""
        return self._added

    def _added_tokens(self) -> dict[int, AddedToken]:
        found: dict[int, AddedToken] = {}
        listed = self.options.get("added_tokens_decoder")
        if listed is not None:
            if not isinstance(listed, dict):
                raise self._files.fault(CONFIG_FILE, "added_tokens_decoder: an object is expected")
            for number, value in listed.items():
                if not number.isdecimal() or not isinstance(value, dict):
                    raise self._files.fault(CONFIG_FILE, f"added_tokens_decoder.{number}: not an id and its token")
                special = value.get("special", False)
                found[int(number)] = self._token(f"added_tokens_decoder.{number}", value, special=special)
            return dict(sorted(found.items()))
        if self._files.has("added_tokens.json"):
            options = {**self.options, **self._files.optional_json("special_tokens_map.json")}
            special_names = {
                value["content"] if isinstance(value, dict) else value
                for key, listed in options.items()
                if key.endswith(("_token", "_tokens"))
                for value in (listed if isinstance(listed, list) else [listed])
                if isinstance(value, str) or (isinstance(value, dict) and isinstance(value.get("content"), str))
            }
            for content, number in self._files.json("added_tokens.json").items():
                if not isinstance(number, int):
                    raise self._files.fault("added_tokens.json", f"{content!r}: an id is expected, not {number!r}")
                special = content in special_names
                found[number] = AddedToken(content, special=special, normalized=not special)
        return dict(sorted(found.items()))

    def _token(self, place: str, value: Any, *, special: bool = True) -> AddedToken:
        if isinstance(value, str) and value:
            return AddedToken(value, special=special, normalized=False)
        content = value.get("content") if isinstance(value, dict) else None
        if not isinstance(content, str) or not content:
            raise self._files.fault(CONFIG_FILE, f"{place}: a token is expected, not {value!r}")
        flags = {name: bool(value.get(name, False)) for name in ("single_word", "lstrip", "rstrip")}
        return AddedToken(content, special=special, normalized=bool(value.get("normalized", not special)), **flags)
