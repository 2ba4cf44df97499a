"""Products of blocks in plain torch, where transformers' mra has a kernel for GPUs alone.

A block pairs 32 queries with 32 keys; block number i pairs the queries of block i // (blocks of keys) with the keys of
block i % (blocks of keys).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

NO_SCORE = -1e5
"""Stands for the greatest score of queries that no chosen block holds."""


class BlockProducts:
    """What the reference implementation calls its kernel for; texts (or heads) are the first dimension."""

    @staticmethod
    def mm_to_sparse(queries: Tensor, keys: Tensor, blocks: Tensor) -> Tensor:
        """Queries (n, query blocks, channels, 32), keys (n, key blocks, channels, 32), blocks (n, chosen).

        Scores of the chosen blocks, (n, chosen, 32 keys, 32 queries).
        """
        of_queries, of_keys = _numbers(blocks, keys.shape[1])
        return torch.einsum("nbck,nbcq->nbkq", _pick(keys, of_keys), _pick(queries, of_queries))

    @staticmethod
    def sparse_dense_mm(weights: Tensor, blocks: Tensor, values: Tensor, query_blocks: int) -> Tensor:
        """Weights (n, chosen, 32 keys, 32 queries) and values (n, key blocks, channels, 32).

        Sums over the chosen blocks, (n, query blocks, channels, 32 queries).
        """
        of_queries, of_keys = _numbers(blocks, values.shape[1])
        parts = torch.einsum("nbck,nbkq->nbcq", _pick(values, of_keys), weights)
        sums = parts.new_zeros(len(parts), query_blocks, *parts.shape[2:])
        return sums.scatter_add(1, of_queries[..., None, None].expand_as(parts), parts)

    @staticmethod
    def index_max(scores: Tensor, blocks: Tensor, query_blocks: int, key_blocks: int) -> tuple[Tensor, Tensor]:
        """Scores (n, 32 queries, chosen): the greatest of each query, (n, queries), and the same where they came from.

        The exact value does not matter: it is subtracted again.
        """
        of_queries, _ = _numbers(blocks, key_blocks)
        places = of_queries[:, None].expand_as(scores)
        most = scores.new_full((*scores.shape[:2], query_blocks), NO_SCORE).scatter_reduce(2, places, scores, "amax")
        return most.transpose(1, 2).flatten(1), most.gather(2, places)


def _numbers(blocks: Tensor, key_blocks: int) -> tuple[Tensor, Tensor]:
    """Which blocks of queries and of keys the chosen ones pair."""
    return blocks.long() // key_blocks, blocks.long() % key_blocks


def _pick(parts: Tensor, numbers: Tensor) -> Tensor:
    """Of parts (n, blocks, channels, 32) those with the numbers (n, chosen)."""
    return parts.gather(1, numbers[..., None, None].expand(-1, -1, *parts.shape[2:]))


def give_blocks(model: Any) -> None:
    """Let a model of the reference implementation use these products; without any its attention gives zeros."""
    del model  # the kernel is that of its module
    from transformers.models.mra import modeling_mra

    modeling_mra.mra_cuda_kernel = BlockProducts
