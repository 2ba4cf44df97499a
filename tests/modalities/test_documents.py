"""Documents in blocks: every token is predicted once, and no byte is lost or counted twice."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from eir_seq.data.encoded import EncodedInMemory
from eir_seq.modalities import build_modality, load_modality
from eir_seq.modalities.base import BYTES, LENGTH, TOKENS, Purpose
from eir_seq.modalities.sequence.batches import IDS
from eir_seq.modalities.sequence.config import SequenceInputConfig
from eir_seq.modalities.sequence.documents import PIECE, FittedDocuments, TokenBlocks, pieces
from eir_seq.randomness import Draw
from eir_seq.rows import Rows
from eir_seq.tokenizers import load_tokenizer

DOCUMENTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14, 15, 16], [17, 18]]
SIZES = [30, 1, 16, 4]
END, BEGIN = 2, 1


class Encoded:
    def sequences(self, column: str, rows: Sequence[int]) -> list[NDArray[np.int32]]:
        assert column == IDS
        return [np.array(DOCUMENTS[row], np.int32) for row in rows]

    def numbers(self, column: str) -> NDArray[np.int32]:
        return np.array({TOKENS: [len(ids) for ids in DOCUMENTS], BYTES: SIZES}[column], np.int32)


def blocks(length: int, layout: Any, begin: int = END) -> TokenBlocks:
    return TokenBlocks(Encoded(), begin, END, length, layout)


def stream(begin: int) -> list[int]:
    if begin == END:
        return [*itertools.chain(*([END, *ids] for ids in DOCUMENTS)), END]
    return list(itertools.chain(*([begin, *ids, END] for ids in DOCUMENTS)))


def rows_of(given: TokenBlocks) -> list[list[int]]:
    return [ids.tolist() for ids in given.sequences(IDS, range(len(given.ranges)))]


@pytest.mark.parametrize("begin", [END, BEGIN])
@pytest.mark.parametrize("length", [2, 3, 4, 7, 19, 100])
def test_packed_blocks_predict_every_token_of_the_stream_once(length: int, begin: int) -> None:
    rows = rows_of(blocks(length, "packed", begin))
    assert [token for row in rows for token in row[1:]] == stream(begin)[1:]
    assert all(before[-1] == row[0] for before, row in itertools.pairwise(rows)), (
        "what a block begins with, it has seen"
    )
    assert all(len(row) == min(length, len(stream(begin))) for row in rows[:-1])
    assert 2 <= len(rows[-1]) <= length


@pytest.mark.parametrize("begin", [END, BEGIN])
@pytest.mark.parametrize("length", [2, 3, 4, 7, 100])
def test_separate_blocks_hold_one_document_each(length: int, begin: int) -> None:
    given = blocks(length, "separate", begin)
    rows, names = rows_of(given), given.names(["a", "b", "c", "d"])
    predicted: dict[str, list[int]] = {}
    for name, row in zip(names, rows, strict=True):
        assert len(row) <= length
        predicted.setdefault(name.partition("#")[0], []).extend(row[1:])
        assert (row[0] == begin) == ("#" not in name)
    assert list(predicted.values()) == [[*ids, END] for ids in DOCUMENTS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("layout", ["packed", "separate"])
@pytest.mark.parametrize("begin", [END, BEGIN])
@pytest.mark.parametrize("length", [2, 3, 5, 100])
def test_rows_share_out_all_bytes(length: int, begin: int, layout: Any) -> None:
    given = blocks(length, layout, begin)
    sizes = given.numbers(BYTES)
    assert sizes.sum() == pytest.approx(sum(SIZES))
    assert (sizes >= 0).all()
    assert given.numbers(LENGTH).tolist() == [len(row) for row in rows_of(given)]
    if length == 2:  # a row predicts one token, which has its share of the document's bytes
        shares = {token: size / len(ids) for ids, size in zip(DOCUMENTS, SIZES, strict=True) for token in ids}
        assert sizes.tolist() == pytest.approx([shares.get(row[1], 0.0) for row in rows_of(given)])


@pytest.mark.parametrize("begin", [END, BEGIN])
@pytest.mark.parametrize("length", [3, 4, 7, 100])
def test_in_training_all_blocks_are_full_and_begin_elsewhere(length: int, begin: int) -> None:
    given = blocks(length, "packed", begin)
    circle = stream(begin)[:-1] if begin == END else stream(begin)
    for shift in (0, 1, length - 2):
        rows = [ids.tolist() for ids in given.shifted(range(len(given.ranges)), shift)]
        assert len({len(row) for row in rows}) == 1
        for number, row in enumerate(rows):
            start = number * (length - 1) + shift
            assert row == [circle[(start + place) % len(circle)] for place in range(len(row))]


def fit(texts: list[str], layout: Any = "packed", **options: Any) -> FittedDocuments:
    model = {"model_type": "gpt2", "model_init_config": {"n_layer": 1, "n_head": 2, "n_embd": 8, "n_positions": 16}}
    config = {"column": "text", "max_length": 8, "tokenizer": {"type": "byte"}, "model": model, **options}
    fitted = build_modality("text", SequenceInputConfig.model_validate(config), Purpose(layout)).fit(
        Rows.of({"text": texts}), 0
    )
    assert isinstance(fitted, FittedDocuments)
    return fitted


def test_texts_are_read_whole_and_their_bytes_counted() -> None:
    text = "Größe\n" * 30_000  # more characters than other inputs read
    fitted = fit([text, "né"])
    given = fitted.blocks(EncodedInMemory(fitted, {"text": [text, "né"]}))
    assert given.numbers(BYTES).sum() == pytest.approx(len(text.encode()) + 3)
    ids = [token for row in rows_of(given) for token in row[1:]]
    assert fitted.tokenizer.decode(ids, skip_special_tokens=True) == text + "né"


def test_a_document_that_spells_its_end_ends_once(tmp_path: Path) -> None:
    spelt = fit(["ab"])
    spelt.tokenizer.save(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "split_special_tokens": False}))
    spelt = replace(spelt, tokenizer=load_tokenizer(tmp_path))
    column = spelt.config.column
    once, twice = ({column: ["ab", f"ab{end}", "ab"]} for end in ("", "[SEP][SEP]"))
    first, second = (rows_of(spelt.blocks(EncodedInMemory(spelt, rows))) for rows in (once, twice))
    assert first == second


def test_long_texts_are_tokenized_in_pieces_that_end_with_lines() -> None:
    text = "".join(f"line {number}\n" for number in range(40_000)) + "x" * (3 * PIECE)
    parts = pieces(text)
    assert "".join(parts) == text
    assert max(map(len, parts)) <= 2 * PIECE
    assert parts[0].endswith("\n")
    assert pieces("short") == ["short"]


def test_batches_are_shifted_by_the_epoch_alone() -> None:
    fitted = fit(["abcdefghijklmnopqrstuvwxyz" * 4])
    given = fitted.blocks(EncodedInMemory(fitted, {"text": ["abcdefghijklmnopqrstuvwxyz" * 4]}))
    batches = [fitted.collator(given, [0, 3], Draw(7, epoch))["input_ids"] for epoch in (0, 0, 1, 2, 3, 4)]
    assert torch.equal(batches[0], batches[1])
    assert len({tuple(batch.flatten().tolist()) for batch in batches}) > 2
    last = fitted.collator(given, [0, len(given.ranges) - 1], Draw(7))
    assert last["attention_mask"][0].all()
    assert last["attention_mask"].sum() == given.numbers(LENGTH)[[0, -1]].sum()


def test_saved_and_loaded(tmp_path: Path) -> None:
    fitted = fit(["some text", "another one"], layout="separate")
    (tmp_path / "text").mkdir()
    fitted.save(tmp_path / "text")
    loaded = load_modality(tmp_path / "text")
    assert isinstance(loaded, FittedDocuments)
    assert loaded.layout == "separate"
    assert loaded.fingerprint() == fitted.fingerprint()
    assert loaded.describe() == fitted.describe()


def test_a_tokenizer_that_loses_spaces_is_named(caplog: pytest.LogCaptureFixture) -> None:
    fit(["two  spaces and Words"], tokenizer={"type": "word"})
    assert "does not bring texts back" in caplog.text
    caplog.clear()
    fit(["two  spaces and Words"], tokenizer={"type": "character"})
    assert not caplog.text
