"""Vocabularies in files, of words and of characters."""

from __future__ import annotations

from pathlib import Path

import pytest

from eir_seq.config.tokenizers import WordTokenizerConfig
from eir_seq.config.vocab_file import read_vocab_file
from eir_seq.errors import UserError
from eir_seq.tokenizers import train_tokenizer


def test_words_have_the_order_of_the_file_after_the_special_tokens(tmp_path: Path) -> None:
    path = tmp_path / "vocab.json"
    path.write_text('{"[PAD]": 0, "bird": 9, "a": 7}')
    tokenizer = train_tokenizer("word", ["a dog sings"], vocab_file=str(path))
    assert tokenizer.tokenize("a bird sings") == ["a", "bird", "[UNK]"]
    assert [tokenizer.token_to_id(token) for token in ("[MASK]", "a", "bird")] == [4, 5, 6]
    assert tokenizer.vocab_size == 7


def test_characters_by_lines(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_bytes(b"C\r\n \r\nG\r\n")
    tokenizer = train_tokenizer("character", [], vocab_file=str(path))
    assert tokenizer("CG T").input_ids == [2, 5, 7, 6, 1, 3]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("v.json", "[1]", 'is no object of ids by token, such as {"the": 0, "a": 1}'),
        ("v.json", "{", "is not valid JSON"),
        ("v.json", '{"a": 0, "a": 1}', "'a' occurs more than once"),
        ("v.json", '{"a": 0, "b": 0}', "'a' and 'b' have the same id 0"),
        ("v.json", '{"a": -1}', "the id of 'a' is -1, not a whole number from 0 on"),
        ("v.json", '{"a": true}', "the id of 'a' is True, not a whole number from 0 on"),
        ("v.json", '{"": 1}', "the empty text is no token"),
        ("v.json", "{}", "holds no token"),
        ("v.txt", "", "holds no token"),
        ("v.txt", "a\n\nb\n", "line 2 is empty; each line is a token"),
        ("v.txt", "a\nb\na\n", "line 3: 'a' stands in line 1 already"),
    ],
)
def test_files_that_are_no_vocabulary(tmp_path: Path, name: str, text: str, said: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UserError) as refused:
        read_vocab_file(str(path))
    assert said in str(refused.value)


def test_a_vocabulary_that_is_not_there_is_told_before_anything_starts(tmp_path: Path) -> None:
    missing = WordTokenizerConfig(vocab_file=str(tmp_path / "none.json"), min_freq=2)
    (fault,) = missing.preflight("inputs.text.tokenizer")
    assert str(fault) == (
        f"inputs.text.tokenizer.vocab_file: {tmp_path / 'none.json'} cannot be read: no such file or directory"
    )
    (other,) = missing.faults("inputs.text.tokenizer")
    assert str(other) == "inputs.text.tokenizer.min_freq: has no effect with vocab_file"


def test_words_are_no_characters(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("a\nbc\n")
    with pytest.raises(UserError, match="'bc' is no single character"):
        train_tokenizer("character", [], vocab_file=str(tmp_path / "v.txt"))
