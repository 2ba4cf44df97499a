"""Prophetnet beyond the common table: the streams that predict, their biases, positions behind the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.models.model import Model
from tests.models.tiny import noisy, tiny
from tests.parity.cases import CASES, Case
from tests.parity.harness import difference, inputs_of, pair, published_gradients, real_places

PROPHETNETS = [case for case in CASES if "prophetnet" in case.name]
every_case = pytest.mark.parametrize("case", PROPHETNETS, ids=lambda case: case.name)


pytestmark = pytest.mark.usefixtures("one_thread")


@every_case
@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
def test_states_of_the_streams(case: Case, left: bool, tmp_path: Path) -> None:
    """In every layer, with the weights of their attention."""
    both = pair(case, "base", tmp_path)
    inputs, streams = inputs_of(case, both.reference.config, left=left), both.reference.config.ngram
    given = {**inputs, "output_hidden_states": True, "output_attentions": True}
    ours, theirs = both.ours(**given), both.reference(**given)
    assert [name for name in ours if name in theirs] == [name for name in theirs if name in ours]
    places = real_places(inputs).repeat(1, streams)
    found = [ours.last_hidden_state_ngram, *ours.decoder_ngram_hidden_states]
    expected = [theirs.last_hidden_state_ngram, *theirs.decoder_ngram_hidden_states]
    assert len(found) == case.options["num_decoder_layers"] + 2
    for our_state, their_state in zip(found, expected, strict=True):
        assert difference(our_state, their_state, places) < 1e-5
    weights = zip(ours.decoder_ngram_attentions, theirs.decoder_ngram_attentions, strict=True)
    for our_weights, their_weights in weights:
        rows = real_places(inputs)[:, None, None].expand(our_weights.shape[:-1])
        assert difference(our_weights, their_weights, rows) < 1e-5


@every_case
def test_gradients_of_predictions(case: Case, tmp_path: Path) -> None:
    """Of the whole loss, through all streams."""
    both = pair(case, "seq2seq-lm", tmp_path)
    inputs = inputs_of(case, both.reference.config)
    labels = inputs["decoder_input_ids"].roll(-1, 1).masked_fill(~real_places(inputs), -100)
    both.reference(**inputs, labels=labels).loss.backward()
    both.ours(**inputs, labels=labels).loss.backward()
    found = published_gradients(both.ours, "")
    expected = {name: p.grad for name, p in both.reference.named_parameters() if p.grad is not None}
    assert any("ngram_embeddings" in name for name in expected)
    for name, gradient in expected.items():
        name = "prophetnet.word_embeddings.weight" if name.endswith("word_embeddings.weight") else name
        if "position_embeddings" in name:  # the reference's table has a row of padding, which no position has
            assert float(gradient[both.reference.config.pad_token_id].abs().max()) == 0
        assert difference(found[name], gradient) < 1e-5, name


@pytest.mark.parametrize("name", ["prophetnet", "prophetnet@three_streams"])
def test_heads_switched_off(name: str, tmp_path: Path) -> None:
    """On all three sides; the reference does so only where it returns weights."""
    case = next(case for case in CASES if case.name == name)
    both = pair(case, "base", tmp_path)
    inputs = inputs_of(case, both.reference.config)
    generator = torch.Generator().manual_seed(3)
    layers, decoder = case.options["num_encoder_layers"], case.options["num_decoder_layers"]
    heads = case.options["num_decoder_attention_heads"]
    masks = {"head_mask": torch.rand(layers, 4, generator=generator).round()}
    for side in ("decoder_head_mask", "cross_attn_head_mask"):
        masks[side] = torch.rand(decoder, heads, generator=generator)
    theirs = both.reference(**inputs, **masks, output_attentions=True)
    for more in ({}, {"output_attentions": True}):
        ours = both.ours(**inputs, **masks, **more)
        places = real_places(inputs)
        assert difference(ours.last_hidden_state, theirs.last_hidden_state, places) < 1e-5
        places = places.repeat(1, case.options.get("ngram", 2))
        assert difference(ours.last_hidden_state_ngram, theirs.last_hidden_state_ngram, places) < 1e-5


def of_order(published: bool) -> Model:
    return noisy(tiny("prophetnet", "causal-lm", published_bias_order=published, num_decoder_layers=2))


def text() -> tuple[Tensor, dict[str, Any]]:
    ids = torch.randint(11, 100, (2, 7), generator=torch.Generator().manual_seed(1))
    memory = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(2))
    return ids, {"encoder_hidden_states": memory}


@torch.no_grad()
def one_by_one(model: Model) -> tuple[Tensor, Tensor]:
    """Scores of all streams (batch, streams, length, vocabulary), token by token and in one pass."""
    ids, others = text()
    whole = model(ids, **others)
    cache, steps = None, []
    for token in ids.unsqueeze(-1).unbind(1):
        step = model(token, **others, past_key_values=cache, use_cache=True)
        cache = step.past_key_values
        steps.append(torch.cat((step.logits[:, None], step.logits_ngram), 1))
    return torch.cat(steps, 2), torch.cat((whole.logits[:, None], whole.logits_ngram), 1)


def moved_by_later_tokens(model: Model) -> float:
    """How far the predictions behind a text's first token depend on those that follow."""
    ids, others = text()
    other = torch.cat((ids[:, :1], ids[:, 1:].flip(1)), 1)
    return difference(model(ids, **others).logits[:, 0], model(other, **others).logits[:, 0])


