"""Tokenizers learnt from texts: what the vocabulary holds, that nothing breaks it, that it is the same everywhere."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from eir_seq.config.tokenizers import (
    ByteTokenizerConfig,
    CharacterTokenizerConfig,
    PublishedTokenizerConfig,
    TrainedTokenizerConfig,
    WordTokenizerConfig,
)
from eir_seq.errors import UserError
from eir_seq.tokenizers import Tokenizer, load_tokenizer, train_tokenizer
from tests.tokenizers.corpus import CONTROL, GENERATED, OWN, lines

TEXTS = [*OWN, *CONTROL, *GENERATED]
ALL = {
    "word": {},
    "character": {},
    "byte": {},
    "bpe": {"vocab_size": 400},
    "wordpiece": {"vocab_size": 400},
    "unigram": {"vocab_size": 400},
}


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode_batch([text])[0].ids


def words(tokenizer: Tokenizer) -> list[str]:
    return tokenizer.tokens(range(5, tokenizer.vocab_size))


@pytest.fixture(scope="module", params=ALL)
def trained(request: pytest.FixtureRequest) -> Tokenizer:
    return train_tokenizer(request.param, iter(TEXTS), **ALL[request.param])


class TestAll:
    def test_specials_and_framing(self, trained: Tokenizer) -> None:
        roles = (trained.pad_id, trained.unk_id, trained.cls_id, trained.sep_id, trained.mask_id)
        assert roles == (0, 1, 2, 3, 4)
        assert (trained.bos_id, trained.eos_id) == (None, None)
        assert trained.tokens(range(5)) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        assert trained.add_specials([7, 8]) == ([2, 7, 8, 3], [0, 0, 0, 0])
        assert trained.add_specials([7], [8, 9]) == ([2, 7, 3, 8, 9, 3], [0, 0, 0, 1, 1, 1])
        assert trained.add_specials([]) == ([2, 3], [0, 0])
        assert (trained.num_specials(), trained.num_specials(pair=True)) == (2, 3)

    def test_any_text_is_encoded_and_special_tokens_are_not_read_from_texts(self, trained: Tokenizer) -> None:
        texts = [*TEXTS, "[PAD][UNK] [CLS] a [SEP]b [MASK]", "\ud800 lone \udfff surrogates", "z" * 20_000]
        for text, encoding in zip(texts, trained.encode_batch(texts, offsets=True), strict=True):
            assert not {0, 2, 3, 4} & set(encoding.ids), text
            assert all(0 <= token < trained.vocab_size for token in encoding.ids)
            assert encoding.offsets is not None
            assert len(encoding.offsets) == len(encoding.ids) == len(encoding.type_ids)
            assert all(0 <= first <= last <= len(text) for first, last in encoding.offsets)
            assert [first for first, _ in encoding.offsets] == sorted(first for first, _ in encoding.offsets)
        assert trained.encode_batch([]) == []

    def test_offsets_ask_for_nothing_else(self, trained: Tokenizer) -> None:
        plain, located = trained.encode_batch(TEXTS), trained.encode_batch(TEXTS, offsets=True)
        assert [encoding.ids for encoding in plain] == [encoding.ids for encoding in located]
        assert all(encoding.offsets is None for encoding in plain)

    def test_pairs(self, trained: Tokenizer) -> None:
        first, second = trained.encode_batch(["The film", "in 1999!"], offsets=True)
        (joined,) = trained.encode_batch(["The film"], ["in 1999!"], offsets=True)
        assert joined.ids == first.ids + second.ids
        assert joined.type_ids == [0] * len(first.ids) + [1] * len(second.ids)
        assert joined.offsets == (first.offsets or []) + (second.offsets or [])

    def test_saved_and_loaded_is_equal(self, trained: Tokenizer, tmp_path) -> None:
        trained.save(tmp_path)
        loaded = load_tokenizer(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]
        assert loaded.fingerprint() == trained.fingerprint()
        assert (loaded.specials, loaded.framing) == (trained.specials, trained.framing)
        texts = [*TEXTS, "[CLS] is not special [SEP]"]
        assert loaded.encode_batch(texts, offsets=True) == trained.encode_batch(texts, offsets=True)

    def test_a_pickled_copy_is_equal(self, trained: Tokenizer) -> None:
        copy = pickle.loads(pickle.dumps(trained))
        assert copy.fingerprint() == trained.fingerprint()
        texts = [*TEXTS, "[CLS] is not special [SEP]"]
        assert copy.encode_batch(texts) == trained.encode_batch(texts)

    def test_the_reference_opens_what_was_saved(self, trained: Tokenizer, tmp_path) -> None:
        transformers = pytest.importorskip("transformers")
        trained.save(tmp_path)
        reference = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
        for text, pair in zip([*TEXTS, "[MASK] [SEP]"], [*TEXTS[1:], "b", "c"], strict=True):
            one, both = encode(trained, text), encode(trained, pair)
            assert reference(text)["input_ids"] == trained.add_specials(one)[0]
            expected = reference(text, pair)
            assert (expected["input_ids"], expected["token_type_ids"]) == trained.add_specials(one, both)
        assert (reference.pad_token_id, reference.unk_token_id, reference.mask_token_id) == (0, 1, 4)

    def test_ids_out_of_range_are_refused(self, trained: Tokenizer) -> None:
        for ids in ([trained.vocab_size], [-1]):
            with pytest.raises(ValueError, match="between 0 and"):
                trained.decode(ids)


SCRIPT = """
import sys
from eir_seq.tokenizers import train_tokenizer
from tests.tokenizers.test_training import ALL, TEXTS
for kind, options in ALL.items():
    print(kind, train_tokenizer(kind, iter(TEXTS), **options).fingerprint())
