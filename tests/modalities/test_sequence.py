from __future__ import annotations

import json
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eir_seq.data.encoded import EncodedInMemory
from eir_seq.errors import UserError
from eir_seq.modalities import build_modality, load_modality
from eir_seq.modalities.sequence.config import SequenceInputConfig
from eir_seq.modalities.sequence.fitted import FittedSequence
from eir_seq.randomness import Draw
from eir_seq.rows import Rows
from eir_seq.tokenizers import train_tokenizer

PAD, UNK, CLS, SEP = range(4)
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def encode(fitted: FittedSequence, rows: Rows) -> EncodedInMemory:
    return EncodedInMemory(fitted, rows[:])


def texts(*values: str, **columns: Any) -> Rows:
    return Rows.of({"text": list(values), **columns})


def fit(rows: Rows, **options: Any) -> FittedSequence:
    options = {"tokenizer": {"type": "character"}, "max_length": 64, **options}
    config = SequenceInputConfig.model_validate({"column": "text", "model": {"model_type": "bert"}, **options})
    fitted = build_modality("review", config).fit(rows, 0)
    assert isinstance(fitted, FittedSequence)
    return fitted


def collate(fitted: FittedSequence, rows: Rows, draw: Draw | None = None) -> dict[str, torch.Tensor]:
    return fitted.collator(encode(fitted, rows), range(rows.num_rows), draw or Draw(0))


def read(fitted: FittedSequence, batch: dict[str, torch.Tensor]) -> list[str]:
    """Every row as text with C and S for [CLS] and [SEP], _ for padding."""
    short = {"[PAD]": "_", "[UNK]": "?", "[CLS]": "C", "[SEP]": "S"}
    rows = [fitted.tokenizer.tokens(row) for row in batch["input_ids"].tolist()]
    return ["".join(short.get(token, token) for token in row) for row in rows]


def test_a_batch_is_framed_and_padded_to_its_longest() -> None:
    rows = texts("abc", "a", "abcde")
    batch = collate(fit(rows), rows)
    assert read(fit(rows), batch) == ["CabcS__", "CaS____", "CabcdeS"]
    assert batch["attention_mask"].tolist() == [[True] * n + [False] * (7 - n) for n in (5, 3, 7)]
    assert set(batch) == {"input_ids", "attention_mask"}


@pytest.mark.parametrize(
    ("strategy", "kept"),
    [("head", "CabcdS"), ("tail", "CwxyzS"), ("middle-out", "CabyzS"), ("random", "CabcdS")],
)
def test_special_tokens_survive_truncation(strategy: str, kept: str) -> None:
    rows = texts(LETTERS)
    fitted = fit(rows, max_length=6, truncation=strategy)
    assert read(fitted, collate(fitted, rows)) == [kept]
    assert encode(fitted, rows).numbers("length").tolist() == [6]
    assert encode(fitted, rows).numbers("tokens").tolist() == [28]


def test_pairs_are_shortened_longest_first_and_typed() -> None:
    rows = texts(LETTERS, "ab", other=["xyz", LETTERS])
    fitted = fit(rows, max_length=11, pair_column="other")
    batch = collate(fitted, rows)
    assert read(fitted, batch) == ["CabcdeSxyzS", "CabSabcdefS"]
    assert batch["token_type_ids"].tolist() == [[0] * 7 + [1] * 4, [0] * 4 + [1] * 7]
    windows = fit(rows, max_length=11, pair_column="other", truncation="uniform")
    assert [len(row.replace("_", "")) for row in read(windows, collate(windows, rows))] == [11, 11]


