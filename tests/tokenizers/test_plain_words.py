"""Words that are found character by character are those that the `tokenizers` library finds."""

from __future__ import annotations

import itertools
import random
import sys
import unicodedata
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models, normalizers, pre_tokenizers, trainers

from eir_seq.config.tokenizers import WordTokenizerConfig
from eir_seq.tokenizers import Tokenizer, core, load_tokenizer, plain_subwords, train_tokenizer, training
from eir_seq.tokenizers.byte_level import byte_symbols
from eir_seq.tokenizers.plain_subwords import GptWords, PlainBytes, PlainWordIds
from eir_seq.tokenizers.plain_words import PlainWords, joins_others
from tests.tokenizers.corpus import CONTROL, GENERATED, OWN

ODD = [
    *("", "   ", "[SEP] x", "x [UNK]", "a_b-C\x1c\x1fd\0e", "tab\tx\v\f\r\n.", "a\u0301b", "\u00b2 \u2177", "'", "\n"),
    *("it's we'll don't  they've I'd 's 're\n's a''s 'll 'S IT'S", "a  b   c \n\n d  ", "'sx'ree"),
    *(
        "a=\u0338b",
        "x(\u00dc H\u0331 I\u0307",
        "a \u2581b",
        "a  \u00a0b \u00a0",
        "\u3000a\u00b4b",
        "\uff3bSEP]",
        "\uff76\uff9e",
    ),
]
ALPHABETS = [
    "aB_ .,-[]\t\n\x1c\x7f\u00e91\u201c",
    "aB'srelvtmd  .,-[]\t\n1\u00e9'",
    "ab'sre lv1.\n ",
    "ab<=> \u0338\u0301\u0323EH\u0331",
    "\u1100\u1161\u11a8 a\uac00\uff9e\uff76\u304b\u3099",
    "\u2581 a.\u00a0\u3000\u2003\u0301\u0085",
    "\u041f\u0440\u0438\u0432\u0451\u0419\u0306, \u00ab\u00bb!",
    "\u4f60\u597d\uff0c\u3002\u30ab\uff21\uff3b[SEP]",
    "\u0e44\u0e17\u0e22\u0e01\u0e47\u0e19\u0e49\u0e33 a",
    "\u0939\u0928\u094d\u0926\u0940\u093f a.",
    "\U0001f600\U0001f44d\U0001f3fd\u200d\u2764\ufe0f a",
    "\u01c5\ufb01\u00bd\u2122\u017f\u00df\u1e9e\u0130\u212a\u03a3\u03c2 a",
    "a\u00b4\u00a8^` '\u2019\u00e9's",
]
DRAW = random.Random(1)
EVERY = [chr(point) for point in range(sys.maxunicode + 1) if not 0xD800 <= point < 0xE000]
TEXTS = [*ODD, *OWN, *CONTROL, *GENERATED[:50]]
TEXTS += ["".join(DRAW.choices(letters, k=DRAW.randrange(20))) for letters in ALPHABETS for _ in range(120)]
TEXTS += ["".join(DRAW.choices([*" a\u00e9.", *DRAW.sample(EVERY, 8)], k=9)) for _ in range(600)]
TEXTS = [text.encode(errors="replace").decode() for text in TEXTS]
COLUMN = pa.array(TEXTS, pa.string())
KINDS: list[tuple[str, dict[str, Any]]] = [
    ("word", {"min_freq": 1}),
    ("word", {"lowercase": True, "normalization": "nfkc"}),
    ("word", {"split_on": " ", "min_freq": 1, "lowercase": True}),
    ("word", {"split_on": ",", "normalization": "nfkc"}),
    ("character", {"normalization": "nfc"}),
    ("character", {"lowercase": True}),
    *((kind, {"vocab_size": 400}) for kind in ("bpe", "wordpiece", "unigram")),
    *((kind, {"vocab_size": 400, "lowercase": True}) for kind in ("bpe", "wordpiece", "unigram")),
    *((kind, {"vocab_size": 400, "normalization": "nfkc"}) for kind in ("bpe", "wordpiece", "unigram")),
    ("bpe", {"vocab_size": 400, "normalization": None}),
]


def rust(tokenizer: Tokenizer) -> Any:
    return tokenizer._backend._rust  # type: ignore[attr-defined]


def plain(tokenizer: Tokenizer) -> Any:
    return tokenizer._backend.plain  # type: ignore[attr-defined]


