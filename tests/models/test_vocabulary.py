"""Token tables: found, replaced, and resized with all that has a row per token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from eir_seq.errors import UserError
from eir_seq.models import from_pretrained, list_models
from eir_seq.models.catalogue import architecture
from eir_seq.models.lora import add_lora, freeze, load_adapter, merge_lora, save_adapter
from eir_seq.models.model import Model
from eir_seq.models.names import is_adapter
from tests.models.tiny import inputs, noisy, tiny
from tests.parity.cases import VOCABULARY

WRITERS = ("masked-lm", "causal-lm", "seq2seq-lm", "pretraining")


def predicted(model: Model) -> torch.Tensor:
    output = model(**inputs(model))
    names = ("logits", "prediction_logits", "last_hidden_state")
    return next(output[name] for name in names if output.get(name) is not None)


GROWN = [(model_type, VOCABULARY + 5) for model_type in list_models()]
SHRUNK = [(model_type, VOCABULARY - 3) for model_type in ("bert", "bart", "mobilebert", "xlm", "t5gemma")]


@pytest.mark.parametrize(("model_type", "size"), GROWN + SHRUNK)
def test_resized_and_read_again(model_type: str, size: int, tmp_path: Path) -> None:
    """What was predicted of tokens that stay is as before; new ones are read, predicted and saved."""
    tasks = architecture(model_type).tasks
    task = next((task for task in WRITERS if task in tasks), "base")
    model = noisy(tiny(model_type, task))
    first = model.config.vocab_size
    kept, old = min(size, first), model.get_input_embeddings().weight.clone()
    given = {name: x.clamp(max=kept - 1) if "ids" in name else x for name, x in inputs(model).items()}
    before = model(**given)
    table = model.resize_token_embeddings(size)
    assert table is model.get_input_embeddings()
    assert (table.num_embeddings, model.config.vocab_size) == (size, size)
    assert torch.equal(table.weight[:kept], old[:kept])
    assert torch.isfinite(table.weight).all()
    after = model(**given)
    for name in ("logits", "prediction_logits", "last_hidden_state"):
        if (expected := before.get(name)) is not None:
            found, tokens = after[name], name != "last_hidden_state"
            assert found.shape[-1] == (expected.shape[-1] + size - first if tokens else expected.shape[-1])
            shared = min(found.shape[-1], expected.shape[-1])
            torch.testing.assert_close(found[..., :shared], expected[..., :shared])
    model.save_pretrained(tmp_path)
    again = from_pretrained(tmp_path)
    assert again.load_report.initialised == ()
    assert again.config.vocab_size == size
    assert all(torch.equal(x, again(**given)[name]) for name, x in after.items() if isinstance(x, torch.Tensor))


@pytest.mark.parametrize(
    ("model_type", "task"), [("bert", "masked-lm"), ("gpt2", "causal-lm"), ("t5", "seq2seq-lm"), ("bart", "seq2seq-lm")]
)
def test_tied_tables_stay_tied(model_type: str, task: str) -> None:
    model: Any = tiny(model_type, task)
    model.resize_token_embeddings(VOCABULARY + 5)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert model.get_output_embeddings().out_features == VOCABULARY + 5
    if hasattr(model.body, "decoder"):
        assert model.body.decoder.embeddings.tokens is model.get_input_embeddings()


def test_a_head_of_its_own_and_its_bias() -> None:
    """The rows of new tokens: vectors by the model's scheme, biases zero."""
    model: Any = noisy(tiny("bert", "masked-lm", tie_word_embeddings=False, initializer_range=0.5))
    model.resize_token_embeddings(VOCABULARY + 500)
    new = [x[VOCABULARY:] for x in (model.get_input_embeddings().weight, model.get_output_embeddings().weight)]
    assert all(0.4 < x.std().item() < 0.6 for x in new)
    assert torch.equal(model.head.bias[VOCABULARY:], torch.zeros(500))
    assert model.head.bias[:VOCABULARY].abs().sum() > 0


def test_labels_of_new_tokens_have_a_loss() -> None:
    model = tiny("bart", "seq2seq-lm")
    labels = torch.full((1, 4), VOCABULARY + 1)
    with pytest.raises(ValueError, match="none of the 120 tokens"):
        model(torch.full((1, 4), 5), labels=labels)
    model.resize_token_embeddings(VOCABULARY + 2)
    assert torch.isfinite(model(labels, labels=labels).loss)


def test_rounded_up() -> None:
    model = tiny("bert")
    assert model.resize_token_embeddings(121, pad_to_multiple_of=8).num_embeddings == 128
    assert model.resize_token_embeddings().num_embeddings == 128
    assert model.resize_token_embeddings(pad_to_multiple_of=100).num_embeddings == 200
    with pytest.raises(UserError, match="pad_to_multiple_of: 0 is not"):
        model.resize_token_embeddings(3, pad_to_multiple_of=0)