@pytest.mark.parametrize("strategy", ["random", "uniform"])
def test_windows_are_drawn_per_epoch_and_row_and_reach_both_ends(strategy: str) -> None:
    rows = texts(LETTERS, LETTERS)
    fitted = fit(rows, max_length=6, truncation=strategy)
    seen: Counter[str] = Counter()
    for epoch in range(400):
        first, second = read(fitted, collate(fitted, rows, Draw(0, epoch)))
        assert [first, second] == read(fitted, collate(fitted, rows, Draw(0, epoch)))
        assert first[1:-1] in LETTERS
        seen.update([first, second])
    assert len(seen) == 23
    assert min(seen.values()) > 10, "windows are drawn with equal chances"
    assert {"CabcdS", "CwxyzS"} <= set(seen)
    evaluation = read(fitted, collate(fitted, rows, Draw(0)))
    assert evaluation == read(fitted, collate(fitted, rows, Draw(0)))
    if strategy == "random":
        assert evaluation == ["CabcdS"] * 2
    else:
        assert evaluation[0] != evaluation[1]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.text(LETTERS, min_size=1, max_size=30), min_size=1, max_size=6),
    st.integers(3, 20),
    st.sampled_from(["head", "tail", "middle-out", "random", "uniform"]),
    st.integers(0, 3),
)
def test_every_batch_keeps_its_promises(values: list[str], max_length: int, strategy: str, epoch: int) -> None:
    rows = texts(*values)
    fitted = fit(rows, max_length=max_length, truncation=strategy)
    encoded = encode(fitted, rows)
    batch = fitted.collator(encoded, range(len(values)), Draw(1, epoch))
    lengths = [min(len(value) + 2, max_length) for value in values]
    assert encoded.numbers("length").tolist() == lengths
    assert batch["attention_mask"].sum(dim=1).tolist() == lengths
    assert batch["input_ids"].shape == (len(values), max(lengths))
    for row, length, value in zip(batch["input_ids"].tolist(), lengths, values, strict=True):
        assert row[0] == CLS
        assert row[length - 1] == SEP
        assert row[length:] == [PAD] * (len(row) - length)
        kept = "".join(fitted.tokenizer.tokens(row[1 : length - 1]))
        parts = (kept[: -(-len(kept) // 2)], kept[-(-len(kept) // 2) :]) if strategy == "middle-out" else (kept,)
        assert all(part in value for part in parts)


def test_lengths_by_the_training_rows() -> None:
    rows = texts("a" * 10, "b" * 20, "c" * 33)
    assert fit(rows, max_length="average").max_length == 23
    assert fit(rows, max_length="max").max_length == 35
    described = fit(rows, max_length=21).describe()
    assert described["max_length"] == 21
    assert described["tokens"] == {"rows": 3, "min": 12, "mean": 23.0, "max": 35, "truncated": 0.6667, "unknown": 0.0}


def test_a_length_without_room_for_text_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"^inputs\.review\.max_length: 4 leaves no room for text next to the 3 special tokens"
    ):
        fit(texts("ab", other=["cd"]), max_length=4, pair_column="other")


def test_texts_are_cut_before_they_are_read_and_counted() -> None:
    rows = texts("a" * 100, "ab", "b" * 31)
    fitted = fit(rows, max_characters=30, max_length="max")
    assert fitted.max_length == 32
    assert fitted.review(encode(fitted, rows), "train") == [
        "inputs.review: 2 texts of the train rows were cut to 30 characters (max_characters)"
    ]


def test_unknown_tokens_are_warned_of_and_refused_where_nothing_is_known() -> None:
    fitted = fit(texts("aaaa", "abab"))
    some = texts("abzz", "aaaa")
    assert fitted.review(encode(fitted, some), "validation") == [
        "inputs.review: 25% of the tokens of the validation rows are unknown"
    ]
    assert fitted.review(encode(fitted, texts("aaab")), "test") == []
    with pytest.raises(UserError, match=r"^inputs\.review\.tokenizer: every token of the test rows is unknown"):
        fitted.review(encode(fitted, texts("zz", "yy")), "test")


def test_only_training_rows_make_the_vocabulary() -> None:
    fitted = fit(texts("abc def", "abc"), tokenizer={"type": "word"})
    assert fitted.tokenizer.vocab_size == 5 + 2


def test_a_saved_input_is_the_same_input(tmp_path: Path) -> None:
    rows = texts(LETTERS, "ab", other=["xyz", LETTERS])
    fitted = fit(rows, max_length=11, pair_column="other", truncation="middle-out")
    fitted.save(tmp_path / "review")
    loaded = load_modality(tmp_path / "review")
    assert isinstance(loaded, FittedSequence)
    assert loaded.fingerprint() == fitted.fingerprint()
    assert loaded.describe() == fitted.describe()
    assert (loaded.name, loaded.config, loaded.collator) == (fitted.name, fitted.config, fitted.collator)
    for name, tensor in collate(fitted, rows).items():
        assert torch.equal(collate(loaded, rows)[name], tensor)


@pytest.mark.parametrize("content", [None, "{", "[]", '{"type": "sequnce"}', '{"type": "sequence", "name": "a"}'])
def test_a_damaged_folder_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "input.json").write_text(content)
    with pytest.raises(UserError, match=r"input\.json: no fitted") as caught:
        load_modality(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_the_fingerprint_follows_what_encoding_depends_on() -> None:
    rows = texts(LETTERS, "abc")
    prints = {
        fit(rows).fingerprint(),
        fit(rows, max_length=10).fingerprint(),
        fit(rows, truncation="tail").fingerprint(),
        fit(rows, max_characters=10).fingerprint(),
        fit(texts("abc")).fingerprint(),
    }
    assert len(prints) == 5
    assert fit(rows).fingerprint() == fit(rows, model={"model_type": "gpt2"}).fingerprint()


def test_what_loader_processes_hold_is_small() -> None:
    fitted = fit(texts(*(LETTERS[i:] for i in range(20))), tokenizer={"type": "bpe", "vocab_size": 300})
    assert len(pickle.dumps(fitted.collator)) < 500


def test_a_tokenizer_is_needed_somewhere() -> None:
    with pytest.raises(UserError, match=r"^inputs\.review\.tokenizer\.path: give the folder or Hub id"):
        fit(texts("a"), tokenizer={"type": "published"})


def test_a_published_tokenizer_without_special_tokens(tmp_path: Path) -> None:
    """As of GPT-2: nothing around the text, no padding token, and no row is left without a token."""
    from tokenizers import Tokenizer, models

    vocabulary = {"a": 0, "b": 1, "<|endoftext|>": 2}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges=[]))
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_str())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>"}))
    rows = texts("ab", "zzz")
    fitted = fit(rows, tokenizer={"type": "published", "path": str(tmp_path)})
    batch = collate(fitted, rows)
    assert batch["input_ids"].tolist() == [[0, 1], [2, 2]]
    assert batch["attention_mask"].tolist() == [[True, True], [True, False]]


