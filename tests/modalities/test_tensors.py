"""The values that tensors hold: at tokens of words, at special tokens and padding, behind truncation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eir_seq.config.schema import DataConfig
from eir_seq.data.encoded import EncodedInMemory
from eir_seq.modalities import build_modality, load_modality
from eir_seq.modalities.cells import write_cell
from eir_seq.modalities.sequence.config import SequenceInputConfig
from eir_seq.modalities.sequence.fitted import FittedSequence
from eir_seq.modalities.sequence.html import read_html
from eir_seq.modalities.sequence.tensors.words import steps_of
from eir_seq.randomness import Draw
from eir_seq.rows import Rows
from tests.modalities.tensor_tables import TINY, TINY_XLM


def fit(columns: dict[str, list[Any]], model_type: str, tensors: dict[str, Any], **options: Any) -> FittedSequence:
    model_options = options.pop("model_init_config", TINY_XLM if model_type in ("xlm", "flaubert") else TINY)
    config = SequenceInputConfig.model_validate(
        {
            "column": "content",
            "max_length": 32,
            "tokenizer": {"type": "character"},
            "tensors": tensors,
            "model": {"model_type": model_type, "model_init_config": model_options},
            **options,
        }
    )
    fitted = build_modality("page", config).fit(rows_of(columns), 0)
    assert isinstance(fitted, FittedSequence)
    return fitted


def rows_of(columns: dict[str, list[Any]]) -> Rows:
    return Rows.of({name: [write_cell(value) for value in values] for name, values in columns.items()})


def collate(fitted: FittedSequence, columns: dict[str, list[Any]], draw: Draw | None = None) -> dict[str, torch.Tensor]:
    encoded = EncodedInMemory(fitted, rows_of(columns)[:])
    return fitted.collator(encoded, range(len(columns["content"])), draw or Draw(0))


def texts(fitted: FittedSequence, batch: dict[str, torch.Tensor]) -> list[str]:
    short = {"[PAD]": "_", "[CLS]": "C", "[SEP]": "S"}
    rows = (fitted.tokenizer.tokens(row) for row in batch["input_ids"].tolist())
    return ["".join(short.get(token, token) for token in row) for row in rows]


A, B, CD, SEP, NONE = [1, 2, 3, 4], [5, 6, 7, 8], [9, 9, 10, 10], [1000] * 4, [0] * 4
PAGE: dict[str, list[Any]] = {"content": [["a", "bb", "cd"], ["cd"]], "boxes": [[A, B, CD], [CD]]}
BBOX = {"bbox": {"column": "boxes"}}
SPLIT = {"is_split_into_words": True}


def test_a_words_box_is_that_of_each_of_its_tokens() -> None:
    fitted = fit(PAGE, "layoutlm", BBOX, **SPLIT)
    batch = collate(fitted, PAGE)
    assert texts(fitted, batch) == ["CabbcdS", "CcdS___"]
    assert batch["bbox"].tolist() == [[NONE, A, B, B, CD, CD, SEP], [NONE, CD, CD, SEP, NONE, NONE, NONE]]
    assert batch["word_ids"].tolist() == [[-1, 0, 1, 1, 2, 2, -1], [-1, 0, 0, -1, -1, -1, -1]]


@pytest.mark.parametrize(
    ("truncation", "text", "boxes"),
    [
        ("head", "CabbS", [NONE, A, B, B, SEP]),
        ("tail", "CbcdS", [NONE, B, CD, CD, SEP]),
        ("middle-out", "CabdS", [NONE, A, B, CD, SEP]),
    ],
)
def test_boxes_follow_truncation(truncation: str, text: str, boxes: list[list[int]]) -> None:
    fitted = fit(PAGE, "layoutlm", BBOX, max_length=5, truncation=truncation, **SPLIT)
    batch = collate(fitted, PAGE)
    assert texts(fitted, batch)[0] == text
    assert batch["bbox"][0].tolist() == boxes


def test_boxes_follow_drawn_windows() -> None:
    letters = "abcdefghijklmnopqrst"
    page: dict[str, list[Any]] = {"content": [list(letters)], "boxes": [[[i, i, i, i] for i in range(20)]]}
    fitted = fit(page, "layoutlm", BBOX, max_length=6, truncation="random", **SPLIT)
    seen = set()
    for epoch in range(30):
        batch = collate(fitted, page, Draw(0, epoch))
        [text] = texts(fitted, batch)
        assert batch["bbox"][0, 1:-1, 0].tolist() == [letters.index(letter) for letter in text[1:-1]]
        seen.add(text)
    assert len(seen) > 5


def test_the_pair_has_no_boxes() -> None:
    page: dict[str, list[Any]] = {**PAGE, "question": ["xy", "x"]}
    fitted = fit(page, "layoutlm", BBOX, pair_column="question", **SPLIT)
    batch = collate(fitted, page)
    assert texts(fitted, batch)[1] == "CcdSxS____"
    assert batch["bbox"][1].tolist() == [NONE, CD, CD, SEP, NONE, SEP, *[NONE] * 4]


def test_words_of_byte_level_vocabularies_begin_with_a_space() -> None:
    page: dict[str, list[Any]] = {"content": [["low", "lower"] * 20]}
    fitted = fit(page, "bert", {}, tokenizer={"type": "bpe", "vocab_size": 300}, max_length=64, **SPLIT)
    ids = collate(fitted, page)["input_ids"][0]
    assert fitted.tokenizer.decode(ids, skip_special_tokens=True) == " low lower" * 20
    assert fitted.show(rows_of(page)[:]) == [" ".join(page["content"][0])]


def test_xpaths_are_numbered_by_the_training_rows_and_padded() -> None:
    page: dict[str, list[Any]] = {"content": [["a", "b"]], "paths": [["/html/body/div[2]", "/html/body/p[1002]"]]}
    options = {**TINY, "max_depth": 4}
    fitted = fit(page, "markuplm", {"xpaths": {"column": "paths"}}, model_init_config=options, **SPLIT)
    number = fitted.sources["xpaths"].state()["tags"]
    assert sorted(number) == ["body", "div", "html", "p"]
    batch = collate(fitted, page)
    none = ([216] * 4, [1001] * 4)
    assert batch["xpath_tags_seq"][0].tolist() == [
        none[0],
        [number["html"], number["body"], number["div"], 216],
        [number["html"], number["body"], number["p"], 216],
        none[0],
    ]
    assert batch["xpath_subs_seq"][0].tolist() == [none[1], [0, 0, 2, 1001], [0, 0, 1000, 1001], none[1]]
    unseen: dict[str, list[Any]] = {"content": [["a"]], "paths": [["/svg/html/html/html/p"]]}
    tags = collate(fitted, unseen)["xpath_tags_seq"][0, 1].tolist()
    assert tags == [fitted.sources["xpaths"].state()["unknown"]] + [number["html"]] * 3


def test_steps_of_an_xpath() -> None:
    assert steps_of("/html/body/div[12]") == [("html", 0), ("body", 0), ("div", 12)]
    assert steps_of("") is steps_of(None) is steps_of("/a[b]") is steps_of("/a b") is None


def test_html_gives_texts_and_xpaths() -> None:
    page = """<!DOCTYPE html><html><head><title>T</title><style>p {}</style></head><body><p>one<br>two <b>three</b>
      <p/><ul><li>four</li><li> five &amp; six </li></ul></div><script>x()</script></body></html>"""
    found = read_html(page)
    assert list(zip(*found, strict=True)) == [
        ("T", "/html/head/title"),
        ("one", "/html/body/p"),
        ("two", "/html/body/p"),
        ("three", "/html/body/p/b"),
        ("four", "/html/body/p/ul/li[1]"),
        ("five & six", "/html/body/p/ul/li[2]"),
    ]


LIMA: dict[str, list[Any]] = {
    "content": ["in Lima and Rome", "no"],
    "entities": [
        [{"start": 3, "end": 7, "name": "Lima"}, {"start": 12, "end": 16, "name": "Rome"}, {"start": 0, "end": 2}],
        [],
    ],
}
ENTITIES = {"entities": {"column": "entities"}}


def test_entities_know_their_tokens() -> None:
    fitted = fit(LIMA, "luke", ENTITIES)
    batch = collate(fitted, LIMA)
    assert fitted.sources["entities"].state()["vocabulary"] == {
        "[PAD]": 0,
        "[UNK]": 1,
        "[MASK]": 2,
        "[MASK2]": 3,
        "Lima": 4,
        "Rome": 5,
    }
    assert batch["entity_ids"].tolist() == [[4, 5, 2], [0, 0, 0]]
    assert batch["entity_attention_mask"].tolist() == [[True] * 3, [False] * 3]
    assert batch["entity_position_ids"][0].tolist() == [[4, 5, 6, 7], [13, 14, 15, 16], [1, 2, -1, -1]]
    assert batch["entity_position_ids"][1].unique().tolist() == [-1]
    unknown: dict[str, list[Any]] = {"content": ["Oslo"], "entities": [[{"start": 0, "end": 4, "name": "Oslo"}]]}
    assert collate(fitted, unknown)["entity_ids"].tolist() == [[1]]


@pytest.mark.parametrize(("truncation", "kept"), [("head", [4, 2]), ("tail", [5]), ("middle-out", [5, 2])])
def test_entities_that_truncation_touches_are_dropped(truncation: str, kept: list[int]) -> None:
    fitted = fit(LIMA, "luke", ENTITIES, max_length=11, truncation=truncation)
    batch = collate(fitted, LIMA)
    assert batch["entity_ids"][0][batch["entity_attention_mask"][0]].tolist() == kept
    text = texts(fitted, batch)[0]
    for number, places in zip(kept, batch["entity_position_ids"][0].tolist(), strict=False):
        covered = "".join(text[place] for place in places if place >= 0)
        assert covered == {4: "Lima", 5: "Rome", 2: "in"}[number]


def test_long_mentions_are_cut_and_rare_names_unknown() -> None:
    entities = {"entities": {"column": "entities", "max_mention_length": 2, "min_freq": 2}}
    fitted = fit(LIMA, "luke", entities)
    batch = collate(fitted, LIMA)
    assert batch["entity_ids"][0].tolist() == [1, 1, 2]
    assert batch["entity_position_ids"][0].tolist() == [[4, 5], [13, 14], [1, 2]]


def test_a_row_does_not_depend_on_the_regions_beside_it() -> None:
    vectors = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    page: dict[str, list[Any]] = {
        "content": ["abc", "a", "ab"],
        "regions": [vectors.tolist(), [], vectors[:1].tolist()],
    }
    options = {**TINY, "visual_embedding_dim": 4}
    fitted = fit(page, "visual_bert", {"visual_embeds": {"column": "regions"}}, model_init_config=options)
    batch = collate(fitted, page)
    assert batch["visual_embeds"].shape == (3, 3, 4)
    assert batch["visual_attention_mask"].tolist() == [[True] * 3, [False] * 3, [True, False, False]]
    torch.testing.assert_close(batch["visual_embeds"][0], torch.from_numpy(vectors), atol=0, rtol=0)
    assert EncodedInMemory(fitted, rows_of(page)[:]).numbers("length").tolist() == [5 + 3, 3, 4 + 1]
    encoder = fitted.build_encoder(DataConfig()).eval()
    for index in range(3):
        alone = {name: values[index : index + 1] for name, values in page.items()}
        torch.testing.assert_close(encoder(**collate(fitted, alone)), encoder(**batch)[index : index + 1])
    tokens = encoder.read(**batch)
    expected = tokens.states[0].mean(0)  # text and regions, all of them real
    torch.testing.assert_close(encoder(**batch)[0], expected)


def test_languages_of_rows_and_of_words() -> None:
    rows: dict[str, list[Any]] = {"content": [["ab", "c"], ["d"]], "lang": [["fr", "en"], "de"]}
    fitted = fit(rows, "xlm", {"langs": {"column": "lang"}}, **SPLIT)
    assert fitted.sources["langs"].state()["lang2id"] == {"de": 0, "en": 1, "fr": 2}
    assert collate(fitted, rows)["langs"].tolist() == [[2, 2, 2, 1, 1], [0] * 5]
    assert fitted.build_encoder(DataConfig()).backbone.config.n_langs == 3
    given = {"langs": {"value": "en", "lang2id": {"fr": 0, "en": 1}}}
    assert collate(fit(rows, "xlm", given, **SPLIT), rows)["langs"].unique().tolist() == [1]


def test_a_tensor_that_no_column_gives_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    rows: dict[str, list[Any]] = {"content": ["ab", "c"]}
    fit(rows, "layoutlm", {}).build_encoder(DataConfig())
    assert caplog.messages == ["inputs.page: 'layoutlm' could read tensors.bbox, which no column gives"]
    caplog.clear()
    fit(rows, "layoutlm", {}).build_encoder(DataConfig(), pretrained=False)
    fit(PAGE, "layoutlm", BBOX, **SPLIT).build_encoder(DataConfig())
    assert caplog.messages == []


def test_what_was_fitted_is_saved(tmp_path: Path) -> None:
    fitted = fit(LIMA, "luke", ENTITIES)
    fitted.save(tmp_path)
    again = load_modality(tmp_path)
    assert isinstance(again, FittedSequence)
    assert again.sources == fitted.sources
    assert again.fingerprint() == fitted.fingerprint()
    one, other = collate(fitted, LIMA), collate(again, LIMA)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_is_encoded_depends_on_the_tensors() -> None:
    fitted = fit(LIMA, "luke", ENTITIES)
    others = {**LIMA, "entities": [[{"start": 0, "end": 2, "name": "Oslo"}], []]}
    assert fitted.fingerprint() != fit(others, "luke", ENTITIES).fingerprint()


# ------------------------------------------------------------------------------------------------- published files


def byte_level_folder(folder: Path) -> Path:
    """vocab.json and merges.txt, as a byte-level tokenizer is published; a few letters are one with their space."""
    from tokenizers.pre_tokenizers import ByteLevel

    folder.mkdir(exist_ok=True)
    vocab = ["<s>", "<pad>", "</s>", "<unk>", *sorted(ByteLevel.alphabet()), "ĠL", "ĠR", "Ġa", "<mask>"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(vocab)}))
    (folder / "merges.txt").write_text("#version: 0.2\nĠ L\nĠ R\nĠ a\n")
    return folder


def test_entities_are_those_of_the_published_tokenizer(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = byte_level_folder(tmp_path / "luke")
    entities = {"[PAD]": 0, "[UNK]": 1, "[MASK]": 2, "[MASK2]": 3, "Lima": 4, "Rome": 5}
    (folder / "entity_vocab.json").write_text(json.dumps(entities))
    reference = transformers.LukeTokenizer(
        *(str(folder / name) for name in ("vocab.json", "merges.txt", "entity_vocab.json"))
    )
    reference.save_pretrained(folder)
    model = {**TINY, "vocab_size": len(reference), "entity_vocab_size": 6}
    tokenizer = {"type": "published", "path": str(folder)}
    fitted = fit(LIMA, "luke", ENTITIES, tokenizer=tokenizer, model_init_config=model)
    batch = collate(fitted, LIMA)
    spans = [(entity["start"], entity["end"]) for entity in LIMA["entities"][0]]
    names = [entity.get("name", "[MASK]") for entity in LIMA["entities"][0]]
    expected = reference(LIMA["content"][0], entities=names, entity_spans=spans)
    assert batch["input_ids"][0].tolist() == expected["input_ids"]
    assert batch["entity_ids"][0].tolist() == expected["entity_ids"]
    positions = [[place for place in row if place != -1] for row in expected["entity_position_ids"]]
    assert [[place for place in row if place != -1] for row in batch["entity_position_ids"][0].tolist()] == positions


def test_signs_are_those_of_the_published_tokenizer(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c"]
    (tmp_path / "vocab.txt").write_text("\n".join(vocab) + "\n")
    (tmp_path / "word_shape.json").write_text(json.dumps({"[UNK]": 4, "[PAD]": 0, "a": 1, "b": 2}))
    (tmp_path / "word_pronunciation.json").write_text(json.dumps({"[UNK]": 3, "a": 5, "b": 6, "c": 7}))
    files = ("vocab.txt", "word_shape.json", "word_pronunciation.json")
    reference = transformers.RoCBertTokenizer(*(str(tmp_path / name) for name in files))
    reference.save_pretrained(tmp_path)
    rows: dict[str, list[Any]] = {"content": ["a b c", "x b"]}
    fitted = fit(
        rows,
        "roc_bert",
        {"input_shape_ids": {}, "input_pronunciation_ids": {}},
        tokenizer={"type": "published", "path": str(tmp_path)},
        model_init_config={**TINY, "shape_vocab_size": 8, "pronunciation_vocab_size": 8},
    )
    batch, expected = collate(fitted, rows), reference(rows["content"], padding=True)
    for name in ("input_ids", "input_shape_ids", "input_pronunciation_ids"):
        assert batch[name].tolist() == expected[name]


def test_tags_are_those_of_the_published_tokenizer(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = byte_level_folder(tmp_path / "markuplm")
    tags = {"body": 0, "div": 1, "html": 2}
    reference = transformers.MarkupLMTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), tags_dict=tags)
    reference.save_pretrained(folder)
    rows: dict[str, list[Any]] = {"content": [["a", "bc"]], "paths": [["/html/body/div[2]", "/html/section"]]}
    model = {**TINY, "vocab_size": len(reference), "tag_pad_id": 4}
    tokenizer = {"type": "published", "path": str(folder)}
    tensors = {"xpaths": {"column": "paths"}}
    fitted = fit(rows, "markuplm", tensors, tokenizer=tokenizer, model_init_config=model, **SPLIT)
    batch, expected = collate(fitted, rows), reference(rows["content"][0], xpaths=rows["paths"][0])
    for name in ("input_ids", "xpath_tags_seq", "xpath_subs_seq"):
        assert batch[name][0].tolist() == expected[name]
