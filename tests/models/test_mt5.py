"""The documented contract of mt5, point by point."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.models import from_pretrained
from eir_seq.models.catalogue import architecture, config_class
from eir_seq.models.model import Model
from tests.models.tiny import inputs, noisy, tiny

COUNTS = {
    "MT5Model": 172_119_424,
    "MT5ForConditionalGeneration": 300_176_768,
    "MT5EncoderModel": 146_940_608,
    "MT5ForSequenceClassification": 172_383_106,
    "MT5ForQuestionAnswering": 172_120_450,
}


def written(task: str = "base", **options: object) -> Model:
    return noisy(tiny("mt5", task, **options))


@pytest.mark.parametrize("name", COUNTS)
def test_as_many_parameters_as_published(name: str) -> None:
    declared = architecture("mt5")
    task = next(task for task, entry in declared.tasks.items() if entry.published == name)
    with torch.device("meta"):
        model = Model(declared, config_class("mt5")(), task)
    assert sum(parameter.numel() for parameter in model.parameters()) == COUNTS[name]
    if task == "seq2seq-lm":
        assert "lm_head.weight" in model.published_tensors()


def test_labels_moved_right() -> None:
    """Behind the start token, -100 as padding."""
    model = written()
    labels = torch.tensor([[5, 6, 1], [7, 1, -100]])
    assert model._shift_right(labels).tolist() == [[0, 5, 6], [0, 7, 1]]
    with pytest.raises(ValueError, match="'bert' has no decoder"):
        tiny("bert").prepare_decoder_input_ids_from_labels(labels)
    torch.testing.assert_close(
        written("seq2seq-lm")(torch.tensor([[9, 1]] * 2), labels=labels).logits,
        written("seq2seq-lm")(
            torch.tensor([[9, 1]] * 2), decoder_input_ids=torch.tensor([[0, 5, 6], [0, 7, 1]])
        ).logits,
    )


def test_the_encoder_alone_is_called_with_ids() -> None:
    output = written("encoder")(torch.tensor([[9, 8, 1]]))
    assert list(output) == ["last_hidden_state"]
    assert output.last_hidden_state.shape == (1, 3, 32)


def test_span_corruption() -> None:
    """Dropped spans stand behind their sentinels, which are the last ids of the vocabulary."""
    model = written("seq2seq-lm")
    output = model(torch.tensor([[30, 119, 31, 32, 118, 33, 1]]), labels=torch.tensor([[119, 40, 41, 118, 42, 117, 1]]))
    assert output.loss.shape == ()
    assert output.logits.shape == (1, 7, 120)


def test_generation_begins_with_the_start_token() -> None:
    texts = written("seq2seq-lm").generate(torch.tensor([[9, 8, 1]]), max_new_tokens=5)
    assert isinstance(texts, Tensor)
    assert texts[0, 0] == 0
    assert 2 <= texts.shape[1] <= 6


def test_labels_of_100_below_zero_do_not_count() -> None:
    model = written("seq2seq-lm")
    ids, labels = torch.tensor([[9, 8, 1]]), torch.tensor([[5, 6, 1]])
    whole = model(ids, labels=labels)
    some = model(ids, labels=torch.tensor([[5, 6, -100]]), decoder_input_ids=torch.tensor([[0, 5, 6]]))
    torch.testing.assert_close(some.loss, F.cross_entropy(whole.logits[0, :2], labels[0, :2]))
    with pytest.raises(ValueError, match="label 120 is none of the 120 tokens"):
        model(ids, labels=torch.tensor([[5, 120, 1]]))


MASKS = {"head_mask": "encoder", "decoder_head_mask": "decoder", "cross_attn_head_mask": "cross"}


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_of_heads_in_its_own_place(name: str) -> None:
    model = written()
    given = {**inputs(model), "output_attentions": True}
    mask = torch.tensor([1.0, 0.0, 1.0, 1.0])
    layers = model.config.num_layers if name == "head_mask" else model.config.num_decoder_layers
    masked = model(**given, **{name: mask})
    per_layer = model(**given, **{name: mask.expand(layers, 4)})
    assert torch.equal(masked.last_hidden_state, per_layer.last_hidden_state)
    for place in ("encoder", "decoder", "cross"):
        for weights in masked[f"{place}_attentions"]:
            assert bool((weights[:, 1] == 0).all()) is (MASKS[name] == place)


def test_padding_on_either_side() -> None:
    model = written()
    text, target = torch.tensor([[9, 8, 7, 1]]), torch.tensor([[0, 5, 6]])
    padded = torch.tensor([[9, 8, 7, 1, 0, 0], [0, 0, 9, 8, 7, 1]])
    states = model(padded, padded != 0, decoder_input_ids=target.expand(2, 3)).last_hidden_state
    expected = model(text, decoder_input_ids=target).last_hidden_state
    torch.testing.assert_close(states, expected.expand(2, 3, 32), atol=1e-5, rtol=1e-5)


def test_answers_outside_of_the_text_do_not_count() -> None:
    model = written("question-answering")
    ids = torch.tensor([[9, 8, 7, 1], [6, 5, 4, 1]])
    output = model(ids, start_positions=torch.tensor([1, 9]), end_positions=torch.tensor([2, 12]))
    assert output.start_logits.shape == output.end_logits.shape == (2, 4)
    first = output.start_logits[:1], output.end_logits[:1]
    expected = (F.cross_entropy(first[0], torch.tensor([1])) + F.cross_entropy(first[1], torch.tensor([2]))) / 2
    torch.testing.assert_close(output.loss, expected)


def test_three_losses_of_a_classifier() -> None:
    ids = torch.tensor([[9, 8, 7, 1], [6, 5, 4, 1]])
    one = written("sequence-classification", num_labels=1)(ids, labels=torch.tensor([0.5, -1.0]))
    torch.testing.assert_close(one.loss, F.mse_loss(one.logits[:, 0], torch.tensor([0.5, -1.0])))
    model = written("sequence-classification", num_labels=3)
    single = model(ids, labels=torch.tensor([2, 0]))
    torch.testing.assert_close(single.loss, F.cross_entropy(single.logits, torch.tensor([2, 0])))
    labels = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    several = model(ids, labels=labels)
    torch.testing.assert_close(several.loss, F.binary_cross_entropy_with_logits(several.logits, labels))
    with pytest.raises(ValueError, match="same number"):
        model(torch.tensor([[9, 1, 7, 1], [6, 5, 4, 1]]))
    with pytest.raises(ValueError, match="give input_ids"):
        model(inputs_embeds=torch.zeros(1, 4, 32), decoder_input_ids=torch.tensor([[0]]))


def test_fields_in_the_documented_order() -> None:
    model = written("seq2seq-lm")
    ids, labels = torch.tensor([[9, 8, 1]]), torch.tensor([[5, 6, 1]])
    given = {"labels": labels, "use_cache": True, "output_hidden_states": True, "output_attentions": True}
    output = model(ids, **given)
    assert list(output) == [
        "loss", "logits", "past_key_values", "decoder_hidden_states", "decoder_attentions", "cross_attentions",
        "encoder_last_hidden_state", "encoder_hidden_states", "encoder_attentions",
    ]  # fmt: skip
    plain = model(ids, **given, return_dict=False)
    assert type(plain) is tuple
    assert len(plain) == len(output)
    assert torch.equal(plain[1], output.logits)


def test_places_of_new_tokens() -> None:
    model = written()
    given = {"input_ids": torch.tensor([[9, 8, 1]]), "use_cache": True}
    first = model(**given, decoder_input_ids=torch.tensor([[0, 5]]), cache_position=torch.tensor([0, 1]))
    given |= {"decoder_input_ids": torch.tensor([[6]]), "past_key_values": first.past_key_values}
    with pytest.raises(ValueError, match="holds 2 tokens"):
        model(**given, cache_position=torch.tensor([1]))
    step = model(**given, cache_position=torch.tensor([2])).last_hidden_state[:, -1]
    whole = model(given["input_ids"], decoder_input_ids=torch.tensor([[0, 5, 6]])).last_hidden_state[:, -1]
    torch.testing.assert_close(step, whole, atol=1e-5, rtol=1e-5)


def test_files_of_other_tasks(tmp_path: Path) -> None:
    written("seq2seq-lm").save_pretrained(tmp_path)
    encoder = from_pretrained(tmp_path, task="encoder")
    assert encoder.load_report.initialised == ()
    assert all(name.startswith(("decoder.", "lm_head.")) for name in encoder.load_report.unused)
