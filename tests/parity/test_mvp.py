"""The documented page of mvp, point by point: prompts, tuning them alone, the five classes and their calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from eir_seq.errors import UserError
from eir_seq.models import create_model, from_pretrained
from eir_seq.models.heads.sequence_classification import shifted_right
from eir_seq.models.option_checks import build_config
from eir_seq.models.options import default_of, fields
from tests.parity.cases import CASES
from tests.parity.cases.bart_like import BART
from tests.parity.harness import difference, inputs_of, pair, real_places, transformers

ROWS = {case.name: case for case in CASES}
PROMPTS = {"use_prompt": True, "prompt_length": 5, "prompt_mid_dim": 20}
TASKS = ("base", "seq2seq-lm", "sequence-classification", "question-answering")
NETWORKS = ("encoder.embeddings.own_prompts", "decoder.embeddings.own_prompts", "decoder.embeddings.cross_prompts")
PROMPT_TENSORS = {
    f"body.{network}.{part}"
    for network in NETWORKS
    for part in ("table.weight", "up.weight", "up.bias", "down.weight", "down.bias")
}


def count(model: torch.nn.Module) -> int:
    """Parameters that are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def trained(model: torch.nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


def text(*lengths: int, seed: int = 0) -> dict[str, Tensor]:
    """Random ids, each text with one end-of-text token, padded on the right."""
    ids = torch.randint(11, 120, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(seed))
    mask = (torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]).long()
    ids[torch.arange(len(lengths)), torch.tensor(lengths) - 1] = 2
    return {"input_ids": ids.masked_fill(mask == 0, 1), "attention_mask": mask}


def tiny(task: str = "base", **more: Any) -> Any:
    """A small mvp whose weights are all of a size that shows."""
    torch.manual_seed(0)
    model = create_model("mvp", {**BART, **more}, task=task).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def test_documented_defaults() -> None:
    defaults = {
        "vocab_size": 50267, "max_position_embeddings": 1024, "d_model": 1024, "encoder_layers": 12,
        "decoder_layers": 12, "encoder_attention_heads": 16, "decoder_attention_heads": 16, "encoder_ffn_dim": 4096,
        "decoder_ffn_dim": 4096, "activation_function": "gelu", "dropout": 0.1, "attention_dropout": 0.0,
        "activation_dropout": 0.0, "classifier_dropout": 0.0, "init_std": 0.02, "encoder_layerdrop": 0.0,
        "decoder_layerdrop": 0.0, "scale_embedding": False, "use_cache": True, "use_prompt": False,
        "prompt_length": 100, "prompt_mid_dim": 800, "is_encoder_decoder": True, "pad_token_id": 1, "bos_token_id": 0,
        "eos_token_id": 2, "decoder_start_token_id": 2, "forced_eos_token_id": 2, "num_labels": 2,
    }  # fmt: skip
    known = fields(type(build_config("mvp")))
    assert {name: default_of(known[name]) for name in defaults} == defaults


@pytest.mark.parametrize(
    ("task", "full"),
    [("seq2seq-lm", 468_116_832), ("sequence-classification", 469_168_482), ("question-answering", 468_118_882)],
)
def test_mvp_1_counts(task: str, full: int) -> None:
    """Trained parameters of the documented size, before and after."""
    with torch.device("meta"):
        model = create_model("mvp", {"use_prompt": True}, task=task)
    assert count(model) == full
    model.set_lightweight_tuning()
    assert count(model) == 61_823_328
    assert trained(model) == PROMPT_TENSORS


def test_mvp_1_counts_of_bart() -> None:
    with torch.device("meta"):
        assert count(create_model("mvp", task="seq2seq-lm")) == 406_293_504
        model = create_model("mvp", {"use_prompt": True, "vocab_size": 50265}, task="seq2seq-lm")
    assert count(model) == 468_114_784
    model.set_lightweight_tuning()
    assert count(model) == 61_823_328


