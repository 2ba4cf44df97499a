"""The documented contract of t5gemma, beside the reference and point by point."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from eir_seq.errors import UserError
from eir_seq.models import create_model, from_pretrained
from eir_seq.models.catalogue import architecture, config_class
from eir_seq.models.model import Model
from tests.models.tiny import noisy
from tests.parity.cases import CASES
from tests.parity.cases.t5_like import STACK, T5GEMMA
from tests.parity.harness import difference, inputs_of, pair, real_places, transformers

BY_NAME = {case.name: case for case in CASES}
UNBALANCED = BY_NAME["t5gemma@unbalanced"]
CLASSIFIERS = ("sequence-classification", "token-classification")
COUNTS = {
    "T5GemmaModel": 5_596_853_760,
    "T5GemmaForConditionalGeneration": 5_596_853_760,
    "T5GemmaEncoderModel": 2_614_341_888,
    "T5GemmaForSequenceClassification": 5_596_858_370,
    "T5GemmaForTokenClassification": 5_596_858_370,
}


pytestmark = pytest.mark.usefixtures("one_thread")


def built(task: str = "base", **more: Any) -> Model:
    torch.manual_seed(0)
    return noisy(create_model("t5gemma", {**UNBALANCED.options, **more}, task=task).eval())


def text(length: int = 9) -> Tensor:
    return torch.randint(11, 120, (2, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", COUNTS)
def test_as_many_parameters_as_published(name: str) -> None:
    declared = architecture("t5gemma")
    task = next(task for task, entry in declared.tasks.items() if entry.published == name)
    with torch.device("meta"):
        model = Model(declared, config_class("t5gemma")(), task)
    assert sum(parameter.numel() for parameter in model.parameters()) == COUNTS[name]


def test_from_the_options_of_a_folder_alone(tmp_path: Path) -> None:
    built().save_pretrained(tmp_path)
    loaded = from_pretrained(tmp_path)
    options = {name: getattr(loaded.config, name) for name in ("encoder", "decoder", "vocab_size")}
    fresh = create_model("T5GemmaModel", options)
    shapes = [{name: x.shape for name, x in model.named_parameters()} for model in (loaded, fresh)]
    assert shapes[0] == shapes[1]
    assert not any(
        torch.equal(a, b) for a, b in zip(loaded.parameters(), fresh.parameters(), strict=True) if a.dim() == 2
    )


@pytest.mark.parametrize("sides", [None, True, False], ids=str)
@pytest.mark.parametrize("task", CLASSIFIERS)
def test_labels_with_a_decoder_or_without(task: str, sides: bool | None, tmp_path: Path) -> None:
    """Head and states are the decoder's, or those of the encoder alone, as in the reference; files open both ways."""
    options = {} if sides is None else {"is_encoder_decoder": sides}
    both = pair(UNBALANCED, task, tmp_path / "theirs", num_labels=3, **options)
    inputs = {name: x for name, x in inputs_of(UNBALANCED, both.reference.config).items() if "decoder" not in name}
    labels = torch.tensor([2, 0, 1])
    if task == "token-classification":
        labels = (inputs["input_ids"] % 3).masked_fill(inputs["attention_mask"] == 0, -100)
    asked = {"labels": labels, "output_hidden_states": True, "output_attentions": True}
    theirs, ours = both.reference(**inputs, **asked), both.ours(**inputs, **asked)
    assert list(ours) == list(theirs) == ["loss", "logits", "hidden_states", "attentions"]
    real = inputs["attention_mask"].bool()
    assert difference(ours.logits, theirs.logits, real if task == "token-classification" else None) < 1e-5
    assert difference(ours.loss, theirs.loss) < 1e-5
    assert len(ours.hidden_states) == len(theirs.hidden_states)
    for our_state, their_state in zip(ours.hidden_states, theirs.hidden_states, strict=True):
        assert difference(our_state, their_state, real) < 1e-5
    assert [x.shape for x in ours.attentions] == [x.shape for x in theirs.attentions]
    assert both.ours.head is not None
    assert both.ours.head.out.weight.shape == (3, 32 if sides is False else 24)
    assert any("decoder" in name for name, _ in both.ours.named_parameters()) is (sides is not False)
    both.ours.save_pretrained(tmp_path / "ours")
    again = type(both.reference).from_pretrained(tmp_path / "ours")
    assert again.config.is_encoder_decoder is (sides is not False)
    assert torch.equal(again.score.out_proj.weight, both.reference.score.out_proj.weight)


