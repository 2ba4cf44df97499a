from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eir_seq.modalities import build_modality
from eir_seq.modalities.base import Purpose
from eir_seq.modalities.sequence.config import SequenceInputConfig
from eir_seq.modalities.sequence.preprocess import SequenceModality
from eir_seq.outputs.seq2seq_lm.config import Seq2SeqLmOutputConfig
from eir_seq.rows import Rows
from eir_seq.tokenizers import Tokenizer
from eir_seq.tokenizers.cache import TokenizerCache

ROWS = {
    "text": [
        "the hero found a silver key",
        "a [SEP] in the text",
        "Öl and ß",
        "the key opened the gate",
        "words words",
    ],
    "pair": ["one more", "text to", "read", "beside", "it"],
    "written": ["der Held fand", "einen silbernen Schlüssel", "Öl", "das Tor", "Wörter"],
}
KINDS: list[dict[str, Any]] = [
    {"type": "word"},
    {"type": "character"},
    {"type": "bpe", "vocab_size": 300},
    {"type": "wordpiece", "vocab_size": 100},
    {"type": "unigram", "vocab_size": 60},
]


class Fits:
    """Fits inputs with a cache and counts how often a vocabulary is learnt."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, seconds: float = 0) -> None:
        self.cache, self.learnt = TokenizerCache(folder, seconds=seconds), 0
        texts = SequenceModality._texts

        def counted(modality: SequenceModality, rows: Rows) -> Any:
            self.learnt += 1
            return texts(modality, rows)

        monkeypatch.setattr(SequenceModality, "_texts", counted)

    def __call__(self, *, written: str | None = None, rows: dict[str, list[str]] = ROWS, **config: Any) -> Tokenizer:
        source = {"column": "text", "model": {"model_type": "t5" if written else "bert"}, **config}
        declared = SequenceInputConfig.model_validate(source)
        output = None if written is None else Seq2SeqLmOutputConfig.model_validate({"column": written})
        modality = build_modality("text", declared, Purpose(written=output, cache=self.cache))
        fitted: Any = modality.fit(Rows.of(rows), 0)
        tokenizer: Tokenizer = fitted.tokenizer
        return tokenizer


@pytest.fixture
def fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fits:
    return Fits(tmp_path / "cache", monkeypatch)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind["type"]))
def test_the_same_texts_are_learnt_from_once(fits: Fits, kind: dict[str, Any]) -> None:
    first, second = fits(tokenizer=kind), fits(tokenizer=kind)
    assert fits.learnt == 1
    assert second.fingerprint() == first.fingerprint()
    assert [e.ids for e in second.encode_batch(ROWS["text"])] == [e.ids for e in first.encode_batch(ROWS["text"])]
    assert second(ROWS["text"][1])["input_ids"] == first(ROWS["text"][1])["input_ids"]
    assert [path.name.split("-")[0] for path in fits.cache.folder.iterdir()] == ["tokenizer"]


def test_what_the_vocabulary_depends_on(fits: Fits) -> None:
    fits()
    others: list[dict[str, Any]] = [
        {"rows": {**ROWS, "text": [*ROWS["text"][:-1], "other words"]}},
        {"column": "pair"},
        {"pair_column": "pair"},
        {"tokenizer": {"type": "word", "lowercase": True}},
        {"tokenizer": {"type": "word", "split_on": " "}},
        {"tokenizer": {"type": "character"}},
        {"max_characters": 5},
        {"written": "written"},
    ]
    for other in others:
        fits(**other)
    assert fits.learnt == 1 + len(others)
    # and what it does not depend on
    for same in ({"max_length": 16}, {"truncation": "tail"}, {"rows": {**ROWS, "pair": ROWS["text"]}}):
        fits(**same)
    assert fits.learnt == 1 + len(others)


@pytest.mark.parametrize("damage", ["removed", "truncated", "changed", "unsigned"])
def test_a_damaged_vocabulary_is_learnt_again(fits: Fits, damage: str) -> None:
    first = fits()
    (folder,) = fits.cache.folder.iterdir()
    path = folder / ("manifest.json" if damage == "unsigned" else "tokenizer.json")
    content = path.read_bytes()
    if damage in ("removed", "unsigned"):
        path.unlink()
    else:
        path.write_bytes(content[:-200] if damage == "truncated" else content.replace(b'"hero"', b'"zero"'))
    assert fits().fingerprint() == first.fingerprint()
    assert fits().fingerprint() == first.fingerprint()
    assert fits.learnt == 2
    assert damage == "unsigned" or path.read_bytes() == content
    assert [entry.name for entry in fits.cache.folder.iterdir()] == [folder.name]


def test_a_vocabulary_that_is_learnt_fast_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fits = Fits(tmp_path / "cache", monkeypatch, seconds=60)
    fits()
    fits()
    assert fits.learnt == 2
    assert not list((tmp_path / "cache").iterdir())


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    fits = Fits(tmp_path / "file" / "cache", monkeypatch)
    assert fits().fingerprint() == fits().fingerprint()
    assert fits.learnt == 2
