"""What all tests share."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import pytest
import torch

# What is tested must not depend on what is built on this machine; EIR_SEQ_NATIVE=1 tests native kernels everywhere.
os.environ.setdefault("EIR_SEQ_NATIVE", "0")
# Compiled modules are kept, whatever the environment says: each process that a test starts would compile all again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# No test cuts the power: what is written need not have reached the disk, for which each file of a run would wait.
os.fsync = lambda descriptor: None

LONG = ("test_every_command_of_the_readme_works", "test_the_commands_do_what_the_tutorial_says", "test_fast_parts")
"""Tests that take a minute or more; they come first, so that no process is left alone with one at the end."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage among the modules and tests that are found, then or later: all of them stay.

    What comes later is searched for cycles less often than Python would: that takes 6 to 9 % of the time.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests, in every process alike."""
    items.sort(key=lambda item: item.name.partition("[")[0] not in LONG)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Threads divide sums and products, and round by their share."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """The test computes on one thread."""
    with _one_thread():
        yield


@pytest.fixture(scope="module")
def one_thread_throughout() -> Iterator[None]:
    """All tests of a file compute on one thread, and so do its fixtures."""
    with _one_thread():
        yield
