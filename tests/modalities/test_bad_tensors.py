"""Bad tensors, and every line that comes out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eir_seq.config.validation import validate_experiment
from eir_seq.data.source import load_splits
from eir_seq.errors import UserError
from eir_seq.models import create_model
from eir_seq.training.assemble import assemble
from eir_seq.training.console import Console
from tests.modalities.tensor_tables import CASES, TINY, Row, make_rows, tensor_experiment, write_rows

# ruff: noqa: E501  (a line is a line)
SKIP = "; data.on_bad_row=skip leaves such rows out"


def lines_of(name: str, folder: Path, bad: dict[int, Row], **data: Any) -> list[str]:
    """What is said about training rows of which some are changed; paths without their folder."""
    rows = make_rows(CASES[name], folder, 8, 0)
    for number, changes in bad.items():
        rows[number] |= changes
    config = tensor_experiment(name, folder)
    table = write_rows(folder / "bad.jsonl", rows)
    config = config.model_copy(update={"data": config.data.model_copy(update={"train": table, "test": None, **data})})
    with pytest.raises(UserError) as caught:
        load_splits(config)
    return [str(fault).replace(f"{folder}/", "").replace(SKIP, "") for fault in caught.value.faults]


def test_boxes(tmp_path: Path) -> None:
    one = {"content": ["a", "b"]}
    assert lines_of(
        "layoutlm",
        tmp_path,
        {
            0: {**one, "boxes": [[0, 0, 10, 10]]},
            1: {**one, "boxes": [[0, 0, 10, 10], [0, 0, 1001, 10]]},
            2: {**one, "boxes": [[20, 0, 10, 10], [0, 0, 10]]},
            3: {**one, "boxes": None},
            4: {**one, "boxes": "12, 13"},
            5: {"content": "a b"},
            6: {"content": ["", " "]},
            7: {**one, "boxes": [[0, -1, 10, 10], [0, 0, 1.5, 2]]},
        },
    ) == [
        "bad.jsonl line 1: 'boxes' has 1 boxes for 2 words",
        "bad.jsonl line 2: 'boxes' has at word 2 the box [0, 0, 1001, 10], which is not within 0 and 1000",
        "bad.jsonl line 3: 'boxes' has at word 1 the box [20, 0, 10, 10], whose right or bottom edge is before the other",
        "bad.jsonl line 3: 'boxes' has at word 2 [0, 0, 10], not [left, top, right, bottom] in integers",
        "bad.jsonl line 4: 'boxes' is missing",
        "bad.jsonl line 5: 'boxes' is \"12, 13\", not a list of boxes",
        "bad.jsonl line 8: 'boxes' has at word 1 the box [0, -1, 10, 10], which is not within 0 and 1000",
        "bad.jsonl line 8: 'boxes' has at word 2 [0, 0, 1.5, 2], not [left, top, right, bottom] in integers",
        'bad.jsonl line 6: \'content\' is "a b", not a list of words such as ["a", "b"] (is_split_into_words)',
        "bad.jsonl line 7: 'content' has no word",
    ]


def test_xpaths(tmp_path: Path) -> None:
    one = {"content": ["a", "b"]}
    assert lines_of("markuplm", tmp_path, {1: {**one, "xpaths": ["/html", "body[x]"]}, 2: {**one, "xpaths": []}}) == [
        "bad.jsonl line 2: 'xpaths' has at word 2 \"body[x]\", not an xpath such as /html/body/div[2]/p",
        "bad.jsonl line 3: 'xpaths' has 0 xpaths for 2 words",
    ]
    assert lines_of("markuplm-html", tmp_path, {4: {"content": "<p><br></p>"}}) == [
        "bad.jsonl line 5: 'content' is HTML without any text"
    ]


def test_entities(tmp_path: Path) -> None:
    def entity(**fields: Any) -> Row:
        return {"content": "in Lima", "entities": [fields]}

    assert lines_of(
        "luke",
        tmp_path,
        {
            0: entity(start=3, end=8, name="Lima"),
            1: entity(start=3, end=3, name="Lima"),
            2: entity(begin=3, end=7),
            3: entity(start="3", end=7),
            4: entity(start=3, end=7, name=5),
            5: {"entities": '[{"start": 3'},
            6: {"entities": {"start": 3}},
        },
    ) == [
        "bad.jsonl line 1: 'entities' has as entity 1 the characters 3 to 8 of a text of 7",
        "bad.jsonl line 2: 'entities' has as entity 1 the characters 3 to 3 of a text of 7",
        'bad.jsonl line 3: \'entities\' has as entity 1 {"begin": 3, "end": 7}, not {start, end, name}',
        'bad.jsonl line 4: \'entities\' has as entity 1 {"start": "3", "end": 7}, whose start and end are not integers',
        "bad.jsonl line 5: 'entities' has as entity 1 the name 5, not a text",
        "bad.jsonl line 6: 'entities' is not valid JSON: Expecting ',' delimiter: line 1 column 13 (char 12)",
        "bad.jsonl line 7: 'entities' is {\"start\": 3}, not a list of entities {start, end, name}",
    ]


def test_regions(tmp_path: Path) -> None:
    np.save(tmp_path / "wide.npy", np.zeros((2, 7)))
    np.save(tmp_path / "flat.npy", np.zeros(6))
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "text.npy").write_text("no numbers")
    files = ("wide.npy", "flat.npy", "objects.npy", "text.npy", "wyde.npy")
    bad: dict[int, Row] = {number: {"regions": name} for number, name in enumerate(files)}
    lines = lines_of("visual_bert", tmp_path, {**bad, 5: {"regions": [[1.0] * 6, [2.0]]}, 6: {"regions": [[1e39] * 6]}})
    assert lines[:2] == [
        "bad.jsonl line 1: 'regions' has an array of 2 x 7, not of regions x 6 (visual_embedding_dim)",
        "bad.jsonl line 2: 'regions' has an array of 6, not of regions x 6 (visual_embedding_dim)",
    ]
    for number, name in ((3, "objects.npy"), (4, "text.npy")):
        start = f"bad.jsonl line {number}: 'regions' names {name}, which is not a table of numbers, one line per region"
        assert lines[number - 1].startswith(start)
    assert lines[4] == "bad.jsonl line 5: 'regions' names wyde.npy, which is no file; did you mean 'wide.npy'?"
    assert lines[5].startswith("bad.jsonl line 6: 'regions' is [[1.0, 1.0, 1.0, 1.0, 1.0, 1.0], [2.0]], not a table")
    assert lines[6] == "bad.jsonl line 7: 'regions' has vectors with values that are not finite"


def test_pictures(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "deep.png")
    cells = ("text.png", "deep.png", "tixt.png", None, "", [1, 2])
    assert lines_of("git", tmp_path, {number: {"picture": cell} for number, cell in enumerate(cells)}) == [
        "bad.jsonl line 1: 'picture' names text.png, which is no picture (it is none of PNG, JPEG, WEBP, TIFF, GIF, BMP, PPM)",
        "bad.jsonl line 2: 'picture' names deep.png, a picture with channels of kind 'I;16'; colours of 8 bits per channel are expected",
        "bad.jsonl line 3: 'picture' names tixt.png, which is no file; did you mean 'text.png'?",
        "bad.jsonl line 4: 'picture' is missing",
        "bad.jsonl line 5: 'picture' is empty",
        "bad.jsonl line 6: 'picture' is [1, 2], not the name of a file",
    ]


def test_frames(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    good = make_rows(CASES["git-video"], tmp_path, 1, 0)[0]["picture"]
    cells = (good[0], good[:1], [good[0], "text.png"], [good[0], 3], [*good, good[0]])
    lines = lines_of("git-video", tmp_path, {number: {"picture": cell} for number, cell in enumerate(cells)})
    count = "a list of 2 is expected (num_image_with_embedding)"
    assert lines[:2] == [f"bad.jsonl line {line}: 'picture' has 1 pictures; {count}" for line in (1, 2)]
    assert (
        lines[2]
        == "bad.jsonl line 3: 'picture' names text.png, which is no picture (it is none of PNG, JPEG, WEBP, TIFF, GIF, BMP, PPM)"
    )
    assert lines[3] == "bad.jsonl line 4: 'picture' is 3, not the name of a file"
    assert lines[4] == f"bad.jsonl line 5: 'picture' has 3 pictures; {count}"


def test_pictures_that_models_cannot_take(tmp_path: Path) -> None:
    config = tensor_experiment("git", tmp_path)
    options = {**CASES["git"].options, "vision_config": {"num_channels": 4}}
    config.inputs["page"].model.model_init_config.update(options)
    with pytest.raises(
        UserError, match=r"inputs\.page\.tensors\.pixel_values: a picture has 1 or 3 channels, the model reads 4"
    ):
        load_splits(config)
    config = tensor_experiment("xlm", tmp_path)
    config = config.model_copy(
        update={
            "inputs": {
                "page": config.inputs["page"].model_copy(
                    update={"tensors": tensor_experiment("git", tmp_path).inputs["page"].tensors}
                )
            }
        }
    )
    with pytest.raises(UserError, match=r"inputs\.page\.tensors\.pixel_values: 'xlm' takes no such tensor"):
        load_splits(config)


def test_languages_and_types_of_tasks(tmp_path: Path) -> None:
    assert lines_of("xlm", tmp_path, {2: {"lang": ["en", "fr"]}, 3: {"lang": None}}) == [
        "bad.jsonl line 3: 'lang' has a list of languages; the text column must hold words (is_split_into_words: true)",
        "bad.jsonl line 4: 'lang' is missing",
    ]
    assert lines_of("ernie", tmp_path, {2: {"task": 3}, 5: {"task": -1}}) == [
        "bad.jsonl line 3: 'task' has the type \"3\", not an integer from 0 to 2 (task_type_vocab_size)",
        "bad.jsonl line 6: 'task' has the type \"-1\", not an integer from 0 to 2 (task_type_vocab_size)",
    ]


def test_bad_rows_can_be_left_out(tmp_path: Path) -> None:
    rows = make_rows(CASES["layoutlm"], tmp_path, 8, 0)
    rows[3]["boxes"] = []
    config = tensor_experiment("layoutlm", tmp_path)
    data = {"train": write_rows(tmp_path / "bad.jsonl", rows), "test": None, "validation": None, "on_bad_row": "skip"}
    splits = load_splits(config.model_copy(update={"data": config.data.model_copy(update=data)}))
    assert splits.train is not None
    assert splits.train.num_rows == 7
    assert [(row.id, row.place) for row in splits.skipped] == [("0-3", f"{tmp_path}/bad.jsonl line 4")]


def test_a_language_that_only_validation_has(tmp_path: Path) -> None:
    rows = make_rows(CASES["xlm"], tmp_path, 8, 3)
    config = tensor_experiment("xlm", tmp_path)
    rows[0]["lang"] = "frr"
    data = config.data.model_copy(update={"validation": write_rows(tmp_path / "validation.jsonl", rows)})
    with Console() as console, pytest.raises(UserError) as caught:
        assemble(config.model_copy(update={"data": data}), console)
    expected = (
        "inputs.page.tensors.langs: 'frr' in column 'lang' is not a language of the training rows; did you mean 'fr'?"
    )
    assert [str(fault) for fault in caught.value.faults] == [expected]


# ---------------------------------------------------------------------------------------------------- the config


def refused(name: str, folder: Path, **changes: Any) -> list[str]:
    """What is said about an experiment whose input has these keys."""
    config = tensor_experiment(name, folder).model_dump(mode="json", exclude_unset=True)
    config["inputs"]["page"] |= changes
    with pytest.raises(UserError) as caught:
        assemble(validate_experiment(config), Console())
    return [str(fault) for fault in caught.value.faults]


def model(model_type: str, **options: Any) -> dict[str, Any]:
    return {"model_type": model_type, "model_init_config": {**TINY, **options}}


@pytest.mark.parametrize(
    ("name", "changes", "lines"),
    [
        (
            "layoutlm",
            {"model": model("bert")},
            ["inputs.page.tensors.bbox: 'bert' takes no such tensor; it takes no further tensors"],
        ),
        (
            "layoutlm",
            {"model": model("markuplm"), "tensors": {"bbox": {"column": "boxes"}, "langs": {"value": "en"}}},
            [
                "inputs.page.tensors.bbox: 'markuplm' takes no such tensor; it takes xpaths",
                "inputs.page.tensors.langs: 'markuplm' takes no such tensor; it takes xpaths",
            ],
        ),
        (
            "ernie",
            {"model": model("ernie")},
            ["inputs.page.tensors.task_type_ids: 'ernie' takes it only with use_task_id: true (model_init_config)"],
        ),
        (
            "xlm",
            {"model": {"model_type": "xlm", "model_init_config": {"emb_dim": 16, "n_heads": 2, "n_langs": 1}}},
            [
                "inputs.page.tensors.langs: 'xlm' takes it only with n_langs above 1, use_lang_emb: true (model_init_config)"
            ],
        ),
        (
            "xlm",
            {"tensors": {"langs": {"value": "frr", "lang2id": {"en": 0, "fr": 1}}}},
            ["inputs.page.tensors.langs.value: 'frr' is not a language of the model; did you mean 'fr'?"],
        ),
        (
            "ernie",
            {"tensors": {"task_type_ids": {"value": 3}}},
            ["inputs.page.tensors.task_type_ids.value: 3 is beyond the 3 types of the model (task_type_vocab_size)"],
        ),
        (
            "layoutlm",
            {"is_split_into_words": False},
            ["inputs.page.is_split_into_words: must be true: tensors.bbox has a value for each word"],
        ),
        (
            "luke",
            {"is_split_into_words": True, "tensors": {"entities": {"column": "kind"}}},
            [
                "inputs.page.tensors.entities.column: column 'kind' is the target of outputs.kind",
                "inputs.page.is_split_into_words: must be false: tensors.entities are characters of a text",
            ],
        ),
        (
            "layoutlm",
            {"tensors": {"bbx": {"column": "boxes"}}},
            ["inputs.page.tensors.bbx: unknown key; did you mean 'bbox'?"],
        ),
        ("markuplm", {"tensors": {"xpaths": {}}}, ["inputs.page.tensors.xpaths: give column, or html: true"]),
        (
            "roc_bert",
            {"tokenizer": {"type": "word"}},
            [
                "inputs.page.tensors.input_shape_ids.file: is missing; a trained tokenizer has no word_shape.json",
                "inputs.page.tensors.input_pronunciation_ids.file: is missing; a trained tokenizer has no "
                "word_pronunciation.json",
            ],
        ),
        (
            "xlm",
            {
                "model": {"model_type": "xlm", "model_init_config": {"emb_dim": 16, "n_heads": 2, "n_langs": 2}},
                "tensors": {"langs": {"column": "lang", "lang2id": {"en": 0, "fr": 1, "de": 2}}},
            },
            ["inputs.page.model.model_init_config.n_langs: 2 is less than the 3 that tensors.langs has"],
        ),
    ],
)
def test_what_the_config_cannot_ask_for(name: str, changes: dict[str, Any], lines: list[str], tmp_path: Path) -> None:
    assert refused(name, tmp_path, **changes) == lines


def test_published_files_are_looked_at(tmp_path: Path) -> None:
    looks = tmp_path / "looks.json"
    changes = {"tensors": {"input_shape_ids": {"file": str(looks)}}}
    assert refused("roc_bert", tmp_path, **changes) == [f"inputs.page.tensors.input_shape_ids: there is no {looks}"]
    looks.write_text(json.dumps({"[UNK]": 0, "w1": 9}))
    assert refused("roc_bert", tmp_path, **changes) == [
        f"{looks}: 'w1' has the number 9, not a whole one below 4 (the model's table)"
    ]
    create_model("luke", TINY).save_pretrained(tmp_path / "tokenizer")
    published = {"model_type": str(tmp_path / "tokenizer"), "pretrained_model": True}
    assert refused("luke", tmp_path, model=published, tokenizer={"type": "published"}) == [
        "inputs.page.tensors.entities: the tokenizer has no entity_vocab.json, which numbers the entities of the model"
    ]