@pytest.mark.parametrize("prompts", [{}, PROMPTS], ids=["plain", "prompts"])
def test_mvp_2_and_3_texts_of_the_default_length(prompts: dict[str, Any], tmp_path: Path) -> None:
    """From the end-of-text token, up to the default length where nothing else is said; and by beams."""
    row = ROWS["mvp@prompts" if prompts else "mvp"]
    both = pair(row, "seq2seq-lm", tmp_path)
    for seed in range(3):
        source = text(8, seed=seed)
        found = both.ours.generate(**source)
        assert isinstance(found, Tensor)
        assert torch.equal(found, both.reference.generate(**source))
        assert found[0, 0] == 2
        assert found.shape[1] <= 21
        beams = {**source, "num_beams": 4, "max_length": 12, "no_repeat_ngram_size": 3}
        assert torch.equal(both.ours.generate(**beams), both.reference.generate(**beams))


@pytest.mark.parametrize("task", TASKS)
def test_mvp_4_a_bart_as_mvp(task: str, tmp_path: Path) -> None:
    """The same predictions without prompts; with them exactly these tensors are new, and only they are tuned."""
    both = pair(ROWS["bart"], task, tmp_path)
    inputs = inputs_of(ROWS["bart"], both.reference.config)
    if task == "sequence-classification":
        inputs = {name: x for name, x in inputs.items() if not name.startswith("decoder")}
    field = {"base": "last_hidden_state", "question-answering": "start_logits"}.get(task, "logits")
    plain = from_pretrained(tmp_path, model_type="mvp")
    assert (plain.config.model_type, plain.task) == ("mvp", task)
    assert plain.load_report.initialised == ()
    assert torch.equal(plain(**inputs)[field], both.ours(**inputs)[field])

    prompted = from_pretrained(tmp_path, model_type=plain.declared.published, **PROMPTS)
    assert prompted.task == task
    assert set(prompted.load_report.initialised) == PROMPT_TENSORS
    assert len(PROMPT_TENSORS) == 15
    prompted.set_lightweight_tuning()
    assert trained(prompted) == PROMPT_TENSORS
    fresh = [p for name, p in prompted.named_parameters() if name in PROMPT_TENSORS and p.dim() > 1]
    assert all(float(p.detach().std()) == pytest.approx(0.02, rel=0.3) for p in fresh)
    assert not torch.allclose(prompted(**inputs)[field], both.ours(**inputs)[field])
    prompted.save_pretrained(tmp_path / "mvp")
    theirs = getattr(transformers, plain.declared.published).from_pretrained(tmp_path / "mvp")
    places = None if task == "sequence-classification" else real_places(inputs)
    assert difference(prompted(**inputs)[field], theirs.eval()(**inputs)[field], places) < 1e-5


def test_mvp_4_other_types_do_not_fit(tmp_path: Path) -> None:
    pair(ROWS["bart"], "base", tmp_path)
    with pytest.raises(UserError, match=r"'mvq' is not in the catalogue.*mvp"):
        from_pretrained(tmp_path, model_type="mvq")
    with pytest.raises(UserError, match="tensors are not in the checkpoint"):
        from_pretrained(tmp_path, model_type="t5")


@pytest.mark.parametrize("task", TASKS)
def test_mvp_5_prompts_of_a_file(task: str, tmp_path: Path) -> None:
    """Switching to their tuning changes no output, and gradients reach nothing else."""
    both = pair(ROWS["mvp@prompts"], task, tmp_path)
    inputs = inputs_of(ROWS["mvp@prompts"], both.reference.config)
    if task == "sequence-classification":
        inputs = {name: x for name, x in inputs.items() if not name.startswith("decoder")}
    field = {"base": "last_hidden_state", "question-answering": "start_logits"}.get(task, "logits")
    assert both.ours.load_report.initialised == ()
    before = both.ours(**inputs)[field]
    both.ours.set_lightweight_tuning()
    both.reference.set_lightweight_tuning()
    after = both.ours(**inputs)[field]
    assert torch.equal(before, after)
    after.square().sum().backward()
    assert {name for name, p in both.ours.named_parameters() if p.grad is not None} == PROMPT_TENSORS
    assert all(bool(p.grad.any()) for p in both.ours.parameters() if p.grad is not None)
    theirs = {name for name, p in both.reference.named_parameters() if p.requires_grad}
    assert len(theirs) == len(PROMPT_TENSORS)
    assert theirs <= {name for name in both.ours.published_tensors() if "_prompt." in name}