def rows(tokenizer: Tokenizer, column: pa.StringArray) -> list[list[int]]:
    ids, bounds = tokenizer.encode_column(column)
    return [ids[start:end].tolist() for start, end in itertools.pairwise(bounds)]


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_ids_and_words_are_those_of_the_library(
    kind: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = train_tokenizer(kind, TEXTS[:120], **options)
    expected = [encoding.ids for encoding in tokenizer.encode_batch(TEXTS)]
    assert rows(tokenizer, COLUMN) == expected
    assert rows(tokenizer, COLUMN[7:60]) == expected[7:60]
    assert rows(tokenizer, COLUMN[:0]) == []
    monkeypatch.setattr(plain_subwords, "WORDS_KEPT", 3)
    monkeypatch.setattr(core, "BYTES_AT_ONCE", 5000)
    assert rows(tokenizer, COLUMN) == expected
    words, library = plain(tokenizer)._words, rust(tokenizer)
    assert len(words.cut(COLUMN).left) < 0.2 * len(TEXTS)
    found, counts = words.count(TEXTS), Counter[str]()
    for text in TEXTS:
        normalized = library.normalizer.normalize_str(text)
        counts.update(word for word, _ in library.pre_tokenizer.pre_tokenize_str(normalized))
    assert found == counts


def test_every_character_that_joins_one_before_it_is_known() -> None:
    pairs = (unicodedata.decomposition(character).split() for character in EVERY)
    seconds = {chr(int(pair[1], 16)) for pair in pairs if len(pair) == 2 and not pair[0].startswith("<")}
    assert all(map(joins_others, seconds))
    assert all(joins_others(part) for part in unicodedata.normalize("NFD", "\uac01"))


def test_marks_make_no_word_of_what_is_none() -> None:
    """So a word may end before it: `\\w` says so of the library's expressions, `isalnum` here."""
    composed = (unicodedata.normalize("NFD", character) for character in EVERY)
    marked = ((parts[0], unicodedata.normalize("NFC", parts)) for parts in composed if len(parts) == 2)
    outside = [(first, whole) for first, whole in marked if unicodedata.category(first)[0] not in "LMN"]
    assert outside
    assert all(unicodedata.category(whole[0])[0] not in "LMN" for _, whole in outside)


@pytest.mark.parametrize(("kind", "options"), KINDS[:6])
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


@pytest.mark.parametrize("separator", [", ", "a", "\u00e9", "="])
def test_separators_that_characters_do_not_decide_are_left_to_the_library(separator: str) -> None:
    tokenizer = train_tokenizer(WordTokenizerConfig(split_on=separator, min_freq=1, lowercase=True), TEXTS)
    assert plain(tokenizer) is None
    assert rows(tokenizer, COLUMN) == [encoding.ids for encoding in tokenizer.encode_batch(TEXTS)]


def test_what_is_left_to_the_library() -> None:
    def of(model: Any, pre_tokenizer: Any, normalizer: Any = None, special: bool = True) -> Any:
        library = RustTokenizer(model)
        library.pre_tokenizer = pre_tokenizer
        if normalizer is not None:
            library.normalizer = normalizer
        library.encode_special_tokens = special
        return PlainWordIds.of(library, lambda _: [], lambda _: [])

    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert of(models.BPE(), byte_level) is not None
    assert of(models.BPE(), byte_level, normalizers.NFC()) is not None
    assert of(models.BPE(), byte_level, normalizers.NFD()) is None
    assert of(models.BPE(), pre_tokenizers.ByteLevel(add_prefix_space=True)) is None
    assert of(models.BPE(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)) is None
    assert of(models.BPE(dropout=0.1), byte_level) is None
    assert of(models.BPE(), byte_level, special=False) is None
    assert of(models.BPE(), pre_tokenizers.Metaspace(prepend_scheme="never")) is None
    piece = models.WordPiece(unk_token="[UNK]")
    assert of(piece, pre_tokenizers.BertPreTokenizer()) is None  # its normalizer is absent
    assert of(piece, pre_tokenizers.BertPreTokenizer(), normalizers.BertNormalizer(lowercase=True)) is None
    assert GptWords.of(RustTokenizer(piece)) is None
    assert PlainWords.of(RustTokenizer(piece)) is None


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


def test_bytes_of_any_text_are_looked_up() -> None:
    tokenizer = train_tokenizer("byte", [])
    texts = [*TEXTS[:200], "", "\u00e9\u4e2d\U0001f600\0", "[SEP]"]
    assert isinstance(plain(tokenizer), PlainBytes)
    assert rows(tokenizer, pa.array(texts)[1:]) == [encoding.ids for encoding in tokenizer.encode_batch(texts[1:])]
    assert rows(tokenizer, pa.array([], pa.string())) == []
    assert PlainBytes.of(rust(train_tokenizer("bpe", TEXTS, vocab_size=400))) is None
    tokenizer.add_tokens(["<x>"])
    assert plain(tokenizer) is None
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
