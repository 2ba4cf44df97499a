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


class TestWhatCallsReturn:
    """`output_attentions`, `output_hidden_states` and `return_dict` as defaults of a config, as transformers has it."""

    @pytest.mark.parametrize(("model_type", "task"), [("bert", "base"), ("gpt2", "causal-lm"), ("bart", "seq2seq-lm")])
    def test_by_arguments_or_by_the_file(self, model_type: str, task: str, tmp_path: Path) -> None:
        transformers = pytest.importorskip("transformers", reason="the reference implementation is not installed")
        model = tiny(model_type, task)
        model.save_pretrained(tmp_path)
        given, name = inputs(model), model.declared.published
        plain = set(from_pretrained(tmp_path)(**given))
        asked = {"output_attentions": True, "output_hidden_states": True}
        by_argument = from_pretrained(tmp_path, **asked)
        edit(tmp_path, **asked)
        by_file = from_pretrained(tmp_path)
        reference = getattr(transformers, name).from_pretrained(str(tmp_path), attn_implementation="eager").eval()
        with torch.no_grad():
            expected = reference(**given)
        for loaded in (by_argument, by_file):
            found = loaded(**given)
            asked_for = set(expected) - {"past_key_values"}  # a cache is begun where a call asks for one
            assert set(found) == asked_for
            for key in asked_for:
                for x, y in zip(as_tuple(found[key]), as_tuple(expected[key]), strict=True):
                    if key == "last_hidden_state" or "logits" in key:
                        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)
                    assert x.shape == y.shape, key
            assert set(loaded(**given, output_attentions=False, output_hidden_states=False)) == plain
        by_argument.save_pretrained(tmp_path / "copy")
        assert set(from_pretrained(tmp_path / "copy")(**given)) == asked_for, "they are saved"

    def test_tuples(self, tmp_path: Path) -> None:
        model = tiny("gpt2", "causal-lm")
        model.save_pretrained(tmp_path)
        given = inputs(model)
        loaded = from_pretrained(tmp_path, return_dict=False, output_hidden_states=True)
        found = loaded(**given)
        assert isinstance(found, tuple)
        assert torch.equal(found[0], loaded(**given, return_dict=True).logits)
        ids = torch.full((1, 3), 11)
        written = loaded.generate(ids, max_new_tokens=4)
        assert torch.equal(written, model.generate(ids, max_new_tokens=4)), "generation reads outputs by name"

    def test_classes_of_options(self) -> None:
        from eir_seq.published import BertConfig, BertModel

        sizes = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = BertConfig(**sizes, intermediate_size=8, output_hidden_states=True, return_dict=False)
        found = BertModel(config).eval()(torch.tensor([[5, 6]]))
        assert isinstance(found, tuple)
        assert len(found[2]) == 2

    def test_where_there_are_no_weights(self, tmp_path: Path) -> None:
        model = tiny("fnet")
        model.save_pretrained(tmp_path)
        with pytest.raises(UserError, match="output_attentions: 'fnet' has no weights of pairs of tokens"):
            from_pretrained(tmp_path, output_attentions=True)
        edit(tmp_path, output_attentions=True)
        assert from_pretrained(tmp_path)(**inputs(model)).attentions is None
        with pytest.raises(UserError, match="return_dict: 'no' is not true or false"):
            from_pretrained(tmp_path, return_dict="no")
        edit(tmp_path, output_hidden_states=1)
        with pytest.raises(UserError, match=r"output_hidden_states: 1 is not true or false \(.*config.json\)"):
            from_pretrained(tmp_path)


def as_tuple(value: Any) -> tuple[torch.Tensor, ...]:
    return value if isinstance(value, tuple) else (value,)
