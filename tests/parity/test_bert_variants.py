"""What heads of variants of bert do beyond the table of parity: inputs left out, or given where others guess."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.parity.cases import CASES, Case
from tests.parity.harness import difference, inputs_of, pair, task_inputs

pytestmark = pytest.mark.usefixtures("one_thread")


def row(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


def test_splinter_finds_all_questions(tmp_path: Path) -> None:
    """Pretraining asks for every question token of a text; shorter lists are filled up with the padding's id."""
    both = pair(row("splinter"), "pretraining", tmp_path)
    inputs = inputs_of(row("splinter"), both.reference.config)
    theirs, ours = both.reference(**inputs), both.ours(**inputs)
    assert ours.start_logits.shape == (3, 3, 24)
    assert difference(ours.start_logits, theirs.start_logits) < 1e-5
    assert difference(ours.end_logits, theirs.end_logits) < 1e-5
    with pytest.raises(ValueError, match="give question_positions"):
        both.ours(inputs_embeds=torch.zeros(1, 4, 32))


def test_splinter_is_told_the_question(tmp_path: Path) -> None:
    both = pair(row("splinter"), "question-answering", tmp_path)
    inputs = inputs_of(row("splinter"), both.reference.config)
    inputs["question_positions"] = torch.tensor([[5], [2], [4]])
    asked = {"start_positions": torch.tensor([[3], [1], [2]]), "end_positions": torch.tensor([[4], [30], [2]])}
    theirs, ours = both.reference(**inputs), both.ours(**inputs, **asked)
    assert ours.start_logits.shape == (3, 1, 24)
    texts = torch.arange(3)  # the reference puts the mask of every text on each
    assert difference(ours.start_logits[:, 0], theirs.start_logits[texts, texts]) < 1e-5
    logits = theirs.end_logits[texts, texts][[0, 2]]
    start = cross_entropy(theirs.start_logits[texts, texts], asked["start_positions"][:, 0])
    end = cross_entropy(logits, asked["end_positions"][[0, 2], 0])  # the second lies behind the text
    assert difference(ours.loss, (start + end) / 2) < 1e-5
    inputs["inputs_embeds"] = both.reference.get_input_embeddings()(inputs.pop("input_ids"))
    del inputs["question_positions"]
    assert difference(both.ours(**inputs).end_logits, both.reference(**inputs).end_logits) < 1e-5


def test_electra_counts_every_token_without_a_mask(tmp_path: Path) -> None:
    both = pair(row("electra"), "pretraining", tmp_path)
    inputs, targets, _ = task_inputs(row("electra"), "pretraining", both.reference.config)
    masked = both.ours(**inputs, **targets).loss
    del inputs["attention_mask"]
    ours = both.ours(**inputs, **targets).loss
    assert difference(ours, both.reference(**inputs, **targets).loss) < 1e-6
    assert difference(ours, masked) > 1e-3


def test_roc_bert_learns_hidden_tokens_alone(tmp_path: Path) -> None:
    """Without disfigured copies there is no contrast."""
    both = pair(row("roc_bert"), "pretraining", tmp_path)
    inputs, targets, _ = task_inputs(row("roc_bert"), "pretraining", both.reference.config)
    labels = {"labels_input_ids": targets["labels_input_ids"]}
    ours = both.ours(**inputs, **labels).loss
    assert difference(ours, both.reference(**inputs, **labels).loss) < 1e-5
    assert difference(ours, both.ours(**inputs, **targets).loss) > 1e-3


def test_albert_masks_heads_of_each_run(tmp_path: Path) -> None:
    """A row of the head mask is for one run, also where several runs share their weights."""
    ours = pair(row("albert@one_group"), "base", tmp_path).ours
    inputs = inputs_of(row("albert@one_group"), ours.config)
    mask = torch.ones(4, 4)
    mask[2] = 0.0
    states = ours(**inputs, output_hidden_states=True).hidden_states
    masked = ours(**inputs, output_hidden_states=True, head_mask=mask).hidden_states
    places = inputs["attention_mask"].bool()
    apart = [difference(one, other, places) for one, other in zip(masked, states, strict=True)]
    assert max(apart[:3]) < 1e-5
    assert apart[3] > 1e-2