def test_mvp_5_nothing_to_tune() -> None:
    with pytest.raises(UserError, match="use_prompt: without it there are no prompts"):
        tiny("seq2seq-lm").set_lightweight_tuning()
    with pytest.raises(UserError, match="use_prompt: a decoder alone has no prompts"):
        tiny("causal-lm", **PROMPTS).set_lightweight_tuning()


def test_mvp_5_tuning_learns() -> None:
    """Some steps on prompts alone lower the loss, and leave all else as it was."""
    model = tiny("seq2seq-lm", **PROMPTS)
    model.set_lightweight_tuning()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    given = {**text(9, 6, 4), "labels": text(7, 7, 7, seed=1)["input_ids"]}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        output = model(**given)
        output.loss.backward()
        optimizer.step()
        losses.append(float(output.loss.detach()))
    assert losses[-1] < losses[0] - 0.2
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == PROMPT_TENSORS


def test_mvp_6_fine_tuning_and_generation() -> None:
    model = tiny("seq2seq-lm")
    loss = model(**text(30), labels=text(9, seed=1)["input_ids"]).loss
    assert loss.shape == ()
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    texts = model.generate(**text(30, 12), max_new_tokens=6)
    assert texts.shape[0] == 2
    assert texts[:, 0].tolist() == [2, 2]


@pytest.mark.parametrize("shape", [(), (1,)], ids=str)
def test_mvp_7_one_label(shape: tuple[int, ...], tmp_path: Path) -> None:
    both = pair(ROWS["mvp"], "sequence-classification", tmp_path, num_labels=2)
    given = text(9)
    label = torch.ones(shape, dtype=torch.long)
    ours, theirs = both.ours(**given, labels=label), both.reference(**given, labels=label)
    torch.testing.assert_close(ours.loss, theirs.loss, atol=1e-5, rtol=1e-5)
    assert int(ours.logits.argmax()) == int(theirs.logits.argmax())
    assert ours.logits.shape == (1, 2)


def test_mvp_7_texts_that_no_class_can_be_read_of() -> None:
    model = tiny("sequence-classification")
    ids = text(9, 9)["input_ids"]
    ids[0, 3] = 2
    with pytest.raises(ValueError, match=r"same number .* of end-of-text tokens"):
        model(ids)
    with pytest.raises(ValueError, match="give input_ids"):
        model(inputs_embeds=torch.zeros(2, 9, 32))


@pytest.mark.parametrize(
    ("labels", "num_labels"),
    [(torch.tensor([0.5, -1.0]), 1), (torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]), 3)],
    ids=["regression", "several"],
)
def test_mvp_7_other_kinds_of_labels(labels: Tensor, num_labels: int, tmp_path: Path) -> None:
    both = pair(ROWS["mvp"], "sequence-classification", tmp_path, num_labels=num_labels)
    given = text(9, 7)
    ours, theirs = both.ours(**given, labels=labels), both.reference(**given, labels=labels)
    torch.testing.assert_close(ours.loss, theirs.loss, atol=1e-5, rtol=1e-5)


def test_mvp_8_an_answer(tmp_path: Path) -> None:
    """A scalar loss by the true span; one outside of the text counts for nothing."""
    both = pair(ROWS["mvp"], "question-answering", tmp_path, num_labels=2)
    given = text(24)
    for start, end in ((18, 19), (-4, 500), (0, 23)):
        span = {"start_positions": torch.tensor([start]), "end_positions": torch.tensor([end])}
        ours, theirs = both.ours(**given, **span), both.reference(**given, **span)
        assert ours.loss.shape == ()
        torch.testing.assert_close(ours.loss, theirs.loss, atol=1e-5, rtol=1e-5, equal_nan=True)
    for name in ("start_logits", "end_logits"):
        assert ours[name].shape == (1, 24)
        assert int(ours[name].argmax()) == int(theirs[name].argmax())