def test_biases_in_the_order_of_the_paper() -> None:
    """Each token has its own: one by one as in one pass, whatever stands behind."""
    model = of_order(published=False)
    assert difference(*one_by_one(model)) < 1e-5
    assert moved_by_later_tokens(model) < 1e-6


def test_biases_in_the_published_order() -> None:
    """Tokens that are read at once mix theirs; one by one they cannot, and the two orders are the same."""
    model = of_order(published=True)
    steps, whole = one_by_one(model)
    assert difference(steps, whole) > 0.1
    assert moved_by_later_tokens(model) > 1e-3
    assert difference(steps, one_by_one(of_order(published=False))[0]) == 0


def test_texts_longer_than_the_table(tmp_path: Path) -> None:
    """Positions behind the last row have that row, as in the reference's encoder; its decoder fails there."""
    case = next(case for case in CASES if case.name == "prophetnet")
    both = pair(case, "base", tmp_path, max_position_embeddings=16)
    inputs = inputs_of(case, both.reference.config)
    found = both.ours.body.encoder(inputs["input_ids"], inputs["attention_mask"])  # type: ignore[operator]
    expected = both.reference.encoder(inputs["input_ids"], inputs["attention_mask"])
    places = inputs["attention_mask"].bool()
    assert difference(found.last_hidden_state, expected.last_hidden_state, places) < 1e-5
    ids = inputs["input_ids"]
    assert torch.isfinite(both.ours(ids, decoder_input_ids=ids).last_hidden_state_ngram).all()


def test_predictions_of_the_last_tokens_only() -> None:
    model, (ids, others) = of_order(published=True), text()
    whole, last = model(ids, **others), model(ids, **others, logits_to_keep=2)
    assert torch.equal(last.logits, whole.logits[:, -2:])
    assert torch.equal(last.logits_ngram, whole.logits_ngram[:, :, -2:])
    assert "last_hidden_state_ngram" not in whole


def test_states_that_predict() -> None:
    """Those of the first stream, which are scored token by token in training, too."""
    model, (ids, others) = of_order(published=False), text()
    head: Any = model.head
    output = model.run_body({"input_ids": ids, **others})
    assert torch.equal(head.scores(head.states(output)), model(ids, **others).logits)


def test_every_stream_learns_the_same_labels() -> None:
    """Each at its own place; with `disable_ngram_loss` the first one alone."""
    ids, others = text()
    labels = ids.roll(-1, 1)
    labels[0, 3:] = -100
    for first_only in (False, True):
        model = noisy(tiny("prophetnet", "causal-lm", disable_ngram_loss=first_only, eps=0.25, ngram=3))
        output = model(ids, **others, labels=labels)
        streams = [output.logits, *output.logits_ngram.unbind(1)][: 1 if first_only else None]
        losses = [F.cross_entropy(x[labels >= 0], labels[labels >= 0], label_smoothing=0.25) for x in streams]
        torch.testing.assert_close(output.loss, torch.stack(losses).mean())
