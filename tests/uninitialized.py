"""Memory that nothing has written yet holds NaN or the largest integer, so that a test sees when it is read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def filled_memory() -> Iterator[None]:
    """What `torch.empty` and the like return is filled; torch does that among its deterministic algorithms only."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.utils.deterministic.fill_uninitialized_memory  # torch's default
    yield
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])
