"""Which rows are explained, and which scores of each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from eir_seq.config.explanations import ExplanationBase
from eir_seq.outputs.scored import Scored

MOST_ROWS = 1000
"""Rows of one output that are drawn at most; of many classes there are fewer of each."""


def drawn_rows(config: ExplanationBase, scored: Scored, raw: Tensor, true: Tensor | None, can: Tensor) -> list[int]:
    """The places of the rows that are explained, in order.

    Of each class those that are true of it, as far as that is known, else those that are predicted as it; of numbers
    those that are evenly spaced by the first score.

    Args:
        config: how many.
        scored: of the output.
        raw: (rows, width) raw outputs.
        true: (rows, names) bool, the true classes; rows without any count as they are predicted. None: not known.
        can: (rows,) bool, which rows may be drawn.

    Example:
        >>> from eir_seq.explanations.config import IntegratedGradientsConfig
        >>> scored = Scored(["x"], lambda raw, names: raw[:, names], "value")
        >>> raw = torch.tensor([[5.0], [1.0], [3.0], [2.0]])
        >>> drawn_rows(IntegratedGradientsConfig(rows=2), scored, raw, None, torch.ones(4, dtype=torch.bool))
        [0, 1]
    """
    places = can.nonzero().flatten()
    if scored.predicted is None:
        order = scored.of(raw[places], [0])[:, 0].argsort(stable=True)
        return sorted(_even(places[order].tolist(), min(config.per_class, MOST_ROWS)))
    assigned = scored.predicted(raw)
    if true is not None:
        assigned = torch.where(true.any(dim=1, keepdim=True), true, assigned)
    count = min(config.per_class, max(1, MOST_ROWS // len(scored.names)))
    members = [(assigned[:, number] & can).nonzero().flatten().tolist() for number in range(len(scored.names))]
    found = {place for own in members for place in _even(own, count)}
    return sorted(found)[:MOST_ROWS]


def targets_of(scored: Scored, raw: Tensor, true: Tensor | None) -> dict[int, str]:
    """The numbers of the scores of one row that are explained, and what each is to the row.

    Args:
        scored: of the output.
        raw: (1, width) raw outputs.
        true: (1, names) bool, the true classes; None where they are not known.

    Returns:
        Of numbers all scores, with nothing. Of classes those that are predicted and those that are true; where there
        is neither, as there may be of labels, the one with the highest score.
    """
    if scored.predicted is None:
        return dict.fromkeys(range(len(scored.names)), "")
    predicted = scored.predicted(raw)[0]
    right = torch.zeros_like(predicted) if true is None else true[0]
    roles = {
        number: " and ".join(word for word, has in (("predicted", predicted), ("true", right)) if has[number])
        for number in (predicted | right).nonzero().flatten().tolist()
    }
    if not roles:
        highest = int(scored.of(raw, range(len(scored.names)))[0].argmax())
        return {highest: "highest"}
    return roles


def _even(places: Sequence[int], count: int) -> list[int]:
    """`count` of them, evenly spaced, the first and the last among them; all if there are fewer."""
    if len(places) <= count:
        return list(places)
    if count == 1:
        return [places[len(places) // 2]]
    return [places[round(number * (len(places) - 1) / (count - 1))] for number in range(count)]
