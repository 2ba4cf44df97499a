"""Words that are found byte by byte are those that the `tokenizers` library finds."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pyarrow as pa
import pytest
from tokenizers import models, trainers

from eir_seq.config.tokenizers import WordTokenizerConfig
from eir_seq.tokenizers import Tokenizer, load_tokenizer, train_tokenizer, training
from eir_seq.tokenizers.plain_words import PlainVocabulary, PlainWords
from tests.tokenizers.corpus import CONTROL, GENERATED, OWN

ODD = [
    "",
    "   ",
    "[SEP] x",
    "x [UNK]",
    "a_b-C\x1c\x1fd\0e",
    "tab\tx\v\f\r\n.",
    "é à na\u00efve",
    "a\u0301b",
    "\u00b2 \u2177",
]
ALPHABET = "aB_ .,-[]\t\n\x1c\x7f\u00e91\u201c"
DRAW = random.Random(1)
TEXTS = [*ODD, *OWN, *CONTROL, *GENERATED[:50]]
TEXTS += ["".join(DRAW.choices(ALPHABET, k=DRAW.randrange(20))) for _ in range(300)]
TEXTS = [text.encode(errors="replace").decode() for text in TEXTS]
KINDS: list[tuple[str, dict[str, Any]]] = [
    ("word", {"min_freq": 1}),
    ("word", {"lowercase": True, "normalization": "nfkc"}),
    ("word", {"split_on": " ", "min_freq": 1}),
    ("word", {"split_on": ",", "lowercase": True}),
    ("character", {"normalization": "nfc"}),
]
COLUMN = pa.array(TEXTS, pa.string())


def rust(tokenizer: Tokenizer) -> Any:
    return tokenizer._backend._rust  # type: ignore[attr-defined]


def rows(tokenizer: Tokenizer, column: pa.StringArray) -> list[list[int]]:
    ids, bounds = tokenizer.encode_column(column)
    return [ids[start:end].tolist() for start, end in itertools.pairwise(bounds)]


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_ids_are_those_of_the_library(kind: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = train_tokenizer(kind, TEXTS[:120], **options)
    expected = [encoding.ids for encoding in tokenizer.encode_batch(TEXTS)]
    plain = PlainVocabulary.of(rust(tokenizer))
    assert plain is not None
    _, pieces = plain.encode(COLUMN)
    assert 0 < len(pieces.left) < len(TEXTS)
    assert rows(tokenizer, COLUMN) == expected
    assert rows(tokenizer, COLUMN[7:60]) == expected[7:60]
    assert rows(tokenizer, COLUMN[:0]) == []
    monkeypatch.setattr("eir_seq.tokenizers.plain_words.LOOKED_UP", 0)
    assert rows(tokenizer, COLUMN) == expected


@pytest.mark.parametrize(("kind", "options"), KINDS)
@pytest.mark.parametrize("most", [None, 7])
def test_the_vocabulary_is_that_of_the_library(
    kind: str, options: dict[str, Any], most: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**options, "max_vocab_size": most}
    learned = train_tokenizer(kind, TEXTS, **options)
    monkeypatch.setattr(training, "PlainWords", type("None", (), {"of": lambda rust: None}))
    by_library = train_tokenizer(kind, TEXTS, **options)
    assert rust(learned).get_vocab() == rust(by_library).get_vocab()
    assert learned.fingerprint() == by_library.fingerprint()


def test_words_are_counted_over_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train_tokenizer("word", TEXTS, min_freq=3)
    monkeypatch.setattr("eir_seq.tokenizers.plain_words.ROWS_AT_ONCE", 7)
    assert train_tokenizer("word", TEXTS, min_freq=3).fingerprint() == whole.fingerprint()


@pytest.mark.parametrize("kind", ["byte", "bpe", "wordpiece"])
def test_other_vocabularies_are_left_to_the_library(kind: str) -> None:
    tokenizer = train_tokenizer(kind, TEXTS, **({} if kind == "byte" else {"vocab_size": 400}))
    assert PlainVocabulary.of(rust(tokenizer)) is None
    assert rows(tokenizer, COLUMN) == [encoding.ids for encoding in tokenizer.encode_batch(TEXTS)]


def test_what_the_bytes_do_not_decide_is_left_to_the_library() -> None:
    of_two = train_tokenizer(WordTokenizerConfig(split_on=", ", min_freq=1), TEXTS)
    assert PlainWords.of(rust(of_two)) is None
    assert rows(of_two, COLUMN) == [encoding.ids for encoding in of_two.encode_batch(TEXTS)]
    tokenizer = train_tokenizer("word", TEXTS, min_freq=1)
    rust(tokenizer).encode_special_tokens = False
    assert PlainVocabulary.of(rust(tokenizer)) is None
    rust(tokenizer).encode_special_tokens = True
    rust(tokenizer).model = models.BPE()
    assert PlainVocabulary.of(rust(tokenizer)) is None


def test_a_token_that_is_added_counts(tmp_path: Any) -> None:
    tokenizer = train_tokenizer("word", ["a b c d"], min_freq=1)
    text = pa.array(["a <x> b"])
    before = rows(tokenizer, text)
    tokenizer.add_tokens(["<x>"])
    assert rows(tokenizer, text) == [tokenizer.encode_batch(["a <x> b"])[0].ids] != before
    tokenizer.save(tmp_path)
    assert rows(load_tokenizer(tmp_path), text) == rows(tokenizer, text)


def test_the_library_still_trains_alike() -> None:
    """`trainers.WordLevelTrainer` orders by count and then by the alphabet, as the vocabulary here."""
    tokenizer = train_tokenizer("word", ["b b a a c"], min_freq=1)
    model = type(rust(tokenizer)).from_str(rust(tokenizer).to_str())
    model.train_from_iterator(["b b a a c"], trainers.WordLevelTrainer(show_progress=False))
    assert model.get_vocab(with_added_tokens=False) == {"a": 0, "b": 1, "c": 2}
    assert tokenizer.tokens([5, 6, 7]) == ["a", "b", "c"]
