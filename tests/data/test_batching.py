from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eir_seq.data.batching import (
    TrainingOrder,
    apportion,
    batch_costs,
    check_budget,
    evaluation_batches,
    padded_tokens,
    part_of,
    row_weights,
)
from eir_seq.errors import UserError

LENGTHS = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=150)


def rows_of(batches: list[np.ndarray]) -> list[int]:
    return sorted(int(row) for batch in batches for row in batch)


@given(LENGTHS, st.integers(1, 17), st.sampled_from([None, 120, 300, 5000]), st.booleans(), st.integers(0, 3))
def test_an_epoch_holds_every_row_once_within_its_limits(lengths, batch_size, max_tokens, buckets, epoch) -> None:
    lengths = np.array(lengths)
    order = TrainingOrder(lengths, batch_size=batch_size, seed=3, max_tokens=max_tokens, length_buckets=buckets)
    batches = order.batches(epoch)
    assert rows_of(batches) == list(range(len(lengths)))
    assert len(batches) == order.batches_per_epoch
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    if max_tokens is not None:
        assert max(padded_tokens(lengths, batch) for batch in batches) <= max_tokens


@given(LENGTHS, st.integers(1, 17), st.sampled_from([None, 120, 5000]), st.booleans())
def test_evaluation_holds_every_row_once(lengths, batch_size, max_tokens, buckets) -> None:
    lengths = np.array(lengths)
    batches = evaluation_batches(lengths, batch_size=batch_size, max_tokens=max_tokens, length_buckets=buckets)
    assert rows_of(batches) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    if max_tokens is not None:
        assert max(padded_tokens(lengths, batch) for batch in batches) <= max_tokens
    if buckets:
        assert lengths[batches[0]].sum(axis=1).max() == lengths.sum(axis=1).max()


@given(
    st.lists(st.tuples(st.integers(1, 60), st.sampled_from("aaaaab")), min_size=4, max_size=120),
    st.integers(1, 9),
    st.sampled_from([None, 60, 400]),
)
def test_weighted_sampling_draws_classes_equally_often(rows, batch_size, max_tokens) -> None:
    lengths, classes = np.array([length for length, _ in rows]), [label for _, label in rows]
    order = TrainingOrder(lengths, batch_size=batch_size, seed=0, max_tokens=max_tokens, classes=[classes])
    for epoch in range(2):
        batches = order.batches(epoch)
        assert len(batches) == order.batches_per_epoch
        if max_tokens is not None:
            assert max(padded_tokens(lengths, batch) for batch in batches) <= max_tokens
        if len(set(classes)) == 2 and batch_size > 1:
            drawn = [classes[row] for batch in batches for row in batch]
            assert len(drawn) == len(rows)
            assert abs(drawn.count("a") - drawn.count("b")) <= 1


@given(
    st.lists(
        st.tuples(st.integers(1, 60), st.sampled_from("aaaaab"), st.sampled_from("xxxy")), min_size=4, max_size=120
    ),
    st.integers(1, 9),
    st.sampled_from([None, 60, 400]),
)
def test_sampling_by_several_columns(rows, batch_size, max_tokens) -> None:
    lengths, classes = np.array([length for length, *_ in rows]), list(zip(*rows, strict=True))[1:]
    order = TrainingOrder(lengths, batch_size=batch_size, seed=0, max_tokens=max_tokens, classes=classes)
    weights = row_weights(classes)
    assert weights.mean() == pytest.approx(1)
    for epoch in range(2):
        batches = order.batches(epoch)
        assert len(batches) == order.batches_per_epoch
        drawn = np.bincount(np.concatenate(batches), minlength=len(rows))
        assert drawn.sum() >= len(rows)  # batches of one row may repeat to keep their number
        if max_tokens is None:
            assert drawn.sum() == len(rows)
            assert (np.abs(drawn - weights) < 1 + 1e-9).all(), "as often as its weight, rounded up or down"
        else:
            assert max(padded_tokens(lengths, batch) for batch in batches) <= max_tokens