@pytest.mark.parametrize("name", ["t5gemma", "t5gemma@unbalanced"])
def test_tokens_of_texts_padded_on_the_left(name: str, tmp_path: Path) -> None:
    """The first one is judged by the state of padding, since the decoder reads the text moved by one."""
    both = pair(BY_NAME[name], "token-classification", tmp_path, num_labels=3)
    inputs = inputs_of(BY_NAME[name], both.reference.config, left=True)
    inputs = {name: x for name, x in inputs.items() if "decoder" not in name}
    real = inputs["attention_mask"].bool()
    theirs = both.reference(**inputs, output_hidden_states=True, output_attentions=True)
    for pack in (True, False):
        both.ours.pack = pack
        assert difference(both.ours(**inputs).logits, theirs.logits, real) < 1e-5
    ours = both.ours(**inputs, output_hidden_states=True, output_attentions=True)
    for our_state, their_state in zip(ours.hidden_states, theirs.hidden_states, strict=True):
        assert difference(our_state, their_state, real) < 1e-5
    for our_weights, their_weights in zip(ours.attentions, theirs.attentions, strict=True):
        assert difference(our_weights.transpose(1, 2), their_weights.transpose(1, 2), real) < 1e-5


@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
def test_a_text_is_judged_behind_its_last_token(left: bool, tmp_path: Path) -> None:
    both = pair(UNBALANCED, CLASSIFIERS[0], tmp_path, num_labels=3)
    inputs = inputs_of(UNBALANCED, both.reference.config, left=left)
    alone = {name: x for name, x in inputs.items() if "decoder" not in name}
    whole = {**alone, "decoder_input_ids": inputs["decoder_input_ids"][:1].expand(3, -1)}
    for given in (alone, whole):
        assert difference(both.ours(**given).logits, both.reference(**given).logits) < 1e-5
    with pytest.raises(ValueError, match="give input_ids"):
        both.ours(inputs_embeds=torch.zeros(1, 4, 32), decoder_input_ids=torch.tensor([[2]]))


def test_three_losses_of_a_classifier() -> None:
    model = built(CLASSIFIERS[0], num_labels=3, problem_type="multi_label_classification")
    labels = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    output = model(text(), labels=labels)
    torch.testing.assert_close(output.loss, F.binary_cross_entropy_with_logits(output.logits, labels))
    assert output.past_key_values is None
    single = built(CLASSIFIERS[0], num_labels=3)
    assert torch.isfinite(single(text()[:1], labels=torch.tensor([1])).loss)


def test_both_sides_can_be_numbered(tmp_path: Path) -> None:
    """As in the reference; and moved by a constant, states stay what they are."""
    both = pair(UNBALANCED, "base", tmp_path)
    inputs = inputs_of(UNBALANCED, both.reference.config)
    places = real_places(inputs)
    numbers = {
        "position_ids": torch.randint(0, 60, (3, 24), generator=torch.Generator().manual_seed(2)),
        "decoder_position_ids": torch.randint(0, 60, (3, 12), generator=torch.Generator().manual_seed(3)),
    }
    theirs, ours = both.reference(**inputs, **numbers), both.ours(**inputs, **numbers)
    assert difference(ours.last_hidden_state, theirs.last_hidden_state, places) < 1e-5
    plain = both.ours(**inputs)
    assert difference(ours.last_hidden_state, plain.last_hidden_state, places) > 0.01
    moved = both.ours(**inputs, position_ids=torch.arange(30, 54)[None], decoder_position_ids=torch.arange(5, 17)[None])
    assert difference(moved.last_hidden_state, plain.last_hidden_state, places) < 1e-4


def test_some_logits_only(tmp_path: Path) -> None:
    both = pair(BY_NAME["t5gemma"], "seq2seq-lm", tmp_path)
    inputs = inputs_of(BY_NAME["t5gemma"], both.reference.config)
    every = both.ours(**inputs).logits
    assert every.abs().max() < 2.0  # the bound
    assert every.abs().max() > 1.0
    for kept, expected in ((1, every[:, -1:]), (3, every[:, -3:]), (torch.tensor([0, 2]), every[:, [0, 2]])):
        found = both.ours(**inputs, logits_to_keep=kept).logits
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
        theirs = both.reference(**inputs, logits_to_keep=kept).logits
        assert difference(found[:1], theirs[:1]) < 1e-5  # the other texts are padded there
    assert torch.equal(both.ours(**inputs, logits_to_keep=0).logits, every)
    with pytest.raises(ValueError, match="give no labels"):
        both.ours(**inputs, labels=inputs["decoder_input_ids"], logits_to_keep=torch.tensor([0]))


