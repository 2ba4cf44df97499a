"""The sum of rows of several tables as one node of the graph, which a kernel computes in one pass each way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from eir_seq.native import library
from eir_seq.native.norms import LANES


def serves(tables: Sequence[Tensor], ids: Sequence[Tensor]) -> bool:
    """Whether the kernel takes such tables (rows, width), of float32, and ids (...) of one shape, here and now."""
    return (
        library.is_eager()  # first: dynamic graphs must not depend on sizes
        and library.available()
        and all(
            table.dtype is torch.float32
            and table.device.type == "cpu"
            and table.is_contiguous()
            and table.shape == (len(table), tables[0].shape[1])
            and table.shape[1] % LANES == 0
            for table in tables
        )
        and all(x.dtype is torch.int64 and x.device.type == "cpu" and x.shape == ids[0].shape for x in ids)
    )


def summed(tables: Sequence[Tensor], ids: Sequence[Tensor], padding: Sequence[int | None]) -> Tensor:
    """The sum of a row of each table, (..., width); see `serves`.

    `padding`: of each table the row whose gradient is zero, if any.

    Raises:
        IndexError: an id is none of its table's rows.
    """
    rows = [-1 if row is None else row for row in padding]
    out: Tensor = _Summed.apply([x.contiguous() for x in ids], rows, *tables)
    return out


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ids: list[Tensor], padding: list[int], *tables: Tensor) -> Tensor:
        ctx.save_for_backward(*ids)
        ctx.rows, ctx.padding = [len(table) for table in tables], padding
        return library.operations().embeddings_forward(tables, ids)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        ids, rows, padding = ctx.saved_tensors, ctx.rows, ctx.padding
        if torch.is_grad_enabled():  # a graph of the gradients is wanted
            plain = torch.ops.aten.embedding_dense_backward
            found = [plain(gradients[0], x, *own, False) for x, *own in zip(ids, rows, padding, strict=True)]
        else:
            found = library.operations().embeddings_backward(gradients[0].contiguous(), ids, rows, padding)
        wanted = ctx.needs_input_grad[2:]
        return None, None, *(x if needed else None for x, needed in zip(found, wanted, strict=True))
