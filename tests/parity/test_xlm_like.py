"""Xlm and flaubert beside the table of parity: lengths, languages, layers left out, searched answers, clusters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from eir_seq.errors import UserError
from eir_seq.models import create_model, from_pretrained
from tests.parity.cases import VOCABULARY, Case
from tests.parity.cases.xlm_like import XLM
from tests.parity.harness import Pair, difference, pair, tokens

TOLERANCE = 1e-5
LENGTHS, LENGTH = (11, 7, 4), 11
PADDING = 2


pytestmark = pytest.mark.usefixtures("one_thread")


def both(folder: Path, task: str = "base", model_type: str = "xlm", **options: Any) -> Pair:
    return pair(Case(model_type, {**XLM, **options}), task, folder)


def text(*, left: bool = False) -> dict[str, Tensor]:
    """Ids and mask; no text holds the id of padding."""
    ids, mask = tokens(LENGTHS, LENGTH, PADDING, 1, left, 1)
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("task", ["base", "masked-lm"])
@pytest.mark.parametrize("told", [True, False], ids=["lengths", "padding"])
def test_texts_without_a_mask(task: str, told: bool, tmp_path: Path) -> None:
    """Lengths say how long they are, or else their padding does."""
    models = both(tmp_path, task)
    ids, mask = text().values()
    lengths = {"lengths": torch.tensor((9, 7, 3))} if told else {}
    name = "logits" if task == "masked-lm" else "last_hidden_state"
    real = torch.arange(LENGTH)[None] < lengths["lengths"][:, None] if told else mask.bool()
    theirs, ours = models.reference(ids, **lengths)[name], models.ours(ids, **lengths)[name]
    assert difference(ours, theirs, real) < TOLERANCE
    assert (difference(ours, models.ours(ids, mask)[name], real) < TOLERANCE) is not told


def test_choices_without_a_mask(tmp_path: Path) -> None:
    models = both(tmp_path, "multiple-choice")
    ids = text()["input_ids"]
    choices = torch.stack((ids, ids.roll(1, 0)), 1)
    assert difference(models.ours(choices).logits, models.reference(choices).logits) < TOLERANCE


@pytest.mark.parametrize("pack", [True, False], ids=["packed", "padded"])
def test_states_at_padding_are_zeros(pack: bool, tmp_path: Path) -> None:
    """In the reference too, so heads that read them agree."""
    models = both(tmp_path)
    models.ours.pack = pack
    given = text(left=True)
    theirs = models.reference(**given, output_hidden_states=True).hidden_states
    ours = models.ours(**given, output_hidden_states=True).hidden_states
    for our_state, their_state in zip(ours, theirs, strict=True):
        assert not our_state[given["attention_mask"] == 0].any()
        assert difference(our_state, their_state) < TOLERANCE


def test_causal_texts_see_the_padding_in_front_of_them(tmp_path: Path) -> None:
    ours = both(tmp_path, causal=True).ours
    assert ours.pack is False
    ours.pack = True
    assert ours.pack is False
    given = text(left=True)
    whole = ours(**given).last_hidden_state
    alone = ours(given["input_ids"][2:, -4:], torch.ones(1, 4), position_ids=torch.arange(7, 11)[None])
    assert difference(alone.last_hidden_state, whole[2:, -4:]) > 1e-3


def test_languages(tmp_path: Path) -> None:
    """Left out, no vector is added; of one language there are none to tell."""
    models = both(tmp_path, n_langs=3)
    given, langs = text(), torch.zeros(3, LENGTH, dtype=torch.long)
    real = given["attention_mask"].bool()
    plain = models.ours(**given).last_hidden_state
    assert difference(plain, models.reference(**given).last_hidden_state, real) < TOLERANCE
    assert difference(plain, models.ours(**given, langs=langs).last_hidden_state, real) > 1e-3
    for options in ({}, {"n_langs": 3, "use_lang_emb": False}):
        model = create_model("xlm", {**XLM, **options})
        assert model.features == ()
        with pytest.raises(ValueError, match="langs: this model has no vectors of languages"):
            model(**given, langs=langs)


def test_inputs_that_contradict_each_other() -> None:
    model = create_model("xlm", XLM)
    given = text()
    with pytest.raises(ValueError, match="attention_mask or lengths, not both"):
        model(**given, lengths=torch.tensor(LENGTHS))
    with pytest.raises(ValueError, match="lengths: 12 is more than the 11 places"):
        model(given["input_ids"], lengths=torch.tensor((12, 3, 3)))


@pytest.mark.parametrize("pre_norm", [False, True], ids=["post", "pre"])
def test_layers_left_out_in_training(pre_norm: bool, tmp_path: Path) -> None:
    """The same layers as in the reference from one seed, another choice from another, all of them in evaluation."""
    options = {"layerdrop": 0.5, "pre_norm": pre_norm, "n_layers": 6, "dropout": 0.0, "attention_dropout": 0.0}
    models = both(tmp_path, model_type="flaubert", **options)
    given = text()
    real = given["attention_mask"].bool()
    whole = models.ours(**given).last_hidden_state
    assert difference(whole, models.reference(**given).last_hidden_state, real) < TOLERANCE
    found = []
    for seed in range(4):
        states = []
        for model in (models.ours.train(), models.reference.train()):
            torch.manual_seed(seed)
            states.append(model(**given).last_hidden_state)
        assert difference(*states, real) < TOLERANCE
        found.append(states[0])
    assert max(difference(state, found[0], real) for state in found) > 1e-3
    every = create_model("flaubert", {**XLM, "layerdrop": 1.0, "dropout": 0.0}).train()
    states = every(**given, output_hidden_states=True).hidden_states
    assert torch.equal(states[0], states[-1])


@pytest.mark.parametrize("model_type", ["xlm", "flaubert"])
@pytest.mark.parametrize("told", [True, False], ids=["told", "left_out"])
def test_searched_answers(model_type: str, told: bool, tmp_path: Path) -> None:
    models = both(tmp_path, "answer-search", model_type, start_n_top=4, end_n_top=3)
    barred = torch.zeros(3, LENGTH)
    barred[:, :2] = 1.0
    more = {"p_mask": barred, "cls_index": torch.tensor([2, 3, 0])} if told else {}
    theirs, ours = models.reference(**text(), **more), models.ours(**text(), **more)
    for name in ("start_top_log_probs", "start_top_index", "end_top_log_probs", "end_top_index", "cls_logits"):
        assert difference(ours[name].double(), theirs[name].double()) < TOLERANCE, name


ADAPTIVE: dict[str, Any] = {"asm": True, "asm_cutoffs": [40, 80], "asm_div_value": 2.0}


def test_adaptive_softmax(tmp_path: Path) -> None:
    """The reference's fails on texts: its own parts on single states are what ours must equal. Files keep its names."""
    options = {**ADAPTIVE, "tie_word_embeddings": False}
    models = both(tmp_path, "masked-lm", **options)
    given = text()
    real = given["attention_mask"].bool()
    labels = given["input_ids"].masked_fill(~real, -100)
    with pytest.raises(RuntimeError, match="number of sizes provided"):
        models.reference(**given)
    states = models.reference.transformer(**given).last_hidden_state[real]
    theirs, output = models.reference.pred_layer.proj, models.ours(**given, labels=labels)
    assert difference(output.logits[real], theirs.log_prob(states)) < TOLERANCE
    assert difference(output.loss, theirs(states, labels[real]).loss) < TOLERANCE
    assert difference(output.logits.exp().sum(-1), torch.ones(3, LENGTH)) < TOLERANCE
    output.loss.backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in models.ours.head.parameters())
    models.ours.save_pretrained(tmp_path / "back")
    _, info = type(models.reference).from_pretrained(tmp_path / "back", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert torch.equal(from_pretrained(tmp_path / "back")(**given).logits, output.logits)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"emb_dim": 30}, "emb_dim: 30 is not divisible by n_heads 4"),
        ({"pad_index": VOCABULARY}, "pad_index: 120 is outside the vocabulary"),
        ({"lang_id": 2, "n_langs": 2}, "lang_id: 2 is none of 2 languages"),
        ({"is_encoder": False}, "is_encoder"),
        ({"summary_proj_to_labels": False}, "summary_proj_to_labels"),
        ({"asm": True}, r"asm_cutoffs: \[8000, 20000\] must rise between 0 and the vocabulary of 120"),
        ({**ADAPTIVE, "asm_cutoffs": [80, 40]}, r"asm_cutoffs: \[80, 40\] must rise"),
        ({**ADAPTIVE, "asm_div_value": 6.0}, "asm_div_value: 6.0 leaves no width of emb_dim 32"),
    ],
    ids=str,
)
def test_options_that_cannot_work(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        create_model("xlm", {**XLM, **options})


@pytest.mark.parametrize("task", ["base", "masked-lm"])
def test_fresh_weights(task: str) -> None:
    """Tables and linear layers have deviations of their own; a table that a head shares is one of the tables."""
    wide = {**XLM, "emb_dim": 128, "embed_init_std": 0.1, "init_std": 0.02, "n_langs": 40, "vocab_size": 500}
    torch.manual_seed(0)
    model = create_model("xlm", wide, task=task)
    for name, parameter in model.named_parameters():
        if name.endswith("weight") and parameter.dim() == 2:
            expected = 0.1 if ".embeddings." in name else 0.02
            assert float(parameter.detach().std()) == pytest.approx(expected, rel=0.05), name
    assert not model.body.embeddings.tokens.weight[PADDING].any()
