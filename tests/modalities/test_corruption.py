"""What is taken out of texts: how much, what stands in its place, and that nothing is lost."""

from __future__ import annotations

import pickle
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from eir_seq.data.encoded import EncodedInMemory
from eir_seq.errors import UserError
from eir_seq.modalities.sequence.config import SequenceInputConfig
from eir_seq.modalities.sequence.corruption import Denoising, Hiding, SpanCorruption, Vocabulary, masked, noise_spans
from eir_seq.modalities.sequence.fitted import FittedSequence
from eir_seq.outputs.denoising.config import DenoisingOutputConfig
from eir_seq.outputs.language.config import CorruptedOutputBase
from eir_seq.outputs.masked_lm.config import MaskedLmOutputConfig
from eir_seq.outputs.replaced_token_detection.config import ReplacedTokenDetectionOutputConfig
from eir_seq.outputs.span_corruption.config import SpanCorruptionOutputConfig
from eir_seq.randomness import Draw
from eir_seq.tokenizers import train_tokenizer

WORDS = [f"w{number}" for number in range(60)]
TOKENIZER = train_tokenizer("word", [" ".join(WORDS) + " . ! ?"], sentinels=20)
VOCABULARY = Vocabulary.of(TOKENIZER)
MASK, SPECIAL = TOKENIZER.mask_id, TOKENIZER.all_special_ids
CONFIG = {"column": "text", "max_length": 40, "model": {"model_type": "bert"}}
FITTED = FittedSequence("text", SequenceInputConfig.model_validate(CONFIG), TOKENIZER, 40)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def ids(length: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return generator(seed).choice(VOCABULARY.ordinary, length)


def test_what_may_be_hidden_and_put_in_place() -> None:
    assert not set(VOCABULARY.ordinary.tolist()) & SPECIAL
    assert len(VOCABULARY.ordinary) + len(SPECIAL) == TOKENIZER.vocab_size
    assert len(VOCABULARY.sentinels) == 20
    ends = {TOKENIZER.tokens([token])[0] for token in np.flatnonzero(VOCABULARY.ends).tolist()}
    assert ends == {".", "!", "?"}


@pytest.mark.parametrize("length", [1, 2, 7, 100])
@pytest.mark.parametrize("mean", [1.0, 3.0])
def test_the_share_that_is_hidden(length: int, mean: float) -> None:
    candidates = np.ones(length + 2, np.bool_)
    candidates[[0, -1]] = False
    hiding = Hiding(0.15, mean, whole_words=False)
    counts = np.zeros(length + 2, np.int64)
    for seed in range(300):
        places = hiding(generator(seed), candidates, None)
        assert len(places) == max(1, round(length * 0.15)), "that many, each of them once"
        assert len(set(places.tolist())) == len(places)
        counts[places] += 1
    assert counts[0] == counts[-1] == 0
    assert (counts[1:-1] > 0).all()


def test_of_hidden_tokens_most_become_the_mask_some_any_token_some_stay() -> None:
    """Chi-square with two degrees of freedom: 13.8 is exceeded once in a thousand draws."""
    text = np.full(20_000, VOCABULARY.ordinary[0])
    found = masked(generator(1), text, VOCABULARY, mask_share=0.8, random_share=0.1)
    counts = np.array([(found == MASK).sum(), ((found != MASK) & (found != text)).sum(), (found == text).sum()])
    same_by_chance = 0.1 / len(VOCABULARY.ordinary)
    expected = len(text) * np.array([0.8, 0.1 - same_by_chance, 0.1 + same_by_chance])
    assert ((counts - expected) ** 2 / expected).sum() < 13.8
    others = found[(found != MASK) & (found != text)]
    assert not set(others.tolist()) & SPECIAL
    assert set(others.tolist()) == set(VOCABULARY.ordinary[1:].tolist())
    assert (masked(generator(), text, VOCABULARY, mask_share=1.0, random_share=0.0) == MASK).all()


def test_words_are_hidden_whole() -> None:
    tokenizer = train_tokenizer("wordpiece", ["playing played player plays 12345 54321"] * 3, vocab_size=40)
    vocabulary = Vocabulary.of(tokenizer)
    text = "playing played player plays 12345 54321"
    encoded = np.array(tokenizer.add_specials(tokenizer.encode_batch([text])[0].ids)[0])
    candidates = ~vocabulary.special[encoded]
    words = vocabulary.words(encoded, candidates)[candidates]
    assert len(set(words.tolist())) == 6
    assert len(words) > 12
    for seed in range(50):
        places = Hiding(0.3, 1.0, whole_words=True)(generator(seed), candidates, vocabulary.words(encoded, candidates))
        hidden = set(vocabulary.words(encoded, candidates)[places].tolist())
        assert all((np.isin(np.flatnonzero(vocabulary.words(encoded, candidates) == w), places)).all() for w in hidden)
        assert 0 < len(places) <= max(round(len(words) * 0.3), max(np.bincount(words)))


def test_words_of_byte_level_tokens_begin_with_their_space() -> None:
    tokenizer = train_tokenizer("bpe", ["old houses on old hills"] * 3, vocab_size=280)
    encoded = np.array(tokenizer.encode_batch(["old houses on hills"])[0].ids)
    words = Vocabulary.of(tokenizer).words(encoded, np.ones(len(encoded), np.bool_))
    texts = ["".join(tokenizer.tokens(encoded[words == word].tolist())) for word in dict.fromkeys(words.tolist())]
    assert texts == ["old", "\u0120houses", "\u0120on", "\u0120hills"]


@pytest.mark.parametrize(("length", "noise"), [(1, 1), (2, 1), (3, 1), (20, 6), (200, 30)])
def test_spans_stand_apart_and_hold_the_noise(length: int, noise: int) -> None:
    firsts = set()
    for seed in range(300):
        spans = noise_spans(generator(seed), length, noise, 3.0, 10)
        assert len(spans) == max(1, min(round(noise / 3), 10, length - noise - 1))
        assert sum(stop - start for start, stop in spans) == noise
        assert all(stop > start for start, stop in spans)
        assert all(later > stop for (_, stop), (later, _) in pairwise(spans))
        assert 0 <= spans[0][0] <= spans[-1][1] <= length
        firsts.add(spans[0][0])
    assert 0 in firsts, "a text may begin with a span"


def restored(source: Any, target: Any, sentinels: tuple[int, ...]) -> list[int]:
    """The text of both, by the order of the sentinels."""
    spans: dict[int, list[int]] = {}
    for token in target.tolist():
        if token in sentinels:
            spans[token] = []
            last = token
        else:
            spans[last].append(token)
    assert list(spans) == list(sentinels[: len(spans)]), "in their order, the final one included"
    assert spans[last] == [], "which ends the target"
    return [t for token in source.tolist() for t in (spans[token] if token in sentinels else [token])]


@pytest.mark.parametrize("length", [1, 2, 3, 10, 38, 400])
def test_source_and_target_of_spans_are_the_text(length: int) -> None:
    corruption = SpanCorruption(0.15, 3.0, VOCABULARY.sentinels)
    text = ids(length)
    for seed in range(50):
        source, target = corruption(generator(seed), text)
        assert restored(source, target, VOCABULARY.sentinels) == text.tolist()
        noise = sum(token not in VOCABULARY.sentinels for token in target.tolist())
        assert noise == min(max(1, round(length * 0.15)), max(1, length - 1))
        assert len(source) <= length
        assert len(target) + 2 <= corruption.target_lengths(np.array([length]))[0]
    if length == 400:  # 20 spans would need 21 sentinels
        assert sum(token in VOCABULARY.sentinels for token in source.tolist()) == 19


def test_a_small_case_by_hand() -> None:
    corruption = SpanCorruption(0.5, 2.0, (100, 101, 102))
    found = {tuple(map(tuple, corruption(generator(seed), np.arange(1, 5)))) for seed in range(100)}
    assert found == {
        ((100, 3, 4), (100, 1, 2, 101)),
        ((1, 100, 4), (100, 2, 3, 101)),
        ((1, 2, 100), (100, 3, 4, 101)),
    }


def denoising(**changes: Any) -> Denoising:
    assert MASK is not None
    options = {"share": 0.3, "mean_span_length": 3.0, "permute_sentences": False, "delete_probability": 0.0}
    return Denoising(**{**options, **changes}, mask=MASK, ends=VOCABULARY.ends)


@pytest.mark.parametrize("length", [1, 2, 10, 100])
def test_one_mask_stands_for_each_span(length: int) -> None:
    text, lost, lengths = np.arange(1000, 1000 + length), [], []
    ends = np.zeros(2000, np.bool_)
    assert MASK is not None
    corruption = Denoising(0.3, 3.0, False, 0.0, MASK, ends)
    for seed in range(200):
        source, target = corruption(generator(seed), text)
        assert target is text
        kept = source[source != MASK]
        assert (np.diff(kept) > 0).all(), "what is left keeps its order"
        assert len(source) <= length
        lost.append(length - len(kept))
        lengths.append(lost[-1] / max(1, (source == MASK).sum()))
    assert set(lost) == {min(max(1, round(length * 0.3)), max(1, length - 1))}
    if length == 100:
        assert 2.4 < np.mean(lengths) < 3.3, "3, those that are cut short or hold nothing included"


def test_sentences_change_places_and_tokens_are_lost() -> None:
    stop = TOKENIZER.token_to_id(".")
    assert stop is not None
    sentences = [(11, 12, stop), (13, stop), (14, 15, 16)]
    text = np.array([token for sentence in sentences for token in sentence])
    orders = {tuple(denoising(share=0.0, permute_sentences=True)(generator(seed), text)[0]) for seed in range(200)}
    assert len(orders) == 6
    assert (11, 12, stop, 14, 15, 16, 13, stop) in orders
    kept = [len(denoising(share=0.0, delete_probability=0.25)(generator(seed), ids(100))[0]) for seed in range(100)]
    assert 73 < np.mean(kept) < 77
    assert len(denoising(share=0.0, delete_probability=0.99)(generator(), ids(1))[0]) == 1


KINDS: list[CorruptedOutputBase] = [
    MaskedLmOutputConfig(),
    ReplacedTokenDetectionOutputConfig(mean_span_length=2.0),
    SpanCorruptionOutputConfig(),
    DenoisingOutputConfig(delete_probability=0.1),
]


@pytest.mark.parametrize("config", KINDS, ids=lambda config: config.type)
def test_batches_are_new_in_each_epoch_and_the_same_in_evaluation(config: CorruptedOutputBase) -> None:
    texts = [" ".join(generator(row).choice(WORDS, 10 + 4 * row)) for row in range(9)]
    encoded = EncodedInMemory(FITTED, {"text": texts})
    collator = FITTED.corrupted(config)

    def row(number: int, rows: list[int], epoch: int | None, seed: int = 0, by: Any = collator) -> list[list[int]]:
        found = by(encoded, rows, Draw(seed, epoch))
        return [found[name][rows.index(number)].tolist() for name in sorted(found)]

    def real(parts: list[list[int]]) -> list[list[int]]:
        return [[x for x in part if x not in (-100, 0, False, 0.0)] for part in parts]

    other_process = pickle.loads(pickle.dumps(collator))
    assert real(row(3, [3, 8], 2)) == real(row(3, [1, 3], 2, by=other_process)), "whatever stands beside it"
    assert row(3, [3], 2) != row(3, [3], 1)
    assert row(3, [3], 2, seed=1) != row(3, [3], 2)
    assert row(3, [3], None) == row(3, [3], None, by=other_process)
    assert row(3, [3], None) != row(3, [3], 0)


@pytest.mark.parametrize("config", KINDS, ids=lambda config: config.type)
def test_the_frame_and_the_padding_stay(config: CorruptedOutputBase) -> None:
    texts = [" ".join(WORDS[:30]), "w1 zz w2", "w1"]
    encoded = EncodedInMemory(FITTED, {"text": texts})
    plain = FITTED.collator(encoded, range(3), Draw(0))
    for epoch in range(20):
        found = FITTED.corrupted(config)(encoded, range(3), Draw(0, epoch))
        read, mask, labels = (found[name].numpy() for name in ("input_ids", "attention_mask", "labels"))
        assert (read[~mask] == TOKENIZER.pad_id).all()
        assert (read[:, 0] == TOKENIZER.cls_id).all()
        assert [text[real][-1] for text, real in zip(read, mask, strict=True)] == [TOKENIZER.sep_id] * 3
        if "draws" in found or isinstance(config, MaskedLmOutputConfig):
            hidden = labels >= 0
            original = plain["input_ids"].numpy()
            assert (np.where(hidden, labels, read) == original).all()
            assert not np.isin(labels[hidden], list(SPECIAL)).any(), "never a special token, nor one that is unknown"
            assert hidden.any(axis=1).all()
        else:
            targets = [row[row >= 0] for row in labels]
            assert all((row[0], row[-1]) == (TOKENIZER.cls_id, TOKENIZER.sep_id) for row in targets)


def test_tokenizers_without_what_is_needed() -> None:
    bare = FittedSequence("text", FITTED.config, train_tokenizer("word", ["a b"]), 40)
    message = (
        r"^inputs.text.tokenizer: has no sentinels \(<extra_id_0>, <extra_id_1> ...\), which span_corruption needs$"
    )
    with pytest.raises(UserError, match=message):
        bare.corrupted(SpanCorruptionOutputConfig())
    with pytest.raises(
        UserError, match=r"^inputs.text.tokenizer: does not tell where words begin, which whole_words of"
    ):
        bare.corrupted(MaskedLmOutputConfig(whole_words=True))
