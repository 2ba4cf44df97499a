from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eir_seq.config.schema import ExperimentConfig

Config = Callable[..., ExperimentConfig]

REVIEW = {"type": "sequence", "column": "text", "model": {"model_type": "bert"}}


@pytest.fixture
def config() -> Config:
    """An experiment on text and sentiment; keyword arguments are keys of `data`, or `inputs` and `outputs`."""

    def build(**data: Any) -> ExperimentConfig:
        inputs = data.pop("inputs", {"review": REVIEW})
        outputs = data.pop("outputs", {"sentiment": {"type": "classification", "column": "sentiment"}})
        return ExperimentConfig.model_validate({"data": {"id": "id", **data}, "inputs": inputs, "outputs": outputs})

    return build


def write(path: Path, content: str | bytes) -> str:
    """A file with this content; returns its path as text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def reviews(count: int, *, first: int = 0, classes: tuple[str, ...] = ("bad", "good")) -> list[tuple[str, str, str]]:
    """Rows of id, text and sentiment; classes take turns."""
    return [
        (f"{i:03d}", f"text number {i} " + "very " * (i % 7) + "long", classes[i % len(classes)])
        for i in range(first, first + count)
    ]


def as_csv(rows: list[tuple[str, str, str]], *, header: str = "id,text,sentiment", delimiter: str = ",") -> str:
    """The rows as CSV."""
    return "\n".join([header, *(delimiter.join(row) for row in rows)]) + "\n"
