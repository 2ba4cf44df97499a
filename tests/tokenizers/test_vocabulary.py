"""Vocabularies by name, tokens that are added to them, and rows that are padded afterwards: as transformers does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eir_seq.errors import UserError
from eir_seq.models import create_model
from eir_seq.tokenizers import load_tokenizer, train_tokenizer

pytest.importorskip("transformers", reason="the reference implementation is not installed")

from tests.tokenizers.architecture_folders import make, reference
from tests.tokenizers.test_every_architecture import FIRST_OF_A_KIND
from tests.tokenizers.translation_folders import make as make_translator

NEW = ["<ent>", "qzjx", "two words", "qzjx"]
TEXTS = ["a film <ent>", "<ent><ent> qzjx,qzjx two words!", "aqzjxb <mine> the", ""]


def numbers(batch: Any) -> dict[str, list[Any]]:
    lists = {name: values.tolist() if hasattr(values, "tolist") else values for name, values in batch.items()}
    return {name: [row.tolist() if hasattr(row, "tolist") else row for row in rows] for name, rows in lists.items()}


@pytest.mark.parametrize("model_type", FIRST_OF_A_KIND)
def test_every_format_takes_further_tokens(model_type: str, tmp_path: Path) -> None:
    make(model_type, tmp_path)
    ours, theirs = load_tokenizer(tmp_path), reference(model_type, tmp_path)
    assert ours.get_vocab() == theirs.get_vocab()
    assert ours.add_tokens(NEW) == theirs.add_tokens(NEW) == 3
    assert ours.add_tokens("<mine>", special_tokens=True) == theirs.add_tokens("<mine>", special_tokens=True) == 1
    assert ours.add_tokens(NEW) == 0
    assert len(ours) == ours.vocab_size == len(theirs)
    assert ours.get_vocab() == theirs.get_vocab()
    assert ours.get_added_vocab().keys() >= {*NEW, "<mine>"}
    found = ours(TEXTS)["input_ids"]
    assert found == theirs(TEXTS)["input_ids"]
    for skip in (False, True):
        spoken = [ours.decode(ids, skip_special_tokens=skip) for ids in found]
        assert ["<mine>" in text for text in spoken] == [False, False, not skip, False]
        assert all("two words" in text for text in spoken[1:2])
    ours.save(tmp_path / "copy")
    again = load_tokenizer(tmp_path / "copy")
    assert again.fingerprint() == ours.fingerprint()
    assert again(TEXTS) == ours(TEXTS)


def test_languages_stay_beside_further_tokens(tmp_path: Path) -> None:
    for kind in ("m2m100", "mbart50"):
        made = make_translator(kind, tmp_path / kind, tmp_path)
        ours, theirs = load_tokenizer(made.slow), made.reference
        assert ours.get_vocab() == theirs.get_vocab()
        assert ours.add_tokens(NEW) == theirs.add_tokens(NEW) == 3
        assert ours(TEXTS, text_target=TEXTS) == dict(theirs(TEXTS, text_target=TEXTS))
        ours.save(tmp_path / kind / "copy")
        assert load_tokenizer(tmp_path / kind / "copy").fingerprint() == ours.fingerprint()


@pytest.mark.parametrize("model_type", ["gpt2", "t5", "ctrl", "bert", "bigbird_pegasus"])
def test_roles(model_type: str, tmp_path: Path) -> None:
    """The usual step before a batch is padded with a format that has no padding, and a model that grows with it."""
    make(model_type, tmp_path)
    ours, theirs = load_tokenizer(tmp_path), reference(model_type, tmp_path)
    given = {"pad_token": "<blank>", "additional_special_tokens": ["<one>", "<two>"]}
    assert ours.add_special_tokens(given) == theirs.add_special_tokens(given) == 3
    assert (ours.pad_token, ours.pad_token_id) == ("<blank>", theirs.pad_token_id)
    assert ours.specials.pad == "<blank>"
    ids = [theirs.convert_tokens_to_ids(token) for token in ("<one>", "<blank>")]
    assert ours.all_special_ids.issuperset(ids)
    texts = ["a film <one>", "a"]
    assert numbers(ours(texts, padding=True)) == numbers(theirs(texts, padding=True))
    assert ours.add_special_tokens({"pad_token": "<one>"}) == 0
    ours.save(tmp_path / "copy")
    again = load_tokenizer(tmp_path / "copy")
    assert (again.pad_token, again.pad_token_id) == ("<one>", ids[0])
    assert again.fingerprint() == ours.fingerprint()
    with pytest.raises(UserError, match=r"pad_tokn: is no role of a token \(bos_token, .*did you mean 'pad_token'"):
        ours.add_special_tokens({"pad_tokn": "<blank>"})
    with pytest.raises(UserError, match="new_tokens: a token is a text that is not empty, not 7"):
        ours.add_tokens([7])  # type: ignore[list-item]


def test_a_model_grows_with_its_tokenizer() -> None:
    tokenizer = train_tokenizer("word", ["a film", "the film"])
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    model = create_model("bert", {**sizes, "vocab_size": len(tokenizer)})
    assert tokenizer.add_tokens(["<ent>"]) == 1
    model.resize_token_embeddings(len(tokenizer))
    batch = tokenizer(["a <ent>film"], return_tensors="pt")
    assert batch.input_ids.max() == len(tokenizer) - 1
    assert model(**batch).last_hidden_state.isfinite().all()


CALLS: tuple[dict[str, Any], ...] = (
    {},
    {"padding": "max_length", "max_length": 14},
    {"pad_to_multiple_of": 8, "padding_side": "left"},
    {"padding": "longest", "return_tensors": "np"},
    {"padding": False},
)


@pytest.mark.parametrize("model_type", ["bert", "t5", "xlnet", "bart", "ctrl"])
def test_rows_padded_afterwards(model_type: str, tmp_path: Path) -> None:
    make(model_type, tmp_path)
    ours, theirs = load_tokenizer(tmp_path), reference(model_type, tmp_path)
    if ours.pad_id is None:
        for tokenizer in (ours, theirs):
            tokenizer.add_special_tokens({"pad_token": "<blank>"})
    texts = ["a film", "the film is long, isn't it", "x"]
    for flags in ({}, {"return_special_tokens_mask": True}, {"return_attention_mask": False}):
        assert ours(texts, **flags) == dict(theirs(texts, **flags)), flags
        assert ours(texts, texts, **flags) == dict(theirs(texts, texts, **flags)), flags
        for given in CALLS:
            rows = [ours(text, **flags) for text in texts]
            expected = [theirs(text, **flags) for text in texts]
            assert numbers(ours.pad(rows, **given)) == numbers(theirs.pad(expected, **given)), (flags, given)
            together = ours.pad(ours(texts, **flags), **given)
            assert numbers(together) == numbers(theirs.pad(theirs(texts, **flags), **given)), (flags, given)
    one = ours.pad(ours("a"), padding="max_length", max_length=9, return_tensors="pt")
    expected = theirs.pad(theirs("a"), padding="max_length", max_length=9, return_tensors="pt")
    assert numbers(one) == numbers(expected)
    assert one.input_ids.shape == (9,)


def test_what_stands_beside_the_ids(tmp_path: Path) -> None:
    """As a data loader's collation has it: tensors stay tensors, labels and scores are stacked."""
    make("bert", tmp_path)
    ours, theirs = load_tokenizer(tmp_path), reference("bert", tmp_path)
    rows = [{"input_ids": [5, 6, 7], "label": 1, "score": 0.5}, {"input_ids": [8], "label": 0, "score": 1.0}]
    found, expected = ours.pad(rows, return_tensors="pt"), theirs.pad(rows, return_tensors="pt")
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert torch.equal(found[name], values), name
        assert found[name].dtype == values.dtype
    for made in (torch.tensor, np.array):
        back = ours.pad([{"input_ids": made([5, 6, 7])}, {"input_ids": made([8])}])
        assert type(back.input_ids) is type(made([5]))
    assert "attention_mask" not in ours.pad(rows, return_attention_mask=False)
    with pytest.raises(UserError, match=r"encoded_inputs: there are no input_ids in it \(label\)"):
        ours.pad([{"label": 1}])
    with pytest.raises(UserError, match=r"return_tensors: rows of labels differ in length"):
        ours.pad([{"input_ids": [1], "labels": [1]}, {"input_ids": [1], "labels": [1, 2]}], return_tensors="pt")
    make("gpt2", tmp_path / "gpt2")
    without = load_tokenizer(tmp_path / "gpt2")
    with pytest.raises(UserError, match="padding: this tokenizer has no pad token"):
        without.pad(rows)
    ours.model_max_length = 6
    assert [len(ids) for ids in ours(["a", "b c"], padding="max_length")["input_ids"]] == [6, 6]
