"""`from_pretrained` with what the documents of the models show: number formats, devices, names of classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from eir_seq.errors import UserError
from eir_seq.models import create_model, from_pretrained
from tests.models.tiny import inputs, tiny

FOUR = [("mt5", "seq2seq-lm"), ("t5gemma", "seq2seq-lm"), ("mvp", "seq2seq-lm"), ("m2m_100", "seq2seq-lm")]


def edit(folder: Path, **changes: Any) -> None:
    content = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(content))


@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
@pytest.mark.parametrize("given", [torch.bfloat16, "bfloat16", "torch.bfloat16"], ids=str)
@pytest.mark.parametrize(("model_type", "task"), FOUR)
def test_as_the_documents_have_it(model_type: str, task: str, given: Any, name: str, tmp_path: Path) -> None:
    tiny(model_type, task).save_pretrained(tmp_path)
    way = {"attn_implementation": "eager" if model_type in ("mt5", "t5gemma") else "sdpa"}
    model = from_pretrained(tmp_path, **{name: given}, device_map="auto", **way)
    assert {x.dtype for x in model.parameters()} == {torch.bfloat16}
    assert model.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    on = {name: x.to(model.device) for name, x in inputs(model).items()}
    assert model(**on).logits.dtype is torch.bfloat16


def test_the_stored_number_format(tmp_path: Path) -> None:
    """That of config.json, or of the weights; absent, torch's default one."""
    tiny("bert").to(torch.bfloat16).save_pretrained(tmp_path)
    dtypes = {x.dtype for x in from_pretrained(tmp_path).parameters()}
    assert dtypes == {torch.float32}
    assert {x.dtype for x in from_pretrained(tmp_path, dtype="auto").parameters()} == {torch.bfloat16}
    for key in ("torch_dtype", "dtype"):
        edit(tmp_path, **{key: "float16"})
        model = from_pretrained(tmp_path, torch_dtype="auto")
        assert {x.dtype for x in model.parameters()} == {torch.float16}
    model.to(torch.float32).save_pretrained(tmp_path / "again")
    again = from_pretrained(tmp_path / "again", dtype="auto")
    assert {x.dtype for x in again.parameters()} == {torch.float32}, "what is saved says its own format"


def test_number_formats_that_cannot_be(tmp_path: Path) -> None:
    tiny("bert").save_pretrained(tmp_path)
    with pytest.raises(UserError, match="dtype: 'int8' is no number format of weights"):
        from_pretrained(tmp_path, dtype="int8")
    with pytest.raises(UserError, match=r"dtype: torch.float8_e4m3fn is no number format of weights"):
        from_pretrained(tmp_path, dtype=torch.float8_e4m3fn)
    with pytest.raises(UserError, match="torch_dtype: given twice"):
        from_pretrained(tmp_path, dtype="auto", torch_dtype="auto")
    edit(tmp_path, torch_dtype="int8")
    with pytest.raises(UserError, match="dtype: 'int8' is no number format of weights"):
        from_pretrained(tmp_path, dtype="auto")


def test_names_of_classes(tmp_path: Path) -> None:
    model = tiny("bert", "sequence-classification", num_labels=3)
    assert model.config.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    model.save_pretrained(tmp_path)
    names = {0: "no", 1: "yes"}
    for given in ({"id2label": names}, {"label2id": {"no": 0, "yes": 1}}, {"id2label": {"0": "no", "1": "yes"}}):
        again = from_pretrained(tmp_path, ignore_mismatched_sizes=True, **given)
        assert (again.config.num_labels, again.config.id2label) == (2, names)
        assert again.config.label2id == {"no": 0, "yes": 1}
    again.save_pretrained(tmp_path / "again")
    content = json.loads((tmp_path / "again" / "config.json").read_text())
    assert content["id2label"] == {"0": "no", "1": "yes"}
    assert content["label2id"] == {"no": 0, "yes": 1}
    logits = from_pretrained(tmp_path / "again")(torch.tensor([[5, 6]])).logits
    assert again.config.id2label[logits.argmax().item()] in ("no", "yes")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"id2label": {1: "no", 2: "yes"}}, "id2label: .* does not name the classes 0, 1, 2"),
        ({"id2label": ["no"]}, "id2label: "),
        ({"id2label": {0: "no", 1: "yes"}, "num_labels": 3}, "num_labels: 3 is not the number of labels, 2"),
    ],
)
def test_names_that_cannot_be(given: dict[str, Any], message: str, tmp_path: Path) -> None:
    tiny("bert", "sequence-classification").save_pretrained(tmp_path)
    with pytest.raises(UserError, match=message):
        from_pretrained(tmp_path, **given)


def test_a_model_of_its_own_number_format(tmp_path: Path) -> None:
    """`auto` reads the file where the config says nothing."""
    create_model("gpt2", {"n_embd": 8, "n_layer": 1, "n_head": 2, "vocab_size": 20}).save_pretrained(tmp_path)
    held = {name: x.to(torch.float16) for name, x in load_file(tmp_path / "model.safetensors").items()}
    save_file(held, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert {x.dtype for x in from_pretrained(tmp_path, dtype="auto").parameters()} == {torch.float16}
