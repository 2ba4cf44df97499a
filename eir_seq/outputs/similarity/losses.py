"""Losses of pairs of vectors, row by row. All vectors have length 1, so that products are cosines."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def contrastive_terms(
    left: Tensor,
    right: Tensor,
    scale: Tensor | float,
    alike: Tensor,
    negatives: Tensor | None = None,
    excluded: Tensor | None = None,
    *,
    symmetric: bool = False,
) -> Tensor:
    """Cross-entropy of each row's own right vector among all of the batch, (rows,) (van den Oord et al. 2018, InfoNCE).

    With hard `negatives` these are further candidates of every row, as in Henderson et al. 2017
    (arXiv:1705.00652). With `symmetric` it is the mean with the cross-entropy of the left vector among all left ones.

    Args:
        left: (rows, size).
        right: (rows, size).
        scale: factor on the cosines, 1 / temperature.
        alike: pairs of rows that match, (rows, rows), symmetric; but for the diagonal they are no candidates.
        negatives: (candidates, size).
        excluded: negatives that are no candidates of a row, (rows, candidates).

    Example:
        >>> left, alike = torch.eye(2), torch.eye(2, dtype=torch.bool)
        >>> contrastive_terms(left, left, 1.0, alike)
        tensor([0.3133, 0.3133])
    """
    own = torch.eye(len(left), dtype=torch.bool, device=left.device)
    logits = (scale * left @ right.T).masked_fill(alike & ~own, -torch.inf)
    candidates = logits
    if negatives is not None:
        hard = scale * left @ negatives.T
        candidates = torch.cat([logits, hard if excluded is None else hard.masked_fill(excluded, -torch.inf)], dim=1)
    target = torch.arange(len(left), device=left.device)
    terms = functional.cross_entropy(candidates, target, reduction="none")
    if symmetric:
        terms = (terms + functional.cross_entropy(logits.T, target, reduction="none")) / 2
    return terms


def triplet_terms(positive: Tensor, negative: Tensor, there: Tensor, margin: float) -> Tensor:
    """How far each row is from a margin between its positive and its negatives, (rows,) (Schroff et al. 2015).

    The mean over its negatives of ``max(0, negative - positive + margin)``; 0 without any.

    Args:
        positive: cosines of anchor and positive, (rows,).
        negative: cosines of anchor and negatives, (rows, negatives).
        there: which negatives a row has, (rows, negatives).
        margin: of cosines.

    Example:
        >>> triplet_terms(torch.tensor([0.9]), torch.tensor([[0.8, 0.1]]), torch.ones(1, 2, dtype=torch.bool), 0.2)
        tensor([0.0500])
    """
    terms = functional.relu(negative - positive[:, None] + margin).masked_fill(~there, 0.0)
    return terms.sum(dim=1) / there.sum(dim=1).clamp(min=1)


def margin_terms(cosine: Tensor, match: Tensor, margin: float, *, online: bool = False) -> Tensor:
    """The contrastive loss of pairs that match or not, (rows,) (Hadsell et al. 2006), of the distance 1 - cosine.

    With `online` pairs that match count if they are farther apart than the nearest others, and these if they are nearer
    than the farthest pair that matches; where a batch has one kind only, all count.

    Args:
        cosine: (rows,).
        match: whether the pair matches, (rows,).
        margin: distance from which pairs that do not match add nothing.
        online: see above.

    Example:
        >>> margin_terms(torch.tensor([0.9, 0.9, 0.1]), torch.tensor([True, False, False]), 0.5)
        tensor([0.0050, 0.0800, 0.0000])
    """
    distance = 1 - cosine
    terms = torch.where(match, distance.square(), functional.relu(margin - distance).square()) / 2
    if online and match.any() and not match.all():
        hard = torch.where(match, distance > distance[~match].min(), distance < distance[match].max())
        terms = terms.masked_fill(~hard, 0.0)
    return terms
