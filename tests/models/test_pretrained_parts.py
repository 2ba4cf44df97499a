"""Published weights for one side of an encoder-decoder: which tensors come from the file, and which are fresh."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch

from eir_seq.errors import UserError
from eir_seq.models import create_model, from_pretrained
from eir_seq.models.lora import freeze
from eir_seq.models.model import Model
from tests.models.tiny import OPTIONS, noisy, tiny

TABLE = "body.encoder.embeddings.tokens.weight"


def saved(folder: Path, model_type: str = "t5", **more: Any) -> Model:
    model = noisy(tiny(model_type, "seq2seq-lm", **more))
    model.save_pretrained(folder)
    return model


def same(one: Any, other: Any) -> set[str]:
    """Parameters that are equal."""
    theirs = dict(other.named_parameters())
    return {name for name, x in one.named_parameters() if torch.equal(x, theirs[name])}


@pytest.mark.parametrize("model_type", ["t5", "bart", "t5gemma", "prophetnet", "switch_transformers"])
@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_one_side_is_that_of_the_file(tmp_path: Path, model_type: str, side: str) -> None:
    before = saved(tmp_path, model_type)
    torch.manual_seed(3)
    model: Any = from_pretrained(tmp_path, pretrained_parts=side)
    assert same(model, before) == before.names_of_side(side) & dict(before.named_parameters()).keys()
    assert model.load_report.initialised
    torch.manual_seed(3)
    again: Any = from_pretrained(tmp_path, pretrained_parts=side)
    torch.manual_seed(4)
    other = from_pretrained(tmp_path, pretrained_parts=side)
    assert same(model, again) == dict(model.named_parameters()).keys()
    drawn = {name for name in model.load_report.initialised if name.endswith("query.weight")}
    assert drawn
    assert not drawn & same(model, other), "fresh weights follow the seed"


def test_a_shared_table_belongs_to_both_sides_and_the_head_to_the_decoder(tmp_path: Path) -> None:
    tied, untied = tiny("t5", "seq2seq-lm"), tiny("t5", "seq2seq-lm", tie_word_embeddings=False)
    for side in ("encoder", "decoder"):
        assert TABLE in tied.names_of_side(side)
    assert "head.out.weight" not in untied.names_of_side("encoder")
    assert "head.out.weight" in untied.names_of_side("decoder")
    assert tied.names_of_side("encoder") | tied.names_of_side("decoder") == dict(tied.named_parameters()).keys()


def test_the_fresh_side_may_have_other_sizes(tmp_path: Path) -> None:
    before = saved(tmp_path)
    depth = before.config.num_layers + 1  # type: ignore[attr-defined]
    model: Any = from_pretrained(tmp_path, pretrained_parts="encoder", num_decoder_layers=depth)
    assert len(model.body.decoder.layers) == depth
    ids = torch.tensor([[5, 6, 7, 1]])
    states = [x.body.encoder(ids).last_hidden_state for x in (cast(Any, before), model)]
    assert torch.equal(*states)


def test_the_fresh_side_need_not_be_in_the_file(tmp_path: Path) -> None:
    encoder = noisy(tiny("t5", "encoder"))
    encoder.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="of the model's tensors are not in the checkpoint"):
        from_pretrained(tmp_path, task="seq2seq-lm")
    model: Any = from_pretrained(tmp_path, task="seq2seq-lm", pretrained_parts="encoder")
    ids = torch.tensor([[5, 6, 7, 1]])
    assert torch.equal(model.body.encoder(ids).last_hidden_state, encoder(ids).last_hidden_state)


def test_what_is_refused(tmp_path: Path) -> None:
    create_model("bert", OPTIONS["bert"]).save_pretrained(tmp_path / "bert")
    saved(tmp_path / "t5")
    with pytest.raises(UserError, match=r"^pretrained_parts: there is no encoder apart: 'bert' has one side only"):
        from_pretrained(tmp_path / "bert", pretrained_parts="encoder")
    with pytest.raises(UserError, match=r": 't5' has one side only for task 'encoder'$"):
        from_pretrained(tmp_path / "t5", task="encoder", pretrained_parts="decoder")
    with pytest.raises(UserError, match=r"^pretrained_parts: 'encodr' is no side of a model .*did you mean 'encoder'"):
        from_pretrained(tmp_path / "t5", pretrained_parts="encodr")


def test_a_frozen_side_is_all_that_it_computes_with() -> None:
    model = tiny("t5", "seq2seq-lm", tie_word_embeddings=False)
    freeze(model, ["encoder", "decoder.block.0.*"])
    frozen = {name for name, x in model.named_parameters() if not x.requires_grad}
    assert frozen > model.names_of_side("encoder") > {TABLE}
    below = "body.decoder.layers.0."
    assert all(name.startswith(below) for name in frozen - model.names_of_side("encoder") if "layers" in name)
    assert "head.out.weight" not in frozen
    freeze(model, ["decoder"])
    assert not any(x.requires_grad for x in model.parameters())
