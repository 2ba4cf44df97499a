from __future__ import annotations

import pytest

from eir_seq.outputs.token_classification.spans import are_entity_tags, entity_scores, spans_of


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("O O", []),
        ("B-PER I-PER O", [("PER", 0, 2)]),
        ("B-PER B-PER", [("PER", 0, 1), ("PER", 1, 2)]),
        ("I-PER I-PER O I-LOC", [("PER", 0, 2), ("LOC", 3, 4)]),
        ("B-PER I-LOC", [("PER", 0, 1), ("LOC", 1, 2)]),
        ("B-PER E-PER S-LOC S-LOC", [("PER", 0, 2), ("LOC", 2, 3), ("LOC", 3, 4)]),
        ("B-PER L-PER U-LOC O", [("PER", 0, 2), ("LOC", 2, 3)]),
        ("E-PER E-PER", [("PER", 0, 1), ("PER", 1, 2)]),
        ("E-PER I-PER", [("PER", 0, 1), ("PER", 1, 2)]),
        ("B-a-b I-a-b", [("a-b", 0, 2)]),
    ],
)
def test_entities_of_a_sentence(tags: str, spans: list[tuple[str, int, int]]) -> None:
    assert spans_of(tags.split()) == spans


def test_a_word_without_a_tag_ends_an_entity() -> None:
    assert spans_of(["B-PER", "", "I-PER"]) == [("PER", 0, 1), ("PER", 2, 3)]


def test_scores_count_whole_entities() -> None:
    true = [["B-PER", "I-PER", "O", "B-LOC"], ["B-LOC", "O"]]
    predicted = [["B-PER", "I-PER", "O", "B-PER"], ["B-LOC", "I-LOC"]]
    scores = entity_scores(true, predicted)
    assert scores["entity_precision"] == scores["entity_recall"] == scores["entity_f1"] == pytest.approx(1 / 3)
    assert scores["entity_f1(PER)"] == pytest.approx(2 / 3)
    assert scores["entity_f1(LOC)"] == 0
    assert entity_scores([["O"]], [["O"]])["entity_f1"] == 0


def test_which_tags_mark_entities() -> None:
    assert are_entity_tags(["B-PER", "I-PER", "O"])
    assert not are_entity_tags(["NOUN", "VERB"])
    assert not are_entity_tags(["B-PER", "O", "NOUN"])
    assert not are_entity_tags(["O"])
