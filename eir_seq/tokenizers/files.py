"""The files of a published tokenizer: found, bounded in size, read, and every fault reported with the file's name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from eir_seq.errors import Fault, UserError, nearest
from eir_seq.files import CONFIG, MEGABYTE, SMALL, read_small
from eir_seq.tokenizers.backend import ROLES, SpecialTokens
from eir_seq.tokenizers.chat import CHAT_TEMPLATE_FILE, DEFAULT
from eir_seq.tokenizers.core import CONFIG_FILE
from eir_seq.tokenizers.spm import Sampling

MAX_BYTES = 128 * MEGABYTE  # the largest published vocabularies have about 35 MB
LONGEST = 10**12  # above: "no limit"
MAX_NBEST = 512  # the library's limit
PROPHETNET_FILE = "prophetnet.tokenizer"  # a vocabulary for WordPiece, or a sentencepiece model for xlm-prophetnet
SENTENCEPIECE_FILES = (
    "source.spm",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "sentencepiece.model",
    "spm.model",
    PROPHETNET_FILE,
)
MARIAN_FILES = ("target.spm", "target_vocab.json")
VOCABULARY_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", *SENTENCEPIECE_FILES, *MARIAN_FILES)
CONFIG_FILES = (CONFIG_FILE, CHAT_TEMPLATE_FILE, "special_tokens_map.json", "added_tokens.json", "config.json")


def lineage_of(name: str) -> str:
    """A format's name in lower-case letters and digits: of "XLMRobertaTokenizerFast" or "xlm-roberta", `xlmroberta`."""
    name = name.removesuffix("Fast").removesuffix("Tokenizer")
    return "".join(character for character in name.lower() if character.isalnum())


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
        try:
            content = read_small(self.folder / name, max_bytes)
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

    def json(self, name: str, max_bytes: int = SMALL) -> dict[str, Any]:
        """The JSON object of a file.

        Raises:
            UserError: as `read`, or it is not a JSON object.
        """
        content = self.read(name, max_bytes)
        try:
            value = json.loads(content)
        except (ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise self.fault(name, f"not valid JSON: {reason}") from error
        if not isinstance(value, dict):
            raise self.fault(name, f"a JSON object is expected, not {type(value).__name__}")
        return value

    def optional_json(self, name: str) -> dict[str, Any]:
        """As `json`, empty where the file is absent."""
        return self.json(name, CONFIG if name == "config.json" else SMALL) if self.has(name) else {}

    def fault(self, name: str, message: str) -> UserError:
        """The error about one file."""
        return UserError(Fault(os.fspath(self.folder / name), message))


class Options(dict[str, Any]):
    """Options that remember which of them were requested."""

    def __init__(self, *layers: Mapping[str, Any]) -> None:
        super().__init__({name: value for layer in layers for name, value in layer.items()})
        self.requested: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        """The option, or the default."""
        self.requested.add(name)
        return super().get(name, default)


class TokenizerConfigFiles:
    """What the JSON files next to a vocabulary say about it: its class, its special and its added tokens.

    `chosen` options take precedence over those of the files.
    """

    def __init__(self, files: TokenizerFiles, chosen: Mapping[str, Any] | None = None) -> None:
        self._files = files
        self.chosen = dict(chosen or {})
        self.options = Options(files.optional_json(CONFIG_FILE))
        self._added = self._added_tokens()
        if "added_tokens_decoder" not in self.options:  # the older layout, in which the map has the last word
            self.options = Options(self.options, files.optional_json("special_tokens_map.json"))
        self.options = Options(self.options, self.chosen)

    def fault(self, option: str, message: str) -> UserError:
        """The error about an option, which was chosen or is in the files."""
        if option.split(".")[0] in self.chosen:
            return UserError(Fault(option, message))
        return self._files.fault(CONFIG_FILE, f"{option}: {message}")

    def refuse_unread(self, name: str) -> None:
        """Raise `UserError` about chosen options that the vocabulary of that file has no use for."""
        unread = [option for option in self.chosen if option not in self.options.requested]
        if unread:
            known = sorted(self.options.requested - {"tokenizer_class"})
            message = f"not an option of a tokenizer from {name}"
            raise UserError(*(Fault(option, message + nearest(option, known)) for option in unread))

    def lineage(self) -> str | None:
        """The format's name in lower-case letters and digits (`xlmroberta`), from the class or the model type."""
        named = self.options.get("tokenizer_class")
        if not named or named == "PreTrainedTokenizerFast":
            config = self._files.optional_json("config.json")
            named = config.get("tokenizer_class") or config.get("model_type")
        return lineage_of(named) if isinstance(named, str) else None

    def flag(self, name: str, default: bool | None) -> bool | None:
        """A boolean option of the tokenizer config.

        Raises:
            UserError: it is something else.
        """
        value = self.options.get(name, default)
        if value is not None and not isinstance(value, bool):
            raise self.fault(name, f"true or false is expected, not {value!r}")
        return value

    def text(self, name: str, default: str | None = None, allowed: Sequence[str] | None = None) -> str | None:
        """An option that is a word.

        Raises:
            UserError: it is something else, or none of `allowed`.
        """
        value = self.options.get(name, default)
        if value is not None and not isinstance(value, str):
            raise self.fault(name, f"a text is expected, not {value!r}")
        if value is not None and allowed is not None and value not in allowed:
            raise self.fault(name, f"{value!r} is not one of {', '.join(allowed)}{nearest(value, allowed)}")
        return value

    def number(self, name: str, default: int, *, most: int) -> int:
        """An option that is a number from 0 to `most`.

        Raises:
            UserError: it is something else.
        """
        value = self.options.get(name, default)
        if type(value) is not int or not 0 <= value <= most:
            raise self.fault(name, f"a number of tokens is expected, not {value!r}")
        return value

    def names(self, name: str) -> list[str] | None:
        """An option that lists words, None if it is absent.

        Raises:
            UserError: it is something else.
        """
        value = self.options.get(name)
        if value is not None and not (isinstance(value, list) and all(isinstance(word, str) for word in value)):
            raise self.fault(name, f"a list of texts is expected, not {value!r}")
        return value

    def longest(self) -> int | None:
        """`model_max_length`, None if there is no limit, which files write as a number beyond all lengths.

        Raises:
            UserError: it is something else.
        """
        value = self.options.get("model_max_length")
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value < 1):
            raise self.fault("model_max_length", f"a number of tokens is expected, not {value!r}")
        return None if value is None or value > LONGEST else int(value)

    def specials_in_text(self) -> bool:
        """Whether special tokens that are in a text are read as such."""
        return not self.flag("split_special_tokens", False)

    def sampling(self) -> Sampling:
        """How sentencepiece draws the tokens of a text (`sp_model_kwargs`).

        Raises:
            UserError: an unknown key, or a value that the library cannot take.
        """
        given = self.options.get("sp_model_kwargs")
        if given is None:
            return Sampling()
        if not isinstance(given, Mapping):
            raise self.fault("sp_model_kwargs", f"an object is expected, not {given!r}")
        allowed: dict[str, Callable[[Any], bool]] = {
            "enable_sampling": lambda value: isinstance(value, bool),
            "nbest_size": lambda value: type(value) is int and value <= MAX_NBEST,
            "alpha": lambda value: type(value) in (int, float) and 0 <= value < float("inf"),
        }
        for name, value in given.items():
            if name not in allowed:
                message = f"not one of {', '.join(allowed)}{nearest(name, allowed)}"
                raise self.fault(f"sp_model_kwargs.{name}", message)
            if not allowed[name](value):
                raise self.fault(f"sp_model_kwargs.{name}", f"{value!r} cannot be")
        return Sampling(**given)

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
            raise self.fault("additional_special_tokens", "a list is expected")
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
            raise self.fault(place, f"a token is expected, not {value!r}")
        flags = {name: bool(value.get(name, False)) for name in ("single_word", "lstrip", "rstrip")}
        return AddedToken(content, special=special, normalized=bool(value.get("normalized", not special)), **flags)


def read_chat_templates(files: TokenizerFiles, config: TokenizerConfigFiles) -> dict[str, str]:
    """The templates of a folder by name, mostly one that is called `default`.

    Raises:
        UserError: something other than a template is in their place.
    """
    given = config.options.get("chat_template")
    if files.has(CHAT_TEMPLATE_FILE) and "chat_template" not in config.chosen:
        given = files.text(CHAT_TEMPLATE_FILE)
    if isinstance(given, str):
        return {DEFAULT: given}
    try:
        found = {entry["name"]: entry["template"] for entry in given or ()}
    except (KeyError, TypeError):
        found = {"": None}
    if not all(isinstance(text, str) for entry in found.items() for text in entry):
        raise config.fault("chat_template", "a template is expected, or a list of objects {name, template}")
    return found