def test_long_texts_are_cut_in_time() -> None:
    rows = texts("word " * 400_000, "ab")
    fitted = fit(rows, tokenizer={"type": "word"}, max_characters=1000)
    assert encode(fitted, rows).numbers("tokens").max() == 202
    assert np.array_equal(encode(fitted, rows).numbers("shortened"), [1, 0])


def test_options_of_a_published_tokenizer(tmp_path: Path) -> None:
    train_tokenizer("bpe", ["a film", "the film"], vocab_size=300).save(tmp_path)
    published = {"type": "published", "path": str(tmp_path)}
    plain = fit(texts("film"), tokenizer=published)
    spaced = fit(texts("film"), tokenizer={**published, "options": {"add_prefix_space": True}})
    assert plain.tokenizer.tokenize("film")[0] == "fi"
    assert spaced.tokenizer.tokenize("film")[0] == "\u0120film"
    for options, message in (
        ({"add_prefix_spce": True}, "inputs.review.tokenizer.options.add_prefix_spce: not an option of a tokenizer"),
        ({"sp_model_kwargs": {"enable_sampling": True}}, "encodes each text once"),
        ({"revision": "main"}, "revision: not an option of a tokenizer"),
    ):
        with pytest.raises(ValueError, match=message):
            fit(texts("film"), tokenizer={**published, "options": options})