def test_rows_are_drawn_by_the_mean_of_inverse_frequencies() -> None:
    draw = np.random.default_rng(0)
    classes = [draw.choice(["a", "b"], 200, p=[0.9, 0.1]).tolist(), draw.choice(["x", "y", "z"], 200).tolist()]
    order = TrainingOrder(np.ones(200, int), batch_size=10, seed=0, classes=classes)
    drawn = sum(np.bincount(np.concatenate(order.batches(epoch)), minlength=200) for epoch in range(400)) / 400
    expected = np.zeros(200)
    for column in classes:
        expected += [200 / (len(set(column)) * column.count(value)) / 2 for value in column]
    assert np.abs(drawn - expected).max() < 0.125  # five standard errors of a share that is rounded up or down


def test_rows_of_a_rare_class_take_turns_before_one_repeats() -> None:
    classes = ["a"] * 90 + ["b"] * 10
    order = TrainingOrder(np.ones(100, int), batch_size=10, seed=0, classes=[classes])
    counts = np.bincount([row for batch in order.batches(0) for row in batch], minlength=100)
    assert set(counts[90:]) == {5}
    assert counts[:90].max() == 1


@given(st.integers(2, 4), st.integers(4, 90), st.integers(1, 20))
def test_processes_share_each_batch(world_size, num_rows, batch_size) -> None:
    lengths = np.arange(1, num_rows + 1)
    for batch in TrainingOrder(lengths, batch_size=batch_size, seed=1).batches(2):
        parts = [part_of(batch, rank, world_size) for rank in range(world_size)]
        assert sorted(row for part in parts for row in part) == sorted(batch)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        longest = max(lengths[part].max() for part in parts if len(part))
        assert longest == lengths[batch].max()


def test_epochs_and_seeds_differ_and_repeat() -> None:
    lengths = np.random.default_rng(0).integers(5, 400, 500)

    def batches(seed: int, epoch: int, max_tokens: int | None) -> list[list[int]]:
        order = TrainingOrder(lengths, batch_size=16, seed=seed, max_tokens=max_tokens)
        return [batch.tolist() for batch in order.batches(epoch)]

    for max_tokens in (None, 4000):
        assert batches(0, 1, max_tokens) == batches(0, 1, max_tokens)
        for other in (batches(0, 2, max_tokens), batches(1, 1, max_tokens)):
            same = {frozenset(batch) for batch in other} & {frozenset(batch) for batch in batches(0, 1, max_tokens)}
            assert len(same) <= 3, "the rows of a batch must change, not only the order of the batches"


def test_buckets_save_padding() -> None:
    lengths = np.random.default_rng(0).integers(5, 400, 2000)

    def efficiency(**options: object) -> float:
        batches = TrainingOrder(lengths, seed=0, **options).batches(0)  # type: ignore[arg-type]
        return lengths.sum() / sum(padded_tokens(lengths, batch) for batch in batches)

    assert efficiency(batch_size=16, length_buckets=False) < 0.6
    assert efficiency(batch_size=16) > 0.9
    assert efficiency(batch_size=500, max_tokens=6000) > 0.85


def test_a_row_longer_than_the_budget_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.max_tokens: 10 is less than the longest row \(12 tokens"):
        TrainingOrder(np.array([[3, 4], [6, 6]]), batch_size=2, seed=0, max_tokens=10)
    check_budget(np.array([[3, 4], [5, 5]]), 10)


@given(st.lists(st.floats(0, 30), min_size=1, max_size=20))
def test_apportion_sums_to_its_total(shares) -> None:
    total = round(sum(shares))
    counts = apportion(np.array(shares), total)
    assert counts.sum() == total or total < sum(np.floor(np.array(shares) + 1e-9))
    assert np.abs(counts - shares).max() <= 1 + 1e-6


@given(LENGTHS, st.integers(1, 17))
def test_costs_of_batches(lengths, batch_size) -> None:
    lengths = np.array(lengths)
    batches = TrainingOrder(lengths, batch_size=batch_size, seed=3).batches(0)
    costs = batch_costs(lengths, batches)

    def of(length):
        return length * (435 + length)

    for batch, cost in zip(batches, costs, strict=True):
        padded = sum(len(batch) * of(int(column.max())) for column in lengths[batch].T)
        assert cost == padded + sum(of(int(length)) for length in lengths[batch].ravel())
