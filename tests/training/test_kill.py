"""Training processes get signals from outside, and the same run started again ends with the same bits."""

from __future__ import annotations

from typing import Any

import pytest

from tests.training.driver import driven


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return driven("kill_driver", str(tmp_path_factory.mktemp("kill")))


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_to_a_run_and_its_loader_workers_saves_the_step(found: dict[str, Any], name: str, code: int) -> None:
    case = found[name]
    assert case["killed"] == code
    assert case["first_step"] >= 10, "what was done before the signal is not done again"
    assert case["seconds"] < 10
    assert case["code"] == 0
    assert case["digest"] == found["whole"]["digest"]
    assert case["leftover"] == []
