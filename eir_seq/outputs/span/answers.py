"""Answers as they stand in the data, checked against their texts; answers as they are predicted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eir_seq.config.outputs import NO_ANSWER

Spans = list[tuple[str, int]]
TRIED = 20
"""Of the begins and ends of answers, the best that are combined."""
SHOWN = 40


def read_answers(cells: Sequence[Any], starts: Sequence[Any] | None) -> list[Spans | str]:
    """Texts and begins of each row's answers, or what is wrong with the cell.

    Args:
        cells: objects as SQuAD has them; with `starts` texts.
        starts: the character at which each text begins.

    Example:
        >>> read_answers(['{"text": ["hat"], "answer_start": [4]}', '{"text": [], "answer_start": []}'], None)
        [[('hat', 4)], []]
    """
    if starts is None:
        return [_squad(cell) for cell in cells]
    return [
        [(str(cell), int(start))] if float(start).is_integer() else f"has an answer that begins at character {start}"
        for cell, start in zip(cells, starts, strict=True)
    ]


def _squad(cell: Any) -> Spans | str:
    shown = repr(str(cell)[:SHOWN])
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        return f"is {shown}, not JSON"
    if isinstance(value, list):  # as in the files of SQuAD: one object per answer
        if not all(isinstance(item, dict) and {"text", "answer_start"} <= item.keys() for item in value):
            return f"is {shown}, a list whose items are no answers (text, answer_start)"
        value = {key: [item[key] for item in value] for key in ("text", "answer_start")}
    if not isinstance(value, dict) or not {"text", "answer_start"} <= value.keys():
        return f'is {shown}, not of the form {{"text": [...], "answer_start": [...]}}'
    texts, starts = (item if isinstance(item, list) else [item] for item in (value["text"], value["answer_start"]))
    if len(texts) != len(starts):
        return f"has {len(texts)} texts and {len(starts)} values of answer_start"
    if wrong := [start for start in starts if not isinstance(start, int) or isinstance(start, bool)]:
        return f"has an answer_start {wrong[0]!r} that is no whole number"
    if wrong := [text for text in texts if not isinstance(text, str) or not text]:
        return f"has an answer {wrong[0]!r} that is no text"
    return list(zip(texts, starts, strict=True))


def misplaced(answers: Spans, text: str) -> Iterator[str]:
    """What is wrong with the places of answers in their text."""
    for answer, start in answers:
        shown = repr(answer if len(answer) <= SHOWN else f"{answer[:SHOWN]}…")
        there = text[start : start + len(answer)] if start >= 0 else ""
        if there == answer:
            continue
        at = text.find(answer)
        if at < 0:
            yield f"has the answer {shown}, which is not in the text"
        elif not 0 <= start < len(text):
            yield f"has answer_start {start} in a text of {len(text)} characters; {shown} is at {at}"
        else:
            yield f"has {shown} at {start}, where the text is {there[:SHOWN]!r}; it is at {at}"


@dataclass(frozen=True)
class Answer:
    """A predicted answer: characters `start` to `end` of the text, both -1 for none, and its probability."""

    start: int
    end: int
    probability: float


def best_answers(raw: NDArray[np.float32], count: int, longest: int, *, may_lack: bool) -> list[Answer]:
    """The most probable answers of a row, among those that were considered.

    Args:
        raw: (places, 5): scores of begin and end, the token's characters, and the number of its window from 1 on.
        count: answers.
        longest: tokens of an answer at most.
        may_lack: whether there may be no answer.
    """
    found: dict[tuple[int, int], float] = {}
    for window in np.unique(raw[raw[:, 4] > 0, 4]):
        own = raw[raw[:, 4] == window]
        if may_lack:  # a text has no answer if none of its windows has one
            none = float(own[own[:, 2] == NO_ANSWER, :2].sum())
            found[-1, -1] = min(found.get((-1, -1), np.inf), none)
        places = np.flatnonzero(own[:, 2] >= 0)
        begins, ends = (places[own[places, side].argsort(kind="stable")[::-1][:TRIED]] for side in (0, 1))
        for begin in begins.tolist():
            for end in ends.tolist():
                if begin <= end < begin + longest and own[end, 3] > own[begin, 2]:
                    span, score = (int(own[begin, 2]), int(own[end, 3])), float(own[begin, 0] + own[end, 1])
                    found[span] = max(found.get(span, -np.inf), score)
    if not found:
        return [Answer(-1, -1, 1.0)]
    spans, scores = list(found), np.array(list(found.values()))
    probabilities = np.exp(scores - scores.max())
    probabilities /= probabilities.sum()
    order = (-scores).argsort(kind="stable")[:count].tolist()
    return [Answer(spans[place][0], spans[place][1], float(probabilities[place])) for place in order]
