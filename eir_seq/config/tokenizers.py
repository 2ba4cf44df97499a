"""Tokenizers as typed data: those that are fitted on the training rows, and published ones."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Union

from pydantic import Field, ValidationInfo, field_validator

from eir_seq.config.strict import Positive, Strict


class TokenizerBase(Strict):
    """What every tokenizer that is fitted on training rows can do."""

    lowercase: bool = Field(False, description="lowercase before tokenization")
    normalization: Literal["nfc", "nfkc"] | None = Field("nfc", description="Unicode normalization")


class WordTokenizerConfig(TokenizerBase):
    """Words by white space or by words and punctuation."""

    type: Literal["word"] = "word"
    split_on: str | None = Field(
        None, min_length=1, description="separator between words; absent: words and punctuation marks apart"
    )
    min_freq: Positive = Field(1, description="rarer words become the unknown token")
    max_vocab_size: Positive | None = Field(None, description="keep only that many of the most frequent words")


class CharacterTokenizerConfig(TokenizerBase):
    """One token per character, for peptides, DNA and the like."""

    type: Literal["character"] = "character"
    min_freq: Positive = Field(1, description="rarer characters become the unknown token")
    max_vocab_size: Positive | None = Field(None, description="keep only that many of the most frequent characters")


class ByteTokenizerConfig(Strict):
    """One token per UTF-8 byte; nothing is unknown."""

    type: Literal["byte"] = "byte"


class TrainedTokenizerConfig(TokenizerBase):
    """Subwords learnt from the training rows."""

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


class PublishedTokenizerConfig(Strict):
    """The tokenizer of a published checkpoint: a folder or a Hub id."""

    type: Literal["published"] = "published"
    path: str | None = Field(None, description="folder or Hub id; that of the pretrained model if absent")
    revision: str | None = Field(None, description="revision on the Hub")
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="override those of its files: src_lang, tgt_lang, legacy, ...",
    )

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


TokenizerConfig = Annotated[
    Union[  # noqa: UP007
        WordTokenizerConfig,
        CharacterTokenizerConfig,
        ByteTokenizerConfig,
        TrainedTokenizerConfig,
        PublishedTokenizerConfig,
    ],
    Field(discriminator="type"),
]
