"""What a model returns: by name, by place, as a tuple, as a pytree."""

from __future__ import annotations

import copy
import inspect
from inspect import Parameter

import pytest
import torch
from torch.utils import _pytree as pytree

from eir_seq.models.backbones.encoder_decoder import EncoderDecoder
from eir_seq.models.backbones.joined import Joined
from eir_seq.models.backbones.stack import Stack
from eir_seq.models.families.git.prefixed import Prefixed
from eir_seq.models.families.sequence_default.windows import Windows
from eir_seq.models.families.xlnet.two_streams import TwoStreams
from eir_seq.models.inputs import INPUTS
from eir_seq.models.model import Model
from eir_seq.models.output import FIELDS, POOLED_FIELDS, ModelOutput
from tests.models.tiny import inputs, targets, tiny


@pytest.fixture(scope="module")
def classifier() -> Model:
    return tiny("bert", "sequence-classification")


def test_by_place(classifier: Model) -> None:
    output = classifier(**inputs(classifier), **targets(classifier), output_hidden_states=True)
    loss, logits = output[:2]
    assert loss is output[0] is output["loss"] is output.loss
    assert logits is output[1] is output["logits"] is output.logits
    assert output[-1] is output.hidden_states
    assert list(output) == ["loss", "logits", "hidden_states"]
    assert len(output) == 3
    assert "loss" in output
    assert output.to_tuple()[1] is logits
    assert output.attentions is None
    with pytest.raises(IndexError):
        output[3]
    with pytest.raises(KeyError):
        output["attentions"]
    with pytest.raises(AttributeError, match="no field 'logit'"):
        _ = output.logit


def test_without_a_loss_logits_come_first(classifier: Model) -> None:
    output = classifier(**inputs(classifier))
    assert output[0] is output.logits


def test_as_a_plain_tuple(classifier: Model) -> None:
    given = {**inputs(classifier), **targets(classifier)}
    loss, logits = classifier(**given, return_dict=False)
    output = classifier(**given, return_dict=True)
    assert torch.equal(loss, output.loss)
    assert torch.equal(logits, output.logits)


def test_order_of_a_base_model_with_a_pooler() -> None:
    model = tiny("bert", is_decoder=True)
    output = model(**inputs(model), use_cache=True, output_attentions=True, output_hidden_states=True)
    assert list(output) == ["last_hidden_state", "pooler_output", "hidden_states", "past_key_values", "attentions"]
    assert set(POOLED_FIELDS) <= set(FIELDS)
    assert len(FIELDS) == len(set(FIELDS))


def test_as_a_pytree(classifier: Model) -> None:
    output = classifier(**inputs(classifier), output_hidden_states=True)
    leaves, spec = pytree.tree_flatten(output)
    assert len(leaves) == 1 + len(output.hidden_states)
    again = pytree.tree_unflatten(leaves, pytree.treespec_loads(pytree.treespec_dumps(spec)))
    assert isinstance(again, ModelOutput)
    assert list(again) == list(output)
    doubled = pytree.tree_map(lambda x: 2 * x, output)
    assert torch.equal(doubled.logits, 2 * output.logits)
    paths = [pytree.keystr(path) for path, _ in pytree.tree_flatten_with_path(output)[0]]
    assert paths[:2] == ["['logits']", "['hidden_states'][0]"]
    assert list(copy.deepcopy(ModelOutput.of(loss=torch.ones(())))) == ["loss"]


def test_the_signature_names_the_inputs_of_every_frame() -> None:
    named = inspect.signature(Model.forward).parameters
    assert len(INPUTS) == len(set(INPUTS))
    assert set(INPUTS) <= named.keys()
    for frame in (Stack, EncoderDecoder, Joined, Prefixed, TwoStreams, Windows):
        kinds = (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)
        taken = {name for name, x in inspect.signature(frame.forward).parameters.items() if x.kind not in kinds}
        assert taken - {"self"} <= named.keys(), frame