def test_a_number_of_another_type(tmp_path: Path) -> None:
    model = tiny("bert")
    for size in (np.int64(125), torch.tensor(126)):
        model.resize_token_embeddings(size)  # type: ignore[arg-type]
        assert type(model.config.vocab_size) is int  # type: ignore[attr-defined]
    model.save_pretrained(tmp_path)
    for wrong in (1.5, "130"):
        with pytest.raises(UserError, match=r"new_num_tokens: .* is not an integer"):
            model.resize_token_embeddings(wrong)  # type: ignore[arg-type]


def test_what_cannot_be() -> None:
    with pytest.raises(UserError, match="vocab_size: 0 is below"):
        tiny("bert").resize_token_embeddings(0)
    with pytest.raises(UserError, match="of which side"):
        tiny("marian", share_encoder_decoder_embeddings=False, decoder_vocab_size=99).resize_token_embeddings(130)
    model = tiny("mega")
    with pytest.raises(UserError, match="outside the vocabulary of 1"):
        model.resize_token_embeddings(1)
    assert model.config.vocab_size == VOCABULARY == model.get_input_embeddings().num_embeddings


def test_frozen_parts_adapters_and_number_formats_stay() -> None:
    model = tiny("llama", "causal-lm").to(torch.bfloat16)
    freeze(model, ["layers.0.*", "embed_tokens"])
    before = {name: (x.requires_grad, x.dtype) for name, x in model.named_parameters()}
    model.resize_token_embeddings(VOCABULARY + 3)
    assert {name: (x.requires_grad, x.dtype) for name, x in model.named_parameters()} == before
    assert predicted(model).shape[-1] == VOCABULARY + 3
    add_lora(model, rank=2)
    kept = {name: (is_adapter(name), x.dtype) for name, x in model.named_parameters()}
    model.resize_token_embeddings(VOCABULARY)
    assert {name: (x.requires_grad, x.dtype) for name, x in model.named_parameters()} == kept


@pytest.mark.parametrize(
    ("model_type", "task"), [("llama", "causal-lm"), ("bart", "seq2seq-lm"), ("gpt2", "causal-lm")]
)
@pytest.mark.parametrize("first", ["tokens", "adapters"])
def test_adapters_beside_fresh_rows(model_type: str, task: str, first: str, tmp_path: Path) -> None:
    """Whichever came first: fresh rows learn and are saved with the adapter, which a model of that size reads again."""
    noisy(tiny(model_type, task)).save_pretrained(tmp_path / "base")
    model: Any = from_pretrained(tmp_path / "base")
    for step in sorted(("tokens", "adapters"), key=lambda step: step != first):
        if step == "tokens":
            model.resize_token_embeddings(VOCABULARY + 3)
        else:
            add_lora(model, rank=2)
    table = model.get_input_embeddings().weight
    new = {id(table), id(model.get_output_embeddings().weight)}
    for name, x in model.named_parameters():
        assert x.requires_grad == (is_adapter(name) or id(x) in new or x.shape[0] == VOCABULARY + 3), name
    given = inputs(model)
    given["input_ids"] = given["input_ids"].clone()
    given["input_ids"][0, 0] = VOCABULARY + 1
    model(**given).logits.square().mean().backward()
    assert table.grad[VOCABULARY + 1].abs().sum() > 0
    with torch.no_grad():
        for x in (x for x in model.parameters() if x.requires_grad and x.grad is not None):
            x -= 0.1 * x.grad
    expected = model(**given).logits
    save_adapter(model, tmp_path / "adapter")
    again: Any = from_pretrained(tmp_path / "base")
    with pytest.raises(UserError, match=r"model.resize_token_embeddings\(123\) first gives it that many tokens"):
        load_adapter(again, tmp_path / "adapter")
    again = from_pretrained(tmp_path / "base")
    again.resize_token_embeddings(VOCABULARY + 3)
    load_adapter(again, tmp_path / "adapter")
    torch.testing.assert_close(again(**given).logits, expected)
    merge_lora(again)
    again.save_pretrained(tmp_path / "merged")
    torch.testing.assert_close(from_pretrained(tmp_path / "merged")(**given).logits, expected, rtol=1e-4, atol=1e-5)


def test_another_table() -> None:
    model: Any = tiny("t5", "seq2seq-lm")
    other = nn.Embedding(VOCABULARY, 32)
    model.set_input_embeddings(other)
    assert model.get_input_embeddings().weight is other.weight
    assert model.get_output_embeddings().weight is other.weight
    predicted(model).sum().backward()
    assert other.weight.grad is not None
    with pytest.raises(
        UserError, match=r"set_input_embeddings: the table has shape \[3, 32\], the model's is \[120, 32"
    ):
        model.set_input_embeddings(nn.Embedding(3, 32))
    assert tiny("bert").get_output_embeddings() is None
