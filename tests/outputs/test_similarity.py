"""Similarity: losses, search and metrics against formulas and scikit-learn, and values that cannot be used."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor
from torch.nn import functional

from eir_seq.errors import UserError
from eir_seq.outputs.base import FittedOutput
from eir_seq.outputs.measure import measure
from eir_seq.outputs.similarity import output as module
from eir_seq.outputs.similarity import search as search_module
from eir_seq.outputs.similarity.config import SimilarityOutputConfig
from eir_seq.outputs.similarity.losses import contrastive_terms, margin_terms, triplet_terms
from eir_seq.outputs.similarity.output import FIRST, Similarity, alike, scores_of
from eir_seq.outputs.similarity.search import search
from eir_seq.rows import Rows

SIZE = 6


def vectors(*shape: int, seed: int = 0) -> Tensor:
    return functional.normalize(torch.randn(*shape, SIZE, generator=torch.Generator().manual_seed(seed)), dim=-1)


def rows_of(count: int = 40, **columns: Any) -> Rows:
    texts = {name: [f"{name}{row}" for row in range(count)] for name in ("a", "b", "c")}
    return Rows.of({**texts, "id": [f"r{row}" for row in range(count)], **columns})


def fitted(rows: Rows, **options: Any) -> FittedOutput:
    config = SimilarityOutputConfig.model_validate({"type": "similarity", "inputs": ["left", "right"], **options})
    return Similarity("same", config).reading({"left": ["a"], "right": ["b"], "hard": ["c"]}).fit(rows)


def test_the_contrastive_loss_is_the_cross_entropy_of_the_diagonal() -> None:
    left, right, negatives = vectors(5), vectors(5, seed=1), vectors(3, seed=2)
    own = torch.eye(5, dtype=torch.bool)
    target = torch.arange(5)
    expected = functional.cross_entropy(left @ right.T / 0.1, target, reduction="none")
    assert contrastive_terms(left, right, 10.0, own).allclose(expected)
    back = functional.cross_entropy(right @ left.T / 0.1, target, reduction="none")
    assert contrastive_terms(left, right, 10.0, own, symmetric=True).allclose((expected + back) / 2)
    candidates = torch.cat([right, negatives])
    expected = functional.cross_entropy(left @ candidates.T * 10, target, reduction="none")
    assert contrastive_terms(left, right, 10.0, own, negatives).allclose(expected)


def test_rows_that_match_are_no_negatives_of_each_other() -> None:
    left, right = vectors(3), vectors(3, seed=1)
    together = torch.eye(3, dtype=torch.bool)
    together[0, 2] = together[2, 0] = True
    terms = contrastive_terms(left, right, 10.0, together)
    expected = functional.cross_entropy(10 * left[:1] @ right[:2].T, torch.tensor([0]))
    assert terms[0].item() == pytest.approx(expected.item(), abs=1e-6)
    excluded = torch.tensor([[True], [False], [False]])
    with_hard = contrastive_terms(left, right, 10.0, together, vectors(1, seed=2), excluded)
    assert with_hard[0].item() == pytest.approx(terms[0].item(), abs=1e-6)
    assert with_hard[1] > terms[1]
    out = fitted(rows_of(4, a=["x", "y", "z", "x"], b=["p", "p", "q", "r"], g=["1", "2", "3", "3"]), group="g")
    found = alike(out.targets(rows_of(4, a=["x", "y", "z", "x"], b=["p", "p", "q", "r"], g=["1", "2", "3", "3"])))
    assert found.int().tolist() == [[1, 1, 0, 1], [1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 1]]


def test_triplets_and_margins_by_their_formulas() -> None:
    positive, negative = torch.tensor([0.5, 0.9, 0.1]), torch.tensor([[0.4, 0.6], [0.1, 0.2], [0.9, 0.8]])
    there = torch.tensor([[True, True], [True, True], [False, True]])
    assert triplet_terms(positive, negative, there, 0.2).allclose(torch.tensor([(0.1 + 0.3) / 2, 0.0, 0.9]))
    cosine, match = torch.tensor([0.9, 0.2, 0.95, 0.7, -0.5]), torch.tensor([True, True, True, False, False])
    distance = 1 - cosine
    expected = torch.where(match, distance**2, (0.5 - distance).clamp(min=0) ** 2) / 2
    assert margin_terms(cosine, match, 0.5).allclose(expected)
    # of the pairs that match only the second is farther apart (0.8) than the nearest other pair (0.3)
    online = margin_terms(cosine, match, 0.5, online=True)
    assert online.allclose(expected * torch.tensor([0, 1, 0, 1, 0]))


def test_hard_negatives_that_a_row_lacks_or_that_are_its_own_match_are_left_out() -> None:
    rows = rows_of(6, c=["x", None, "b2", "x", "x", "x"])
    out = fitted(rows, negatives=["hard"], temperature=0.5)
    target = out.targets(rows)
    assert target[1, 4] == -1
    assert target[2, 4] == target[2, 3]
    left, right, hard = vectors(6), vectors(6, seed=1), vectors(6, seed=2)
    hard[1] = 0
    terms = out.loss_terms(torch.cat([left, right, hard], dim=1), target)[:, 0]
    cosines = torch.cat([left @ right.T, left @ hard[[0, 2, 3, 4, 5]].T], dim=1)
    cosines[2, 7] = -math.inf
    assert terms.allclose(functional.cross_entropy(cosines / 0.5, torch.arange(6), reduction="none"), atol=1e-6)


def test_hard_negatives_that_match_by_another_row_of_the_batch_are_left_out() -> None:
    """Rows 0 and 1 ask the same and have different answers; each answer is a hard negative of some row."""
    rows = rows_of(4, a=["x", "x", "y", "z"], c=["n", "n2", "b1", "b0"])
    out = fitted(rows, negatives=["hard"], temperature=1.0)
    left, right, hard = vectors(4), vectors(4, seed=1), vectors(4, seed=2)
    terms = out.loss_terms(torch.cat([left, right, hard], dim=1), out.targets(rows))[:, 0]
    cosines = torch.cat([left @ right.T, left @ hard.T], dim=1)
    for row, place in ((0, 1), (1, 0), (0, 6), (1, 6), (0, 7), (1, 7)):
        cosines[row, place] = -math.inf
    assert terms.allclose(functional.cross_entropy(cosines, torch.arange(4), reduction="none"), atol=1e-6)


@pytest.mark.parametrize("held", [2**24, 40])
def test_ranks_are_those_of_a_sorted_list(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "HELD", held)
    draw = np.random.default_rng(0)
    left, right = vectors(50), vectors(50, seed=1)
    contents = torch.from_numpy(draw.integers(0, 30, 50)).float()
    right = right[[int((contents == number).nonzero()[0]) for number in contents]]  # equal contents, equal vectors
    keys = torch.from_numpy(draw.integers(0, 40, 50)).float()
    matching = torch.from_numpy(draw.random(50) < 0.8)
    found = search(left, right, keys, contents, matching)
    queries = matching.nonzero().flatten().tolist()
    assert len(found.ranks) == len(queries)
    for place, row in enumerate(queries):
        right_ones = {contents[other].item() for other in queries if keys[other] == keys[row]}
        order = sorted({c.item() for c in contents}, key=lambda c: -float(left[row] @ right[contents == c][0]))
        assert found.ranks[place] == next(n for n, c in enumerate(order, start=1) if c in right_ones)
        assert contents[found.nearest[place]] == order[0]


def test_vectors_that_are_all_the_same_find_nothing() -> None:
    same, numbers = vectors(1).expand(20, -1), torch.arange(20).float()
    assert search(same, same, numbers, numbers).ranks.min() == 20


def test_metrics_of_scores_are_those_of_scipy_and_scikit_learn() -> None:
    draw = np.random.default_rng(1)
    score = draw.random(40).round(3)
    rows = rows_of(40, s=score.tolist())
    out = fitted(rows, column="s")
    raw, target = torch.cat([vectors(40), vectors(40, seed=1)], dim=1), out.targets(rows)
    cosine = (raw[:, :SIZE] * raw[:, SIZE:]).sum(dim=1).double().numpy()
    found = measure(out, raw, target)
    assert found["loss"] == pytest.approx(float(((cosine - score) ** 2).mean()), abs=1e-6)
    assert found["spearman"] == pytest.approx(spearmanr(cosine, score).statistic, abs=1e-6)
    assert found["pearson"] == pytest.approx(pearsonr(cosine, score).statistic, abs=1e-6)
    assert found.keys() == {"loss", "spearman", "pearson"}
    assert out.undefined(target) == dict.fromkeys(("auroc", "average_precision"), "the scores are not 0 and 1")
    match = draw.random(40) < 0.5
    rows = rows_of(40, s=match.tolist())
    out = fitted(rows, column="s", loss="margin")
    found = measure(out, raw, out.targets(rows))
    assert found["auroc"] == pytest.approx(roc_auc_score(match, cosine), abs=1e-6)
    assert found["average_precision"] == pytest.approx(average_precision_score(match, cosine), abs=1e-6)
    assert 0 < found["mrr"] < 1
    assert "spearman" not in found


def test_numbers_of_contents_are_exact_beyond_single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(3, s=[0.1, 0.25, 0.7])
    monkeypatch.setattr("eir_seq.outputs.similarity.output.contents_of", lambda *_: [torch.arange(3) + 2**24] * 2)
    target = fitted(rows, column="s").targets(rows)
    assert (target[:, FIRST] - 2**24).tolist() == [0, 1, 2]
    assert scores_of(target).tolist() == torch.tensor([0.1, 0.25, 0.7]).tolist()
    assert torch.equal(alike(target), torch.eye(3, dtype=torch.bool))


def test_scores_of_another_scale_are_mapped_or_refused() -> None:
    rows = rows_of(4, s=[0.0, 2.5, 5.0, 1.0])
    out = fitted(rows, column="s", range=[0.0, 5.0])
    assert scores_of(out.targets(rows)).tolist() == [0.0, 0.5, 1.0, pytest.approx(0.2)]
    assert out.truth(rows) == {"same_true": [0.0, 2.5, 5.0, 1.0]}
    with pytest.raises(
        UserError, match=r"outputs.same.column: 2.5 in column 's' is not from -1 to 1 \(rows 'r1', 'r2'"
    ):
        fitted(rows, column="s")
    with pytest.raises(UserError, match="is not from 0 to 2"):
        fitted(rows, column="s", range=[0.0, 2.0])
    with pytest.raises(UserError, match="column 's' is the same on all 4 training rows"):
        fitted(rows_of(4, s=[1.0] * 4), column="s")
    with pytest.raises(UserError, match=r"inputs\.right is the same on all 4 training rows; there is no negative"):
        fitted(rows_of(4, b=["x"] * 4))


def test_metrics_of_triplets() -> None:
    rows = rows_of(8, c=[None, *"stuvwxy"])
    out = fitted(rows, loss="triplet", negatives=["hard"], margin=0.3)
    left, right, hard = vectors(8), vectors(8, seed=1), vectors(8, seed=2)
    hard[0] = 0
    target, raw = out.targets(rows), torch.cat([left, right, hard], dim=1)
    own, other = (left * right).sum(dim=1), (left * hard).sum(dim=1)
    found = measure(out, raw, target)
    assert found["triplet_accuracy"] == pytest.approx(float((own > other)[1:].double().mean()))
    assert found["loss"] == pytest.approx(float((other - own + 0.3).clamp(min=0)[1:].mean()), abs=1e-6)
    assert out.loss_counts({}, target)[:, 0].tolist() == [0, *[1] * 7]
    assert out.decode(raw)["same_cosine(hard)"][0] == ""


def test_a_learned_temperature_is_part_of_the_raw_outputs() -> None:
    rows = rows_of(5)
    out = fitted(rows, temperature=0.2, learn_temperature=True)
    head: Any = out.build_vector_head({"left": SIZE, "right": SIZE}, {"left": "left", "right": "right"})
    pair = {"left": 3 * vectors(5), "right": vectors(5, seed=1)}
    raw = head(pair)
    assert raw.shape == (5, out.output_size)
    fixed = fitted(rows, temperature=0.2)
    plain = fixed.build_vector_head({"left": SIZE, "right": SIZE}, {"left": "left", "right": "right"})(pair)
    terms = out.loss_terms(raw, out.targets(rows))
    assert terms.allclose(fixed.loss_terms(plain, fixed.targets(rows)), atol=1e-6)
    terms.sum().backward()  # type: ignore[no-untyped-call]
    assert head.log_scale.grad.abs() > 0
    head.log_scale.data.fill_(99.0)
    assert head(pair)[0, -1].exp().item() == pytest.approx(100.0, rel=1e-5)


def test_the_worst_rows_are_those_with_the_worst_ranks() -> None:
    rows = rows_of(8)
    left, right = vectors(8), vectors(8, seed=1)
    for ranks in (True, False):
        out = fitted(rows, ranks=ranks)
        target, raw = out.targets(rows), torch.cat([left, right], dim=1)
        cosines = left @ right.T
        nearer = (cosines > cosines.diagonal()[:, None]).sum(dim=1)
        assert (out.errors(raw, target).floor() == (nearer if ranks else 0)).all()
        assert ("mrr" in out.evaluate(raw, target)) is ranks
        assert ("same_rank" in out.decode_rows(raw, lambda: rows)) is ranks


def test_a_batch_without_targets_adds_nothing() -> None:
    rows = rows_of(5)
    out = fitted(rows, learn_temperature=True)
    assert out.loss_terms(torch.zeros(0, 2 * SIZE + 1), out.targets(rows)[:0]).shape == (0, 1)


def test_the_loss_of_an_evaluation_compares_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(6)
    out = fitted(rows)
    raw, target = torch.cat([vectors(6), vectors(6, seed=1)], dim=1), out.targets(rows)
    monkeypatch.setattr(module, "BLOCK", 4)
    expected = (out.loss_terms(raw[:4], target[:4]).sum() + out.loss_terms(raw[4:], target[4:]).sum()) / 6
    assert out.evaluate(raw, target)["loss"] == pytest.approx(expected.item(), abs=1e-6)
