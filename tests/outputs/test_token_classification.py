from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from eir_seq.errors import UserError
from eir_seq.models.output import TokenStates
from eir_seq.outputs import build_output, load_output
from eir_seq.outputs.measure import KeptRows
from eir_seq.outputs.token_classification.config import TokenClassificationOutputConfig
from eir_seq.outputs.token_classification.output import FittedTokenClassification, TokenClassificationHead

ROWS = {"tags": [json.dumps(tags.split()) for tags in ("B-PER I-PER O", "O O O O B-LOC")]}
TAGS = ["B-LOC", "B-PER", "I-PER", "O"]


def fitted(rows: dict[str, list[str]] = ROWS) -> FittedTokenClassification:
    found = build_output("ner", TokenClassificationOutputConfig(column="tags", input="text")).fit(rows)
    assert isinstance(found, FittedTokenClassification)
    return found


def raw_of(*rows: str, width: int = 5) -> torch.Tensor:
    """Raw outputs that predict these tags with certainty; ``-`` is a word that was not read."""
    raw = torch.zeros(len(rows), width, len(TAGS) + 1)
    for index, row in enumerate(rows):
        for place, tag in enumerate(row.split()):
            raw[index, place, -1] = -1 if tag == "-" else 1
            if tag != "-":
                raw[index, place, TAGS.index(tag)] = 20.0
    return raw


def tokens(words: list[list[int]], counts: list[int]) -> TokenStates:
    numbers = torch.tensor(words)
    states = torch.arange(numbers.numel(), dtype=torch.float32).reshape(*numbers.shape, 1)
    inputs = {"word_ids": numbers, "word_counts": torch.tensor(counts)}
    return TokenStates(states, numbers >= 0, inputs)


def test_a_word_is_read_at_its_first_token() -> None:
    head = TokenClassificationHead(1, 1, 0.0)
    with torch.no_grad():
        head.out.weight.fill_(1.0)
        head.out.bias.fill_(100.0)
    raw = head(tokens([[-1, 0, 0, 1, 3, -1], [-1, 2, 2, -1, -1, -1]], [4, 3]))
    assert raw[..., 0].tolist() == [[101.0, 103.0, 0.0, 104.0], [0.0, 0.0, 107.0, 0.0]]
    assert raw[..., 1].tolist() == [[1.0, 1.0, -1.0, 1.0], [-1.0, -1.0, 1.0, 0.0]]


def test_only_words_that_were_read_have_gradients() -> None:
    head, output = TokenClassificationHead(1, 4, 0.0), fitted()
    read = tokens([[-1, 0, 0, 1, -1, -1]], [3])
    states = read.states.clone().requires_grad_()
    target = output.targets({"tags": ROWS["tags"][:1]})
    output.loss_terms(head(TokenStates(states, read.mask, read.inputs)), target).sum().backward()
    assert states.grad is not None
    assert (states.grad[0, :, 0] != 0).tolist() == [False, True, False, True, False, False]


def test_the_loss_is_the_mean_over_words_that_are_read() -> None:
    output = fitted()
    target = output.targets(ROWS)
    raw = torch.randn(2, 5, 5, generator=torch.Generator().manual_seed(0))
    raw[..., -1] = (target != -100).float()
    words = target != -100
    expected = torch.nn.functional.cross_entropy(raw[..., :-1][words], target[words])
    torch.testing.assert_close(output.loss_terms(raw, target).sum() / words.sum(), expected)
    words_read = torch.tensor([[-1, 0, 0, 1, 3, -1], [-1, 2, 2, -1, -1, -1]])
    counts = output.loss_counts({"text": {"word_ids": words_read}}, target)
    assert counts.tolist() == [[2], [1]], "the first row has no fourth tag"
    assert output.evaluate(raw, target)["loss"] == pytest.approx(float(expected))


def test_metrics_of_words_and_of_entities() -> None:
    output = fitted()
    target = output.targets(ROWS)
    values = output.evaluate(raw_of("B-PER I-PER O", "O O O B-LOC B-LOC"), target)
    assert values["accuracy"] == 7 / 8
    assert values["f1"] == pytest.approx((2 / 3 + 1 + 1 + 2 * 4 / 9) / 4)
    assert values["f1_micro"] == pytest.approx(2 * 3 / (3 + 4))
    assert values["entity_precision"] == pytest.approx(2 / 3)
    assert values["entity_recall"] == 1
    assert values["entity_f1(LOC)"] == pytest.approx(2 / 3)
    assert values["read"] == 1


def test_words_that_were_not_read_count_as_wrong() -> None:
    output = fitted()
    target = output.targets(ROWS)
    for raw in (raw_of("B-PER I-PER O", "O O O O -"), raw_of("B-PER I-PER O", "O O O O", width=4)):
        values = output.evaluate(raw, target)
        assert values["accuracy"] == values["read"] == 7 / 8
        assert values["entity_recall"] == 0.5
        assert values["entity_precision"] == 1
        assert values["loss"] == pytest.approx(0, abs=1e-6)
        torch.testing.assert_close(output.errors(raw, target), torch.tensor([0.0, 0.2]))


def test_predictions_have_one_tag_per_word() -> None:
    rows = fitted().decode(raw_of("B-PER - O", "O"))["ner"]
    assert [json.loads(row) for row in rows] == [["B-PER", "", "O"], ["O"]]


def test_tags_that_training_lacks_are_named_with_their_rows() -> None:
    with pytest.raises(UserError) as caught:
        fitted().targets({"tags": [json.dumps(["O"]), json.dumps(["I-PRE", "X"])]}, ["a", "b"])
    assert [str(fault) for fault in caught.value.faults] == [
        "outputs.ner.column: tag 'I-PRE' of 'tags' is not one of the training rows; did you mean 'I-PER'? (row 'b')",
        "outputs.ner.column: tag 'X' of 'tags' is not one of the training rows (row 'b')",
    ]


def test_one_tag_is_not_enough() -> None:
    with pytest.raises(UserError, match=r"has the tags \['O'\] in the training rows; need 2"):
        fitted({"tags": ['["O", "O"]']})


def test_what_was_fitted_is_saved(tmp_path: Path) -> None:
    fitted().save(tmp_path / "ner.json")
    again = load_output(tmp_path / "ner.json")
    assert isinstance(again, FittedTokenClassification)
    assert again.state == fitted().state


def test_rows_of_batches_with_fewer_words_are_filled_up() -> None:
    kept = KeptRows()
    kept.add(torch.ones(2, 3, 2), torch.tensor([2, 0]))
    kept.add(2 * torch.ones(1, 5, 2), torch.tensor([1]))
    joined = kept.take(torch.arange(3))
    assert joined.shape == (3, 5, 2)
    assert joined[:, 0, 0].tolist() == [1, 2, 1]
    assert joined[::2, 3:].abs().sum() == 0
