"""Tokenizers as typed data: those that are fitted on the training rows, and published ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from eir_seq.config.strict import Positive, Strict, ignored
from eir_seq.config.vocab_file import read_vocab_file
from eir_seq.errors import Fault, UserError


class TokenizerBase(Strict):
    """What every tokenizer has."""

    IMPLEMENTATION: ClassVar[str | None] = None
    """``module:function``, called as ``(config, texts)``, that learns a `tokenizers.Tokenizer` from training texts. Its
    vocabulary begins with [PAD] [UNK] [CLS] [SEP] [MASK]. None: it is published, not learnt."""
    LEARNS: ClassVar[bool] = True
    """Whether its vocabulary depends on the training texts."""
    SPACES_APART: ClassVar[bool] = False
    """Whether a space is a token of its own, rather than part of the word after it."""

    if TYPE_CHECKING:
        type: str

    @property
    def separator(self) -> str:
        """What stands between the words of a text that it is trained on, where rows are lists of words."""
        return " "

    @property
    def published(self) -> PublishedTokenizerConfig | None:
        """The tokenizer as a published one, where it is loaded rather than learnt."""
        return None

    @property
    def learns(self) -> bool:
        """Whether its vocabulary depends on the training texts, with these options."""
        return self.LEARNS

    def preflight(self, place: str) -> Iterator[Fault]:
        """Files that it needs and that cannot be used.

        Args:
            place: the config path of the tokenizer.
        """
        del place
        yield from ()

    def faults(self, place: str) -> Iterator[Fault]:
        """Options that have no effect beside others.

        Args:
            place: the config path of the tokenizer.
        """
        del place
        yield from ()


class NormalizingTokenizerBase(TokenizerBase):
    """What every tokenizer that is fitted on training rows can do."""

    lowercase: bool = Field(False, description="lowercase before tokenization")
    normalization: Literal["nfc", "nfkc"] | None = Field("nfc", description="Unicode normalization")


class ListedTokenizerBase(NormalizingTokenizerBase):
    """What every tokenizer has whose vocabulary is a list of whole tokens."""

    vocab_file: str | None = Field(
        None,
        description="file with the vocabulary, in place of one that is learnt: a JSON object {token: id} or a token "
        "per line; special tokens come first, others follow in the order of the file",
    )

    @property
    def learns(self) -> bool:
        """Not with a vocabulary in a file."""
        return self.vocab_file is None

    def faults(self, place: str) -> Iterator[Fault]:
        """What limits a learnt vocabulary does not limit one in a file."""
        if self.vocab_file is not None:
            yield from ignored(place, self, "min_freq max_vocab_size", "with vocab_file")

    def preflight(self, place: str) -> Iterator[Fault]:
        """A vocabulary file that cannot be used."""
        if self.vocab_file is None:
            return
        try:
            read_vocab_file(self.vocab_file)
        except UserError as error:
            yield from (Fault(f"{place}.vocab_file", f"{fault.place} {fault.message}") for fault in error.faults)


class WordTokenizerConfig(ListedTokenizerBase):
    """Words by white space or by words and punctuation."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.tokenizers.training:train_words"

    type: Literal["word"] = "word"
    split_on: str | None = Field(
        None, min_length=1, description="separator between words; absent: words and punctuation marks apart"
    )
    min_freq: Positive = Field(1, description="rarer words become the unknown token")
    max_vocab_size: Positive | None = Field(None, description="keep only that many of the most frequent words")

    @property
    def separator(self) -> str:
        """What words are split at."""
        return self.split_on or " "


class CharacterTokenizerConfig(ListedTokenizerBase):
    """One token per character, for peptides, DNA and the like."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.tokenizers.training:train_words"
    SPACES_APART: ClassVar[bool] = True

    type: Literal["character"] = "character"
    min_freq: Positive = Field(1, description="rarer characters become the unknown token")
    max_vocab_size: Positive | None = Field(None, description="keep only that many of the most frequent characters")


class ByteTokenizerConfig(TokenizerBase):
    """One token per UTF-8 byte; nothing is unknown."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.tokenizers.training:byte_tokenizer"
    LEARNS: ClassVar[bool] = False
    SPACES_APART: ClassVar[bool] = True

    type: Literal["byte"] = "byte"


class TrainedTokenizerConfig(NormalizingTokenizerBase):
    """Subwords learnt from the training rows."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.tokenizers.training:train_subwords"

    type: Literal["bpe", "wordpiece", "unigram"]
    vocab_size: int = Field(
        8000,
        ge=16,
        le=2_000_000,
        description="upper bound of the learned vocabulary, special tokens included; bpe: 261 or more",
    )
    min_freq: Positive = Field(2, description="pairs rarer than this are not merged (bpe, wordpiece)")

    @field_validator("vocab_size")
    @classmethod
    def _room_for_bytes(cls, vocab_size: int, info: ValidationInfo) -> int:
        if info.data.get("type") == "bpe" and vocab_size < 261:
            raise ValueError("at least 261 is expected for bpe: 256 bytes and 5 special tokens")
        return vocab_size

    def faults(self, place: str) -> Iterator[Fault]:
        """The unigram model merges nothing."""
        if self.type == "unigram":
            yield from ignored(place, self, "min_freq", "with type 'unigram'")


class PublishedTokenizerConfig(TokenizerBase):
    """The tokenizer of a published checkpoint: a folder or a Hub id."""

    type: Literal["published"] = "published"
    path: str | None = Field(None, description="folder or Hub id; that of the pretrained model if absent")
    revision: str | None = Field(None, description="revision on the Hub")
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="override those of its files: src_lang, tgt_lang, legacy, ...",
    )

    @property
    def published(self) -> PublishedTokenizerConfig:
        """The tokenizer itself."""
        return self

    @field_validator("options")
    @classmethod
    def _no_place_and_no_chance(cls, options: dict[str, Any]) -> dict[str, Any]:
        if places := options.keys() & {"revision", "local_files_only", "path"}:
            raise ValueError(f"{', '.join(sorted(places))}: not an option of a tokenizer; it says where to find one")
        drawn = options.get("sp_model_kwargs")
        if isinstance(drawn, dict) and drawn.get("enable_sampling"):
            message = (
                "sp_model_kwargs.enable_sampling: an experiment encodes each text once, so nothing would be sampled"
            )
            raise ValueError(message)
        return options
