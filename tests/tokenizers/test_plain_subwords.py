"""Subwords that are looked up word by word are those of the `tokenizers` library."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models, pre_tokenizers

from eir_seq.tokenizers import core, plain_subwords, train_tokenizer
from eir_seq.tokenizers.byte_level import byte_symbols
from eir_seq.tokenizers.plain_subwords import GptWords, PlainBytes, PlainSubwords
from eir_seq.tokenizers.plain_words import PlainWords
from tests.tokenizers.test_plain_words import TEXTS as PLAIN
from tests.tokenizers.test_plain_words import rows, rust

DRAW = random.Random(3)
ALPHABETS = ["aB'srelvtmd  .,-[]\t\n1\u00e9'", "ab'sre lv1.\n "]
TEXTS = [*PLAIN, "it's we'll don't  they've I'd 's 're\n's a''s 'll 'S IT'S", "a  b   c \n\n d  ", "'sx'ree", "'", "\n"]
TEXTS += ["".join(DRAW.choices(letters, k=DRAW.randrange(25))) for letters in ALPHABETS for _ in range(1000)]
COLUMN = pa.array(TEXTS, pa.string())
KINDS = ["bpe", "wordpiece", "unigram"]


def tokenized_by(library: Any) -> Any:
    return lambda words: [[token.id for token in library.model.tokenize(word)] for word in words]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"lowercase": True}, {"normalization": "nfkc"}])
def test_ids_are_those_of_the_library(kind: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = train_tokenizer(kind, PLAIN, vocab_size=400, **options)
    expected = [encoding.ids for encoding in tokenizer.encode_batch(TEXTS)]
    plain = PlainSubwords.of(rust(tokenizer), tokenized_by(rust(tokenizer)))
    assert plain is not None
    assert 0 < len(plain.encode(COLUMN)[1].left) < len(TEXTS)
    assert rows(tokenizer, COLUMN) == expected
    monkeypatch.setattr(plain_subwords, "WORDS_KEPT", 3)
    assert rows(tokenizer, COLUMN) == expected
    assert rows(tokenizer, COLUMN[7:60]) == expected[7:60]
    assert rows(tokenizer, COLUMN[:0]) == []


@pytest.mark.parametrize("kind", KINDS)
def test_words_are_counted_as_the_library_cuts_them(kind: str) -> None:
    library = rust(train_tokenizer(kind, PLAIN, vocab_size=400))
    words = GptWords.of(library) or PlainWords.of(library)
    assert words is not None
    expected: Counter[str] = Counter()
    for text in TEXTS:
        expected.update(
            word for word, _ in library.pre_tokenizer.pre_tokenize_str(library.normalizer.normalize_str(text))
        )
    if kind == "bpe":  # of which the library shows bytes as symbols
        assert sum(words.count(library, TEXTS).values()) == sum(expected.values())
    else:
        assert words.count(library, TEXTS) == expected


def test_what_is_left_to_the_library() -> None:
    def of(model: Any, pre_tokenizer: Any, **options: Any) -> Any:
        library = RustTokenizer(model)
        library.pre_tokenizer = pre_tokenizer
        library.encode_special_tokens = options.get("special", True)
        return PlainSubwords.of(library, tokenized_by(library))

    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert of(models.BPE(), byte_level) is not None
    assert of(models.BPE(), pre_tokenizers.ByteLevel(add_prefix_space=True)) is None
    assert of(models.BPE(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)) is None
    assert of(models.BPE(dropout=0.1), byte_level) is None
    assert of(models.BPE(), byte_level, special=False) is None
    assert of(models.BPE(), pre_tokenizers.Metaspace(prepend_scheme="never")) is None
    assert (
        of(models.WordPiece(unk_token="[UNK]"), pre_tokenizers.BertPreTokenizer()) is None
    )  # its normalizer is absent


def test_long_columns_are_encoded_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = train_tokenizer("bpe", PLAIN, vocab_size=400)
    whole = rows(tokenizer, COLUMN)
    monkeypatch.setattr(core, "BYTES_AT_ONCE", 100)
    assert rows(tokenizer, COLUMN) == whole
    assert rows(tokenizer, pa.array(["", "a" * 300, "", "b"])) == [
        e.ids for e in tokenizer.encode_batch(["", "a" * 300, "", "b"])
    ]


def test_bytes_of_any_text_are_looked_up() -> None:
    tokenizer = train_tokenizer("byte", [])
    texts = [*TEXTS[:200], "", "\u00e9\u4e2d\U0001f600\0", "[SEP]"]
    assert PlainBytes.of(rust(tokenizer)) is not None
    assert rows(tokenizer, pa.array(texts)[1:]) == [encoding.ids for encoding in tokenizer.encode_batch(texts[1:])]
    assert rows(tokenizer, pa.array([], pa.string())) == []
    assert PlainBytes.of(rust(train_tokenizer("bpe", PLAIN, vocab_size=400))) is None
    tokenizer.add_tokens(["<x>"])
    assert PlainBytes.of(rust(tokenizer)) is None
    assert rows(tokenizer, pa.array(["a<x>b"])) == [tokenizer.encode_batch(["a<x>b"])[0].ids]


@pytest.mark.parametrize(
    "options", [{"ignore_merges": True}, {"continuing_subword_prefix": "##"}, {"end_of_word_suffix": "</w>"}], ids=str
)
def test_bytes_that_the_model_joins_are_left_to_the_library(options: dict[str, Any]) -> None:
    vocabulary = {symbol: number for number, symbol in enumerate(byte_symbols())}

    def of(**options: Any) -> Any:
        library = RustTokenizer(models.BPE(vocab=vocabulary, merges=[], **options))
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        library.encode_special_tokens = True
        return PlainBytes.of(library)

    assert of() is not None
    assert of(**options) is None
