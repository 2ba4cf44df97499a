"""What all tests share."""

from __future__ import annotations

import os

import pytest

# What is tested must not depend on what is built on this machine; EIR_SEQ_NATIVE=1 tests native kernels everywhere.
os.environ.setdefault("EIR_SEQ_NATIVE", "0")

LONG = ("test_every_command_of_the_readme_works", "test_the_commands_do_what_the_tutorial_says", "test_fast_parts")
"""Tests that take a minute or more; they come first, so that no process is left alone with one at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests, in every process alike."""
    items.sort(key=lambda item: item.name.partition("[")[0] not in LONG)