"""


def test_the_same_in_every_process_whatever_the_hash_seed_and_the_threads() -> None:
    printed = set()
    for seed, threads in (("1", "1"), ("2", "4"), ("3", "2")):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": threads}
        result = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
        )
        assert result.stderr == ""
        printed.add(result.stdout)
    assert len(printed) == 1
    assert len(printed.pop().splitlines()) == len(ALL)


def test_a_forked_worker_neither_warns_nor_hangs() -> None:
    script = """
import os
from eir_seq.tokenizers import train_tokenizer
tokenizer = train_tokenizer("word", ["a b c"] * 50)
expected = [e.ids for e in tokenizer.encode_batch(["a b"] * 50)]
child = os.fork()
if child == 0:
    os._exit(0 if [e.ids for e in tokenizer.encode_batch(["a b"] * 50)] == expected else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")


class TestWord:
    def test_most_frequent_first_ties_by_the_alphabet(self) -> None:
        tokenizer = train_tokenizer(WordTokenizerConfig(), ["b a c c", "a b c d"])
        assert words(tokenizer) == ["c", "a", "b", "d"]
        assert encode(tokenizer, "d e c") == [8, 1, 5]

    @pytest.mark.parametrize(("min_freq", "kept"), [(1, ["c", "b", "a"]), (2, ["c", "b"]), (3, ["c"])])
    def test_min_freq(self, min_freq: int, kept: list[str]) -> None:
        assert words(train_tokenizer(WordTokenizerConfig(min_freq=min_freq), ["a b b c c c"])) == kept

    @pytest.mark.parametrize(
        ("size", "kept"), [(1, ["c"]), (2, ["c", "b"]), (3, ["c", "b", "a"]), (99, ["c", "b", "a"])]
    )
    def test_max_vocab_size(self, size: int, kept: list[str]) -> None:
        assert words(train_tokenizer(WordTokenizerConfig(max_vocab_size=size), ["a b b c c c"])) == kept

    def test_no_default_limit(self) -> None:
        assert train_tokenizer("word", [f"w{number}" for number in range(40_000)]).vocab_size == 40_005

    def test_words_and_punctuation_apart(self) -> None:
        tokenizer = train_tokenizer("word", ["Well, isn't it (very) cafe\u0301-like?! \U0001f600\U0001f600"])
        assert tokenizer.tokens(encode(tokenizer, "isn't it caf\u00e9!?")) == [
            "isn",
            "'",
            "t",
            "it",
            "caf\u00e9",
            "!",
            "?",
        ]

    def test_split_on(self) -> None:
        tokenizer = train_tokenizer(WordTokenizerConfig(split_on=", "), ["a b, c.d, , a b"])
        assert words(tokenizer) == ["a b", "c.d"]
        assert encode(tokenizer, "c.d, a b, a") == [6, 5, 1]
        regular = train_tokenizer(WordTokenizerConfig(split_on="."), ["ab.cd"])
        assert words(regular) == ["ab", "cd"]

    def test_lowercase_and_normalization(self) -> None:
        texts = ["\u00c9t\u00e9 \uff21 e\u0301te\u0301"]
        assert words(train_tokenizer("word", texts)) == ["\u00c9t\u00e9", "\u00e9t\u00e9", "\uff21"]
        assert words(train_tokenizer("word", texts, lowercase=True)) == ["\u00e9t\u00e9", "\uff41"]
        assert words(train_tokenizer("word", texts, lowercase=True, normalization="nfkc")) == ["\u00e9t\u00e9", "a"]
        kept = words(train_tokenizer("word", texts, normalization=None))
        assert sorted(kept) == sorted(["\u00c9t\u00e9", "e\u0301te\u0301", "\uff21"])

    def test_offsets_are_in_characters_of_the_original(self) -> None:
        tokenizer = train_tokenizer("word", ["x"], lowercase=True)
        (encoding,) = tokenizer.encode_batch(["\u0130b \U0001f600 c\u0327a"], offsets=True)
        assert encoding.offsets == [(0, 2), (3, 4), (5, 8)]


class TestCharacter:
    def test_every_character_with_white_space_and_controls(self) -> None:
        text = "MKV \n\t\x00\u2028\U0001f600\u0627"
        tokenizer = train_tokenizer(CharacterTokenizerConfig(), [text])
        ids = encode(tokenizer, text)
        assert len(ids) == len(text)
        assert 1 not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == text

    def test_min_freq_and_max_vocab_size(self) -> None:
        assert words(train_tokenizer(CharacterTokenizerConfig(min_freq=2), ["aabbbc"])) == ["b", "a"]
        assert words(train_tokenizer(CharacterTokenizerConfig(max_vocab_size=1), ["aabbbc"])) == ["b"]


class TestByte:
    def test_ids_are_bytes_and_five(self) -> None:
        tokenizer = train_tokenizer(ByteTokenizerConfig(), ["never read"])
        assert tokenizer.vocab_size == 261
        for text in [*TEXTS, *lines()[:300], "".join(map(chr, range(256)))]:
            ids = encode(tokenizer, text)
            assert ids == [byte + 5 for byte in text.encode()]
            assert tokenizer.decode(ids, skip_special_tokens=True) == text

    def test_every_code_point(self) -> None:
        tokenizer = train_tokenizer("byte", [])
        for start in range(0, 0x110000, 0x800):
            text = "".join(map(chr, range(start, start + 0x800)))
            if 0xD800 <= start < 0xE000:
                continue
            assert tokenizer.decode(encode(tokenizer, text), skip_special_tokens=True) == text

    def test_texts_are_not_read(self) -> None:
        def never() -> Iterator[str]:
            raise AssertionError
            yield ""

        assert train_tokenizer("byte", never()).vocab_size == 261


class TestSubwords:
    def test_bpe_knows_everything_and_decodes_exactly(self) -> None:
        tokenizer = train_tokenizer("bpe", GENERATED, vocab_size=300, normalization=None)
        assert tokenizer.vocab_size == 300
        for text in [*TEXTS, *lines()[:300]]:
            ids = encode(tokenizer, text)
            assert 1 not in ids
            assert tokenizer.decode(ids, skip_special_tokens=True) == text

    @pytest.mark.parametrize("size", [261, 262, 350])
    def test_bpe_size(self, size: int) -> None:
        assert train_tokenizer("bpe", GENERATED, vocab_size=size).vocab_size == size

    def test_bpe_too_small(self) -> None:
        with pytest.raises(UserError, match="vocab_size: at least 261 is expected for bpe"):
            train_tokenizer("bpe", GENERATED, vocab_size=260)
        with pytest.raises(ValidationError, match="at least 261"):
            TrainedTokenizerConfig(type="bpe", vocab_size=260)
        assert TrainedTokenizerConfig(type="unigram", vocab_size=16).vocab_size == 16

    @pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
    @pytest.mark.parametrize("size", [16, 17, 60, 200, 5000])
    def test_size_is_a_limit_also_with_many_characters(self, kind: str, size: int) -> None:
        han = "".join(map(chr, range(0x4E00, 0x5200)))
        tokenizer = train_tokenizer(kind, [*GENERATED, han, " ".join(han[:500])], vocab_size=size, min_freq=1)
        assert 5 < tokenizer.vocab_size <= size
        assert len(set(tokenizer.tokens(range(tokenizer.vocab_size)))) == tokenizer.vocab_size

    def test_min_freq_stops_merges(self) -> None:
        texts = ["abab abab", "cdcd"]
        assert "abab" in words(train_tokenizer("wordpiece", texts, vocab_size=100, min_freq=2))
        assert "cdcd" not in words(train_tokenizer("wordpiece", texts, vocab_size=100, min_freq=2))
        assert "cdcd" in words(train_tokenizer("wordpiece", texts, vocab_size=100, min_freq=1))

    def test_wordpiece_takes_the_longest_match(self) -> None:
        tokenizer = train_tokenizer("wordpiece", ["playing played player play"] * 9, vocab_size=60)
        assert tokenizer.tokens(encode(tokenizer, "play")) == ["play"]
        assert tokenizer.decode(encode(tokenizer, "playing, \u4e16"), skip_special_tokens=True) == "playing"

    def test_unigram_joins_words_and_spaces(self) -> None:
        tokenizer = train_tokenizer("unigram", GENERATED, vocab_size=200)
        text = "The film didn't like music (again)"
        ids = encode(tokenizer, f"  {text}\n")
        assert {"\u2581The", "\u2581film", "\u2581like", "\u2581music"} <= set(tokenizer.tokens(ids))
        assert tokenizer.decode(ids, skip_special_tokens=True) == text

    def test_lowercase(self) -> None:
        for kind in ("bpe", "wordpiece", "unigram"):
            tokenizer = train_tokenizer(kind, GENERATED, vocab_size=300, lowercase=True)
            assert encode(tokenizer, "THE FILM") == encode(tokenizer, "the film")


class TestFaults:
    def test_unknown_type_and_options(self) -> None:
        with pytest.raises(UserError, match="did you mean 'wordpiece'"):
            train_tokenizer("wordpeice", [])
        with pytest.raises(UserError) as raised:
            train_tokenizer("bpe", [], vocab_sise=3, min_freq=0)
        assert sorted(fault.place for fault in raised.value.faults) == ["min_freq", "vocab_sise"]

    @pytest.mark.parametrize("kind", ["word", "character", "wordpiece", "unigram"])
    @pytest.mark.parametrize("texts", [[], [""]])
    def test_no_tokens(self, kind: str, texts: list[str]) -> None:
        with pytest.raises(UserError, match="no token of the training texts"):
            train_tokenizer(kind, texts)

    def test_published_is_not_trained(self) -> None:
        with pytest.raises(UserError, match="loaded, not trained"):
            train_tokenizer(PublishedTokenizerConfig(path="x"), [])