def test_mvp_9_the_decoder_alone(tmp_path: Path) -> None:
    """Scores of every token, their labels at their own places; tensors lie under ``model.decoder.``."""
    both = pair(ROWS["mvp"], "causal-lm", tmp_path)
    ids = text(8)["input_ids"]
    ours, theirs = both.ours(ids, labels=ids), both.reference(ids, labels=ids)
    assert ours.logits.shape == (1, 8, 120)
    torch.testing.assert_close(ours.loss, theirs.loss, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.loss, torch.nn.functional.cross_entropy(ours.logits[0], ids[0]))
    assert all(name.startswith(("model.decoder.", "lm_head.")) for name in both.ours.published_tensors())
    whole = both.ours(ids).logits
    torch.testing.assert_close(both.ours(ids, logits_to_keep=3).logits, whole[:, -3:])
    torch.testing.assert_close(both.ours(ids, logits_to_keep=torch.tensor([1, 6])).logits, whole[:, [1, 6]])
    memory = torch.randn(1, 4, 32)
    output = both.ours(
        ids, encoder_hidden_states=memory, output_attentions=True, output_hidden_states=True, use_cache=True
    )
    assert list(output) == ["logits", "past_key_values", "hidden_states", "attentions", "cross_attentions"]
    assert not torch.allclose(output.logits, whole)


def test_mvp_10_prompts_and_the_cache(tmp_path: Path) -> None:
    """Token by token is one pass; weights show the prompts in front of the keys."""
    both = pair(ROWS["mvp@prompts"], "seq2seq-lm", tmp_path)
    length = PROMPTS["prompt_length"]
    inputs = inputs_of(ROWS["mvp@prompts"], both.reference.config)
    output = both.ours(**inputs, output_attentions=True)
    assert {x.shape[2:] for x in output.encoder_attentions} == {(24, 24 + length)}
    assert {x.shape[2:] for x in output.decoder_attentions} == {(12, 12 + length)}
    assert {x.shape[2:] for x in output.cross_attentions} == {(12, 24 + length)}
    assert all(bool((x[..., :length] > 0).all()) for x in output.cross_attentions)
    cache, steps = None, []
    encoded = (output.encoder_last_hidden_state,)
    for place in range(12):
        step = both.ours(
            encoder_outputs=encoded,
            attention_mask=inputs["attention_mask"],
            decoder_input_ids=inputs["decoder_input_ids"][:, place : place + 1],
            decoder_attention_mask=inputs["decoder_attention_mask"][:, : place + 1],
            past_key_values=cache,
            use_cache=True,
            cache_position=torch.tensor([place]),
        )
        cache = step.past_key_values
        steps.append(step.logits)
    assert difference(torch.cat(steps, 1), output.logits, real_places(inputs)) < 1e-5
    assert both.ours(**inputs).logits.shape == output.logits.shape


def test_mvp_11_default_decoder_tokens(tmp_path: Path) -> None:
    both = pair(ROWS["mvp@prompts"], "base", tmp_path)
    given = text(9, 6)
    by_hand = shifted_right(given["input_ids"], 2, 1)
    assert by_hand[:, 0].tolist() == [2, 2]
    found = both.ours(**given).last_hidden_state
    assert torch.equal(found, both.ours(**given, decoder_input_ids=by_hand).last_hidden_state)
    assert difference(found, both.reference(**given).last_hidden_state) < 1e-5


def test_prompts_with_padding_left_out() -> None:
    """Prompts stand in front of each text, packed or padded, also of one without any tokens."""
    model = tiny("seq2seq-lm", **PROMPTS)
    given = {**text(9, 7, 4), "decoder_input_ids": text(6, 6, 6, seed=2)["input_ids"]}
    given["attention_mask"][2] = 0
    found = []
    for model.pack in (True, False):
        assert model.pack is (not found)
        found.append(model(**given).logits)
    assert torch.isfinite(found[0]).all()
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-5)


def test_prompts_are_dropped_out_in_training() -> None:
    """A fresh draw in each pass, on prompts too."""
    model = tiny(**PROMPTS, dropout=0.5)
    prompts = model.body.encoder.embeddings.own_prompts
    assert torch.equal(prompts(), prompts())
    prompts.train()
    assert float((prompts() == 0).float().mean()) == pytest.approx(0.5, abs=0.05)
    assert not torch.equal(prompts(), prompts())
