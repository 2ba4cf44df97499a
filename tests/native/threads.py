"""Results of kernels with different numbers of threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def assert_alike_with_all_numbers_of_threads(compute: Callable[[], Sequence[Tensor]]) -> None:
    """What it computes has the same bits with one, two and three threads, and again with one."""
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 1):
            torch.set_num_threads(threads)
            results.append(compute())
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))