def test_cached_steps_see_the_whole_source() -> None:
    """Through windows of 6 tokens in all layers, a source of 40 is seen as in one pass."""
    side = {**STACK, "layer_types": ["sliding_attention"] * 2}
    model = built("seq2seq-lm", encoder=side, decoder=side)
    source, target = text(40), text(12)
    whole = model(source, decoder_input_ids=target)
    cache, steps = None, []
    for place in range(12):
        step = model(
            source, decoder_input_ids=target[:, place : place + 1], past_key_values=cache, use_cache=True,
            encoder_outputs=(whole.encoder_last_hidden_state,), cache_position=torch.tensor([place]),
        )  # fmt: skip
        cache, steps = step.past_key_values, [*steps, step.logits]
    torch.testing.assert_close(torch.cat(steps, 1), whole.logits, atol=1e-5, rtol=1e-5)


def test_texts_begin_with_their_first_token(tmp_path: Path) -> None:
    model = built("seq2seq-lm")
    assert torch.equal(model.generate(text(), max_new_tokens=3)[:, 0], torch.tensor([2, 2]))
    labels = torch.tensor([[5, 6, -100]])
    assert model.prepare_decoder_input_ids_from_labels(labels).tolist() == [[2, 5, 6]]
    model = built("seq2seq-lm", decoder={**UNBALANCED.options["decoder"], "bos_token_id": 7}, bos_token_id=None)
    assert model.prepare_decoder_input_ids_from_labels(labels).tolist() == [[7, 5, 6]]


@pytest.mark.parametrize("decoder", [None, True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_which_table_the_head_has(whole: bool, decoder: bool | None, tmp_path: Path) -> None:
    """The decoder's, the encoder's where the whole alone says no, or one of its own."""
    options = {**T5GEMMA, "tie_word_embeddings": whole}
    if decoder is not None:
        options["decoder"] = {**options["decoder"], "tie_word_embeddings": decoder}
    reference = transformers.T5GemmaForConditionalGeneration(transformers.T5GemmaConfig(**options)).eval()
    reference.save_pretrained(tmp_path)
    ours: Any = from_pretrained(tmp_path)
    assert ours.load_report.initialised == ()
    tables = (ours.body.decoder.embeddings.tokens, ours.body.encoder.embeddings.tokens)
    theirs = (reference.model.decoder.embed_tokens, reference.model.encoder.embed_tokens)
    shares = [ours.head.out.weight is table.weight for table in tables]
    assert shares == [reference.lm_head.out_proj.weight is table.weight for table in theirs]
    given = {"input_ids": text(), "decoder_input_ids": text()}
    torch.testing.assert_close(ours(**given).logits, reference(**given).logits, atol=1e-5, rtol=1e-5)


def test_a_head_cannot_have_a_table_of_another_width() -> None:
    options = {**T5GEMMA, "tie_word_embeddings": False}
    options["encoder"] = {**options["encoder"], "hidden_size": 48}
    with pytest.raises(UserError, match="tie_word_embeddings: false here alone gives the head the encoder's table"):
        create_model("t5gemma", options, task="seq2seq-lm")
    options["decoder"] = {**options["decoder"], "tie_word_embeddings": False}
    assert create_model("t5gemma", options, task="seq2seq-lm").head is not None


def test_published_files_of_a_tied_model(tmp_path: Path) -> None:
    built("seq2seq-lm", tie_word_embeddings=True).save_pretrained(tmp_path)
    names = load_file(tmp_path / "model.safetensors")
    assert {"model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"} <= set(names)
    assert "lm_head.out_proj.weight" not in names
    built("seq2seq-lm").save_pretrained(tmp_path)
    assert "lm_head.out_proj.weight" in load_file(tmp_path / "model.safetensors")
    encoder = from_pretrained(tmp_path, task="encoder")
    assert encoder.load_report.initialised == ()
    assert encoder.config.is_encoder_decoder is False


def test_classes_and_options_that_exclude_each_other() -> None:
    with pytest.raises(UserError, match="is_encoder_decoder: False, but task 'base' has a decoder"):
        create_model("t5gemma", {**T5GEMMA, "is_encoder_decoder": False})
