"""Activation checkpointing: the same gradients bit for bit, from less that is kept; every architecture."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from eir_seq.errors import UserError
from eir_seq.models import list_models
from eir_seq.models.catalogue import architecture, config_class
from eir_seq.models.lora import add_lora
from eir_seq.models.model import Model
from eir_seq.models.options import fields
from tests.models.tiny import DROPOUTS, inputs, loss, noisy, targets, tiny

REVERSIBLE = ("reformer",)
CHECKPOINTED = [name for name in list_models() if name not in REVERSIBLE]


def in_training(model_type: str, task: str = "base", **more: Any) -> Model:
    """With dropout everywhere, so that a second pass must draw the same numbers."""
    known = fields(config_class(model_type))
    dropouts = {name: 0.2 for name in DROPOUTS if name in known}
    return noisy(tiny(model_type, task, **dropouts, **more)).train()


def gradients(model: Model, given: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor], int]:
    """Loss, gradients, buffers and the bytes kept for the backward pass, weights excluded."""
    weights = {x.untyped_storage().data_ptr() for x in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return x

    torch.manual_seed(5)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        found = loss(model, model(**given))
    state = torch.get_rng_state()
    found.backward()
    assert torch.equal(torch.get_rng_state(), state), "the second pass used up random numbers"
    named = {name: x.grad for name, x in model.named_parameters() if x.grad is not None}
    return found.detach(), named, dict(model.named_buffers()), sum(kept.values())


def assert_same(model: Model, given: dict[str, Any], *, less: bool = True) -> None:
    other = copy.deepcopy(model)
    other.gradient_checkpointing_enable()
    assert other.is_gradient_checkpointing
    assert not model.is_gradient_checkpointing
    plain, cheap = gradients(model, given), gradients(other, given)
    assert torch.equal(plain[0], cheap[0])
    assert plain[1].keys() == cheap[1].keys()
    for name, expected in plain[1].items():
        assert torch.equal(expected, cheap[1][name]), name
    for name, expected in plain[2].items():
        assert torch.equal(expected, cheap[2][name]), name
    if less:
        assert cheap[3] < plain[3]


@pytest.mark.parametrize("model_type", CHECKPOINTED)
@pytest.mark.parametrize("pack", [True, False], ids=["packed", "padded"])
def test_same_gradients_from_fewer_bytes(model_type: str, pack: bool) -> None:
    model = in_training(model_type)
    model.pack = pack
    assert_same(model, inputs(model))


@pytest.mark.parametrize(
    ("model_type", "task"),
    [("bert", "masked-lm"), ("mixtral", "causal-lm"), ("mt5", "seq2seq-lm"), ("switch_transformers", "seq2seq-lm")],
)
def test_with_a_head(model_type: str, task: str) -> None:
    model = in_training(model_type, task)
    wanted = {"output_router_logits": True} if "router" in str(model) else {}
    assert_same(model, {**inputs(model), **targets(model), **wanted})


@pytest.mark.parametrize("model_type", ["bert", "t5", "git", "pegasus_x", "xlnet"])
def test_wanted_states_and_weights_are_listed_once(model_type: str) -> None:
    model = in_training(model_type)
    assert_same(model, {**inputs(model), "output_hidden_states": True, "output_attentions": True}, less=False)
    model.gradient_checkpointing_enable()
    output = model(**inputs(model), output_attentions=True)
    listed = next(x for name, x in output.items() if name.endswith("attentions"))
    output[0].sum().backward()
    assert len(listed) <= model.num_layers


def test_adapters_in_front_of_frozen_layers() -> None:
    """The first layer's input has no gradient, its adapters have."""
    model = in_training("bert", "sequence-classification")
    add_lora(model, rank=2, dropout=0.2)
    for name, parameter in model.named_parameters():
        if name.endswith("lora.b"):
            torch.nn.init.normal_(parameter)
    assert_same(model, {**inputs(model), **targets(model)})


def test_no_cache_is_started_in_training() -> None:
    model = in_training("gpt2", "causal-lm")
    given = inputs(model)
    assert model(**given, use_cache=True).past_key_values is not None
    model.gradient_checkpointing_enable()
    assert model(**given, use_cache=True).past_key_values is None
    with torch.no_grad():
        assert model.eval()(**given, use_cache=True).past_key_values is not None
    model.gradient_checkpointing_disable()
    assert not model.is_gradient_checkpointing


def test_what_is_refused() -> None:
    model = tiny("bert")
    with pytest.raises(UserError, match="use_reentrant must be False"):
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    with pytest.raises(UserError, match="'reentrant' is unknown"):
        model.gradient_checkpointing_enable({"reentrant": False})
    assert not model.is_gradient_checkpointing
    model.gradient_checkpointing_enable({"use_reentrant": False})
    assert model.is_gradient_checkpointing
    for name in REVERSIBLE:
        assert not tiny(name).supports_gradient_checkpointing
        with pytest.raises(UserError, match="keep nothing"):
            tiny(name).gradient_checkpointing_enable()


def test_sides() -> None:
    """What an encoder returns is read as `encoder_outputs`."""
    model = noisy(tiny("mt5", "seq2seq-lm"))
    given = inputs(model)
    text = {name: given[name] for name in ("input_ids", "attention_mask")}
    encoded = model.get_encoder()(**text, return_dict=True)
    whole = model(**given)
    for outputs in (encoded, encoded.to_tuple(), dict(encoded)):
        torch.testing.assert_close(
            model(attention_mask=text["attention_mask"], encoder_outputs=outputs,
                  decoder_input_ids=given["decoder_input_ids"]).logits,
            whole.logits,
        )  # fmt: skip
    states = model.get_decoder()(
        given["decoder_input_ids"],
        encoder_hidden_states=encoded.last_hidden_state,
        encoder_attention_mask=text["attention_mask"],
    ).last_hidden_state
    torch.testing.assert_close(model.head.scores(states), whole.logits)
    assert tiny("gpt2", "causal-lm").get_decoder()(text["input_ids"]).last_hidden_state is not None
    assert architecture("mt5").tasks["encoder"]
    assert tiny("mt5", "encoder").get_encoder()(**text).last_hidden_state is not None
    with pytest.raises(UserError, match="'bert' has no decoder for task 'base'"):
        tiny("bert").get_decoder()
    with pytest.raises(UserError, match="'gpt2' has no encoder for task 'causal-lm'"):
        tiny("gpt2", "causal-lm").get_encoder()
